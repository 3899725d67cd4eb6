"""What became of the candidates of a prompt: counts and sums that add up over shards, and the figures made of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from neat_data.measures import Z95, wilson


@dataclass
class Tally:
    """Counts of one prompt. Rewards are those of all scored candidates, whether or not `--keep` kept them.

    Attributes:
        asked, scored, kept: candidates.
        dropped: candidates that did not join, by reason.
        unfinished, cut, queries_cut, refusals: of those that the sampler gave.
        tokens: of the candidates, end-of-turn included.
        reward, squares: sums over the scored.
        compared: scored ones whose query people put a pair of in order; `chosen`, `rejected`: sums of its rewards.
        below_rejected: of the compared, those with a lower reward than the rejected response.
    """

    polarity: str | None = None
    asked: int = 0
    scored: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    unfinished: int = 0
    cut: int = 0
    queries_cut: int = 0
    refusals: int = 0
    tokens: int = 0
    reward: float = 0.0
    squares: float = 0.0
    compared: int = 0
    chosen: float = 0.0
    rejected: float = 0.0
    below_rejected: int = 0

    def add(self, other: Tally) -> None:
        """Count `other`'s candidates as well."""
        for name in (f.name for f in fields(self) if f.name != "polarity"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; the inverse of `from_dict`."""
        return {**asdict(self), "dropped": dict(sorted(self.dropped.items()))}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Tally:
        return cls(**{**content, "dropped": Counter(content["dropped"])})

    def figures(self) -> dict[str, Any]:
        """What a user reads: counts as they are, shares and means with 95 % intervals, None where nothing was counted.

        The interval of the mean is the normal one; that of the share is Wilson's. Several samples of one query count as
        independent.
        """
        given = self.asked - sum(n for reason, n in self.dropped.items() if reason in _NOT_GIVEN)
        return {
            **{name: getattr(self, name) for name in ("polarity", "asked", "scored", "kept", "tokens")},
            "dropped": dict(sorted(self.dropped.items())),
            **{name: getattr(self, name) for name in ("unfinished", "cut", "queries_cut", "refusals", "compared")},
            "refusal_share": self.refusals / given if given else None,
            **self._mean(),
            "chosen": self.chosen / self.compared if self.compared else None,
            "rejected": self.rejected / self.compared if self.compared else None,
            **self._below(),
        }

    def _mean(self) -> dict[str, float | None]:
        if not self.scored:
            return dict.fromkeys(("reward", "reward_low", "reward_high"))
        mean = self.reward / self.scored
        variance = max(0.0, self.squares - self.scored * mean * mean) / max(self.scored - 1, 1)
        half = Z95 * math.sqrt(variance / self.scored)
        return {"reward": mean, "reward_low": mean - half, "reward_high": mean + half}

    def _below(self) -> dict[str, float | None]:
        if not self.compared:
            return dict.fromkeys(("below_rejected", "below_low", "below_high"))
        share = self.below_rejected / self.compared
        low, high = wilson(share, self.compared)
        return {"below_rejected": share, "below_low": low, "below_high": high}


_NOT_GIVEN = ("query_too_long", "template_refused", "server_refused", "empty")


def total(tallies: Iterable[dict[str, dict[str, Any]]]) -> dict[str, Tally]:
    """The tallies of several shards as one, by prompt, in the order of their first appearance."""
    found: dict[str, Tally] = {}
    for shard in tallies:
        for prompt, content in shard.items():
            found.setdefault(prompt, Tally(content["polarity"])).add(Tally.from_dict(content))
    return found
