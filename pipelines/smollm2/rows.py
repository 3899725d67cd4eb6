"""Rows of the two reward models: A has those of tiny-reward, B others, and both leave Table 2's to the policies.

The sets are those of `data/models/splits`, which share no query. A learns from `reward_a`. B learns from `reward_b` and
from the later part of `alignment`, in order of its queries' ids, of which the experiments take the first so many.
Rows whose query occurs in a test file are left out, and a part of each set is kept for validation.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import neat_data
from pipelines.tiny_models.contexts import in_context
from pipelines.tiny_models.rows import KINDS, Pair, read_kind, to_pair
from pipelines.tiny_models.splits import read_ids

SPLITS = Path(__file__).resolve().parents[2] / "data" / "models" / "splits"
FOR_POLICIES = 4_000  # queries of `alignment` that only policies are trained on
TESTS = {"harmless": "harmless-base.test.jsonl.gz", "helpful": "helpful-base.test.jsonl.gz"}
VALIDATION = 500  # rows of each set, those with the first ids


def ids_of(name: str) -> frozenset[str]:
    """Ids of the queries that reward model `a` or `b` learns from or is chosen by."""
    if name == "a":
        return frozenset(read_ids(SPLITS / "reward_a.txt.gz"))
    later = sorted(read_ids(SPLITS / "alignment.txt.gz"))[FOR_POLICIES:]
    return frozenset([*read_ids(SPLITS / "reward_b.txt.gz"), *later])


def pairs_of(name: str, data: Path) -> tuple[list[Pair], list[Pair]]:
    """Pairs of reward model `a` or `b`: to train on, and to validate with; in order of their queries' ids.

    Args:
        data: the folder with hh-rlhf-single-turn/ and hh-rlhf/.

    Raises:
        InputError: a file is missing.
    """
    ids, tested = ids_of(name), tested_queries(data)
    rows = [pair for kind in KINDS for pair in read_kind(data / "hh-rlhf-single-turn", kind)]
    usable = [p for p in rows if p.unusable is None and p.query_id in ids and p.query_id not in tested]
    usable.sort(key=lambda pair: pair.query_id)
    held_out = {pair.query_id for pair in usable[:VALIDATION]}
    return [p for p in usable if p.query_id not in held_out], [p for p in usable if p.query_id in held_out]


def tested_queries(data: Path) -> frozenset[str]:
    """Ids of the queries of both test files."""
    return frozenset(pair.query_id for kind in TESTS for pair in test_pairs(data, kind))


def test_pairs(data: Path, kind: str) -> list[Pair]:
    """Every row of a test file."""
    with gzip.open(data / "hh-rlhf" / TESTS[kind], "rt", encoding="utf-8") as lines:
        return [to_pair(kind, row["chosen"], row["rejected"]) for row in map(json.loads, lines)]


def placed(pairs: Sequence[Pair], share: float, short_query: float, seed: int) -> list[Pair]:
    """The pairs, a `share` of them behind further dialogues of their kind, as the test files' stand."""
    rng = random.Random(seed)
    alone = [pair for kind in KINDS for pair in pairs if pair.kind == kind]  # as `in_context` has them
    behind = in_context(pairs, short_query, rng)
    return [context if rng.random() < share else pair for pair, context in zip(alone, behind, strict=True)]


def dataset(folder: Path, pairs: Iterable[Pair]) -> None:
    """A dataset of the pairs, whose rewards only say what people chose."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    file = folder.with_suffix(".jsonl")
    file.write_text("".join(json.dumps(_row(pair)) + "\n" for pair in pairs), encoding="utf-8")
    neat_data.score(file, out=folder, rewards="given", progress=False)


def is_dataset(folder: Path) -> bool:
    """Whether a finished dataset lies there."""
    return (folder / "README.md").is_file()  # the card is written last


def _row(pair: Pair) -> dict[str, Any]:
    return {
        "prompt": [{"role": turn.role, "content": turn.content} for turn in pair.query],
        "chosen": pair.chosen,
        "rejected": pair.rejected,
        "score_chosen": 1.0,
        "score_rejected": 0.0,
    }
