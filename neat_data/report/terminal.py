"""What every verb shows in a terminal: figures, records, and the few lines that it ends with.

Dataset text goes in as plain text, never as markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from neat_data.record import Label, Record, Response
from neat_data.report.escape import one_line, visible
from neat_data.report.tables import MISSING, Table, number, percent, tables
from neat_data.store.documents import PromptFigures

if TYPE_CHECKING:
    from neat_data.analysis.result import Stats
    from neat_data.formats.export import ExportSummary
    from neat_data.rounds.finish import GrowSummary
    from neat_data.rounds.inspect import RoundInfo
    from neat_data.scoring.compact import CompactSummary
    from neat_data.scoring.engine import ClusterFigures
    from neat_data.scoring.request import Part, ScoreSummary
    from neat_data.scoring.rescore import RescoreSummary
    from neat_data.store.verify import Verification

_REASONS = {
    "one_response": "fewer than two responses",
    "no_response": "no response of the polarity that was asked for",
    "no_reward": "too few rewards",
    "tie": "equal rewards",
    "gap_too_small": "no gap wide enough",
    "no_label": "people said nothing that fits",
}
_COLOURS = {"user": "cyan", "assistant": "green", "system": "magenta"}


def print_export_summary(summary: ExportSummary, console: Console) -> None:
    """How many rows there are, and where every other record went."""
    print_line(
        console, f"{summary.records:,} records: {summary.exported:,} gave {summary.rows:,} rows of {summary.to}."
    )
    for reason, count in sorted(summary.skipped.items()):
        print_line(console, f"left out, {_REASONS.get(reason, reason)}: {count:,} records")
    if summary.responses_left_out:
        print_line(console, f"{summary.responses_left_out:,} responses of another polarity were left out.")
    if summary.dropped:
        print_line(console, f"{summary.dropped:,} responses that reviewers dropped were left out.")
    if summary.without_score:
        print_line(console, f"{summary.without_score:,} responses of the dataset have no such score and were left out.")
    if summary.negative:
        print_line(console, f"{summary.negative:,} responses sampled under a negative prompt were taken in.")
    print_line(console, f"written: {summary.out}" + (f", uploaded: {summary.url}" if summary.url else ""))


def print_line(console: Console, text: str) -> None:
    """One line of text that may come from anywhere, never wrapped and never marked up."""
    console.print(one_line(text), markup=False, soft_wrap=True)


def print_score_summary(summary: ScoreSummary, console: Console) -> None:
    """Where every source row went, and what to do next."""
    if summary.part is not None:
        return _print_part(summary, summary.part, console)
    counts = summary.counts
    rejected = counts["rejected"]
    lost = sum(rejected.values())
    if summary.already:
        print_line(console, f"{summary.out} was complete already: same source, same settings; nothing was done.")
    stored = counts["source_rows"] - lost
    print_line(
        console,
        f"{counts['source_rows']:,} rows: {stored:,} stored as {counts['records']:,} records with "
        f"{counts['responses']:,} responses ({counts['repeated_rows']:,} rows repeat a query), {lost:,} rejected.",
    )
    if rejected:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in rejected.items())
        print_line(console, f"rejected: {reasons}; the rows are in {summary.out}/rejects")
    if counts["queries_cut"]:
        print_line(console, f"{counts['queries_cut']:,} queries lost their oldest turns to fit the model's length.")
    _print_not_taken(counts, console)
    if thoughts := counts.get("thoughts"):
        print_line(
            console,
            f"{thoughts['responses']:,} responses think, {thoughts['unended']:,} of them without an end; scored: the "
            f"{'answer alone' if thoughts['scored'] == 'answer' else 'whole'}.",
        )
    for note in summary.notes:
        print_line(console, note)
    print_cluster(summary.cluster, console)
    print_line(console, f"next: neat-data stats {summary.out}")


def _print_not_taken(counts: Mapping[str, Any], console: Console) -> None:
    if names := counts.get("reward_not_taken"):
        print_line(console, f"the judge's server takes no {', '.join(names)}: it was asked without")


def _print_part(summary: ScoreSummary, part: Part, console: Console) -> None:
    """What was made of a dataset that others help to make, and what to do next."""
    if summary.already:
        return print_line(console, f"{summary.out} was complete already; nothing was done.")
    shards = f"{part.source_rows:,} rows in {part.shards:,} shards"
    if not part.made and not part.before:
        print_line(console, f"planned: {shards}.")
        jobs = isinstance(summary.out, Path)  # at a URL there are none
        rest = f"with --shards 0-{part.shards - 1}, or parts of that" if jobs else "without --phase"
        print_line(console, f"next: the same command {rest}")
        return
    print_line(console, f"{part.made:,} shards made, {part.before:,} were there; the plan has {shards}.")
    print_cluster(summary.cluster, console)
    print_line(console, "next, once all are there: the same command with --phase finish")


def print_cluster(figures: ClusterFigures | None, console: Console) -> None:
    """What Ray's workers did; nothing where there were none."""
    if figures is None:
        return
    rates = sorted(worker.rate for worker in figures.workers)
    nodes = len({worker.node for worker in figures.workers})
    mean = sum(rates) / len(rates)
    print_line(
        console,
        f"Ray: workers {len(rates):,}, nodes {nodes:,}, rows/s a worker {number(mean)} "
        f"(from {number(rates[0])} to {number(rates[-1])})",
    )
    if figures.tried_again:
        again = ", ".join(map(str, figures.tried_again[:10])) + (" …" if len(figures.tried_again) > 10 else "")
        print_line(console, f"tried again, as their worker died: {len(figures.tried_again):,} shards ({again})")


