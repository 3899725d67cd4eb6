"""The figures of an evaluation as tables for a terminal: answers, then one table for each reward model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from neat_data.report.escape import one_line
from neat_data.report.tables import MISSING, Table, number, percent
from neat_data.report.terminal import print_line, print_tables
from neat_train.statistics import FEW

_INTERVALS = (
    f"intervals are 95 % ones over queries: bootstrapped, below {FEW} values Student's t, of win rates always Tango's"
)


def print_eval_summary(out: Path, content: Mapping[str, Any], console: Console, *, already: bool) -> None:
    """What was measured, where it lies, and the figures."""
    if already:
        print_line(console, f"{out}: was finished before; these are its figures.")
    queries = content["queries"]
    print_line(
        console,
        f"{content['subject']['label']} on {queries['name']}: {queries['count']:,} queries, {_prompted(content)}",
    )
    if left_out := _left_out(content):
        print_line(console, f"left out or cut: {left_out}")
    print_line(console, _perplexity(content["perplexity"]))
    console.print()
    print_tables(tables(content), console)
    print_line(console, _INTERVALS)
    print_line(console, f"every figure: {out}/eval.json; every answer: {out}/answers.arrow")


def _prompted(content: Mapping[str, Any]) -> str:
    return "no prompt" if content["prompt"] == "none" else f"prompt {content['prompt']}"


def _left_out(content: Mapping[str, Any]) -> str:
    """What had no part in the figures, or not all of itself, by reason; nothing where everything had."""
    told = content.get("left_out", {})
    counts = {
        "rows of the source": content["queries"]["left_out"],
        **{f"{name} answers": found for name, found in told.get("answers", {}).items()},
        "chosen responses": told.get("perplexity", {}),
        **{
            f"rewards of {name} by {model}": found
            for model, names in told.get("rewards", {}).items()
            for name, found in names.items()
        },
    }
    return "; ".join(
        f"{what} ({', '.join(f'{reason} {count:,}' for reason, count in found.items())})"
        for what, found in counts.items()
        if found
    )


def _perplexity(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "perplexity: not measured, as the queries have no chosen responses"
    spread = found["per_record"]
    return (
        f"perplexity of the chosen responses: {number(found['value'])}{_ends(found)}, {found['tokens']:,} tokens of "
        f"{found['responses']:,} responses; by response {number(spread['p10'])} (10 %), {number(spread['median'])} "
        f"(half), {number(spread['p90'])} (90 %)"
    )


def tables(content: Mapping[str, Any]) -> list[Table]:
    """The tables of an evaluation."""
    names = list(next(iter(content["decodings"].values()))["rewards"])
    return [_answers(content), *(table for name in names for table in _rewards(content, name))]


def _answers(content: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            name,
            f"{found['answers']:,}",
            number(found["length"]["mean"]),
            percent(found["finished"]),
            percent(found["empty"]),
            percent(found["refusals"]),
            " ".join(number(found["distinct"][n]) for n in ("1", "2", "3")),
        )
        for name, found in content["decodings"].items()
    )
    columns = ("answers", "number", "tokens", "finished", "empty", "refusals", "distinct-1 -2 -3")
    return Table("Answers", columns, rows, f"{_kl(content)} {_negative(content)}".strip())


def _negative(content: Mapping[str, Any]) -> str:
    told = content["settings"]["negative"]
    obeyed = ", which an aligned policy should not obey" if told["polarity"] == "negative" else ""
    return f"negative: answers {_under(told)}{obeyed}."


def _under(prompt: Mapping[str, Any]) -> str:
    """Which prompt stood around the queries."""
    return "without a prompt" if prompt["text"] is None else f"under the prompt {one_line(prompt['name'])}"


def _kl(content: Mapping[str, Any]) -> str:
    found = content["decodings"]["sampled"].get("kl")
    if found is None:
        return ""
    start = content["start"]
    whose = "its start" if start["own"] else "another policy than its start"
    return (
        f"KL from {one_line(start['label'])} ({whose}): {number(found['per_token']['value'])}"
        f"{_ends(found['per_token'])} nats a token, {number(found['per_response']['value'])} a response."
    )


def _rewards(content: Mapping[str, Any], model: str) -> Iterator[Table]:
    decodings, shown = content["decodings"], one_line(model)
    rows = tuple((name, *_cells(found["rewards"][model])) for name, found in decodings.items())
    columns = ("answers", "mean", "95 %", "minus chosen", "p", "win rate", "with length")
    note = f"{_against_sampled(content, model)} With length: Spearman's rho of reward and tokens."
    yield Table(f"Reward by {shown}", columns, rows, note.strip())
    sources = decodings["sampled"]["rewards"][model]["by_source"]
    if len(sources) > 1:
        lines = tuple(
            (one_line(name), f"{found['n']:,}", number(found["value"]), _ends(found).strip(" ()"))
            for name, found in sources.items()
        )
        yield Table(f"Reward by {shown}, by query source", ("sampled", "answers", "mean", "95 %"), lines)


def _against_sampled(content: Mapping[str, Any], model: str) -> str:
    """Whether the policy obeys the negative prompt."""
    found, settings = content["decodings"]["negative"]["rewards"][model]["against_sampled"], content["settings"]
    if found is None:
        return ""
    chance = "" if found["p"] is None else f", p {found['p']:.4f}"
    return (
        f"Answers {_under(settings['negative'])} (negative) minus those {_under(settings['prompt'])} (sampled), query "
        f"by query: {number(found['value'])}{_ends(found)}{chance}."
    )


def _cells(found: Mapping[str, Any]) -> tuple[str, ...]:
    difference, rate = found["difference"], found["win_rate"]
    return (
        number(found["mean"]["value"]),
        _ends(found["mean"]).strip(" ()"),
        MISSING if difference is None else f"{number(difference['value'])}{_ends(difference)}",
        MISSING if difference is None or difference["p"] is None else f"{difference['p']:.4f}",
        MISSING
        if rate is None
        else f"{100 * rate['value']:.0f} % ({100 * rate['low']:.0f} to {100 * rate['high']:.0f})",
        number(found["length_correlation"]),
    )


def _ends(found: Mapping[str, Any]) -> str:
    """The ends of an interval in brackets, or nothing."""
    return "" if found["low"] is None else f" ({number(found['low'])} to {number(found['high'])})"
