"""A `Report` as tables of text, the same for terminal and page."""

from __future__ import annotations

from neat_data.report.escape import one_line
from neat_data.report.tables import MISSING, Table, number
from neat_data.review.agreement import Coefficient
from neat_data.review.report import Asked, Between, RaterCounts, Report, Stratum

_QUARTILES = ("no reward", "lowest", "second", "third", "highest")
_SHORT = 80  # characters of a text


def tables(report: Report) -> list[Table]:
    """Every table that has something to say."""
    made = [raters(report), strata(report), people(report), models(report), contradictions(report), splits(report)]
    return [table for table in made if table.rows]


def raters(report: Report) -> Table:
    """What each rater said."""
    rows = [_rater(one) for one in report.raters]
    columns = ("rater", "judged", "kept", "dropped", "off prompt", "edited", "pairs", "mean grade")
    return Table("Who judged", columns, tuple(rows), f"Readers leave {report.left_out:,} dropped responses out.")


def strata(report: Report) -> Table:
    """By prompt and quarter of the rewards."""
    columns = ("prompt, quarter of rewards", "responses", "judged", "kept", "dropped", "dropped of judged")
    return Table(
        "What was judged, by prompt and reward",
        columns,
        tuple(_stratum(stratum) for stratum in report.strata),
        "By what most raters of a response said; quarters of all rewards of the dataset.",
    )


def people(report: Report) -> Table:
    """Agreement of raters."""
    rows: list[tuple[str, ...]] = []
    for question in report.questions:
        rows.append((f"{question.name}, alpha", *_estimate(question.alpha)))
        rows += [
            (f"{question.name}, kappa of {one_line(_pair(two))}", *_estimate(two.kappa)) for two in question.raters
        ]
    note = "Krippendorff's alpha of all, Cohen's kappa of two (weighted for grades): 0 is chance, 1 is always."
    return Table("Do people agree?", _COLUMNS, tuple(rows), note)


def models(report: Report) -> Table:
    """Agreement of reward models with people."""
    rows = [row for question in report.questions for row in _models(question)]
    note = "Against most raters; a model drops as many as they did, those of the lowest rewards."
    return Table("Do reward models agree with people?", _COLUMNS, tuple(rows), note)


def contradictions(report: Report) -> Table:
    """The pairs on which people and a model disagree most."""
    rows = [
        (_short(case.texts[0]), _short(case.texts[1]), one_line(case.model), number(case.gap))
        for case in report.contradictions
    ]
    columns = ("people prefer", "to", "model", "its gap")
    return Table("Where a model contradicts people most", columns, tuple(rows))


def splits(report: Report) -> Table:
    """The responses that split the raters."""
    rows = [(_short(case.text), ", ".join(case.kept), ", ".join(case.dropped)) for case in report.splits]
    return Table("Where people disagree", ("response", "kept by", "dropped by"), tuple(rows))


_COLUMNS = ("question", "rated by two", "value", "95 % interval")


def _rater(one: RaterCounts) -> tuple[str, ...]:
    counts = (one.judged, one.kept, one.dropped, one.off_prompt, one.edited, one.compared)
    return (one.rater, *(f"{n:,}" for n in counts), MISSING if one.grade is None else f"{one.grade:.2f}")


def _models(question: Asked) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for two in question.models:
        lead = f"{question.name}, {one_line(two.other)}"
        rows.append((f"{lead}, kappa", *_estimate(two.kappa)))
        rows.append((f"{lead}, alpha", *_estimate(question.models_alpha[two.other])))
    return rows


def _stratum(stratum: Stratum) -> tuple[str, ...]:
    share = f"{100 * stratum.dropped / stratum.judged:.1f} %"
    counts = (stratum.responses, stratum.judged, stratum.kept, stratum.dropped)
    return (f"{stratum.prompt}, {_QUARTILES[stratum.quartile]}", *(f"{count:,}" for count in counts), share)


def _estimate(estimate: Coefficient) -> tuple[str, str, str]:
    value = MISSING if estimate.value is None else f"{estimate.value:.2f}"
    known = estimate.low is not None and estimate.high is not None
    return f"{estimate.units:,}", value, f"{estimate.low:.2f} to {estimate.high:.2f}" if known else MISSING


def _pair(two: Between) -> str:
    return f"{two.one} and {two.other}"


def _short(text: str) -> str:
    shown = one_line(text[: 2 * _SHORT])
    return shown if len(shown) <= _SHORT else f"{shown[: _SHORT - 2]} …"
