"""What `neat-data stats` costs on two million records, beside a bare polars scan of the same columns.

    python benchmarks/stats.py --folder runs/bench-stats

makes the dataset (about 2 GB, kept in the folder if one is named), then measures both in processes of their own, in
turn. The scan reads every field that the figures need (rewards, text lengths, origins, ids, labels) and reduces each to
one number. Time runs from the first call into the library to its result, imports left out; memory is the process's
highest resident size, mapped file pages included. CPU seconds and the load average tell whether the machine was idle.
Goal: at most 3 times the scan, under 2 GB.
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
from pathlib import Path

import numpy as np
import pyarrow as pa

from neat_data.record import LABEL, MESSAGE, RESPONSE, SCHEMA
from neat_data.store.folder import DatasetFolder

RESULTS = Path(__file__).parent / "results" / "stats.json"
SHARD = 50_000
POOL = 2_000  # different texts; their lengths are those of chat turns, 40 words on average
GOAL_RATIO, GOAL_BYTES = 3.0, 2e9


def make_dataset(folder: Path, records: int) -> None:
    """Write a dataset of made-up records: one in ten has four responses, the others two, each one label."""
    rng = np.random.default_rng(0)
    settings = {"reward_model": {"model": "made up"}, "records": records}
    with DatasetFolder.open(folder, settings, versions={}) as dataset:
        done = dataset.done(0)
        for number, first in enumerate(range(0, records, SHARD)):
            table = made_up(rng, min(SHARD, records - first), first)
            if number not in done:
                dataset.record(0, dataset.commit(0, number, table, [], {}))
        dataset.finish(0, {"source_rows": records})


def made_up(rng: np.random.Generator, records: int, first: int) -> pa.Table:
    """One shard's table, made column by column."""
    words = np.array(["the", "of", "and", "answer", "question", "is", "helpful", "to", "people", "harm"])
    lengths = np.maximum(1, rng.gamma(2, 20, POOL)).astype(int)
    pool = pa.array([" ".join(rng.choice(words, length)) for length in lengths])
    sizes = np.where(rng.random(records) < 0.1, 4, 2)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    total = int(starts[-1])
    reward = rng.normal(0, 1.2, total).astype(np.float32)
    reward = reward[np.lexsort((-reward, np.repeat(np.arange(records), sizes)))]  # best first
    ids = hexadecimal(rng, total, 16)
    fields = {"response_id": ids, "text": pool.take(pa.array(rng.integers(0, POOL, total))), "reward": pa.array(reward)}
    responses = struct(RESPONSE, total, {**fields, "origin": "source", "round": 0, "truncated": False})
    swapped = rng.random(records) < 0.4
    order = np.stack([starts[:-1] + swapped, starts[:-1] + 1 - swapped], axis=1).ravel()
    places = {"name": "made-up.jsonl", "split": "train", "row": pa.array(np.arange(first, first + records))}
    labels = struct(LABEL, records, {**places, "order": listed(ids.take(pa.array(order)), np.full(records, 2))})
    turns = rng.choice([1, 3, 5], records)
    role = pa.array(["user", "assistant"]).take(pa.array(np.concatenate([np.arange(n) % 2 for n in turns])))
    said = pool.take(pa.array(rng.integers(0, POOL, len(role))))
    messages = struct(MESSAGE, len(role), {"role": role, "content": said})
    columns = [
        hexadecimal(rng, records, 32),
        listed(messages, turns),
        listed(responses, sizes),
        listed(labels, np.ones(records, dtype=int)),
        pa.nulls(records, pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def hexadecimal(rng: np.random.Generator, count: int, digits: int) -> pa.Array:
    """Random ids."""
    ends = np.arange(0, (count + 1) * digits, digits, dtype=np.int32)
    text = rng.bytes(count * digits // 2).hex().encode()
    return pa.StringArray.from_buffers(count, pa.py_buffer(ends.tobytes()), pa.py_buffer(text))


def listed(values: pa.Array, sizes: np.ndarray) -> pa.Array:
    """Consecutive values as lists of these sizes."""
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)), values)


def struct(kind: pa.StructType, count: int, known: dict) -> pa.Array:
    """A struct array; a field is an array, one value for all, or null where it is not named."""
    arrays = []
    for part in kind:
        value = known.get(part.name)
        same = pa.nulls(count, part.type) if value is None else value
        arrays.append(same if isinstance(same, pa.Array) else pa.repeat(pa.scalar(same, part.type), count))
    return pa.StructArray.from_arrays(arrays, fields=list(kind))


