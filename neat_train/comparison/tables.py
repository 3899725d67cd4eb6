"""A comparison as tables of text, the same for terminal, Markdown and page.

Names that come from folders and models are made visible here; each renderer escapes its own markup.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence

from neat_data.report.escape import one_line
from neat_data.report.tables import MISSING, Table, in_time, number, percent
from neat_train.comparison.costs import COLUMNS, SECONDS
from neat_train.comparison.paper import SOURCE, table_3
from neat_train.comparison.result import Arm, Comparison, Cost, Figure, HypothesisTest, JudgedArms
from neat_train.statistics import FEW, LEVEL

_GUTTER = 3  # characters between two columns of a terminal's table
_NAME = 40  # characters of a name that comes from outside
_FEW = 5  # seeds
_FEW_NOTE = "With three seeds that spread much, about nine of ten such intervals hold the truth."
_OBEYED = " (0 where the policy does not obey it)"
_PAPER_NOTE = (
    "The columns of the paper are another policy (LLaMA-3 8B) under another reward model: the order of its rows "
    "compares, the numbers do not."
)


def tables(comparison: Comparison) -> list[Table]:
    """Every table that has something to say."""
    made = [
        main(comparison),
        differences(comparison),
        judged(comparison.judged),
        distance(comparison),
        answers(comparison),
        against_chosen(comparison),
        costs(comparison.arms),
        notes(comparison.notes),
    ]
    return [table for table in made if table.rows]


def name_of(text: str) -> str:
    """A name for a cell.

    >>> name_of("a" * 50)[-3:]
    'aa…'
    """
    shown = one_line(text)
    return shown if len(shown) <= _NAME else f"{shown[: _NAME - 1]}…"


def arm_name(arm: Arm) -> str:
    """With the number of its evaluated seeds, where there are several."""
    return name_of(arm.name) + (f" ×{arm.seeds}" if arm.seeds > 1 else "")


def ranged(figure: Figure | None, form: Callable[[float | None], str] = number) -> str:
    """A figure and its interval.

    >>> ranged(Figure(0.5, 0.25, 0.75)), ranged(Figure(-2.0)), ranged(None)
    ('0.500 [0.250, 0.750]', '-2.00', '–')
    """
    if figure is None or figure.low is None:
        return plain(figure, form)
    return f"{form(figure.value)} [{form(figure.low)}, {form(figure.high)}]"


def plain(figure: Figure | None, form: Callable[[float | None], str] = number) -> str:
    """A figure without its interval."""
    return MISSING if figure is None else form(figure.value)


def rate(figure: Figure | None) -> str:
    """A share and its interval.

    >>> rate(Figure(0.5, 0.25, 0.75))
    '50.0 % [25.0, 75.0]'
    """
    if figure is None or figure.low is None or figure.high is None:
        return plain(figure, percent)
    return f"{100 * figure.value:.1f} % [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"


def p_value(p: float) -> str:
    """As it is written.

    >>> p_value(0.0312), p_value(0.0002)
    ('0.031', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _whole(value: float | None) -> str:
    return MISSING if value is None else f"{100 * value:.0f} %"


def _tokens(value: float | None) -> str:
    return MISSING if value is None else f"{value:.1f}"


def main(comparison: Comparison) -> Table:
    """Table 2: perplexity and reward of every arm, the paper's beside them."""
    beside = any(arm.paper for arm in comparison.arms)
    heads = ["perplexity", *(["paper (8B)"] if beside else []), "reward", *(["paper (8B)"] if beside else [])]
    heads += [_model_head(place, model) for place, model in enumerate(comparison.reward_models) if place]
    rows = [(arm_name(arm), *_main_cells(arm, comparison.reward_models, beside)) for arm in comparison.arms]
    return Table("Table 2: perplexity and reward", ("arm", *heads), tuple(rows), _main_note(comparison, beside))


def _model_head(place: int, model: str) -> str:
    return ("reward", "held-out reward")[place] if place < 2 else f"reward, {name_of(model)}"


def _short_head(place: int, model: str) -> str:
    return "held-out" if place == 1 else name_of(model)


def _main_cells(arm: Arm, models: Sequence[str], beside: bool) -> list[str]:
    of = arm.figures.get
    published = [f"{arm.paper.perplexity:g}" if arm.paper else "", f"{arm.paper.reward:g}" if arm.paper else ""]
    cells = [plain(of("perplexity")), *published[:beside]]
    cells += [ranged(of(f"sampled/reward/{models[0]}")) if models else MISSING, *(published[1:] if beside else [])]
    return cells + [ranged(of(f"sampled/reward/{model}")) for model in models[1:]]


def _main_note(comparison: Comparison, beside: bool) -> str:
    queries = comparison.queries
    parts = [
        f"{queries.count:,} queries of {name_of(queries.name)}; rewards of answers at temperature 1, with "
        "95 % intervals (bootstrap over queries, and over seeds where an arm has several; of one seed and fewer than "
        f"{FEW} queries Student's t)."
    ]
    parts += [
        f"{('Reward' if place == 0 else 'Held-out reward' if place == 1 else 'Reward')}: {name_of(model)}"
        + (f", chosen responses {number(comparison.chosen[model])}." if model in comparison.chosen else ".")
        for place, model in enumerate(comparison.reward_models)
    ]
    if any(1 < arm.seeds < _FEW for arm in comparison.arms):
        parts.append(_FEW_NOTE)
    return " ".join([*parts, *_unscored(comparison), *([_PAPER_NOTE] if beside else [])])


def _unscored(comparison: Comparison) -> list[str]:
    """What an arm's mean reward leaves out."""
    return [
        f"{name_of(arm.name)}: {lacking:,} of {count:,} answers have no {_model_head(place, model)}: "
        "the mean is that of the others."
        for arm in comparison.arms
        for place, model in enumerate(comparison.reward_models)
        for lacking, count in [arm.unscored.get(model, (0, 0))]
        if lacking
    ]


def distance(comparison: Comparison) -> Table:
    """How far the policies went from where they began."""
    names = ("perplexity", "kl_per_response", "kl_per_token")
    rows = [
        (arm_name(arm), *(ranged(arm.figures.get(name)) for name in names)) for arm in comparison.arms if arm.figures
    ]
    columns = ("arm", "perplexity", "KL a response", "KL a token")
    note = (
        f"Perplexity of the chosen responses, end of turn included; KL in nats from {_origin(comparison)}, "
        "estimated on the answers at temperature 1."
    )
    return Table("How far from the start?", columns, tuple(rows), note)


def _origin(comparison: Comparison) -> str:
    """What KL is the distance from, as the evaluations have it."""
    starts = [start for arm in comparison.arms for start in arm.starts]
    if all(start.own for start in starts):
        return "the policy that the run began from"
    if len({start.weights for start in starts}) == 1:
        return f"{name_of(starts[0].label)}, wherever the runs began"
    return "the policies that the notes name"


def answers(comparison: Comparison) -> Table:
    """What the answers are like."""
    rows = [(arm_name(arm), *_answer_cells(arm)) for arm in comparison.arms if arm.figures]
    columns = ("arm", "tokens", "finished", "empty", "refusals", "distinct-1", "distinct-2", "distinct-3")
    note = "Answers at temperature 1; distinct-n: how many of the n-grams in all answers together are different ones."
    return Table("What are the answers like?", columns, tuple(rows), note)


def _answer_cells(arm: Arm) -> list[str]:
    of = arm.figures.get
    shares = [plain(of(f"sampled/{name}"), _whole) for name in ("finished", "empty", "refusals")]
    distinct = [plain(of(f"sampled/distinct-{size}")) for size in (1, 2, 3)]
    return [plain(of("sampled/length"), _tokens), *shares, *distinct]


def against_chosen(comparison: Comparison) -> Table:
    """Other ways of asking, and the chosen responses to the same queries."""
    rows = [
        (arm_name(arm) if place == 0 else f"… {_short_head(place, model)}", *_chosen_cells(arm, model))
        for arm in comparison.arms
        for place, model in enumerate(comparison.reward_models)
        if arm.figures
    ]
    asked, own = _prompt(comparison.negative), _own_prompt(comparison.arms)
    columns = ("arm", "greedy", asked, f"{asked} minus {own}", "minus chosen", "wins against chosen")
    note = (
        f"Mean rewards of greedy answers ({own}) and of answers at temperature 1 ({asked}); {asked} minus {own}, both "
        f"at temperature 1, query by query{_OBEYED if comparison.negative else ''}; reward at temperature 1 ({own}) "
        "minus that of the chosen response, and how often it is higher."
    )
    return Table("Other ways of asking, and the chosen responses", columns, tuple(rows), note)


def _prompt(name: str | None) -> str:
    return "no prompt" if name is None else f"{name_of(name)} prompt"


def _own_prompt(arms: Sequence[Arm]) -> str:
    """What stood around the queries otherwise, as the evaluations have it."""
    named = {arm.prompt for arm in arms if arm.prompt is not None}
    if len(named) > 1:
        return "its own prompt"
    return _prompt(None if named == {"none"} else next(iter(named), None))


def _chosen_cells(arm: Arm, model: str) -> list[str]:
    of = arm.figures.get
    return [
        plain(of(f"greedy/reward/{model}")),
        ranged(of(f"negative/reward/{model}")),
        ranged(of(f"negative/against_sampled/{model}")),
        ranged(of(f"sampled/difference/{model}")),
        rate(of(f"sampled/win_rate/{model}")),
    ]


def differences(comparison: Comparison) -> Table:
    """The hypotheses."""
    several = len({difference.hypothesis.figure for difference in comparison.differences}) > 1
    beside = any(difference.held_out for difference in comparison.differences)
    heads = (
        "hypothesis",
        "difference",
        "p",
        "Holm",
        "verdict",
        "detectable",
        *(["held-out difference"] if beside else []),
    )
    rows = tuple(_difference(difference, several, beside) for difference in comparison.differences)
    return Table("Is the difference more than chance?", heads, rows, _differences_note(comparison.differences))


def _difference(difference: HypothesisTest, several: bool, beside: bool) -> tuple[str, ...]:
    hypothesis = difference.hypothesis
    names = f"{name_of(hypothesis.worse)} → {name_of(hypothesis.better)}"
    return (
        f"{names}, {hypothesis.figure}" if several else names,
        ranged(difference.difference),
        p_value(difference.p),
        p_value(difference.adjusted),
        difference.verdict,
        number(difference.detectable),
        *([ranged(difference.held_out)] if beside else []),
    )


def _differences_note(rows: Sequence[HypothesisTest]) -> str:
    figures = sorted({row.hypothesis.figure for row in rows})
    queries = sorted({row.queries for row in rows})
    return (
        f"Right minus left in {', '.join(figures)}, on the same queries ({', '.join(f'{n:,}' for n in queries)}). "
        "Expected: the right one is better. p is two-sided; Holm: corrected for all rows together; holds, the opposite "
        "or open: what that says at 5 %. Detectable: the smallest true difference found with a power of 80 % at "
        f"{_share(LEVEL / max(len(rows), 1))}, Holm's first step."
    )


def _share(value: float) -> str:
    """In percent.

    >>> _share(0.05), _share(0.05 / 6)
    ('5 %', '0.833 %')
    """
    return f"{100 * value:.3g} %"


def judged(pairs: Sequence[JudgedArms]) -> Table:
    """Table 3, the paper's own rows below; nothing where no judge was asked."""
    if not pairs:
        return Table("", (), ())
    heads = ("pair", "win", "lose", "tie", "unread", "win rate", "sign test p", "at equal length")
    rows = [_judged(pair) for pair in (*pairs, *table_3())]
    judges = sorted({name_of(pair.judge or "not stated") for pair in pairs})
    note = " ".join(
        [
            "How often the left one is preferred.",
            f"Judge: {', '.join(judges)}, asked in both orders; verdicts that disagree are a tie.",
            *_of_the_judge(pairs),
            "The paper's rows: 30 samples each; their intervals and p are computed here.",
        ]
    )
    return Table("Table 3: what a judge prefers", heads, tuple(rows), note)


def _judged(pair: JudgedArms) -> tuple[str, ...]:
    names = f"{name_of(pair.a)} – {name_of(pair.b)}"
    ours = pair.source != SOURCE
    return (
        names if ours else f"paper: {names}",
        f"{pair.win:,}",
        f"{pair.lose:,}",
        f"{pair.tie:,}",
        f"{pair.unread:,}" if ours else "",
        rate(pair.win_rate),
        p_value(pair.p),
        rate(pair.length_controlled) if ours else "",
    )


def _of_the_judge(pairs: Iterable[JudgedArms]) -> list[str]:
    """How far the judges can be trusted, where that was measured."""
    said = dict.fromkeys(
        f"{what} {rate(figure)}."
        for pair in pairs
        for what, figure in (("It agrees with people on", pair.agreement), ("It prefers the first in", pair.first))
        if figure is not None
    )
    return list(said)


def costs(arms: Sequence[Arm]) -> Table:
    """The budget; a column where an arm has it."""
    names = [name for name in COLUMNS if any(name in arm.costs for arm in arms)]
    names += dict.fromkeys(name for arm in arms for name in arm.costs if name not in COLUMNS)
    rows = tuple((arm_name(arm), *(_cost(name, arm.costs.get(name)) for name in names)) for arm in arms)
    heads = ("arm", *(COLUMNS.get(name) or name_of(name) for name in names))
    note = (
        "Means over seeds. Tokens run: queries, responses and padding. Samples are those of training; scoring the "
        "dataset beforehand is not among the calls."
    )
    return Table("Budget", heads, rows if names else (), note)


def _cost(name: str, value: Cost | None) -> str:
    if value is None:
        return MISSING
    if isinstance(value, str):
        return name_of(value)
    if name == SECONDS:
        return in_time(value)
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 100 else number(value)


def notes(remarks: Sequence[str]) -> Table:
    """What is missing or differs."""
    return Table("Notes", ("", ""), tuple(("•", one_line(note)) for note in remarks))


def fitted(table: Table, width: int) -> list[Table]:
    """The table in parts that are at most `width` characters wide, each with the first column; the note at the last.

    Headings are broken where that makes a column narrower.
    """
    columns = list(zip(*table.rows, strict=True))
    heads = [_broken(head, max(map(len, cells))) for head, cells in zip(table.columns, columns, strict=True)]
    widths = [max(map(len, (*head.split("\n"), *cells))) + _GUTTER for head, cells in zip(heads, columns, strict=True)]
    parts = _parts(widths, width)
    return [
        Table(
            f"{table.title} (continued)" if number else table.title,
            tuple(heads[column] for column in part),
            tuple(tuple(row[column] for column in part) for row in table.rows),
            table.note if part is parts[-1] else "",
        )
        for number, part in enumerate(parts)
    ]


def _broken(head: str, width: int) -> str:
    """A heading in lines that are no longer than the cells, or its longest word."""
    longest = max(map(len, head.split()), default=0)
    return "\n".join(textwrap.wrap(head, max(width, longest))) if head else head


def _parts(widths: Sequence[int], width: int) -> list[list[int]]:
    """Numbers of columns, the first in every part."""
    parts = [[0]]
    for place in range(1, len(widths)):
        if len(parts[-1]) > 1 and sum(widths[column] for column in (*parts[-1], place)) > width:
            parts.append([0])
        parts[-1].append(place)
    return parts
