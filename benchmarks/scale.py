"""What a row costs in datasets of ten thousand to millions of rows: time and memory of each command that reads them.

    python benchmarks/scale.py --folder runs/bench-scale --sizes 10000 100000 1000000

makes a source of made-up dialogues (1,540 bytes a row, as HH has; one query in fifty asked before), and runs each
command on it in a process of its own. `cpu_seconds` is what that process and those that it began worked, start
included: on a machine where others work as well it says more than the wall clock. `microseconds_a_row` leaves out what
the command takes on ten rows, its start. `anonymous_bytes` is the highest memory of the process's own,
`resident_bytes` counts the pages of mapped shards as well, which the system takes back when it wants to.
What ended is kept in the results, so that the same command goes on where it was stopped; `--again` measures anew.

Goals: a row takes at most 1.3 times the time of a row among ten thousand; under 1.5 GB, for stats and compact 3 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from stats import processor, versions

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "scale.json"
START_ROWS = 10  # a dataset of which every command takes its start alone
SIZES = (10_000, 100_000, 1_000_000, 5_000_000)
GOAL_GROWTH, GOAL_BYTES, GOAL_BYTES_OF = 1.3, 1.5e9, {"stats": 3e9, "compact": 3e9}
POLICY = HERE.parent / "data" / "models" / "tiny-policy"
DATA, TRAIN = ("-m", "neat_data"), ("-m", "neat_train")

PEERS = ("datasets", "datatrove")


def commands(folder: Path) -> dict[str, tuple[str, ...]]:
    """What is measured, in this order, with the arguments of Python; later ones read what earlier ones wrote."""
    source, dataset = str(folder / "source.jsonl"), str(folder / "dataset")
    trusted = ("--reward-model", f"{HERE / 'cheap_reward.py'}:length")
    score = (*DATA, "score", source, *trusted)
    responses = str(folder / "responses.jsonl")
    # One step of eight records, so that the step on ten rows is that on millions and the rest is what opening takes.
    steps = ("max_steps=1", "records_per_step=8", "eval_strategy=no", "save_strategy=no", "held_out.share=0")
    sets = tuple(part for step in steps for part in ("--set", step))
    fit = (*TRAIN, "fit", dataset, "--policy", str(POLICY), "--device", "cpu", "--method", "neat", *sets, *trusted)
    return {
        "score, planning": (*score, "--phase", "plan", "--out", dataset),
        "score, the rest": (*score, "--out", dataset),
        "stats": (*DATA, "stats", dataset),
        "verify": (*DATA, "verify", dataset),
        "show": (*DATA, "show", dataset),
        "export to Parquet": (*DATA, "export", dataset, "--to", "parquet", "--out", str(folder / "records.parquet")),
        "fit, first step": (*fit, "--out", str(folder / "run")),
        "expand --responses": (*DATA, "expand", dataset, "--responses", responses, *trusted),
        "compact": (*DATA, "compact", dataset, "--out", str(folder / "compacted")),
    }


def make_source(folder: Path, rows: int) -> None:
    """Write the pairs, and one more answer to every query."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "responses.jsonl").exists():
        return
    partial = folder / "responses.part"
    with (folder / "source.jsonl").open("w") as source, partial.open("w") as responses:
        for row, answer in made_up(rows):
            source.write(json.dumps(row) + "\n")
            responses.write(json.dumps(answer) + "\n")
    partial.rename(folder / "responses.jsonl")


def made_up(rows: int) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """Dialogues of one or two exchanges; every fiftieth asks what a row ten rows before it asked."""
    rng = np.random.default_rng(0)
    words = ["the", "of", "and", "answer", "question", "is", "helpful", "to", "people", "harm", "don\u2019t", "\u2026"]
    pool = [" ".join(rng.choice(words, length)) for length in np.maximum(1, rng.gamma(2, 20, 2000)).astype(int)]
    for row in range(rows):
        asked = row - 10 if row % 50 == 49 else row
        lines = np.random.default_rng(asked).integers(0, len(pool), 3)
        query = f"\n\nHuman: {pool[lines[0]]} {asked}?"
        if asked % 2:
            query += f"\n\nAssistant: {pool[lines[1]]}\n\nHuman: {pool[lines[2]]}"
        better, worse, third = (pool[line] for line in rng.integers(0, len(pool), 3))
        begun = f"{query}\n\nAssistant: "
        pair = {"chosen": f"{begun}{better} {row}", "rejected": f"{begun}{worse} no {row}"}
        yield pair, {"prompt": begun.rstrip(), "completion": f"{third} {row} too"}


