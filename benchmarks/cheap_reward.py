"""A reward that costs nothing, so that what is measured with it is everything else."""

from __future__ import annotations


def length(conversations: list[list[dict[str, str]]]) -> list[float]:
    """The length of each answer in characters, in hundreds."""
    return [len(conversation[-1]["content"]) / 100 for conversation in conversations]
