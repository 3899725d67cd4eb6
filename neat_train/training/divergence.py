"""Stops a run that diverges, before another step makes it worse, and says what to change.

It sees the figures of every optimiser step, equal on all ranks, before the optimiser uses the gradients: the weights
and the last checkpoint are those from before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from neat_data.errors import RunError
from neat_train.config.objective import Likelihood, ObjectiveSettings

FALL = 3.0  # nats a token: a response is then 20 times less likely, token by token; random words are not far
RUNAWAY = 10.0  # nats a token that the likelihood penalty, which has no lower bound, may take from the worst
WARNED_FALL = 0.3  # nats a token: that much, the records of a step differ from those of the next
SMOOTH = 0.9  # of the moving means: single steps of few records jump
BEGINNING = 10  # steps whose mean is where a run began


class Diverged(RunError):
    """The run was stopped because it diverges: the same command would only do so again."""

    exit_status = 3


def overflow_is_mended(scale: float) -> bool:
    """Whether gradients that are not finite are what a gradient scaler looks for.

    With fp16 it begins at 65,536, skips every step whose gradients overflow and halves its scale: a run's first steps
    go that way by design. At a scale of 1 nothing is multiplied any more, and what is not finite is so by itself.

    Args:
        scale: that the loss of the step was multiplied by; 1 where there is no scaler.

    >>> [overflow_is_mended(scale) for scale in (65536.0, 2.0, 1.0)]
    [True, True, False]
    """
    return scale > 1


@dataclass
class _Trend:
    """A moving mean, corrected for its few first values as Adam's are, and where it began."""

    start: float = 0.0
    count: int = 0
    _sum: float = 0.0

    def add(self, value: float) -> None:
        self.count += 1
        if self.count <= BEGINNING:
            self.start += (value - self.start) / self.count
        self._sum = SMOOTH * self._sum + (1 - SMOOTH) * value

    @property
    def mean(self) -> float:
        return self._sum / (1 - SMOOTH**self.count)

    @property
    def fall(self) -> float:
        return self.start - self.mean


@dataclass
class DivergenceGuard:
    """Watches one run.

    Attributes:
        settings: the objective, for advice.
        warn: called with a line, at most once a run.
    """

    settings: ObjectiveSettings
    warn: Callable[[str], None]
    _best: _Trend = field(default_factory=_Trend)
    _worst: _Trend = field(default_factory=_Trend)
    _warned: bool = False

    def check(self, step: int, loss: float, best: float | None, worst: float | None) -> None:
        """Look at a step's figures before its gradients are used.

        Args:
            step: from 1.
            best, worst: mean length-normalised log-probabilities; None where no record has two rewards.

        Raises:
            Diverged: the loss is not finite, the best responses' log-probability has collapsed, or a likelihood
                penalty pulls the worst ones' down without end.
        """
        if not math.isfinite(loss):
            raise Diverged(f"stopped at step {step}: the loss is {loss}. {self._advice()}")
        if best is None or worst is None:
            return
        self._best.add(best)
        self._worst.add(worst)
        if self._best.fall > FALL:
            raise Diverged(
                f"stopped at step {step}: the policy collapses: the best responses' log-probability fell from "
                f"{self._best.start:.2f} to {self._best.mean:.2f} a token.\n{self._advice()}"
            )
        if self._worst.fall > RUNAWAY and isinstance(self.settings.active_penalty, Likelihood):
            raise Diverged(
                f"stopped at step {step}: the penalty runs away: the worst responses' log-probability fell from "
                f"{self._worst.start:.2f} to {self._worst.mean:.2f} a token.\n{self._advice()}"
            )
        if not self._warned and self._best.fall > WARNED_FALL and self._worst.fall > self._best.fall:
            self._warned = True
            self.warn(
                f"step {step}: best and worst responses both become less likely ({self._best.start:.2f} -> "
                f"{self._best.mean:.2f} and {self._worst.start:.2f} -> {self._worst.mean:.2f} a token): "
                "what is gained between them is taken from both. A smaller loss.beta or learning_rate slows it."
            )

    def not_finite(self, step: int, what: str, where: str) -> Diverged:
        """For a log-probability or a gradient that is no number: `where` names the row and how it was computed."""
        return Diverged(f"stopped at step {step}: {what} is not finite in {where}.\n{self._advice()}")

    def check_gradient(self, step: int, norm: float, scale: float = 1.0) -> None:
        """Raise Diverged where the gradients' norm is not finite, and that is not for a gradient scaler to mend.

        Args:
            scale: what the loss was multiplied by; see `overflow_is_mended`.
        """
        if not math.isfinite(norm) and not overflow_is_mended(scale):
            raise Diverged(f"stopped at step {step}: the gradient's norm is {norm}. {self._advice()}")

    def _advice(self) -> str:
        """What to change, likeliest first, with the values that it was run with."""
        beta = self.settings.beta
        kept = "The last whole checkpoint stays."
        if isinstance(self.settings.active_penalty, Likelihood):
            return (
                f"The likelihood penalty has no lower bound: say loss.penalty.kind=npo, or a loss.beta below {beta:g}, "
                f"or a smaller learning_rate. {kept}"
            )
        smaller = f"a loss.beta below {beta:g} or " if beta else ""
        return f"Say {smaller}a smaller learning_rate. {kept}"
