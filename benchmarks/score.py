"""How fast this project scores, beside other ways of doing the same work, in one run on one machine.

    python benchmarks/score.py DATA [--rows 256] [--repeats 3] [--vllm-python .venv-vllm/bin/python] [--out FILE]

DATA is any source of pairs; its first rows are scored with two responses each (k = 2) and again with two more taken
from other rows (k = 4). The model is a Llama classifier of about 100 M parameters with random weights. Every
repetition of every way is a process of its own, one after another, and takes the ways in turn, so that a machine that
slows down slows them all. What was measured is written after every process; running again goes on where it stopped,
and with more repeats adds to them.

Trees run fewer tokens than length-sorted batches: the quotient says how much of that they turn into speed, tokens run a
second by trees over tokens run a second by sorted batches. It is given in wall time and in the processor's time, which
counts where the machine has other work. vLLM is a fifth way where its environment (`make vllm`) is named.
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
import threading
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

from neat_data.models.encode import encode
from neat_data.models.reward_model import Task
from neat_data.models.templates import ChatTemplate
from neat_data.models.trees.tree import grow
from neat_data.sources import Row, open_source

HIDDEN, LAYERS, INTERMEDIATE, HEADS = 768, 12, 2_560, 12
BODY = LAYERS * (4 * HIDDEN**2 + 3 * HIDDEN * INTERMEDIATE)  # parameters of matrix products; embeddings do none
BUDGET = 2_048
EXACT_TASKS = 16
HERE = ("trees", "pipeline", "file_order", "sorted")  # ways that run in this environment
OF_TOKENS_GOAL = 0.95
GOALS = {2: {"pipeline": 3.0, "file_order": 7.5, "sorted": 2.5}, 4: {"pipeline": 3.5, "file_order": 8.0, "sorted": 3.0}}


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    if options.way:
        print(json.dumps(_measure(options)))
        return
    results = _open_results(options)
    with tempfile.TemporaryDirectory() as folder:
        _save_model(Path(folder), options.tokenizer)
        for k in (2, 4):
            _fill(results, options, folder, k)
    results["summary"] = {str(k): _summary(results, k) for k in (2, 4)}
    _save(results, options.out)
    _print(results)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a source of pairs, for example harmless-base.test.jsonl.gz")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=("auto", "bfloat16", "float32"), default="auto", help="auto: the faster")
    parser.add_argument("--tokenizer", default="data/models/tiny-reward", help="a folder with a chat template")
    parser.add_argument(
        "--vllm-python", type=Path, help="the interpreter of an environment with vLLM, to measure it too"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/score.json"))
    parser.add_argument("--k", type=int, default=2, help=argparse.SUPPRESS)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    return parser.parse_args()


def _open_results(options: argparse.Namespace) -> dict[str, Any]:
    """Results of the same settings that were begun earlier, or new ones."""
    settings = {name: getattr(options, name) for name in ("rows", "threads")}
    if options.out.exists():
        results = json.loads(options.out.read_text())
        if results["settings"] == settings and results["versions"] == _versions():
            return results
    peaks = {dtype: matmul_peak(getattr(torch, dtype)) for dtype in ("bfloat16", "float32")}
    dtype = max(peaks, key=lambda name: peaks[name]) if options.dtype == "auto" else options.dtype
    return {
        "settings": settings,
        "note": "ratios of runs that took turns; where the machine had other work, the processor's time is what counts",
        "dtype": dtype,
        "machine": _machine(),
        "versions": _versions(),
        "model": {"layers": LAYERS, "hidden": HIDDEN, "intermediate": INTERMEDIATE, "body_parameters": BODY},
        "token_budget": BUDGET,
        "matmul_tflops": {name: round(peak / 1e12, 3) for name, peak in peaks.items()},
        "runs": [],
    }


def _fill(results: dict[str, Any], options: argparse.Namespace, folder: str, k: int) -> None:
    """Run every process of this k that `results` lacks."""
    vllm = ("vllm",) if options.vllm_python else ()
    wanted = [(way, repeat) for repeat in range(options.repeats) for way in (*HERE, *vllm)]
    wanted += [(way, 0) for way in ("exact", *(f"exact_{name}" for name in vllm))]
    have = {(run["way"], run["repeat"]) for run in results["runs"] if run["k"] == k}
    for way, repeat in wanted:
        if (way, repeat) in have:
            continue
        python = str(options.vllm_python) if "vllm" in way else sys.executable
        command = [python, __file__, options.data, "--way", way, "--model", folder, "--k", str(k)]
        command += ["--rows", str(options.rows), "--threads", str(options.threads), "--dtype", results["dtype"]]
        env = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=env, text=True)
        run = {"way": way, "k": k, "repeat": repeat, **json.loads(done.stdout.splitlines()[-1])}
        results["runs"].append(run)
        _save(results, options.out)
        print(run, file=sys.stderr)


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    """In a process of its own: one way, once."""
    import score_ways

    tasks = read_tasks(options.data, options.rows, options.k)
    if options.way.startswith("exact"):
        return _exactness(score_ways, options, tasks[:EXACT_TASKS])
    way = score_ways.WAYS[options.way](options.model, options.dtype, BUDGET)
    way.score(tasks[:8])  # the first pass allocates and chooses kernels
    with _PeakMemory() as memory:
        start, busy = time.perf_counter(), time.process_time()
        scores = way.score(tasks)
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
    assert len(scores) == len(tasks) * options.k
    tokens, tree_flops = _count(options.model, tasks)
    run = {
        "seconds": round(seconds, 3),
        "processor_seconds": round(busy, 3),
        "rows_per_s": round(len(tasks) / seconds, 3),
        "tokens_per_s": round(tokens / seconds, 1),
        "tokens_run": way.tokens_run,
        "tokens_run_per_s": round(way.tokens_run / seconds, 1),
        "padding_factor": round(way.tokens_run / tokens, 3),
        "peak_mb_above_model": round(memory.peak / 2**20, 1),
    }
    if options.way == "trees":
        run["model_tflops"] = round(tree_flops / seconds / 1e12, 3)
        run["peak_tflops_now"] = round(matmul_peak(getattr(torch, options.dtype)) / 1e12, 3)
    return run


def _exactness(score_ways: Any, options: argparse.Namespace, tasks: list[Task]) -> dict[str, Any]:
    """Largest distance of every way's scores from a loop over single dialogues in float32."""
    reference = torch.tensor(score_ways.Alone(options.model, "float32", BUDGET).score(tasks))

    def off(way: str, dtype: str) -> float:
        rewards = torch.tensor(score_ways.WAYS[way](options.model, dtype, BUDGET).score(tasks))
        return float((rewards - reference).abs().max())

    if options.way == "exact_vllm":
        return {f"off_{options.dtype}": {"vllm": off("vllm", options.dtype)}}
    return {
        "dialogues": len(reference),
        "score_deviation": round(float(reference.std()), 4),
        "off_float32": {"trees": off("trees", "float32")},
        f"off_{options.dtype}": {way: off(way, options.dtype) for way in HERE},
    }