def scan(folder: str) -> object:
    """The bare scan: each field that `stats` needs, reduced to one number by the streaming engine."""
    import polars as pl

    import neat_data

    records = neat_data.open(folder).scan_records()
    responses = records.select(pl.col("responses").explode()).unnest("responses")
    labels = records.select(pl.col("labels").explode()).unnest("labels").select("order", "verdict").explode("order")
    col = pl.col
    return pl.collect_all(
        [
            responses.select(
                col("reward").sum(),
                col("text").str.len_chars().sum(),
                col("response_id", "origin", "polarity").str.len_bytes().sum(),
                col("round").sum(),
                col("truncated").sum(),
            ),
            labels.select(col("order").str.len_bytes().sum(), col("verdict").sum()),
        ],
        engine="streaming",
    )


def stats(folder: str) -> object:
    """Every figure of `neat-data stats`."""
    import neat_data
    from neat_data.analysis.stats import compute

    return compute(neat_data.open(folder)).to_dict()


WAYS = {"scan": scan, "stats": stats}


def measure(way: str, folder: str) -> dict[str, float]:
    """Run one way once, in this process."""
    import polars  # noqa: F401  (both ways need it; its import is not what is measured)

    import neat_data.analysis.stats  # noqa: F401

    begin, worked = time.perf_counter(), time.process_time()
    WAYS[way](folder)
    seconds, worked = time.perf_counter() - begin, time.process_time() - worked
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return {
        "seconds": round(seconds, 3),
        "cpu_seconds": round(worked, 3),
        "peak_bytes": int(status["VmHWM"].split()[0]) * 1024,
    }


def measured(way: str, folder: Path) -> dict[str, float]:
    """Run one way once, in a process of its own."""
    command = [sys.executable, __file__, "--measure", way, "--folder", str(folder)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def compare(folder: Path, records: int, repetitions: int) -> dict:
    """Both ways in turn, after one unmeasured run of each has filled the page cache."""
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for repetition in range(-1, repetitions):
        for way in WAYS:
            measured_run = measured(way, folder)
            if repetition >= 0:
                runs[way].append(measured_run)
                print(f"{repetition + 1}  {way:5}  {measured_run}")
    median = {way: statistics.median(run["seconds"] for run in measured_run) for way, measured_run in runs.items()}
    peak = {way: max(run["peak_bytes"] for run in measured_run) for way, measured_run in runs.items()}
    worked = {way: statistics.median(run["cpu_seconds"] for run in measured_run) for way, measured_run in runs.items()}
    ratio = median["stats"] / median["scan"]
    return {
        "machine": {"processor": processor(), "cores": os.cpu_count(), "system": platform.system()},
        "versions": {"python": platform.python_version(), **versions("polars", "pyarrow", "numpy")},
        "records": records,
        "dataset_bytes": sum(file.stat().st_size for file in folder.rglob("*.arrow")),
        "runs": runs,
        "median_seconds": median,
        "peak_bytes": peak,
        "median_cpu_seconds": worked,
        "load_average": round(os.getloadavg()[1], 1),
        "ratio": round(ratio, 2),
        "cpu_ratio": round(worked["stats"] / worked["scan"], 2),
        "goal": {"ratio": GOAL_RATIO, "peak_bytes": GOAL_BYTES},
        "reached": bool(ratio <= GOAL_RATIO and peak["stats"] < GOAL_BYTES),
    }


def processor() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def versions(*names: str) -> dict[str, str]:
    """Installed versions."""
    from importlib.metadata import version

    return {name: version(name) for name in names}


def main() -> None:
    """Make the data, measure, print, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=2_000_000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the dataset is made, and kept")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(asked.measure, str(asked.folder))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary) / "made-up"
        make_dataset(folder, asked.records)
        result = compare(folder, asked.records, asked.repetitions)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(result, indent=1) + "\n")
    print(
        json.dumps({name: result[name] for name in ("machine", "versions", "records", "median_seconds", "peak_bytes")})
    )
    print(f"stats / scan = {result['ratio']} (goal {GOAL_RATIO}); written to {asked.out}")


if __name__ == "__main__":
    main()
