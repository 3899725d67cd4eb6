"""How quick the pages of `neat-data review` are on a million records, over HTTP, as a browser asks for them.

    python benchmarks/review.py --folder runs/bench-review

makes the dataset (about 1.4 GB, kept in the folder if one is named), starts `neat-data review` on it and asks for each
page with one filter, sort or search after another, none asked for before, so that nothing that the server remembers
helps. `cpu_seconds` is what the server's process worked, all threads together: on a machine where others work as well
it says more than the wall clock. `open_seconds` is from the first
request to the first page, while the records are read. Memory is the server's at the end: `anonymous` is its own,
`resident` counts the pages of mapped shards as well, which the system takes back when it wants to.
Goal: each median under a second on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import httpx
from stats import make_dataset, processor, versions

RESULTS = Path(__file__).parent / "results" / "review.json"
GOAL = 1.0  # seconds, each median
# Words and phrases that hardly any, half or all of the made-up records hold.
WORDS = ("zyzzyva", "helpful", '"people harm is"', '"question harm and helpful to the"', "QUESTIONS")


def asked(repetition: int) -> dict[str, str]:
    """The address of each page, unlike that of every other repetition."""
    level = repetition / 10
    stored = f"ARRAY_LENGTH(messages) > 3 AND gap > {level}"
    sorts = ("gap", "gap_abs", "spread", "reward_best", "length")
    return {
        "first page": "/",
        "judge": f"/judge?rater=ann&at={repetition}",
        "list": f"/records?page={1 + 7 * repetition}",
        "filter": "/records?" + urlencode({"where": f"gap > {level} AND turns = 1 AND source LIKE 'made%'"}),
        "filter that reads the shards": "/records?" + urlencode({"where": stored}),
        "sort": "/records?" + urlencode({"sort": sorts[repetition]}),
        "full text": "/records?" + urlencode({"text": WORDS[repetition]}),
        "filter, full text and sort": "/records?"
        + urlencode({"text": f'"the answer is {"the " * repetition}"', "where": f"gap < {level}", "sort": "gap"}),
    }


@contextmanager
def served(folder: Path) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """`neat-data review`, and a client that it let in."""
    command = [sys.executable, "-m", "neat_data", "review", str(folder), "--polarity", "all"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            address = next(line.split()[1] for line in server.stdout if line.startswith("open "))
            with httpx.Client(base_url=address.partition("/?")[0], timeout=600) as client:
                client.get("/", params={"token": address.partition("=")[2]})
                yield server, client
        finally:
            server.terminate()


def worked(process: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(process: int) -> dict[str, int]:
    """Bytes of a process."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines() if ":" in line
    )
    named = {"anonymous": "RssAnon", "resident": "VmRSS", "peak": "VmHWM"}
    return {name: int(status[field].split()[0]) * 1024 for name, field in named.items()}


def timed(server: subprocess.Popen[str], client: httpx.Client, address: str) -> dict[str, float]:
    """Ask for one page."""
    before, begin = worked(server.pid), time.perf_counter()
    client.get(address).raise_for_status()
    seconds = time.perf_counter() - begin
    return {"seconds": round(seconds, 3), "cpu_seconds": round(worked(server.pid) - before, 3)}


def measure(folder: Path, records: int, repetitions: int) -> dict:
    """Every page, `repetitions` times."""
    with served(folder) as (server, client):
        opened = timed(server, client, "/")
        query = client.get("/records").text.partition("/record?id=")[2][:32]
        runs: dict[str, list[dict[str, float]]] = {}
        for repetition in range(repetitions):
            for name, address in (asked(repetition) | {"record": f"/record?id={query}&page={repetition + 1}"}).items():
                runs.setdefault(name, []).append(timed(server, client, address))
        used = memory(server.pid)
    median = {
        name: {key: round(statistics.median(run[key] for run in found), 3) for key in found[0]}
        for name, found in runs.items()
    }
    return {
        "machine": {"processor": processor(), "cores": os.cpu_count(), "system": platform.system()},
        "versions": {"python": platform.python_version(), **versions("polars", "pyarrow", "numpy", "starlette")},
        "records": records,
        "dataset_bytes": sum(file.stat().st_size for file in folder.rglob("*.arrow")),
        "load_average": round(os.getloadavg()[0], 1),
        "open": opened,
        "memory": used,
        "median": median,
        "goal_seconds": GOAL,
        "reached": all(found["seconds"] < GOAL for found in median.values()),
        "runs": runs,
    }


def main() -> None:
    """Make the data, measure, print, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--repetitions", type=int, default=len(WORDS), choices=range(1, len(WORDS) + 1))
    parser.add_argument("--folder", type=Path, help="where the dataset is made, and kept")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary) / "made-up"
        make_dataset(folder, options.records)
        result = measure(folder, options.records, options.repetitions)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    for name, found in result["median"].items():
        print(f"{name:30} {found['seconds']:7.3f} s  {found['cpu_seconds']:7.3f} CPU s")
    print(json.dumps({name: result[name] for name in ("machine", "load_average", "open", "memory", "reached")}))


if __name__ == "__main__":
    main()