def measured(arguments: tuple[str, ...], log: Path, python: str = sys.executable) -> dict[str, float]:
    """Run Python with these arguments; seconds and bytes of it, and of what it began."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    began = time.perf_counter()
    with log.open("w") as said:
        process = subprocess.Popen([python, *arguments], stdout=said, stderr=said, env=environment)
        peak = Peak(process.pid)
        _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if status:
        raise SystemExit(f"{' '.join(arguments)}\nended with status {status}:\n{log.read_text()[-2000:]}")
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "resident_bytes": used.ru_maxrss * 1024,
        "anonymous_bytes": peak.bytes,
    }


class Peak:
    """The most memory of its own that a process ever had, looked at ten times a second."""

    def __init__(self, process: int) -> None:
        self.bytes = 0
        self._status = Path(f"/proc/{process}/status")
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            try:
                lines = self._status.read_text().splitlines()
            except OSError:
                return
            sizes = [int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")]
            if not sizes:  # it has ended, and is not waited for yet
                return
            self.bytes = max(self.bytes, *sizes)
            time.sleep(0.1)


def measure(rows: int, folder: Path, results: dict[str, Any], save: Callable[[], None]) -> None:
    """Every command on a source of `rows`; those that are in the results are not run again."""
    make_source(folder, rows)
    known = results["sizes"].setdefault(str(rows), {})
    for name, arguments in commands(folder).items():
        if name not in known:
            clear(arguments[-1] if arguments[-2] == "--out" else None, kept=name == "score, the rest")
            known[name] = measured(arguments, folder / "log.txt")
            known[name]["load_average"] = round(os.getloadavg()[0], 1)
            print(f"{rows:>9,} {name:20} {known[name]}", flush=True)
            save()


def clear(out: str | None, *, kept: bool) -> None:
    """Remove what a run that was stopped left of a command's output."""
    if out is None or kept:
        return
    shutil.rmtree(out, ignore_errors=True)
    Path(out).unlink(missing_ok=True)


def with_peers(rows: int, folder: Path, results: dict[str, Any], datatrove: str | None) -> None:
    """Reading and parsing the same file by `datasets`, and by datatrove where the Python of one is named."""
    for name, python in zip(PEERS, (sys.executable, datatrove), strict=True):
        known = results["peers"].setdefault(str(rows), {})
        if python is None or name in known:
            continue
        shutil.rmtree(folder / "peer", ignore_errors=True)
        arguments = (str(HERE / "scale_peers.py"), name, str(folder / "source.jsonl"), str(folder / "peer"))
        known[name] = measured(arguments, folder / "log.txt", python)
        shutil.rmtree(folder / "peer", ignore_errors=True)
        print(f"{rows:>9,} {name:20} {known[name]}", flush=True)


def per_row(results: dict[str, Any], name: str, rows: int) -> float:
    """Microseconds of processor time that a row takes, the command's start left out."""
    start = results["sizes"][str(START_ROWS)][name]["cpu_seconds"]
    return round((results["sizes"][str(rows)][name]["cpu_seconds"] - start) / rows * 1e6, 2)


def judged(results: dict[str, Any]) -> dict[str, Any]:
    """Per command: microseconds a row and memory by size, the growth from the smallest size, and the goals kept."""
    sizes = sorted(int(rows) for rows in results["sizes"] if int(rows) != START_ROWS)
    table: dict[str, Any] = {}
    for name in results["sizes"][str(START_ROWS)]:
        reached = [rows for rows in sizes if name in results["sizes"][str(rows)]]
        cost = {str(rows): per_row(results, name, rows) for rows in reached}
        memory = {str(rows): results["sizes"][str(rows)][name]["anonymous_bytes"] for rows in reached}
        growth = cost[str(reached[-1])] / cost[str(reached[0])] if len(reached) > 1 and cost[str(reached[0])] else None
        table[name] = {
            "microseconds_a_row": cost,
            "anonymous_bytes": memory,
            "growth": None if growth is None else round(growth, 2),
            "time_kept": growth is None or growth <= GOAL_GROWTH,
            "memory_kept": max(memory.values(), default=0) <= GOAL_BYTES_OF.get(name, GOAL_BYTES),
        }
    return table


def draw(results: dict[str, Any], path: Path) -> None:
    """Microseconds a row and memory of every command by the number of rows."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    time_axis, memory_axis = figure.subplots(1, 2)
    for name, row in results["figures"].items():
        sizes = [int(rows) for rows in row["microseconds_a_row"]]
        time_axis.plot(sizes, list(row["microseconds_a_row"].values()), marker="o", label=name)
        memory_axis.plot(sizes, [size / 1e9 for size in row["anonymous_bytes"].values()], marker="o")
    time_axis.set(xscale="log", yscale="log", xlabel="rows", ylabel="processor time a row (µs)")
    memory_axis.set(xscale="log", xlabel="rows", ylabel="highest memory (GB)", ylim=(0, None))
    memory_axis.axhline(GOAL_BYTES / 1e9, linestyle=":", color="grey")
    figure.legend(loc="outside lower center", ncols=5, fontsize=8)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Measure what is not in the results yet, and write them after every command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where sources and datasets are made, and kept")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--datatrove", help="the Python of an environment that has datatrove[io] and pyarrow")
    parser.add_argument("--again", action="store_true", help="measure anew what the results hold")
    options = parser.parse_args()
    results: dict[str, Any] = {"sizes": {}, "peers": {}}
    if options.out.exists() and not options.again:
        results = json.loads(options.out.read_text())

    def save() -> None:
        results["machine"] = {"processor": processor(), "cores": os.cpu_count(), "system": platform.system()}
        results["versions"] = {
            "python": platform.python_version(),
            **versions("polars", "pyarrow", "jiter", "datasets"),
        }
        results["figures"] = judged(results)
        options.out.write_text(json.dumps(results, indent=1) + "\n")

    measure(START_ROWS, options.folder / str(START_ROWS), results, save)
    for rows in options.sizes:
        measure(rows, options.folder / str(rows), results, save)
        with_peers(rows, options.folder / str(rows), results, options.datatrove)
        save()
        draw(results, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