def print_rescore_summary(summary: RescoreSummary, console: Console) -> None:
    """What was scored, what was refused, and what to do next."""
    if (part := summary.part) is not None:
        print_line(
            console,
            f"{part.made:,} shards scored, {part.before:,} were there; the dataset has {part.source_rows:,} rows in "
            f"{part.shards:,} shards.",
        )
        print_cluster(summary.cluster, console)
        return print_line(console, "next, once all are there: the same command with --phase finish")
    if not summary.scored_now:
        print_line(console, f"scores/{summary.name} was complete already: same model, same settings; nothing was done.")
    print_line(console, f"scores/{summary.name}: {summary.responses:,} responses, {summary.scored_now:,} scored now.")
    if summary.refused:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in summary.refused.items())
        print_line(console, f"without a score: {reasons}")
    print_cluster(summary.cluster, console)
    print_line(console, f"next: neat-data stats {summary.dataset} --rank-by {summary.name}")


def print_compact_summary(summary: CompactSummary, console: Console) -> None:
    """What was folded, and what to do next."""
    if summary.already:
        print_line(console, f"{summary.out} was complete already: same dataset, same settings; nothing was done.")
    counts = summary.counts
    print_line(
        console,
        f"{counts['records']:,} records with {counts['responses']:,} responses; {summary.rounds:,} rounds folded in, "
        f"{summary.dropped:,} responses that people dropped left out.",
    )
    print_line(console, f"next: neat-data verify {summary.out}")


def print_verification(result: Verification, console: Console) -> None:
    """Every finding on a line of its own, then the verdict."""
    for note in result.notes:
        print_line(console, f"note: {note}")
    for finding in result.findings:
        print_line(console, f"wrong: {finding}")
    wrong = "1 thing is wrong" if len(result.findings) == 1 else f"{len(result.findings):,} things are wrong"
    verdict = "everything holds" if result.ok else wrong
    print_line(
        console, f"{result.shards:,} shards, {result.records:,} records, {result.responses:,} responses: {verdict}"
    )


def print_stats(stats: Stats, console: Console) -> None:
    """Every table of the stats, one below the other; 80 columns are enough."""
    print_tables(tables(stats), console)


def print_tables(tables: Iterable[Table], console: Console) -> None:
    """Tables with their remarks, one below the other."""
    for table in tables:
        console.print(_grid(table))
        if table.note:
            console.print(Padding(Text(table.note, style="dim"), (0, 1)))
        console.print()


def _grid(table: Table) -> Grid:
    plain = not any(table.columns)
    grid = Grid(
        box=box.SIMPLE_HEAD,
        title=Text(table.title, style="bold"),
        title_justify="left",
        show_header=not plain,
        header_style="dim",
        padding=(0, 1),
        show_edge=False,
    )
    for index, column in enumerate(table.columns):
        grid.add_column(Text(column), justify="right" if index and not plain else "left", overflow="fold")
    for row in table.rows:
        grid.add_row(*(Text(cell) for cell in row))
    return grid


