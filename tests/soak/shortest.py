"""A reward that costs nothing: rows of a soak are hurt, not understood."""

from __future__ import annotations


def shortest(conversations: list[list[dict[str, str]]]) -> list[float]:
    """The shorter the last turn, the better."""
    return [-float(len(conversation[-1]["content"])) for conversation in conversations]
