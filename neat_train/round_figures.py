"""What a block of samples is worth, for the log."""

from __future__ import annotations

from statistics import fmean

import pyarrow as pa

from neat_train.block_files import Judged


def figures(table: pa.Table, seconds: dict[str, float]) -> dict[str, float]:
    """The figures of a block.

    `round/reward/PROMPT` is the mean reward of what was scored under a prompt. `round/responses` are those that joined,
    `round/dropped/REASON` those that did not; `round/finished` is the share that ended by themselves, `round/tokens`
    their tokens; `round/below_worst` the share of the scored whose reward is below all that their record had.

    Args:
        table: as `block_files` stores it.
        seconds: of `sampling` and `scoring`, where the block was made here and now.
    """
    found = Judged.from_table(table)
    rewards: dict[str, list[float]] = {}
    dropped: dict[str, int] = {}
    below = []
    for candidate, outcome, worst in zip(found.candidates, found.outcomes, found.worst, strict=True):
        if outcome.reward is not None:
            rewards.setdefault(candidate.prompt, []).append(outcome.reward)
            below += [] if worst is None else [outcome.reward < worst]
        if outcome.dropped is not None:
            dropped[outcome.dropped] = dropped.get(outcome.dropped, 0) + 1
    given = [candidate.response for candidate in found.candidates if candidate.refused is None]
    return {
        "round/responses": float(len(found.candidates) - sum(dropped.values())),
        "round/tokens": float(sum(len(response.tokens or ()) for response in given)),
        **({"round/finished": fmean(bool(response.finished) for response in given)} if given else {}),
        **({"round/below_worst": fmean(below)} if below else {}),
        **{f"round/reward/{prompt}": fmean(values) for prompt, values in sorted(rewards.items())},
        **{f"round/dropped/{reason}": float(count) for reason, count in sorted(dropped.items())},
        **{f"round/{phase}_seconds": spent for phase, spent in seconds.items()},
    }
