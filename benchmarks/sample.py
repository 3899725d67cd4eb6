"""How fast this project samples, beside `model.generate` one query at a time and vLLM, in one run on one machine.

    python benchmarks/sample.py DATA [--queries 256] [--repeats 3] [--vllm-python .venv-vllm/bin/python]

DATA is any source; its first queries are asked under both prompts of Table 1, and every answer has 64 tokens: no token
ends it. The model is a Llama of about 12 M parameters with random weights, shaped like LLaMA-3 (three query heads to a
key head). `one_at_a_time` is `model.generate` of transformers on query after query; `batches` is this project's
sampler, `vllm` its back end for vLLM, run by the python of an environment that has it and left out where there is none.
Every repetition of every way is a process of its own, one after another, and takes the ways in turn, so that a machine
that slows down slows them all. What was measured is written after every process; running again goes on where it
stopped, and with more repeats adds to them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import score
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from neat_data.models.load import load_sampler
from neat_data.models.sampler import Ask, SamplerSpec, Sampling, sample_seed
from neat_data.models.stopping import Stops
from neat_data.models.templates import ChatTemplate
from neat_data.prompts.sets import load_prompts
from neat_data.record import query_id
from neat_data.sources import open_source
from neat_data.sources.row import Row

SHAPE = {
    "hidden_size": 384,
    "intermediate_size": 1_024,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
}
WINDOW = 2_048
GOALS = {"batches / one_at_a_time": 8.0, "vllm / batches": 2.5}
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    if options.way:
        print(json.dumps(_measure(options)))
        return
    results = _open_results(options)
    with tempfile.TemporaryDirectory() as folder:
        results["model"] = _save_model(Path(folder), options.tokenizer)
        _fill(results, options, folder)
    results["summary"] = _summary(results["runs"])
    score._save(results, options.out)
    _print(results)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a source, for example harmless-base.test.jsonl.gz")
    parser.add_argument("--queries", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=64, help="of every answer")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=("auto", "bfloat16", "float32"), default="auto", help="auto: the faster")
    parser.add_argument("--tokenizer", default="data/models/tiny-policy-plain", help="a folder with a chat template")
    parser.add_argument("--vllm-python", type=Path, default=Path(".venv-vllm/bin/python"), help="one that has vLLM")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/sample.json"))
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    return parser.parse_args()


def _open_results(options: argparse.Namespace) -> dict[str, Any]:
    """Results of the same settings that were begun earlier, or new ones."""
    settings = {name: getattr(options, name) for name in ("queries", "tokens", "threads", "dtype")}
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
        "matmul_tflops": {name: round(peak / 1e12, 3) for name, peak in peaks.items()},
        "runs": [],
    }


def _fill(results: dict[str, Any], options: argparse.Namespace, folder: str) -> None:
    """Run every process that `results` lacks."""
    pythons = {"one_at_a_time": Path(sys.executable), "batches": Path(sys.executable), "vllm": options.vllm_python}
    if not options.vllm_python.exists():
        print(f"no {options.vllm_python}: vllm is left out; --vllm-python names another", file=sys.stderr)
        del pythons["vllm"]
    have = {(run["way"], run["repeat"]) for run in results["runs"]}
    for repeat in range(options.repeats):
        for way, python in pythons.items():
            if (way, repeat) in have:
                continue
            command = [str(python), __file__, options.data, "--way", way, "--model", folder]
            for name, value in {**results["settings"], "dtype": results["dtype"]}.items():
                command += [f"--{name}", str(value)]
            run = {"way": way, "repeat": repeat, **_run(command, options.threads)}
            results["runs"].append(run)
            score._save(results, options.out)
            print(run, file=sys.stderr)


def _run(command: list[str], threads: int) -> dict[str, Any]:
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    env |= {"PYTHONPATH": str(ROOT), "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR"}
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=env, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    """In a process of its own: one way, once."""
    asks = read_asks(options.data, options.queries, options.tokens)
    sample = _alone(options) if options.way == "one_at_a_time" else _ours(options)
    sample(asks[:8])  # the first pass allocates and chooses kernels
    start = time.perf_counter()
    tokens = sample(asks)
    seconds = time.perf_counter() - start
    assert tokens == len(asks) * options.tokens, f"{tokens} tokens of {len(asks)} answers"
    return {"seconds": round(seconds, 3), "answers": len(asks), "tokens_per_s": round(tokens / seconds, 1)}


def read_asks(data: str, queries: int, tokens: int) -> list[Ask]:
    """The first queries of a source under both prompts of Table 1."""
    rows = [row for row in open_source(data).rows() if isinstance(row, Row)][:queries]
    sampling = Sampling(max_new_tokens=tokens)
    return [
        Ask(prompt.applied(row.messages), sample_seed(0, 1, query_id(row.messages), prompt.name, 0), sampling)
        for row in rows
        for prompt in load_prompts("neat").prompts
    ]


def _ours(options: argparse.Namespace) -> Callable[[list[Ask]], int]:
    """This project's sampler, on transformers or on vLLM; the tokens it made."""
    backend = "vllm" if options.way == "vllm" else "transformers"
    sampler: Any = load_sampler(SamplerSpec(options.model, backend=backend, device="cpu", dtype=options.dtype))
    sampler.stops = Stops(())
    return lambda asks: sum(len(sample.tokens) for sample in sampler.sample(asks))


def _alone(options: argparse.Namespace) -> Callable[[list[Ask]], int]:
    """`generate` on one query after another; the tokens it made."""
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=getattr(torch, options.dtype)).eval()
    template = ChatTemplate(AutoTokenizer.from_pretrained(options.model))
    model.generation_config.eos_token_id = None

    def sample(asks: list[Ask]) -> int:
        tokens = 0
        for ask in asks:
            ids = torch.tensor([template.query_ids(ask.messages)])
            generated = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                top_k=0,
                max_new_tokens=ask.sampling.max_new_tokens,
            )
            tokens += generated.shape[1] - ids.shape[1]
        return tokens

    return sample


def _save_model(folder: Path, tokenizer: str) -> dict[str, Any]:
    own_tokenizer = AutoTokenizer.from_pretrained(tokenizer)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(own_tokenizer),
        max_position_embeddings=WINDOW,
        tie_word_embeddings=True,
        pad_token_id=own_tokenizer.pad_token_id,
        bos_token_id=own_tokenizer.bos_token_id,
        eos_token_id=own_tokenizer.eos_token_id,
        **SHAPE,
    )
    model = LlamaForCausalLM(config).bfloat16()
    model.save_pretrained(folder)
    own_tokenizer.save_pretrained(folder)
    return {**SHAPE, "vocabulary": len(own_tokenizer), "parameters": sum(p.numel() for p in model.parameters())}


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    ways = dict.fromkeys(run["way"] for run in runs)
    medians = {way: statistics.median(run["tokens_per_s"] for run in runs if run["way"] == way) for way in ways}
    ratios = {}
    for name in GOALS:
        above, below = name.split(" / ")
        if above in medians and below in medians:
            ratios[name] = round(medians[above] / medians[below], 2)
    return {"tokens_per_s": medians, "ratios": ratios, "goals": GOALS}


def _print(results: dict[str, Any]) -> None:
    print(json.dumps({key: value for key, value in results.items() if key not in ("runs", "summary")}))
    for run in results["runs"]:
        print(*(f"{name}={value}" for name, value in run.items()))
    print(f"medians, tokens/s: {results['summary']['tokens_per_s']}")
    for name, ratio in results["summary"]["ratios"].items():
        print(f"{name}: {ratio} times, goal {GOALS[name]}")


if __name__ == "__main__":
    main()
