"""What both tools carry: a response to judge, and what each rater said of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Told:
    """One rater's verdict on a response; `key` names the tool's own entry, so that what comes twice counts once."""

    rater: str
    key: str
    verdict: str
    text: str | None = None
    scale: int | None = None
    labels: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class ExchangeTask:
    """A response to judge, its dialogue as mappings of `role` and `content`, and the verdicts on it so far."""

    query_id: str
    response_id: str
    dialogue: list[dict[str, str]]
    response: str
    told: tuple[Told, ...]
