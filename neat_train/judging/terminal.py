"""judge.json as tables of text."""

from __future__ import annotations

from neat_data.plain import parts
from neat_data.report.escape import one_line
from neat_data.report.tables import MISSING, Table, percent
from neat_train.judging.length_control import FEWEST, OVERLAP
from neat_train.judging.result import JudgeResult
from neat_train.statistics import Interval

_COLUMNS = ("", "figure", "95 % interval", "of")


def tables(result: JudgeResult) -> list[Table]:
    """What was found, what the judge is worth, and what it cost."""
    return [_verdicts(result), _worth(result), _cost(result)]


def _verdicts(result: JudgeResult) -> Table:
    counts, a, b = result.verdicts, one_line(result.a.label), one_line(result.b.label)
    decided = counts.decided
    rows = [
        ("win / lose / tie", f"{counts.win} / {counts.lose} / {counts.tie}", "", f"{result.n:,}"),
        ("win rate, a tie being half", *_share(result.win_rate), f"{decided:,}"),
        ("the same at equal length", *_share(result.length_controlled), f"{decided:,}"),
        ("p of the sign test", f"{result.sign_test:.3g}", "", f"{counts.win + counts.lose:,}"),
        ("longer answer wins", *_share(result.length.longer_wins), ""),
    ]
    rows += [(words, f"{count:,}", "", f"{result.n:,}") for words, count in _unread(result) if count]
    notes = [
        "A pair is won where both orders say so; where they disagree it is a tie.",
        *_of_length(result, decided),
        *_of_the_unread(result),
        *_left_out(result, {"a": a, "b": b}),
    ]
    return Table(f"{a} against {b}", _COLUMNS, tuple(rows), " ".join(notes))


def _unread(result: JudgeResult) -> list[tuple[str, int]]:
    return [
        ("verdicts that cannot be read", result.verdicts.unreadable),
        ("of these, cut at max_tokens", result.cut),
        ("pairs that the judge does not take", result.verdicts.failed),
    ]


def _of_length(result: JudgeResult, decided: int) -> list[str]:
    if result.length_controlled is not None:
        return []
    if decided < FEWEST:
        return [f"Equal length: not told under {FEWEST} pairs."]
    one_sided = f"the longer answer is of the same side in more than {1 - OVERLAP:.0%} of pairs"
    return [f"Equal length: not told where lengths do not differ, or {one_sided}."]


def _of_the_unread(result: JudgeResult) -> list[str]:
    notes = []
    if result.cut or (result.calibration and result.calibration.cut):
        notes.append("What is cut is not read: --judge-arg max_tokens=N (and another --out) lets the judge say more.")
    if result.failed:
        notes.append("verdicts.jsonl says why pairs were not taken; the same command asks about them again.")
    return notes


def _left_out(result: JudgeResult, labels: dict[str, str]) -> list[str]:
    """What was not compared, and what was although it is not whole."""
    queries = result.queries
    unanswered = parts(result.left_out)
    left_out = [(count, f"queries that {labels[side]} did not answer") for side, count in unanswered.items()]
    left_out += [
        (queries.count - queries.comparable, "queries without the responses that are compared"),
        (sum(queries.left_out.values()), f"rows of {one_line(queries.name)} that cannot be used"),
    ]
    cut = [(count, f"of {labels[side]}") for side, count in parts(result.unfinished).items()]
    return [*_listed("Left out", left_out), *_listed("Answers cut at --max-new-tokens", cut)]


def _listed(head: str, counts: list[tuple[int, str]]) -> list[str]:
    parts = [f"{count:,} {words}" for count, words in counts if count]
    return [f"{head}: {', '.join(parts)}."] if parts else []


def _worth(result: JudgeResult) -> Table:
    bias, calibration = result.position_bias, result.calibration
    rows = [
        ("prefers what stands first", *_share(bias.first_preferred), f"{2 * bias.pairs:,}"),
        ("both orders agree", *_share(bias.consistent), f"{bias.pairs:,}"),
    ]
    note = "Not calibrated: nothing is known of its agreement with people."
    if calibration is not None:
        counts = calibration.verdicts
        rows.insert(0, ("agrees with people", *_share(calibration.agreement), f"{counts.decided:,}"))
        rows.insert(1, ("the same without ties", *_share(calibration.decided), f"{counts.win + counts.lose:,}"))
        if counts.unread:
            total = f"{counts.decided + counts.unread:,}"
            rows.insert(2, ("of what people judged, not read or taken", f"{counts.unread:,}", "", total))
        note = "Agreement: of chosen against rejected, a tie being half. 50 % is chance, and no preference for a place."
    return Table(f"The judge: {one_line(result.judge['model'])}", _COLUMNS, tuple(rows), note)


def _cost(result: JudgeResult) -> Table:
    tokens = result.tokens
    rows = [("tokens read", f"{tokens.prompt:,}"), ("tokens written", f"{tokens.completion:,}")]
    if tokens.unreported:
        rows.append(("answers without a count", f"{tokens.unreported:,}"))
    return Table("What it took", ("", ""), tuple(rows))


def _share(interval: Interval | None) -> tuple[str, str]:
    if interval is None:
        return MISSING, MISSING
    return percent(interval.value), f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"
