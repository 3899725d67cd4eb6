"""`Stats` as tables of text, the same for terminal, page and card.

Names that come from the dataset are already visible (`escape.one_line`); each renderer escapes its own markup.
"""

from __future__ import annotations

from dataclasses import dataclass

from neat_data.analysis.agreement import Agreement
from neat_data.analysis.measures import Mean, Share, Summary
from neat_data.analysis.result import Group, Stats
from neat_data.report.escape import one_line

MISSING = "–"
OTHER_SCALE = "Not the paper's reward model, so another scale: its 25 % and < 0.5 % do not compare."
WARNING = "Preference data of this kind may hold offensive, harmful or distressing text: it exists to be learnt from."


@dataclass(frozen=True, slots=True)
class Table:
    """A heading, columns (the first is text, the others are figures), rows, and a remark below."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def tables(stats: Stats) -> list[Table]:
    """Every table that has something to say about these stats."""
    candidates = [dataset(stats), shares(stats), spread(stats), agreement(stats), rewards(stats), length(stats)]
    candidates += [thoughts(stats), polarities(stats), unpaired(stats), groups(stats), *models(stats)]
    return [table for table in candidates if table.rows]


def percent(value: float | None) -> str:
    """A fraction as per cent, a second decimal below one per cent.

    >>> percent(0.2534), percent(0.00312), percent(None)
    ('25.3 %', '0.31 %', '–')
    """
    if value is None:
        return MISSING
    return f"{100 * value:.{2 if 0 < value < 0.01 else 1}f} %"


def interval(share: Share) -> str:
    """The 95 % interval in per cent, with the decimals of the share."""
    if share.share is None or share.low is None or share.high is None:
        return MISSING
    digits = 2 if 0 < share.share < 0.01 else 1
    return f"{100 * share.low:.{digits}f} to {100 * share.high:.{digits}f}"


def number(value: float | None) -> str:
    """A reward or a gap, two decimals, a third one below 1: some reward models speak in small numbers.

    >>> number(-12.345), number(0.0123), number(-0.0001), number(None)
    ('-12.35', '0.012', '0.000', '–')
    """
    if value is None:
        return MISSING
    digits = 2 if abs(value) >= 1 else 3
    return f"{round(value, digits) + 0.0:.{digits}f}"  # adding 0.0 takes the sign from -0.0


def in_time(seconds: float) -> str:
    """A duration as it is spoken of.

    >>> in_time(42.3), in_time(754), in_time(7500)
    ('42 s', '12 min 34 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def level(threshold: float) -> str:
    """A threshold as short as it can be said: 1, 5, 0.25."""
    return f"{threshold:g}"


def dataset(stats: Stats) -> Table:
    """What was counted, and what became of the source rows that were not."""
    counts = stats.counts
    rows = [
        ("reward model", one_line(stats.reward_model or "not stated")),
        ("records", f"{counts.records:,}"),
        ("responses", _with(counts.responses, "without a reward", counts.unscored)),
        ("labels", _with(counts.labels, "of repeated queries", counts.repeated)),
        ("pairs", _with(counts.pairs, "left out, without a reward", counts.unscored_pairs)),
    ]
    if not stats.complete:
        rows.append(("unfinished", "what was committed so far"))
    if stats.where is not None:
        rows.insert(1, ("where", one_line(stats.where)))
    if stats.rank_by is not None:
        rows.insert(1, ("ranked by", one_line(stats.rank_by)))
    if stats.left_out:
        rows.append(("responses without such a score", f"{stats.left_out:,} left out"))
    if counts.dropped:
        rows.append(("responses that reviewers dropped", f"{counts.dropped:,} left out"))
    if counts.truncated:
        rows.append(("truncated responses", f"{counts.truncated:,}"))
    if counts.queries_cut:
        rows.append(("queries that lost turns", f"{counts.queries_cut:,}"))
    if counts.source_rows is not None:
        rows.append(("source rows", f"{counts.source_rows:,}"))
    rows.append(("source rows rejected", f"{sum(counts.rejected.values()):,}"))
    rows += [(f"rejected: {one_line(reason)}", f"{count:,}") for reason, count in counts.rejected.items()]
    return Table("Dataset", ("", ""), tuple(rows))


def _with(count: int, what: str, part: int) -> str:
    return f"{count:,} ({part:,} {what})" if part else f"{count:,}"


def shares(stats: Stats) -> Table:
    """The headline: shares of pairs beyond each threshold, ties, disagreement."""
    lines = [(f"|gap| > {level(t.threshold)}", t.absolute, t.paper) for t in stats.thresholds]
    lines += [(f"gap > {level(t.threshold)}", t.signed, None) for t in stats.thresholds]
    lines += [("gap = 0, a tie", stats.ties, None), ("gap < 0, against people", stats.disagreement, None)]
    paper = stats.scale == "paper"
    rows = [
        (name, percent(share.share), interval(share), f"{share.count:,}", *([published or ""] if paper else []))
        for name, share, published in lines
    ]
    columns = ("pairs with", "share", "95 % interval", "pairs", *(["the paper"] if paper else []))
    return Table("Gap: reward of chosen minus reward of rejected", columns, tuple(rows), _remarks(stats))


def _remarks(stats: Stats) -> str:
    remarks = [] if stats.scale == "paper" else [OTHER_SCALE]
    if stats.ties.clusters < stats.ties.total:
        remarks.append(
            f"{stats.ties.total:,} pairs of {stats.ties.clusters:,} queries: intervals allow for pairs that share one."
        )
    return " ".join(remarks)


def spread(stats: Stats) -> Table:
    """Quantiles of the gap and of the figures that no scale touches."""
    gaps = stats.gaps
    lines = [
        ("gap", gaps.signed),
        ("|gap|", gaps.absolute),
        ("sigmoid(gap)", gaps.probability),
        ("|gap| / sd", gaps.relative),
        ("best to worst", gaps.best_to_worst),
    ]
    rows = [(name, *_quantiles(summary)) for name, summary in lines if summary.count]
    columns = ("quantiles", "5 %", "25 %", "50 %", "75 %", "95 %", "99 %", "max")
    remarks = ["sd: the standard deviation of all rewards."] if gaps.relative.count else []
    if gaps.best_to_worst.count:
        remarks.append(f"Best to worst: the {gaps.best_to_worst.count:,} records of more than two responses.")
    return Table("How wide the gaps are", columns, tuple(rows), " ".join(remarks))


def _quantiles(summary: Summary) -> list[str]:
    values = (summary.q05, summary.q25, summary.median, summary.q75, summary.q95, summary.q99, summary.maximum)
    return [number(value) for value in values]


def agreement(stats: Stats) -> Table:
    """Agreement with people by size of the gap, in fifths of the pairs."""
    rows = [
        (
            f"{number(part.low)} to {number(part.high)}",
            percent(part.agreement.share),
            interval(part.agreement),
            f"{part.agreement.total:,}",
        )
        for part in stats.gap_bins
    ]
    columns = ("|gap|", "agrees", "95 % interval", "pairs")
    return Table("The reward agrees with people", columns, tuple(rows), "Fifths of the pairs, ties left out.")


def rewards(stats: Stats) -> Table:
    """Rewards of all responses, then by origin, polarity and round."""
    rows = []
    for group in stats.rewards:
        name = "all" if group.kind == "all" else f"{group.kind} {one_line(group.name or 'none')}"
        values = group.rewards
        figures = (values.mean, values.std, values.q05, values.median, values.q95)
        rows.append((name, f"{values.count:,}", *(number(value) for value in figures)))
    columns = ("responses", "count", "mean", "sd", "5 %", "50 %", "95 %")
    return Table("Rewards", columns, tuple(rows))


def thoughts(stats: Stats) -> Table:
    """How often responses think, how long, and what they get for it."""
    summary = stats.thoughts
    if summary is None:
        return Table("", (), ())
    rows = (
        ("responses that think", percent(summary.share)),
        ("of these: the thought never ends", percent(summary.unended)),
        ("characters of a thought: median", f"{summary.characters.median or 0:,.0f}"),
        ("characters of a thought: 95 %", f"{summary.characters.q95 or 0:,.0f}"),
        ("mean reward with a thought", number(summary.with_thought.mean)),
        ("mean reward without one", number(summary.without.mean)),
    )
    return Table("Thoughts", ("", ""), rows)


def polarities(stats: Stats) -> Table:
    """Rewards under positive and negative prompts, and their difference."""
    compared = stats.polarities
    if compared is None:
        return Table("", (), ())
    rows = [
        (
            group.polarity or "none",
            f"{group.responses:,}",
            f"{group.reward.count:,}",
            number(group.reward.mean),
            _ends(group.reward),
        )
        for group in compared.rewards
    ]
    if compared.difference.count:
        rows.append(
            (
                "positive - negative",
                "",
                f"{compared.difference.count:,}",
                number(compared.difference.mean),
                _ends(compared.difference),
            )
        )
    columns = ("polarity of the prompt", "responses", "queries", "mean reward", "95 % interval")
    note = "Means over queries; the difference is that of the same query."
    return Table("Do the prompts do what they say?", columns, tuple(rows), note)


def length(stats: Stats) -> Table:
    """What length explains."""
    lengths = stats.length
    lines = [("longer one wins, by reward", lengths.by_reward), ("longer one wins, by people", lengths.by_people)]
    rows = [(name, percent(share.share), interval(share), f"{share.total:,}") for name, share in lines]
    rows.insert(0, ("Spearman, reward and length", number(lengths.spearman), "", f"{stats.rewards[0].rewards.count:,}"))
    columns = ("length in characters", "figure", "95 % interval", "of")
    return Table("Is it length that is rewarded?", columns, tuple(rows))


def unpaired(stats: Stats) -> Table:
    """Single responses with a verdict."""
    lines = [("accepted", stats.unpaired.accepted), ("refused", stats.unpaired.refused)]
    rows = [(name, f"{s.count:,}", number(s.mean), number(s.std), number(s.median)) for name, s in lines if s.count]
    area = stats.unpaired.auc
    note = "" if area is None else f"An accepted response has more reward than a refused one in {percent(area)} (AUC)."
    return Table("Single responses, by people's verdict", ("verdict", "count", "mean", "sd", "50 %"), tuple(rows), note)


def models(stats: Stats) -> list[Table]:
    """How far several reward models agree; none where there is one."""
    if stats.agreement is None:
        return []
    return [_between_models(stats.agreement), _shared_pairs(stats.agreement), _with_people(stats.agreement)]


def _between_models(agreement: Agreement) -> Table:
    rows = [
        (one_line(f"{two.first}, {two.second}"), signed(two.tau.mean), _ends(two.tau), f"{two.tau.count:,}")
        for two in agreement.two
    ]
    note = (
        "Kendall's tau-b between two models' rewards inside a record, mean over the records in which both tell "
        "responses apart; the interval is that of a normal distribution."
    )
    return Table("Do the reward models agree?", ("models", "mean tau-b", "95 % interval", "records"), tuple(rows), note)


def signed(value: float | None) -> str:
    """A correlation, with its sign.

    >>> signed(0.1234), signed(-1.0), signed(None)
    ('+0.123', '-1.000', '–')
    """
    return MISSING if value is None else f"{value:+.3f}"


def _ends(mean: Mean) -> str:
    return MISSING if mean.low is None else f"{signed(mean.low)} to {signed(mean.high)}"


def _shared_pairs(agreement: Agreement) -> Table:
    lines = [
        ("all with people", agreement.with_people),
        ("all against people", agreement.against_people),
        ("disputed: one with, one against", agreement.disputed),
        ("no dispute, but a tie in one", agreement.tied),
    ]
    rows = [(name, percent(part.share), interval(part), f"{part.count:,}") for name, part in lines]
    shared = agreement.people_on_shared
    note = "" if shared.share is None else f"Where all models agree, people agree with them on {percent(shared.share)}."
    return Table(
        "Shared and disputed pairs", ("what the models say", "share", "95 % interval", "pairs"), tuple(rows), note
    )


def _with_people(agreement: Agreement) -> Table:
    rows = [
        (one_line(m.name), percent(m.people.share), interval(m.people), f"{m.people.total:,}", f"{m.unscored:,}")
        for m in agreement.one
    ]
    columns = ("model", "agrees", "95 % interval", "pairs", "without a score")
    note = "Pairs that every model scored, ties left out; reward is the dataset's own."
    return Table("Which reward model agrees with people?", columns, tuple(rows), note)


def groups(stats: Stats) -> Table:
    """The pairs by `--by`."""
    heads = [f"|gap| > {level(t.threshold)}" for t in stats.thresholds]
    columns = (one_line(stats.by or ""), "pairs", *heads, "ties", "gap < 0", "median |gap|")
    left_out = f"{stats.groups_left_out:,} smaller groups are not shown." if stats.groups_left_out else ""
    return Table(f"By {one_line(stats.by or '')}", columns, tuple(_group(group) for group in stats.groups), left_out)


def _group(group: Group) -> tuple[str, ...]:
    beyond = [percent(threshold.absolute.share) for threshold in group.thresholds]
    name = "none" if group.name is None else one_line(group.name)
    return (
        name,
        f"{group.pairs:,}",
        *beyond,
        percent(group.ties.share),
        percent(group.disagreement.share),
        number(group.median_gap),
    )