def print_records(records: Iterable[Record], console: Console) -> None:
    """Records as dialogues, each response with its rank, reward, origin and what people said of it."""
    for record in records:
        console.rule(Text(f"query {record.query_id}"), style="dim", align="left")
        console.print(_dialogue(record))
        console.print()


def _dialogue(record: Record) -> Grid:
    grid = Grid.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for message in record.messages:
        colour = _COLOURS.get(message.role, "white")
        grid.add_row(Text(one_line(message.role), style=f"bold {colour}"), Text(visible(message.content)))
    grid.add_row("", "")
    for rank, response in enumerate(record.responses, start=1):
        grid.add_row(Text(f"#{rank}", style="bold"), _headline(response, record.labels))
        grid.add_row("", Text(visible(response.text)))
    grid.add_row("", "")
    for label in record.labels:
        grid.add_row(Text("gap", style="bold"), Text(_judgement(record, label)))
    return grid


def _headline(response: Response, labels: Iterable[Label]) -> Text:
    line = Text(f"reward {number(response.reward)}", style="bold")
    origin = " ".join(part for part in (response.polarity, response.origin) if part)
    line.append(f"  {one_line(origin)}", style="dim")
    if response.round:
        line.append(f", round {response.round}", style="dim")
    for mark in dict.fromkeys(marks(response.response_id, labels)):
        line.append(f"  {mark}", style="red" if mark in ("rejected", "refused") else "green")
    return line


def marks(response: str, labels: Iterable[Label]) -> Iterator[str]:
    """What each label says of the response with this id: chosen, rejected, accepted, refused, or a place."""
    for label in labels:
        if response not in label.order:
            continue
        place, of = label.order.index(response), len(label.order)
        if of == 1:
            if label.verdict is not None:
                yield "accepted" if label.verdict else "refused"
        elif of == 2:
            yield ("chosen", "rejected")[place]
        else:
            yield f"place {place + 1} of {of}"


def signed_gap(record: Record, label: Label) -> float | None:
    """Reward of the label's first response minus reward of its last; None where there is no pair or no reward."""
    rewards = {response.response_id: response.reward for response in record.responses}
    if len(label.order) < 2:
        return None
    best, worst = rewards.get(label.order[0]), rewards.get(label.order[-1])
    return None if best is None or worst is None else best - worst


def _judgement(record: Record, label: Label) -> str:
    gap = signed_gap(record, label)
    split = " ".join(part for part in (label.subset, label.split) if part)
    where = one_line(f"{label.name} row {label.row}" + (f" ({split})" if split else ""))
    return f"{MISSING if gap is None else format(gap, '+.2f')}  {where}"


def print_grow_summary(summary: GrowSummary, console: Console) -> None:
    """What became of the candidates, prompt by prompt, whether the prompts do what they say, and what to do next."""
    if summary.staged is not None:
        print_line(console, f"round {summary.round}: {summary.staged:,} samples wait to be scored.")
        print_cluster(summary.cluster, console)
        print_line(console, f"next: neat-data expand {summary.dataset} --phase score")
        return
    if summary.already:
        print_line(console, f"round {summary.round} was complete already: same settings; nothing was done.")
    counts = summary.to_dict()
    prompts: dict[str, PromptFigures] = counts["prompts"]
    rejected = sum(counts["rejected"].values())
    print_line(
        console,
        f"round {summary.round}: {counts['responses']:,} responses to {counts['records']:,} queries joined "
        f"{summary.dataset}, of {counts['asked']:,}{f'; {rejected:,} rows rejected' if rejected else ''}.",
    )
    console.print()
    print_tables([_became(prompts), _rewards(prompts), *_thoughts(prompts)], console)
    if counts["usage"]:
        print_line(console, _usage(counts["usage"]))
    if counts.get("not_taken"):
        print_line(console, f"the server takes no {', '.join(counts['not_taken'])}: it was asked without")
    _print_not_taken(counts, console)
    for warning in warnings(prompts):
        print_line(console, f"warning: {warning}")
    print_cluster(summary.cluster, console)
    print_line(console, f"next: neat-data stats {summary.dataset} --by polarity")


