"""What of a response a reward model scores: the answer alone, or the thought with it (`RewardModelSpec.score`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from neat_data.models.reward_model import RewardModel, Scored, Task
from neat_data.thought import answer_of

NO_ANSWER = "no_answer"


def score_parts(
    model: RewardModel, tasks: Sequence[Task], token_budget: int | None, advance: Callable[[int, int], None]
) -> list[Scored]:
    """`RewardModel.score` over the part of each response that the model's spec names.

    A response whose thought never ends, or is followed by nothing, has no answer: it is refused as `no_answer`.
    """
    if model.spec.score == "whole":
        return model.score(tasks, token_budget=token_budget, advance=advance)
    said = [[answer_of(text) for text in task.texts] for task in tasks]
    asked = [
        Task(task.messages, tuple(text for text in answers if text is not None))
        for task, answers in zip(tasks, said, strict=True)
    ]
    left = [task for task in asked if task.texts]
    advance(len(tasks) - len(left), 0)
    scored = iter(model.score(left, token_budget=token_budget, advance=advance))
    return [
        _spread(next(scored) if task.texts else Scored((), ()), answers)
        for task, answers in zip(asked, said, strict=True)
    ]


def _spread(scored: Scored, answers: Sequence[str | None]) -> Scored:
    """What came of the answers, at the places of their responses."""
    if None not in answers:
        return scored
    details = scored.details or (None,) * len(scored.rewards)
    came = zip(scored.rewards, scored.refused, details, strict=True)
    rewards, refused, words = zip(
        *((None, NO_ANSWER, None) if text is None else next(came) for text in answers), strict=True
    )
    return replace(scored, rewards=rewards, refused=refused, details=words if any(words) else ())
