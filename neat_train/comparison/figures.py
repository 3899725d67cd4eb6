"""The figures of an arm from the evaluations of its seeds.

Names: `perplexity`, `kl_per_token`, `kl_per_response`; for DECODING in greedy, sampled and negative
`DECODING/length`, `/finished`, `/empty`, `/refusals`, `/distinct-N`, and for each reward model
`DECODING/reward/MODEL`; `sampled/difference/MODEL` and `sampled/win_rate/MODEL` against the chosen response, and
`negative/against_sampled/MODEL`, reward of the negative answer minus that of the sampled one to the same query.
A figure that not every seed has is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import polars as pl

from neat_train import statistics
from neat_train.comparison.evaluation import DECODINGS, Evaluation
from neat_train.comparison.result import Figure
from neat_train.evaluation.figures import CHOSEN, REWARD
from neat_train.statistics import ratio_values

Values = Sequence[np.ndarray]
"""One array (queries,) a seed, the same queries in the same order."""
_COLUMNS = {"length": "tokens", "finished": "finished", "empty": "empty", "refusals": "refusal"}


def perplexity_values(nll: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """As `statistics.ratio_values`, for exp(sum(nll) / sum(tokens)), both (responses,)."""
    perplexity = np.exp(nll.sum() / tokens.sum())
    return perplexity * (1 + statistics.ratio_values(nll, tokens) - np.log(perplexity))


def mean_of_seeds(values: Values) -> Figure:
    """The mean over seeds of the means over queries, with its interval where there are two queries."""
    interval = statistics.two_level(values) if len(values) > 1 else statistics.mean_interval(values[0])
    if interval is None:
        return Figure(float(np.mean([seed.mean() for seed in values])))
    return Figure(interval.value, interval.low, interval.high)


def difference(better: Values, worse: Values) -> tuple[Figure, float] | None:
    """Of means, better minus worse, with the p of no difference; None where that cannot be told: below two queries."""
    if len(better) == len(worse) == 1:
        paired = statistics.paired_difference(better[0], worse[0])
    else:
        paired = statistics.two_level_difference(better, worse)
    return None if paired is None else (Figure(paired[0].value, paired[0].low, paired[0].high), paired[1])


def detectable(better: Values, worse: Values, level: float) -> float | None:
    """The smallest difference that a test at this level would find; None as of `difference`."""
    if len(better) > 1 or len(worse) > 1:
        return statistics.detectable_two_level(better, worse, level=level)
    if len(better[0]) < 2:
        return None
    return statistics.detectable(float((better[0] - worse[0]).std(ddof=1)), len(better[0]), level=level)


def win_rate(scores: Values) -> Figure:
    """Of scores 1, 0.5 and 0 for a win, a tie and a loss."""
    if len(scores) > 1:
        return mean_of_seeds(scores)
    wins, losses = int((scores[0] == 1).sum()), int((scores[0] == 0).sum())
    interval = statistics.win_rate(wins, losses, len(scores[0]) - wins - losses)
    return Figure(interval.value, interval.low, interval.high)


def of(evaluations: Sequence[Evaluation]) -> dict[str, Figure]:
    """All figures that every one of these evaluations has."""
    named = _estimates(evaluations) if evaluations else ()
    return {name: figure for name, figure in named if figure is not None}


def _estimates(evaluations: Sequence[Evaluation]) -> Iterator[tuple[str, Figure | None]]:
    yield "perplexity", _perplexity(evaluations)
    yield "kl_per_response", _mean(evaluations, partial(column, decoding="sampled", name="kl"))
    yield "kl_per_token", _mean(evaluations, kl_per_token)
    models = tuple(dict.fromkeys(model for each in evaluations for model in each.reward_models))
    for decoding in DECODINGS:
        for name, held in _COLUMNS.items():
            yield f"{decoding}/{name}", _plain(evaluations, partial(column, decoding=decoding, name=held))
        for size in ("1", "2", "3"):
            yield f"{decoding}/distinct-{size}", _distinct(evaluations, decoding, size)
        for model in models:
            yield f"{decoding}/reward/{model}", _mean(evaluations, partial(reward, decoding=decoding, model=model))
    for model in models:
        above = _all(evaluations, partial(against_chosen, decoding="sampled", model=model)) or []
        yield f"negative/against_sampled/{model}", _mean(evaluations, partial(against_sampled, model=model))
        yield f"sampled/difference/{model}", mean_of_seeds(above) if above else None
        yield f"sampled/win_rate/{model}", win_rate([(np.sign(each) + 1) / 2 for each in above]) if above else None


def unscored(evaluations: Sequence[Evaluation]) -> dict[str, tuple[int, int]]:
    """How many answers at temperature 1 have no reward, and how many there are; by reward model, where some have none.

    A model that did not score all of these evaluations has no figure at all, and is left out.
    """
    counts = {}
    for model in dict.fromkeys(model for each in evaluations for model in each.reward_models):
        if all(model in each.reward_models for each in evaluations):
            rewards = [_sampled(each, f"{REWARD}{model}") for each in evaluations]
            counts[model] = (sum(each.null_count() for each in rewards), sum(map(len, rewards)))
    return {model: (lacking, count) for model, (lacking, count) in counts.items() if lacking}


def _sampled(evaluation: Evaluation, name: str) -> pl.Series:
    return evaluation.answers.filter(pl.col("decoding") == "sampled")[name]


def perplexity(evaluation: Evaluation) -> pl.DataFrame | None:
    """query_id and value, whose mean is the corpus perplexity of the chosen responses."""
    return _of_records(evaluation, perplexity_values)


def loss(evaluation: Evaluation) -> pl.DataFrame | None:
    """query_id and value, whose mean is the logarithm of the perplexity: nats a token."""
    return _of_records(evaluation, ratio_values)


def _of_records(evaluation: Evaluation, read: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> pl.DataFrame | None:
    if evaluation.records.is_empty():
        return None
    sums = evaluation.records.group_by("query_id").agg(pl.col("nll", "tokens").sum()).sort("query_id")
    values = read(sums["nll"].to_numpy(), sums["tokens"].to_numpy())
    return sums.select("query_id", value=pl.Series(values))


def kl_per_token(evaluation: Evaluation) -> pl.DataFrame | None:
    """query_id and value, whose mean is the sum of KL over the sum of tokens."""
    rows = evaluation.answered("sampled")
    if "kl" not in rows.columns or (rows := rows.drop_nulls("kl")).is_empty() or not rows["tokens"].sum():
        return None
    values = ratio_values(rows["kl"].to_numpy(), rows["tokens"].to_numpy())
    return rows.select("query_id", value=pl.Series(values))


def column(evaluation: Evaluation, decoding: str, name: str) -> pl.DataFrame | None:
    """query_id and value of a column of the answers; None where it holds nothing."""
    rows = evaluation.answered(decoding)
    if name not in rows.columns:
        return None
    rows = rows.select("query_id", value=pl.col(name)).drop_nulls()
    return None if rows.is_empty() else rows


def reward(evaluation: Evaluation, decoding: str, model: str) -> pl.DataFrame | None:
    """query_id and value: the reward of each answer."""
    return column(evaluation, decoding, f"{REWARD}{model}")


def against_chosen(evaluation: Evaluation, decoding: str, model: str) -> pl.DataFrame | None:
    """query_id and value: reward of the answer minus reward of the chosen response."""
    rows = evaluation.answered(decoding)
    if not {f"{REWARD}{model}", f"{CHOSEN}{model}"} <= set(rows.columns):
        return None
    difference = pl.col(f"{REWARD}{model}") - pl.col(f"{CHOSEN}{model}")
    rows = rows.select("query_id", value=difference).drop_nulls()
    return None if rows.is_empty() else rows


def against_sampled(evaluation: Evaluation, model: str) -> pl.DataFrame | None:
    """query_id and value: reward of the answer under the negative prompt minus that of the sampled one."""
    negative, sampled = (reward(evaluation, decoding, model) for decoding in ("negative", "sampled"))
    if negative is None or sampled is None:
        return None
    both = negative.join(sampled, on="query_id", suffix="_sampled", maintain_order="left")
    return None if both.is_empty() else both.select("query_id", value=pl.col("value") - pl.col("value_sampled"))


Read = Callable[[Evaluation], pl.DataFrame | None]


def aligned(groups: Sequence[Sequence[Evaluation]], read: Read) -> list[list[np.ndarray]] | None:
    """The values of each evaluation of each group, on the queries that all of them have, in one order.

    None where one evaluation has no such values, or they share no query.
    """
    frames = [[read(evaluation) for evaluation in group] for group in groups]
    present = [frame for group in frames for frame in group if frame is not None]
    if not present or len(present) < sum(map(len, frames)):
        return None
    shared = set.intersection(*(set(frame["query_id"]) for frame in present))
    if not shared:
        return None
    kept = pl.col("query_id").is_in(sorted(shared))
    return [[frame.filter(kept)["value"].to_numpy() for frame in group if frame is not None] for group in frames]


def _all(evaluations: Sequence[Evaluation], read: Read) -> list[np.ndarray] | None:
    values = aligned([evaluations], read)
    return None if values is None else values[0]


def _mean(evaluations: Sequence[Evaluation], read: Read) -> Figure | None:
    values = _all(evaluations, read)
    return None if values is None else mean_of_seeds(values)


def _perplexity(evaluations: Sequence[Evaluation]) -> Figure | None:
    """The mean over seeds; the ends come from its logarithm, which is less skewed."""
    mean, logarithm = _mean(evaluations, perplexity), _mean(evaluations, loss)
    if mean is None or logarithm is None or logarithm.low is None or logarithm.high is None:
        return mean
    low, high = (float(mean.value * np.exp(end - logarithm.value)) for end in (logarithm.low, logarithm.high))
    return Figure(mean.value, low, high)


def _plain(evaluations: Sequence[Evaluation], read: Read) -> Figure | None:
    """Without an interval."""
    values = _all(evaluations, read)
    return None if values is None else Figure(float(np.mean([seed.mean() for seed in values])))


def _distinct(evaluations: Sequence[Evaluation], decoding: str, size: str) -> Figure | None:
    """A share over all answers together, so the mean over seeds has no interval over queries."""
    measured = [
        evaluation.result.decodings[decoding] for evaluation in evaluations if decoding in evaluation.result.decodings
    ]
    shares = [share for figures in measured if (share := figures.distinct.get(size)) is not None]
    return Figure(float(np.mean(shares))) if len(shares) == len(evaluations) else None
