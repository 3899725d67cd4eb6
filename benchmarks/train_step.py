"""How fast this project trains, beside two other ways of doing the same optimiser step, in one run on one machine.

    python benchmarks/train_step.py DATA [--records 64] [--repeats 3] [--out benchmarks/results/train_step.json]

DATA is any source of pairs; its first records are trained on with their two responses (k = 2) and again with two more
taken from other records (k = 4), ranked in the order given. The model is a Llama of about 100 M parameters with a
vocabulary of 32,000 and random weights, under LoRA (r 16, all linear layers, the same dtype everywhere); the loss is
`neat_train.losses` without a penalty. `trees` is this project: token trees packed to a budget, log-probabilities at
response positions alone. `rrhf` is how RRHF trains: one record a micro-batch, its k sequences padded to the longest,
logits and log-softmax over all positions. `sorted` pads length-sorted batches of the same token budget and computes the
same logits. At k = 2 `trees dpo` and `trl dpo` are DPO, here and by TRL's DPOTrainer, each with its reference pass.

First every way's loss and gradients are compared in float32 on some records, and its peak memory above the loaded model
is measured with one record in a micro-batch. Every repetition of every way is a process of its own, one after another,
and takes the ways in turn. What was measured is written after every process; running again goes on where it stopped,
and with more repeats adds to them. `--by processor` (with `--threads 1`) is for a machine that has other work: speeds
are by the time that the processor spent on it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import score
import torch
from train_ways import PAIRS, TOKENIZER, WAYS, Way, encoded, gradient_of

HIDDEN, LAYERS, INTERMEDIATE, HEADS, VOCABULARY = 640, 12, 1_728, 10, 32_000
BUDGET = 2_048
EXACT_RECORDS = 6
RATES = {"wall": "records_per_s", "processor": "records_per_processor_s"}
MEMORY_RECORDS = 8
GOALS = {
    "records_per_s / rrhf": {2: 1.9, 4: 2.8},
    "memory of rrhf": 0.5,
    "dpo / trl": {"speed": 2, "memory": 0.5},
    "loss": 1e-5,
    "gradient": 1e-4,
}


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    if options.what:
        print(json.dumps(_measure(options)))
        return
    results = _open_results(options)
    for k in options.k:
        _fill(results, options, k)
    results["summary"] = {str(k): _summary(results["runs"], k, RATES[options.by]) for k in options.k}
    score._save(results, options.out)
    _print(results)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a source of pairs, for example harmless-base.test.jsonl.gz")
    parser.add_argument("--records", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--k", type=int, nargs="+", choices=(2, 4), default=(2, 4), help="responses to a query")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--by", choices=RATES, default="wall", help="processor: its time, of one thread")
    parser.add_argument("--dtype", choices=("auto", "bfloat16", "float32"), default="auto", help="auto: the faster")
    parser.add_argument("--tokenizer", default=TOKENIZER, help="a folder with a chat template")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/train_step.json"))
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--what", choices=("time", "memory", "exact"), help=argparse.SUPPRESS)
    return parser.parse_args()


def _open_results(options: argparse.Namespace) -> dict[str, Any]:
    """Results of the same settings that were begun earlier, or new ones."""
    settings = {name: getattr(options, name) for name in ("records", "threads", "tokenizer")}
    if options.out.exists():
        results = json.loads(options.out.read_text())
        if results["settings"] == settings and results["versions"] == score._versions():
            return results
    peaks = {dtype: score.matmul_peak(getattr(torch, dtype)) for dtype in ("bfloat16", "float32")}
    return {
        "settings": settings,
        "dtype": max(peaks, key=lambda name: peaks[name]) if options.dtype == "auto" else options.dtype,
        "machine": score._machine(),
        "versions": score._versions(),
        "model": {"layers": LAYERS, "hidden": HIDDEN, "intermediate": INTERMEDIATE, "vocabulary": VOCABULARY},
        "token_budget": BUDGET,
        "matmul_tflops": {name: round(peak / 1e12, 3) for name, peak in peaks.items()},
        "runs": [],
    }


def _fill(results: dict[str, Any], options: argparse.Namespace, k: int) -> None:
    """Run every process of this k that `results` lacks."""
    pairs = tuple(PAIRS) if k == 2 else ()
    ways = (*WAYS, *pairs)
    wanted = [("exact", way, 0) for way in ways if not way.startswith("trees")]
    wanted += [("memory", way, 0) for way in ("trees", "rrhf", *pairs)]
    wanted += [("time", way, repeat) for repeat in range(options.repeats) for way in ways]
    have = {(run["what"], run["way"], run["repeat"]) for run in results["runs"] if run["k"] == k}
    for what, way, repeat in wanted:
        if (what, way, repeat) in have:
            continue
        dtype = "float32" if what == "exact" else results["dtype"]
        command = [sys.executable, __file__, options.data, "--what", what, "--way", way, "--k", str(k)]
        command += ["--dtype", dtype, "--tokenizer", options.tokenizer]
        command += ["--records", str(options.records), "--threads", str(options.threads)]
        env = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=env, text=True)
        run = {"what": what, "way": way, "k": k, "repeat": repeat, **json.loads(done.stdout.splitlines()[-1])}
        results["runs"].append(run)
        score._save(results, options.out)
        print(run, file=sys.stderr)


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    """In a process of its own: one question about one way."""
    examples = encoded(options.data, options.records, options.k[0], options.tokenizer)
    shape = {"hidden": HIDDEN, "layers": LAYERS, "intermediate": INTERMEDIATE, "heads": HEADS, "vocabulary": VOCABULARY}
    ways = {**WAYS, **PAIRS}
    way = ways[options.way](shape, getattr(torch, options.dtype))
    if options.what == "exact":
        trees = ways["trees dpo" if options.way in PAIRS else "trees"]
        return _distance(way, trees(shape, torch.float32), examples[:EXACT_RECORDS])
    return _memory(way, examples[:MEMORY_RECORDS]) if options.what == "memory" else _time(way, examples)


def _time(way: Way, examples: list[Any]) -> dict[str, Any]:
    way.step(way.batches(examples, BUDGET)[:1])  # the first pass allocates and chooses kernels
    start, processor = time.perf_counter(), time.process_time()
    batches = way.batches(examples, BUDGET)
    loss = way.step(batches)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    tokens = sum(batch.tokens for batch in batches)
    return {
        "seconds": round(seconds, 3),
        "records_per_s": round(len(examples) / seconds, 3),
        "processor_seconds": round(processor, 3),
        "records_per_processor_s": round(len(examples) / processor, 3),
        "loss": loss,
        "micro_batches": len(batches),
        "tokens_run": tokens,
        "tokens_run_per_s": round(tokens / seconds, 1),
        "answer_tokens": sum(len(answer.ids) for example in examples for answer in example.answers),
    }


def _memory(way: Way, examples: list[Any]) -> dict[str, Any]:
    """Peak above the loaded model, with one record in each micro-batch, whatever the way."""
    with score._PeakMemory() as memory:
        way.step([way.batches([example], 1)[0] for example in examples])
    return {"records": len(examples), "peak_mb_above_model": round(memory.peak / 2**20, 1)}


def _distance(way: Way, trees: Way, examples: list[Any]) -> dict[str, Any]:
    """How far loss and gradients are from those of token trees, both in float32, relative to the largest gradient."""
    expected, loss = (one.step(one.batches(examples, BUDGET)) for one in (trees, way))
    one, other = gradient_of(trees.model), gradient_of(way.model)
    off = float((one - other).abs().max() / one.abs().max())
    return {"records": len(examples), "loss_off": abs(expected - loss), "gradient_off": off}


def _summary(runs: list[dict[str, Any]], k: int, rate: str) -> dict[str, Any]:
    def of(what: str, way: str, name: str) -> list[float]:
        return [run[name] for run in runs if (run["k"], run["what"], run["way"]) == (k, what, way)]

    pairs = _pairs(of, rate) if k == 2 else {}
    rates = {way: statistics.median(of("time", way, rate)) for way in WAYS}
    memory = {way: of("memory", way, "peak_mb_above_model")[0] for way in ("trees", "rrhf")}
    others = [way for way in WAYS if way != "trees"]
    return {
        rate: rates,
        "times_faster_than": {way: round(rates["trees"] / rates[way], 2) for way in others},
        "peak_mb_above_model": memory,
        "memory_of_rrhf": round(memory["trees"] / memory["rrhf"], 2),
        "tokens_run": {way: of("time", way, "tokens_run")[0] for way in WAYS},
        "loss_off": {way: of("exact", way, "loss_off")[0] for way in others},
        "gradient_off": {way: of("exact", way, "gradient_off")[0] for way in others},
        **pairs,
    }


def _pairs(of: Callable[[str, str, str], list[float]], rate: str) -> dict[str, Any]:
    """DPO on trees beside TRL's."""
    rates = {way: statistics.median(of("time", way, rate)) for way in PAIRS}
    memory = {way: of("memory", way, "peak_mb_above_model")[0] for way in PAIRS}
    return {
        f"dpo_{rate}": rates,
        "dpo_times_faster_than_trl": round(rates["trees dpo"] / rates["trl dpo"], 2),
        "dpo_peak_mb_above_model": memory,
        "dpo_memory_of_trl": round(memory["trees dpo"] / memory["trl dpo"], 2),
        "dpo_loss_off": of("exact", "trl dpo", "loss_off")[0],
        "dpo_gradient_off": of("exact", "trl dpo", "gradient_off")[0],
    }


def _print(results: dict[str, Any]) -> None:
    print(json.dumps({key: value for key, value in results.items() if key not in ("runs", "summary")}))
    for run in results["runs"]:
        print(*(f"{name}={value}" for name, value in run.items()))
    for k, summary in results["summary"].items():
        for name, value in summary.items():
            print(f"k={k} {name}: {value}")
    print(f"goals: {GOALS}")


if __name__ == "__main__":
    main()
