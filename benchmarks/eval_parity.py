"""Compare the figures of `neat-train eval` with plain transformers calls, one dialogue at a time in float32.

    python benchmarks/eval_parity.py RUN --queries SOURCE --reward-model FOLDER [--reward-model FOLDER] [--n 50]

RUN is a run with an adapter over a model in a folder. What is compared: perplexity of the chosen responses (relative),
every reward of every answer and every chosen response, and the log-probability ratio behind KL of every sampled answer.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from peft import AutoPeftModelForCausalLM
from rich.progress import track
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from neat_data.record import Messages, from_table
from neat_data.store.shard import read_shard
from neat_train.evaluation.evaluate import EvalRequest, evaluate, read_answers
from neat_train.evaluation.queries import EvalQuery, read_queries
from neat_train.evaluation.result import EvalResult

DECODINGS = ("greedy", "sampled", "negative")
TOLERANCE = 1e-4


def main(
    run: Path,
    queries: Annotated[str, typer.Option()],
    reward_model: Annotated[list[str], typer.Option()],
    n: int = 50,
    json_out: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Exit status 1 where the perplexity or a reward differs by 1e-4 or more."""
    with tempfile.TemporaryDirectory() as folder:
        request = EvalRequest(str(run), queries, tuple(reward_model), Path(folder) / "eval", limit=n, device="cpu")
        evaluation = evaluate(request).result
        result = {"queries": n, **_compared(run, request, evaluation)}
    print(json.dumps(result))
    if json_out:
        json_out.write_text(json.dumps(result, indent=1) + "\n")
    raise typer.Exit(0 if max(result["perplexity"], *result["rewards"].values()) < TOLERANCE else 1)


def _compared(run: Path, request: EvalRequest, evaluation: EvalResult) -> dict[str, Any]:
    assert request.out is not None
    assert evaluation.perplexity is not None
    asked = read_queries(request.queries, limit=request.limit)
    plain = _perplexity(run, [(_turns(query.messages), query.chosen) for query in asked if query.chosen])
    rewards = {Path(model).name: _rewards(model, request.out, asked) for model in request.rewards}
    return {
        "perplexity": abs(evaluation.perplexity.value / plain - 1),
        "rewards": rewards,
        "log_ratio": _ratios(run, request.out),
        "tolerance": TOLERANCE,
    }


def _perplexity(run: Path, pairs: list[tuple[list[dict[str, str]], str]]) -> float:
    model, tokenizer = _policy(run), AutoTokenizer.from_pretrained(run)
    likelihoods = [_nll(model, tokenizer, *pair) for pair in track(pairs, description="perplexity")]
    return math.exp(sum(nll for nll, _ in likelihoods) / sum(tokens for _, tokens in likelihoods))


def _nll(model: Any, tokenizer: Any, turns: list[dict[str, str]], response: str) -> tuple[float, int]:
    """Negative log-likelihood of a response with its end of turn, and its tokens."""
    asked = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"]
    whole = tokenizer.apply_chat_template([*turns, {"role": "assistant", "content": response}], return_dict=True)
    ids = whole["input_ids"]
    assert ids[: len(asked)] == asked
    return -_logp(model, asked, ids[len(asked) :]), len(ids) - len(asked)


def _logp(model: Any, asked: list[int], response: list[int]) -> float:
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*asked, *response]])).logits[0, len(asked) - 1 : -1]
    return float(torch.log_softmax(logits, -1).gather(1, torch.tensor(response)[:, None]).double().sum())


def _rewards(reward_model: str, out: Path, asked: Sequence[EvalQuery]) -> float:
    """The largest difference of a reward, of answers and of chosen responses."""
    tokenizer = AutoTokenizer.from_pretrained(reward_model)
    model = AutoModelForSequenceClassification.from_pretrained(reward_model, dtype=torch.float32).eval()
    worst = 0.0
    for messages, text, stored in track(list(_scored(Path(reward_model).name, out, asked)), description="rewards"):
        turns = [*_turns(messages), {"role": "assistant", "content": text}]
        ids = tokenizer.apply_chat_template(turns, return_dict=True, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            reward = model(input_ids=ids).logits.item()
        worst = max(worst, *(abs(reward - value) for value in stored))
    return worst


def _scored(model: str, out: Path, asked: Sequence[EvalQuery]) -> Iterator[tuple[Messages, str, list[float]]]:
    """Every answer and chosen response with what `eval` says is its reward: of the latter, once a decoding."""
    rows = {(row["decoding"], row["query_id"]): row for row in read_answers(out).iter_rows(named=True)}
    for decoding in DECODINGS:
        for record in from_table(read_shard(out / "responses" / f"{decoding}.arrow")):
            reward = rows[decoding, record.query_id][f"reward/{model}"]
            yield record.messages, record.responses[0].text, [reward]
    for query in asked:
        if query.chosen is not None:
            rewards = [rows[decoding, query.query_id][f"chosen/{model}"] for decoding in DECODINGS]
            yield query.messages, query.chosen, rewards


def _ratios(run: Path, out: Path) -> float:
    """The largest difference of log p - log p_start, summed over a sampled answer."""
    model, tokenizer = _policy(run), AutoTokenizer.from_pretrained(run)
    base = AutoModelForCausalLM.from_pretrained(_base(run), dtype=torch.float32).eval()
    sampled = {row["query_id"]: row["kl"] for row in read_answers(out).iter_rows(named=True) if row["kl"] is not None}
    worst = 0.0
    for record in track(from_table(read_shard(out / "responses" / "sampled.arrow")), description="log-ratios"):
        turns, tokens = _turns(record.messages), list(record.responses[0].tokens or ())
        asked = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"]
        ratio = _logp(model, asked, tokens) - _logp(base, asked, tokens)
        worst = max(worst, abs(ratio - sampled[record.query_id]))
    return worst


def _policy(run: Path) -> Any:
    return AutoPeftModelForCausalLM.from_pretrained(run, dtype=torch.float32).eval()


def _base(run: Path) -> str:
    return json.loads((run / "adapter_config.json").read_text())["base_model_name_or_path"]


def _turns(messages: Any) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in messages]


if __name__ == "__main__":
    typer.run(main)
