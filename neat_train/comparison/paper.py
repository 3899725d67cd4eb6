"""What the paper reports (arXiv 2410.12194, Tables 2 and 3): LLaMA-3 8B on HH-RLHF, scored by FsfairX-LLaMA3-RM.

A reference, not a yardstick: other models and another reward model have another scale.
"""

from __future__ import annotations

from collections import defaultdict
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
    """Which arm stands beside a row of Table 2: the one that is called as its method, else the only one of it.

    A control shares its method with what it controls, and is not what the paper reports.

    >>> sorted(references({"beta-0": "neat", "neat": "neat", "prefixed": "neat-pp", "b": None, "d": "dpo-trl"}))
    ['d', 'neat', 'prefixed']
    >>> references({"large-gap": "dpo", "small-gap": "dpo"})
    {}
    """
    arms_of: dict[str, list[str]] = defaultdict(list)
    for arm, trained in methods.items():
        arms_of[(trained or "").removesuffix("-trl")].append(arm)
    known = {method: arms for method, arms in arms_of.items() if method in TABLE_2}
    beside = {method: [arm for arm in arms if arm == method or len(arms) == 1] for method, arms in known.items()}
    return {arms[0]: TABLE_2[method] for method, arms in beside.items() if arms}
