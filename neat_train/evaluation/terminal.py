"""The figures of an evaluation as tables for a terminal: answers, then one table for each reward model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console

from neat_data.report.escape import one_line
from neat_data.report.tables import MISSING, Table, number, percent
from neat_data.report.terminal import print_cluster, print_line, print_tables
from neat_train.evaluation.result import (
    Estimate,
    EvalResult,
    NegativeRewardFigures,
    Perplexity,
    RewardFigures,
    WinRate,
)
from neat_train.statistics import FEW

if TYPE_CHECKING:
    from neat_train.evaluation.evaluate import EvalSummary

_INTERVALS = (
    f"intervals are 95 % ones over queries: bootstrapped, below {FEW} values Student's t, of win rates always Tango's"
)


def print_eval_summary(summary: EvalSummary, console: Console) -> None:
    """What was measured, where it lies, and the figures."""
    out, result = summary.out, summary.result
    if summary.already:
        print_line(console, f"{out}: was finished before; these are its figures.")
    queries = result.queries
    print_line(console, f"{result.subject.label} on {queries.name}: {queries.count:,} queries, {_prompted(result)}")
    if left_out := _left_out(result):
        print_line(console, f"left out or cut: {left_out}")
    print_line(console, _perplexity(result.perplexity))
    console.print()
    print_tables(tables(result), console)
    print_line(console, _INTERVALS)
    print_cluster(summary.cluster, console)
    print_line(console, f"every figure: {out}/eval.json; every answer: {out}/answers.arrow")


def _prompted(result: EvalResult) -> str:
    return "no prompt" if result.prompt == "none" else f"prompt {result.prompt}"


def _left_out(result: EvalResult) -> str:
    """What had no part in the figures, or not all of itself, by reason; nothing where everything had."""
    left_out = result.left_out
    counts = {
        "rows of the source": result.queries.left_out,
        **{f"{name} answers": reasons for name, reasons in left_out.answers.items()},
        "chosen responses": left_out.perplexity,
        **{
            f"rewards of {name} by {model}": reasons
            for model, names in left_out.rewards.items()
            for name, reasons in names.items()
        },
    }
    return "; ".join(
        f"{what} ({', '.join(f'{reason} {count:,}' for reason, count in reasons.items())})"
        for what, reasons in counts.items()
        if reasons
    )


def _perplexity(perplexity: Perplexity | None) -> str:
    if perplexity is None:
        return "perplexity: not measured, as the queries have no chosen responses"
    spread = perplexity.per_record
    return (
        f"perplexity of the chosen responses: {number(perplexity.value)}{_ends(perplexity)}, {perplexity.tokens:,} "
        f"tokens of {perplexity.responses:,} responses; "
        f"by response {number(spread.p10)} (10 %), {number(spread.median)} (half), {number(spread.p90)} (90 %)"
    )


def tables(result: EvalResult) -> list[Table]:
    """The tables of an evaluation."""
    names = list(next(iter(result.decodings.values())).rewards)
    return [_answers(result), *(table for name in names for table in _rewards(result, name))]


def _answers(result: EvalResult) -> Table:
    rows = tuple(
        (
            name,
            f"{figures.answers:,}",
            number(figures.length.mean),
            percent(figures.finished),
            percent(figures.empty),
            percent(figures.refusals),
            " ".join(number(figures.distinct[n]) for n in ("1", "2", "3")),
        )
        for name, figures in result.decodings.items()
    )
    columns = ("answers", "number", "tokens", "finished", "empty", "refusals", "distinct-1 -2 -3")
    return Table("Answers", columns, rows, " ".join(filter(None, (_thoughts(result), _kl(result), _negative(result)))))


def _thoughts(result: EvalResult) -> str:
    """How often they think, decoding by decoding; nothing where none does."""
    thinking = ((name, figures.thoughts) for name, figures in result.decodings.items())
    lines = [
        f"{name}: {percent(of.share)} think, {percent(of.unended)} of these without an end, {number(of.characters)} "
        "characters (median)."
        for name, of in thinking
        if of is not None
    ]
    return " ".join(lines)


def _negative(result: EvalResult) -> str:
    prompt = result.settings["negative"]
    obeyed = ", which an aligned policy should not obey" if prompt["polarity"] == "negative" else ""
    return f"negative: answers {_under(prompt)}{obeyed}."


def _under(prompt: Mapping[str, Any]) -> str:
    """Which prompt stood around the queries."""
    return "without a prompt" if prompt["text"] is None else f"under the prompt {one_line(prompt['name'])}"


def _kl(result: EvalResult) -> str:
    kl, start = result.decodings["sampled"].kl, result.start
    if kl is None or start is None:
        return ""
    whose = "its start" if start.own else "another policy than its start"
    return (
        f"KL from {one_line(start.label)} ({whose}): {number(kl.per_token.value)}"
        f"{_ends(kl.per_token)} nats a token, {number(kl.per_response.value)} a response."
    )


def _rewards(result: EvalResult, model: str) -> Iterator[Table]:
    decodings, shown = result.decodings, one_line(model)
    rows = tuple((name, *_cells(figures.rewards[model])) for name, figures in decodings.items())
    columns = ("answers", "mean", "95 %", "minus chosen", "p", "win rate", "with length")
    note = f"{_against_sampled(result, model)} With length: Spearman's rho of reward and tokens."
    yield Table(f"Reward by {shown}", columns, rows, note.strip())
    sources = decodings["sampled"].rewards[model].by_source
    if len(sources) > 1:
        lines = tuple(
            (one_line(name), f"{figures.n:,}", number(figures.value), _ends(figures).strip(" ()"))
            for name, figures in sources.items()
        )
        yield Table(f"Reward by {shown}, by query source", ("sampled", "answers", "mean", "95 %"), lines)


def _against_sampled(result: EvalResult, model: str) -> str:
    """Whether the policy obeys the negative prompt."""
    rewards, settings = result.decodings["negative"].rewards[model], result.settings
    if not isinstance(rewards, NegativeRewardFigures) or rewards.against_sampled is None:
        return ""
    difference = rewards.against_sampled
    chance = "" if difference.p is None else f", p {difference.p:.4f}"
    return (
        f"Answers {_under(settings['negative'])} (negative) minus those {_under(settings['prompt'])} (sampled), query "
        f"by query: {number(difference.value)}{_ends(difference)}{chance}."
    )


def _cells(figures: RewardFigures) -> tuple[str, ...]:
    difference, rate = figures.difference, figures.win_rate
    return (
        number(figures.mean.value),
        _ends(figures.mean).strip(" ()"),
        MISSING if difference is None else f"{number(difference.value)}{_ends(difference)}",
        MISSING if difference is None or difference.p is None else f"{difference.p:.4f}",
        MISSING if rate is None else _rate(rate),
        number(figures.length_correlation),
    )


def _rate(rate: WinRate) -> str:
    return f"{100 * rate.value:.0f} % ({100 * rate.low:.0f} to {100 * rate.high:.0f})"


def _ends(estimate: Estimate) -> str:
    """The ends of an interval in brackets, or nothing."""
    return "" if estimate.low is None else f" ({number(estimate.low)} to {number(estimate.high)})"