def read_tasks(data: str, rows: int, k: int) -> list[Task]:
    """The first rows with both of their responses; for k = 4 also those of the row half of the rows further on."""
    pairs = [row for row in open_source(data).rows() if isinstance(row, Row) and len(row.answers) == 2][:rows]
    texts = [tuple(answer.text for answer in row.answers) for row in pairs]
    others = [texts[(index + len(texts) // 2) % len(texts)] for index in range(len(texts))]
    return [
        Task(row.messages, own if k == 2 else own + other) for row, own, other in zip(pairs, texts, others, strict=True)
    ]


def _count(folder: str, tasks: list[Task]) -> tuple[int, int]:
    """Tokens of the separate dialogues, and the operations that token trees need for them."""
    template = ChatTemplate(AutoTokenizer.from_pretrained(folder))
    tokens = flops = 0
    for task in tasks:
        sequences = [ids for ids in encode(task, template, 4_096, 1_536).sequences if ids is not None]
        tree = grow(sequences)
        depth = len(tree.prefix)
        pairs = depth**2 // 2 + sum(len(branch) * (depth + len(branch) // 2) for branch in tree.branches)
        tokens += sum(map(len, sequences))
        flops += 2 * BODY * tree.tokens + 4 * HIDDEN * LAYERS * pairs
    return tokens, flops


def matmul_peak(dtype: torch.dtype) -> float:
    """Operations a second of the best of several products of 4,096 x 768 x 2,560 and 2,048 x 2,048 x 2,048."""
    best = 0.0
    for rows, inner, columns in ((4_096, HIDDEN, INTERMEDIATE), (2_048, 2_048, 2_048)):
        a, b = torch.randn(rows, inner).to(dtype), torch.randn(columns, inner).to(dtype)
        for _ in range(6):
            start = time.perf_counter()
            torch.nn.functional.linear(a, b)
            best = max(best, 2 * rows * inner * columns / (time.perf_counter() - start))
    return best


class _PeakMemory:
    """Resident memory above what it was on entry, sampled every five milliseconds."""

    def __enter__(self) -> _PeakMemory:
        self.peak, self._start, self._stop = 0, _resident(), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self.peak = max(self.peak, _resident() - self._start)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _save_model(folder: Path, tokenizer: str) -> None:
    own_tokenizer = AutoTokenizer.from_pretrained(tokenizer)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(own_tokenizer),
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        intermediate_size=INTERMEDIATE,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=4_096,
        num_labels=1,
        pad_token_id=own_tokenizer.pad_token_id,
    )
    model = LlamaForSequenceClassification(config).bfloat16()
    model.save_pretrained(folder)
    own_tokenizer.save_pretrained(folder)


def _summary(results: dict[str, Any], k: int) -> dict[str, Any]:
    runs = [run for run in results["runs"] if run["k"] == k]
    by_way = {way: [run for run in runs if run["way"] == way] for way in (*HERE, "vllm")}
    ways = {way: _medians(own) for way, own in by_way.items() if own}
    others = [way for way in ways if way != "trees"]
    shares = [run["model_tflops"] / run["peak_tflops_now"] for run in by_way["trees"]]
    return {
        "medians": ways,
        "times_faster_than": {way: round(ways["trees"]["rows_per_s"] / ways[way]["rows_per_s"], 2) for way in others},
        "goals": GOALS[k],
        "of_tokens": _of_tokens(by_way["trees"], by_way["sorted"]),
        "share_of_matmul_peak": round(statistics.median(shares), 3),
        "exactness": [run for run in runs if run["way"].startswith("exact")],
    }


def _medians(runs: list[dict[str, Any]]) -> dict[str, float]:
    numbers = [name for name, value in runs[0].items() if name not in _LABELS and isinstance(value, int | float)]
    return {name: statistics.median(run[name] for run in runs) for name in numbers}


def _of_tokens(trees: list[dict[str, Any]], batches: list[dict[str, Any]]) -> dict[str, float]:
    """How much faster trees may be, going by tokens run, and the quotients of what they are and that."""
    allowed = batches[0]["tokens_run"] / trees[0]["tokens_run"]
    pairs = list(zip(trees, batches, strict=True))  # runs of one repetition follow one another

    def quotient(seconds: str) -> float:
        return round(statistics.median(two[seconds] / one[seconds] / allowed for one, two in pairs), 3)

    return {
        "tokens_allow": round(allowed, 3),
        "quotient": quotient("seconds"),
        "quotient_of_processor_time": quotient("processor_seconds"),
        "goal": OF_TOKENS_GOAL,
    }


_LABELS = ("way", "k", "repeat")


def _machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    flags = next((line for line in lines if line.startswith("flags")), "")
    return {
        "cpu": name,
        "cores": os.cpu_count(),
        "vectors": [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags.split()],
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
    }


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _save(results: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")


def _print(results: dict[str, Any]) -> None:
    print(json.dumps({key: value for key, value in results.items() if key not in ("runs", "summary")}))
    for k, summary in results["summary"].items():
        for way, numbers in summary["medians"].items():
            print(f"k={k} {way:11}", *(f"{name}={value}" for name, value in numbers.items()))
        print(f"k={k} times faster: {summary['times_faster_than']}, goals {summary['goals']}")
        print(f"k={k} speed of trees over sorted batches, against what tokens allow: {summary['of_tokens']}")
        print(f"k={k} share of the matrix-multiply peak: {summary['share_of_matmul_peak']:.0%}, goal 60 %")
        print(f"k={k} exactness: {summary['exactness']}")


if __name__ == "__main__":
    main()
