"""What reviewers said of a record, as labels: the form in which people's preferences are trained on.

A rater prefers what they kept to what they dropped, of both kinds the better grade, the other one to what they called
worse, and their own text to what they rewrote. What they kept or dropped is a verdict as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

from neat_data.record import Label, Record, response_id
from neat_data.store.reviews import DROPPING, Event

Said = Mapping[str, Event]  # of one rater, what `reviews.standing` gives


def labels_of(record: Record, raters: Mapping[str, Said]) -> tuple[Label, ...]:
    """What each rater said of the record's responses; rater by rater, orders before verdicts.

    Args:
        record: with the responses that people dropped.
        raters: by name, what each of them said.

    Returns:
        Labels whose `name` is the rater's file, `row` the number of the label among the rater's on this record.
    """
    return tuple(
        Label(f"reviews/{rater}", None, None, row, order, verdict)
        for rater, said in raters.items()
        for row, (order, verdict) in enumerate(_statements(record, said))
    )


def preferences(record: Record, said: Said) -> Iterator[tuple[str, str]]:
    """Ids of two responses of the record, the one first that the rater prefers."""
    ids = [response.response_id for response in record.responses]
    for one, other in combinations(ids, 2):
        compared = said.get(" ".join(sorted((one, other))))
        if compared is not None:
            if compared.verdict == "worse" and compared.than is not None:
                yield compared.than, compared.response_id
        elif (better := _better(said.get(one), said.get(other))) is not None:
            yield (one, other) if better else (other, one)
    for identifier in ids:
        event = said.get(identifier)
        if event is not None and event.text is not None and (own := response_id(record.query_id, event.text)) in ids:
            yield own, identifier


def accepted(event: Event) -> bool | None:
    """Whether a verdict keeps its response; None where it says something else."""
    if event.verdict == "keep":
        return True
    return False if event.verdict in DROPPING else None


def _statements(record: Record, said: Said) -> Iterator[tuple[tuple[str, ...], bool | None]]:
    for order in preferences(record, said):
        yield order, None
    for response in record.responses:
        event = said.get(response.response_id)
        if event is not None and (verdict := accepted(event)) is not None:
            yield (response.response_id,), verdict


def _better(one: Event | None, other: Event | None) -> bool | None:
    """Whether the first was judged better; None where nothing sets them apart."""
    if one is None or other is None:
        return None
    kept = accepted(one), accepted(other)
    if None in kept or kept[0] != kept[1]:
        return None if None in kept else kept[0]
    return None if one.scale is None or other.scale is None or one.scale == other.scale else one.scale > other.scale
