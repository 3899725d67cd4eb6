"""A device without room: a shard is made again with half the token budget, until it fits or is given up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from neat_data.errors import RunError
from neat_data.models.answers import score_parts
from neat_data.models.reward_model import RewardModel, Scored, Task

Result = TypeVar("Result")
_SMALLEST_BUDGET = 64


class OutOfMemory(RunError):
    """The device has no room for a forward pass of this token budget."""


def score_tasks(
    tasks: Sequence[Task], model: RewardModel, advance: Callable[[int, int], None]
) -> tuple[list[Scored], int | None]:
    """The answers for one shard, and the token budget where it had to be halved for want of memory.

    What a response thinks is left out of it, unless the model's spec says `whole`.

    Raises:
        RunError: out of memory even with a small budget.
    """
    return halving(lambda budget: score_parts(model, tasks, budget, advance), model.spec.token_budget)


def halving(run: Callable[[int | None], Result], budget: int | None) -> tuple[Result, int | None]:
    """Make a shard, again with half the token budget whenever memory ran out.

    Args:
        run: makes it with the budget it is given; None is the model's own.
        budget: the model's own.

    Returns:
        What `run` returned, and the budget that it took where that is not the model's own.

    Raises:
        RunError: out of memory even with a small budget.
    """
    smaller = None
    while True:
        try:
            return run(smaller), smaller
        except OutOfMemory as error:
            smaller = (smaller or budget or 0) // 2
            if smaller < _SMALLEST_BUDGET:
                raise RunError(
                    f"out of memory even with a small token budget: {error}",
                    advice="Try a smaller {max_length}, another {dtype}, or another {device}.",
                ) from error
            logging.getLogger(__name__).warning("out of memory: this shard begins again with %s tokens", smaller)
