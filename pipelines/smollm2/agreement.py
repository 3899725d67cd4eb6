"""How often the two reward models side with people on HH's test files, and how far both go by length.

Training rows share no query with the test files, so every row is clean; a stricter figure leaves out dialogues that
begin with a query that one of the two was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from neat_data.record import Messages, Record, query_id
from neat_data.store.dataset import PreferenceDataset
from neat_data.store.scores.format import OWN
from neat_train.comparison.reward_models import question
from neat_train.reward_model.measures import Pairs, accuracy, calibration, length_correlation
from pipelines.smollm2.rows import TESTS, ids_of

HELD_OUT = "heldout"  # the name of B's scores in a dataset that A scored


def agreement(test: Path) -> dict[str, Any]:
    """Figures by test file, part of it and model; `test` is the folder of the scored files."""
    trained = ids_of("a") | ids_of("b")
    return {kind: _of_file(PreferenceDataset.open(str(test / kind)), trained) for kind in TESTS}


def _of_file(dataset: PreferenceDataset, trained: Collection[str]) -> dict[str, Any]:
    parts: dict[str, Callable[[Record], bool]] = {
        "all": lambda record: True,
        "no shared opening": lambda record: not opens_with(record.messages, trained),
    }
    return {
        part: {name: figures([r for r in dataset.records(rank_by=name) if inside(r)]) for name in (OWN, HELD_OUT)}
        for part, inside in parts.items()
    }


def opens_with(messages: Messages, queries: Collection[str]) -> bool:
    """Whether a dialogue begins with one of `queries`, given by their ids."""
    return any(query_id(messages[:end]) in queries for end in range(1, len(messages) + 1))


def figures(records: Sequence[Record]) -> dict[str, float]:
    """Accuracy with its 95 % interval, pairs, calibration error, and Spearman's correlation of reward and length."""
    asked = [(record, question(record)) for record in records]
    scored = [
        ([float(r.reward) for r in record.responses if r.reward is not None], record, each)
        for record, each in asked
        if each is not None and all(r.reward is not None for r in record.responses)
    ]
    pairs = Pairs.of([(rewards, each.pairs) for rewards, _, each in scored])
    lengths = [(rewards, [len(r.text) for r in record.responses]) for rewards, record, _ in scored]
    return {**accuracy(pairs), "ece": calibration(pairs).get("ece", 0.0), **length_correlation(lengths)}
