"""What the paper reports (arXiv 2410.12194, Tables 2 and 3): LLaMA-3 8B on HH-RLHF, scored by FsfairX-LLaMA3-RM.

A reference, not a yardstick: other models and another reward model have another scale.
"""

from __future__ import annotations

from collections.abc import Mapping

from neat_train.comparison.result import Figure, JudgedArms, Published
from neat_train.statistics import sign_test, win_rate

TABLE_2 = {
    "sft": Published(13.2, -4.956),
    "dpo": Published(18.62, -4.045),
    "rrhf": Published(16.86, -3.910),
    "neat": Published(14.45, -3.432),
    "neat-pp": Published(14.68, -2.56),
}
SOURCE = "the paper"
_TABLE_3 = (
    ("NEAT", "chosen", 24, 2, 4),
    ("NEAT", "DPO", 20, 6, 4),
    ("NEAT", "RRHF", 18, 9, 3),
    ("NEAT-PP", "NEAT", 27, 1, 2),
)


def table_3() -> tuple[JudgedArms, ...]:
    """The paper's verdicts, with the interval and the sign test that it does not report."""
    return tuple(
        JudgedArms(a, b, win, lose, tie, _win_rate(win, lose, tie), p=sign_test(win, lose), source=SOURCE)
        for a, b, win, lose, tie in _TABLE_3
    )


def _win_rate(win: int, lose: int, tie: int) -> Figure:
    interval = win_rate(win, lose, tie)
    return Figure(interval.value, interval.low, interval.high)


def references(methods: Mapping[str, str | None]) -> dict[str, Published]:
    """Which arm stands beside a row of Table 2: the one that is called as its method, else the first of it.

    A control shares its method with what it controls, and is not what the paper reports.

    >>> sorted(references({"beta-0": "neat", "neat": "neat", "prefixed": "neat-pp", "b": None, "d": "dpo-trl"}))
    ['d', 'neat', 'prefixed']
    """
    chosen: dict[str, str] = {}
    for arm, trained in methods.items():
        method = (trained or "").removesuffix("-trl")
        if method in TABLE_2 and (arm == method or method not in chosen):
            chosen[method] = arm
    return {arm: TABLE_2[method] for method, arm in chosen.items()}
