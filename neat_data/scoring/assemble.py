"""One record and one answer of the reward model: what is stored, and what is rejected.

Pure functions between `models` (what was scored) and `store` (what is written); a rejected row becomes a dict that is
written as one JSON line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from neat_data.errors import RunError
from neat_data.models.reward_model import Scored
from neat_data.record import Label, Record, Response, canonical_json
from neat_data.sources.row import place_of
from neat_data.store.documents import RejectLine


def given(record: Record) -> Scored:
    """The rewards that came with the source, in the form of a model's answer."""
    rewards = tuple(response.reward for response in record.responses)
    return Scored(rewards, tuple("no_reward" if reward is None else None for reward in rewards))


def check_finite(records: Sequence[Record], scored: Sequence[Scored], settings: Mapping[str, Any]) -> None:
    """Raise RunError naming the source row of the first reward that is NaN or infinite, and the way it was computed.

    Args:
        settings: of the reward model; empty where there was none.
    """
    for record, answer in zip(records, scored, strict=True):
        for response, reward in zip(record.responses, answer.rewards, strict=True):
            if reward is not None and not math.isfinite(reward):
                label = record.labels[0]
                raise RunError(
                    f"the reward model gave {reward} for response {response.response_id} of row {label.row} of "
                    f"{label.name} (query {record.query_id}){computed_by(settings)}.",
                    advice="Try another {dtype} or {path}; rows can be looked at one by one.",
                )


def computed_by(settings: Mapping[str, Any]) -> str:
    """How a reward model computes, for a message; empty where it does not say.

    >>> computed_by({"path": "trees", "attention": "neat_trees_flex", "dtype": "bfloat16"})
    ', by path trees, attention neat_trees_flex, dtype bfloat16'
    """
    words = [f"{name} {settings[name]}" for name in ("path", "attention", "dtype") if settings.get(name)]
    return f", by {', '.join(words)}" if words else ""


def assemble(record: Record, scored: Scored) -> tuple[Record | None, list[RejectLine]]:
    """Put rewards into a record.

    A response that was refused leaves the record. A source row stays while two of the responses it put in order remain
    (one, for a verdict or a row that says nothing); else it is rejected with the reason of the first that was refused.

    Returns:
        The ranked record, None where no source row is left of it, and the reject lines.
    """
    refused = {
        response.response_id: reason
        for response, reason in zip(record.responses, scored.refused, strict=True)
        if reason is not None
    }
    details = dict(zip((response.response_id for response in record.responses), scored.details, strict=False))
    kept = tuple(
        replace(response, reward=reward)
        for response, reward in zip(record.responses, scored.rewards, strict=True)
        if response.response_id not in refused
    )
    labels, rejects = [], []
    for label in record.labels:
        order = tuple(identifier for identifier in label.order if identifier not in refused)
        enough = len(order) >= min(2, len(label.order)) and bool(kept)
        if enough:
            labels.append(replace(label, order=order))
        else:
            first = next(i for i in (*label.order, *refused) if i in refused)
            rejects.append(_refused_line(record, label, refused[first], details.get(first)))
    if not labels:
        return None, rejects
    notes = _notes(record, refused, kept)
    meta = canonical_json({**json.loads(record.meta or "{}"), **notes}) if notes else record.meta
    return replace(record, responses=kept, labels=tuple(labels), meta=meta).ranked(), rejects


def _notes(record: Record, refused: dict[str, str], kept: Sequence[Response]) -> dict[str, Any]:
    """What would be lost otherwise: responses that were refused, and rewards of the source that a model's replace."""
    left_out = [{"reason": reason, "text": record.response(i).text} for i, reason in refused.items()]
    source = {response.response_id: response.reward for response in record.responses}
    replaced = {r.response_id: old for r in kept if (old := source[r.response_id]) not in (None, r.reward)}
    notes = {"left_out": left_out, "source_rewards": replaced}
    return {name: value for name, value in notes.items() if value}


def _refused_line(record: Record, label: Label, reason: str, said: str | None) -> RejectLine:
    content = record.to_dict()
    raw = {"messages": content["messages"], "responses": [r.text for r in record.responses]}
    detail = "a response of this row could not be scored" + (f": {said}" if said else "")
    return {**place_of(label), "reason": reason, "detail": detail, "raw": canonical_json(raw)}
