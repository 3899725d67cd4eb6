"""What every stored record promises, as pure functions: each yields one short line a broken promise."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

from neat_data.record import Label, Record, Response, query_id, ranked, response_id
from neat_data.store.documents import Settings


def folded_rounds(settings: Settings) -> frozenset[int] | None:
    """The rounds that `compact` folded into the base shards; None for a dataset that was not compacted."""
    folded = settings.get("folded")
    return None if folded is None else frozenset(entry["round"] for entry in folded["rounds"])


def base_faults(record: Record, folded: frozenset[int] | None = None) -> Iterator[str]:
    """What is wrong with a record of round 0.

    Args:
        folded: what `folded_rounds` says of the dataset's settings.
    """
    if record.query_id != query_id(record.messages):
        yield "its query_id does not match its messages"
    if not record.messages or record.messages[-1].role != "user":
        yield "its messages do not end in a user turn"
    if any(message.content != message.content.strip() for message in record.messages):
        yield "a message has surrounding whitespace"
    yield from response_faults(record, {0, *(folded or ())})
    ids = {response.response_id for response in record.responses}
    for label in record.labels:
        yield from _label_faults(label, ids)
    if not record.labels and folded is None:  # a folded verdict takes labels away; their rows are among the rejects
        yield "it has no label, so no source row accounts for it"


def added_faults(record: Record, round: int, earlier: dict[str, set[str]]) -> Iterator[str]:
    """What is wrong with a row of a later round.

    Args:
        earlier: ids of the responses that each query of the base shard of the same number had before this round.
    """
    if record.query_id not in earlier:
        yield "its query is not in the base shard of the same number"
    known = earlier.get(record.query_id, set())
    for response in record.responses:
        if response.response_id in known:
            yield f"response {response.response_id}: an earlier round has it already"
    yield from response_faults(record, {round})


def response_faults(record: Record, rounds: Collection[int]) -> Iterator[str]:
    """What is wrong with the responses that a record got in `rounds`."""
    responses = record.responses
    if not responses:
        yield "it has no response"
    for response in responses:
        for fault in _response_faults(response, record.query_id, rounds):
            yield f"response {response.response_id}: {fault}"
    if len({response.response_id for response in responses}) < len(responses):
        yield "a response occurs twice"
    if all(_finite(response) for response in responses) and ranked(responses) != responses:
        yield "its responses are not in ranking order"


def _response_faults(response: Response, query: str, rounds: Collection[int]) -> Iterator[str]:
    if response.response_id != response_id(query, response.text):
        yield "the id does not match the text"
    if response.text != response.text.strip():
        yield "the text has surrounding whitespace"
    if not _finite(response):
        yield f"the reward is {response.reward}, not a finite number"
    if response.round not in rounds:
        yield f"it says round {response.round} but lies in round {min(rounds)}"


def _finite(response: Response) -> bool:
    return response.reward is not None and math.isfinite(response.reward)


def _label_faults(label: Label, ids: set[str]) -> Iterator[str]:
    where = f"label of row {label.row} of {label.name}"
    unknown = [identifier for identifier in label.order if identifier not in ids]
    if unknown:
        yield f"{where}: names {', '.join(unknown)}, which is no response of this record"
    if len(set(label.order)) < len(label.order):
        yield f"{where}: names a response twice"
    if label.verdict is not None and len(label.order) != 1:
        yield f"{where}: has a verdict, but not exactly one response"
