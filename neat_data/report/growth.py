"""What `expand` and `rounds` end with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from neat_data.report.tables import MISSING, Table, number, percent
from neat_data.report.terminal import print_tables
from neat_data.report.visible import one_line

if TYPE_CHECKING:
    from neat_data.grow import GrowSummary
    from neat_data.rounds import RoundInfo


def print_grow_summary(summary: GrowSummary, console: Console) -> None:
    """What became of the candidates, prompt by prompt, whether the prompts do what they say, and what to do next."""
    if summary.staged is not None:
        _line(console, f"round {summary.round}: {summary.staged:,} samples wait to be scored.")
        _line(console, f"next: neat-data expand {summary.dataset} --phase score")
        return
    if summary.already:
        _line(console, f"round {summary.round} was complete already: same settings; nothing was done.")
    counts = summary.to_dict()
    prompts: dict[str, dict[str, Any]] = counts["prompts"]
    rejected = sum(counts["rejected"].values())
    _line(
        console,
        f"round {summary.round}: {counts['responses']:,} responses to {counts['records']:,} queries joined "
        f"{summary.dataset}, of {counts['asked']:,}{f'; {rejected:,} rows rejected' if rejected else ''}.",
    )
    console.print()
    print_tables([_became(prompts), _rewards(prompts)], console)
    if counts["usage"]:
        _line(console, _usage(counts["usage"]))
    for warning in warnings(prompts):
        _line(console, f"warning: {warning}")
    _line(console, f"next: neat-data stats {summary.dataset} --by polarity")


def _usage(usage: dict[str, int]) -> str:
    told = f"tokens: {usage['prompt_tokens']:,} of prompts, {usage['completion_tokens']:,} sampled"
    missing = usage.get("unreported", 0)
    return f"{told}; for {missing:,} answers the server did not tell" if missing else told


def _became(prompts: dict[str, dict[str, Any]]) -> Table:
    rows = [
        (
            one_line(name),
            f"{found['asked']:,}",
            f"{found['kept']:,}",
            ", ".join(f"{reason} {n:,}" for reason, n in found["dropped"].items()) or MISSING,
            f"{found['unfinished']:,}",
            f"{found['queries_cut']:,}",
            percent(found["refusal_share"]),
        )
        for name, found in prompts.items()
    ]
    columns = ("prompt", "asked", "joined", "dropped", "unfinished", "query cut", "refusals")
    return Table("What became of the responses", columns, tuple(rows))


def _rewards(prompts: dict[str, dict[str, Any]]) -> Table:
    rows = [
        (
            one_line(name),
            _mean(found),
            number(found["chosen"]),
            number(found["rejected"]),
            _below(found),
        )
        for name, found in prompts.items()
    ]
    columns = ("prompt", "mean reward (95 %)", "chosen", "rejected", "below rejected (95 %)")
    note = "Chosen and rejected: mean rewards of the pairs of the same queries."
    return Table("Rewards", columns, tuple(rows), note)


def _mean(found: dict[str, Any]) -> str:
    if found["reward"] is None:
        return MISSING
    return f"{number(found['reward'])} ({number(found['reward_low'])} to {number(found['reward_high'])})"


def _below(found: dict[str, Any]) -> str:
    if found["below_rejected"] is None:
        return MISSING
    low, high = 100 * found["below_low"], 100 * found["below_high"]
    return f"{percent(found['below_rejected'])} ({low:.1f} to {high:.1f})"


def warnings(prompts: dict[str, dict[str, Any]]) -> list[str]:
    """Negative prompts under which most responses are no worse than what people rejected."""
    return [
        f"under {one_line(name)}, {percent(found['below_rejected'])} of the responses score below the rejected ones: "
        "this prompt does not reliably make worse responses. `--keep 'reward < rejected'` keeps those that are."
        for name, found in prompts.items()
        if found["polarity"] == "negative" and (found["below_rejected"] or 0) < 0.5 and found["compared"]
    ]


def print_rounds(rounds: Sequence[RoundInfo], console: Console) -> None:
    """One line a round."""
    rows = [
        (
            f"{at.round}{'' if at.complete else ' (not finished)'}",
            at.kind,
            one_line(_models(at.models)) or MISSING,
            one_line(", ".join(at.prompts)) or MISSING,
            f"{at.responses:,}",
            number(at.reward),
        )
        for at in rounds
    ]
    columns = ("round", "made by", "model", "prompts", "responses", "mean reward")
    print_tables([Table("Rounds", columns, tuple(rows))], console)


def _models(labels: Sequence[str]) -> str:
    """By what they began as, where a policy in training sampled: an online round has one for every block."""
    starts = list(dict.fromkeys(label.partition("+live:")[0] for label in labels))
    found = ", ".join(starts[:2]) + (f" and {len(starts) - 2} more" if len(starts) > 2 else "")
    return f"{found}, {len(labels)} times in training" if "+live:" in "".join(labels) else found


def _line(console: Console, text: str) -> None:
    console.print(one_line(text), markup=False, soft_wrap=True)
