"""Fresh answers to held-out queries: their figures, and how they are told to a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from neat_data.report.tables import number
from neat_data.report.visible import one_line
from neat_train.intervals import bootstrap

_QUERY, _ANSWER = 48, 96  # characters of a line


@dataclass(frozen=True, slots=True)
class Answered:
    """A fresh answer to a query (its last turn); `reward` is None where the reward model refused it."""

    query_id: str
    reward: float | None
    query: str
    answer: str
    tokens: int
    finished: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, for samples.jsonl."""
        return asdict(self)

    @property
    def line(self) -> str:
        """Reward, query and answer on one line, cut short, with nothing in it that a terminal would obey."""
        cut = "" if self.finished else " (not finished)"
        return f"{number(self.reward):>8}  {shortened(self.query, _QUERY)} → {shortened(self.answer, _ANSWER)}{cut}"


def shortened(text: str, width: int) -> str:
    """At most `width` visible characters on one line.

    >>> shortened("How do I\\n bake a cake?", 12)
    'How do I ba…'
    """
    line = one_line(" ".join(text.split()))
    return line if len(line) <= width else line[: width - 1] + "…"


def figures(answers: Sequence[Answered]) -> dict[str, float]:
    """Of the answers with a reward: `reward` and the ends of its interval over queries, `length` in tokens, the share
    `finished`, and `answers`, their number; without what is not defined.
    """
    scored = [answer for answer in answers if answer.reward is not None]
    if not scored:
        return {}
    rewards = np.array([answer.reward for answer in scored], dtype=np.float64)
    interval = bootstrap(rewards)
    return {
        "reward": float(rewards.mean()),
        **({} if interval is None else {"reward_low": interval[0], "reward_high": interval[1]}),
        "length": float(np.mean([answer.tokens for answer in scored])),
        "finished": float(np.mean([answer.finished for answer in scored])),
        "answers": float(len(scored)),
    }


def in_words(found: dict[str, float]) -> str:
    """The figures of an evaluation on one line.

    >>> in_words({"perplexity": 2.5, "reward": -1.5, "length": 30.2, "finished": 0.5})
    'reward -1.50, perplexity 2.50, 30 tokens, 50 % finished'
    """
    parts = []
    if "reward" in found:
        parts.append(f"reward {with_interval(found)}")
    if "perplexity" in found:
        parts.append(f"perplexity {number(found['perplexity'])}")
    if "length" in found:
        parts.append(f"{found['length']:.0f} tokens, {100 * found['finished']:.0f} % finished")
    return ", ".join(parts)


def with_interval(found: dict[str, float]) -> str:
    """A mean reward, with its interval where there is one.

    >>> with_interval({"reward": 1.0, "reward_low": 0.5, "reward_high": 1.5})
    '1.00 (0.500 to 1.50)'
    """
    if "reward_low" not in found:
        return number(found["reward"])
    return f"{number(found['reward'])} ({number(found['reward_low'])} to {number(found['reward_high'])})"
