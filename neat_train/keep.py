"""Which of a record's responses training uses, where it was sampled for more than once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from neat_data.record import Polarity, Response


def kept(
    responses: Sequence[Response], keep: Literal["newest", "all"], age: Callable[[Response], Any]
) -> tuple[Response, ...]:
    """The responses that training uses, in their order.

    `newest` takes what came with the dataset (round 0, and what others gave later), and of the samples of each polarity
    those that were drawn last, together; samples under plain prompts count as a polarity of their own. So a record of k
    responses is trained with k + 2 (NEAT, section 3.3).

    Args:
        age: of a sampled response: larger for a later draw, equal for samples that were drawn together.
    """
    if keep == "all":
        return tuple(responses)
    newest: dict[Polarity | None, Any] = {}
    for response in filter(_drawn, responses):
        drawn = age(response)
        newest[response.polarity] = max(newest.get(response.polarity, drawn), drawn)
    return tuple(r for r in responses if not _drawn(r) or age(r) == newest[r.polarity])


def _drawn(response: Response) -> bool:
    return response.round > 0 and response.origin == "sampled"