def _usage(usage: dict[str, int]) -> str:
    line = f"tokens: {usage['prompt_tokens']:,} of prompts, {usage['completion_tokens']:,} sampled"
    missing = usage.get("unreported", 0)
    return f"{line}; for {missing:,} answers the server did not tell" if missing else line


def _became(prompts: dict[str, PromptFigures]) -> Table:
    rows = [
        (
            one_line(name),
            f"{tally['asked']:,}",
            f"{tally['kept']:,}",
            ", ".join(f"{reason} {n:,}" for reason, n in tally["dropped"].items()) or MISSING,
            f"{tally['unfinished']:,}",
            f"{tally['queries_cut']:,}",
            percent(tally["refusal_share"]),
        )
        for name, tally in prompts.items()
    ]
    columns = ("prompt", "asked", "joined", "dropped", "unfinished", "query cut", "refusals")
    return Table("What became of the responses", columns, tuple(rows))


def _thoughts(prompts: dict[str, PromptFigures]) -> list[Table]:
    """One table where responses think."""
    rows = [
        (
            one_line(name),
            percent(tally["thought_share"]),
            percent(tally["unended_share"]),
            f"{tally['thought_characters']:,.0f}",
            number(tally["reward_with_thought"]),
            number(tally["reward_without_thought"]),
        )
        for name, tally in prompts.items()
        if "thought_share" in tally
    ]
    columns = ("prompt", "think", "without an end", "characters", "mean reward with", "without")
    note = "Without an end: of those that think. Characters: of a thought, mean."
    return [Table("Thoughts", columns, tuple(rows), note)] if rows else []


def _rewards(prompts: dict[str, PromptFigures]) -> Table:
    rows = [
        (
            one_line(name),
            _mean(tally),
            number(tally["chosen"]),
            number(tally["rejected"]),
            _below(tally),
        )
        for name, tally in prompts.items()
    ]
    columns = ("prompt", "mean reward (95 %)", "chosen", "rejected", "below rejected (95 %)")
    note = "Chosen and rejected: mean rewards of the pairs of the same queries."
    return Table("Rewards", columns, tuple(rows), note)


def _mean(tally: PromptFigures) -> str:
    if tally["reward"] is None:
        return MISSING
    return f"{number(tally['reward'])} ({number(tally['reward_low'])} to {number(tally['reward_high'])})"


def _below(tally: PromptFigures) -> str:
    low, high = tally["below_low"], tally["below_high"]
    if low is None or high is None:
        return MISSING
    return f"{percent(tally['below_rejected'])} ({100 * low:.1f} to {100 * high:.1f})"


def warnings(prompts: dict[str, PromptFigures]) -> list[str]:
    """Negative prompts under which most responses are no worse than what people rejected."""
    return [
        f"under {one_line(name)}, {percent(tally['below_rejected'])} of the responses score below the rejected ones: "
        "this prompt does not reliably make worse responses. `--keep 'reward < rejected'` keeps those that are."
        for name, tally in prompts.items()
        if tally["polarity"] == "negative" and (tally["below_rejected"] or 0) < 0.5 and tally["compared"]
    ]


def print_rounds(rounds: Sequence[RoundInfo], console: Console) -> None:
    """One line a round."""
    rows = [
        (
            f"{info.round}{'' if info.complete else ' (not finished)'}",
            info.kind,
            one_line(_models(info.models)) or MISSING,
            one_line(", ".join(info.prompts)) or MISSING,
            f"{info.responses:,}",
            number(info.reward),
        )
        for info in rounds
    ]
    columns = ("round", "made by", "model", "prompts", "responses", "mean reward")
    print_tables([Table("Rounds", columns, tuple(rows))], console)


def _models(labels: Sequence[str]) -> str:
    """By what they began as, where a policy in training sampled: an online round has one for every block."""
    starts = list(dict.fromkeys(label.partition("+live:")[0] for label in labels))
    shown = ", ".join(starts[:2]) + (f" and {len(starts) - 2} more" if len(starts) > 2 else "")
    return f"{shown}, {len(labels)} times in training" if "+live:" in "".join(labels) else shown
