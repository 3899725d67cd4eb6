"""The answers of an evaluation as files: one table, records of the dataset's schema, and two benchmarks' formats."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from neat_data.models.sampler import Sample
from neat_data.prompts.sets import Prompt
from neat_data.record import Record, Response, response_id, to_table
from neat_data.store.atomic import write_atomically
from neat_data.store.shard import write_shard
from neat_train.evaluation.queries import EvalQuery
from neat_train.evaluation.subject import Subject

ALPACA, ARENA, RESPONSES = "alpaca_eval.json", "arena_hard.jsonl", "responses"


def responses_file(decoding: str) -> str:
    """What `write_responses` makes of a decoding, inside the evaluation's folder."""
    return f"{RESPONSES}/{decoding}.arrow"


def write_table(path: Path, rows: pl.DataFrame) -> None:
    """An Arrow file, whole or not at all."""
    write_atomically(path, lambda file: rows.write_ipc(file, compression="uncompressed"))


def write_responses(
    folder: Path,
    decoding: str,
    prompt: Prompt,
    subject: Subject,
    queries: Sequence[EvalQuery],
    samples: Sequence[Sample],
    rewards: Sequence[float | None],
    seeds: Sequence[int],
) -> None:
    """The answers of one decoding as records with one response each, `reward` that of the first reward model."""
    records = [
        Record(
            query.query_id,
            query.messages,
            (
                Response(
                    response_id(query.query_id, sample.text),
                    sample.text,
                    reward=reward,
                    origin="sampled",
                    polarity=prompt.polarity,
                    model=subject.model_label,
                    seed=seed,
                    tokens=sample.tokens,
                    tokenizer=subject.tokenizer_id,
                    finished=sample.finished,
                ),
            ),
        )
        for query, sample, reward, seed in zip(queries, samples, rewards, seeds, strict=True)
        if sample.refused is None
    ]
    (folder / RESPONSES).mkdir(exist_ok=True)
    metadata = {"decoding": decoding, "prompt": prompt.to_dict()}
    write_shard(folder / responses_file(decoding), to_table(records), metadata)


def write_benchmarks(folder: Path, label: str, queries: Sequence[EvalQuery], samples: Sequence[Sample]) -> None:
    """The answers as AlpacaEval (`--model_outputs`) and Arena-Hard (`model_answer/MODEL.jsonl`) read them."""
    given = [pair for pair in zip(queries, samples, strict=True) if pair[1].refused is None]
    alpaca = [alpaca_eval(label, *pair) for pair in given]
    arena = "".join(json.dumps(arena_hard(label, *pair), ensure_ascii=False) + "\n" for pair in given)
    whole = json.dumps(alpaca, indent=2, ensure_ascii=False) + "\n"
    write_atomically(folder / ALPACA, lambda file: file.write(whole.encode()))
    write_atomically(folder / ARENA, lambda file: file.write(arena.encode()))


def alpaca_eval(label: str, query: EvalQuery, sample: Sample) -> dict[str, str]:
    """One entry; AlpacaEval's instructions are single turns, of others the last is given."""
    return {
        "dataset": query.group,
        "instruction": query.messages[-1].content,
        "output": sample.text,
        "generator": label,
    }


def arena_hard(label: str, query: EvalQuery, sample: Sample) -> dict[str, Any]:
    """One line, for a question of that `uid`; Arena-Hard's `add_markdown_info` adds what its style control needs."""
    turns: list[Mapping[str, Any]] = [{"role": turn.role, "content": turn.content} for turn in query.messages]
    return {
        "uid": query.own_id or query.query_id,
        "ans_id": response_id(query.query_id, sample.text),
        "model": label,
        "messages": [*turns, {"role": "assistant", "content": {"answer": sample.text}}],
        "tstamp": 0.0,
        "metadata": {"token_len": len(sample.tokens or ())},
    }
