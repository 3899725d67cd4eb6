"""What the gold reward model, in the place of a human, says of the pairs of a dataset that it has scored.

Of each query's responses the one that it rewards most is preferred to the one that it rewards least, without noise, as
Gao et al. 2023 label theirs. People's own verdicts are not used.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import neat_data
from neat_data.errors import InputError
from neat_data.models.weights import ModelSource, identity_of
from neat_data.record import Record


def labels_of(dataset: str, gold: str, sizes: dict[str, int]) -> dict[str, str]:
    """The text of test.jsonl, labels.jsonl and train.jsonl: pairs in TRL's form, the preferred response `chosen`.

    The queries are in order of their ids, which are hashes, so that the first so many are a fair sample. Those that are
    labelled for the proxy may be trained on; none of either is tested.

    Raises:
        InputError: `gold` has not scored the dataset, or it has too few queries.
    """
    records = _records(dataset, gold)
    wanted = sizes["test"] + max(sizes["labels"], sizes["train"])
    if len(records) < wanted:
        raise InputError(f"--train {dataset}: {len(records)} queries with two different rewards, and {wanted} are used")
    rest = records[sizes["test"] :]
    parts = {"test": records[: sizes["test"]], "labels": rest[: sizes["labels"]], "train": rest[: sizes["train"]]}
    return {f"{name}.jsonl": _lines(part) for name, part in parts.items()}


def _records(dataset: str, gold: str) -> list[Record]:
    opened = neat_data.open(dataset)
    scored, given = opened.manifest.settings.get("reward_model") or {}, identity_of(ModelSource.parse(gold, "--gold"))
    if any(scored.get(name) != value for name, value in given.items()):
        raise InputError(
            f"--train {dataset} was scored by {scored.get('model', 'no model')}, not by --gold {gold}\n"
            f"score it with that one: neat-data score SOURCE --reward-model {gold} --out FOLDER"
        )
    apart = (record for record in opened.records([0]) if record.responses[0].reward > record.responses[-1].reward)
    return sorted(apart, key=lambda record: record.query_id)


def _lines(records: Iterable[Record]) -> str:
    return "".join(json.dumps(_row(record), ensure_ascii=False) + "\n" for record in records)


def _row(record: Record) -> dict[str, Any]:
    best, worst = record.responses[0], record.responses[-1]
    return {
        "prompt": [{"role": turn.role, "content": turn.content} for turn in record.messages],
        "chosen": _turn(best.text),
        "rejected": _turn(worst.text),
    }


def _turn(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]
