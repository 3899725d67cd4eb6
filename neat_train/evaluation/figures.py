"""The figures of an evaluation, from its answers, rewards and log-probabilities: pure functions of a table.

Every interval is a 95 % one over queries; what is compared with the chosen responses is paired, query by query.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
import polars as pl
from scipy import stats

from neat_data.plain import parts
from neat_data.thought import thought_of
from neat_train.evaluation.result import (
    KL,
    DecodingFigures,
    Difference,
    Estimate,
    Length,
    NegativeRewardFigures,
    Perplexity,
    Quantiles,
    RewardFigures,
    SourceEstimate,
    SourceShare,
    ThoughtFigures,
    WinRate,
)
from neat_train.statistics import (
    FEW,
    RESAMPLES,
    mean_interval,
    paired_difference,
    perplexity_of,
    ratio_values,
    win_rate,
)

REWARD, CHOSEN = "reward/", "chosen/"  # columns, in front of a reward model's name
_CHUNK = 500  # resamples at a time, which bounds the memory
T = TypeVar("T")
_WORD = re.compile(r"\w+|[^\w\s]")


def decodings(answers: pl.DataFrame, models: Sequence[str]) -> dict[str, DecodingFigures]:
    """The figures of every decoding, in the order of the table.

    Args:
        answers: one row an answer, as `evaluate.read_answers` gives it; a text is null where there was no answer.
        models: names of the reward models.
    """
    parts = {str(key[0]): part for key, part in answers.group_by("decoding", maintain_order=True)}
    by_name = {name: of_decoding(part, models) for name, part in parts.items()}
    if "negative" in parts and "sampled" in parts:
        against = {model: _against(parts["negative"], parts["sampled"], REWARD + model) for model in models}
        rewards = {model: _negative(own, against[model]) for model, own in by_name["negative"].rewards.items()}
        by_name["negative"] = replace(by_name["negative"], rewards=rewards)
    return by_name


def _negative(rewards: RewardFigures, against: Difference | None) -> NegativeRewardFigures:
    return NegativeRewardFigures(**parts(rewards), against_sampled=against)


def of_decoding(rows: pl.DataFrame, models: Sequence[str]) -> DecodingFigures:
    """The figures of one decoding; see `decodings`."""
    given = rows.filter(pl.col("text").is_not_null())
    kl = given.filter(pl.col("kl").is_not_null())
    several = given["source"].n_unique() > 1
    return DecodingFigures(
        answers=len(given),
        unanswered=len(rows) - len(given),
        length=_length(given["tokens"].to_numpy()),
        finished=_mean(given["finished"]),
        empty=_mean(given["empty"]),
        refusals=_mean(given["refusal"]),
        refusals_by_source=_by_source(given, _refusals) if several else None,
        thoughts=thoughts(given["text"].to_list()),
        distinct=distinct(given["text"].to_list()),
        kl=kl_figures(kl["kl"].to_numpy(), kl["tokens"].to_numpy()) if len(kl) else None,
        rewards={model: of_rewards(given, model) for model in models},
    )


def _refusals(rows: pl.DataFrame) -> SourceShare:
    return SourceShare(_mean(rows["refusal"]), len(rows))


def of_rewards(given: pl.DataFrame, model: str) -> RewardFigures:
    """How one reward model sees the answers, and beside them the chosen responses to the same queries."""
    scored = given.filter(pl.col(REWARD + model).is_not_null())
    rewards = scored[REWARD + model].to_numpy()
    both = scored.filter(pl.col(CHOSEN + model).is_not_null())
    answers, chosen = both[REWARD + model].to_numpy(), both[CHOSEN + model].to_numpy()
    return RewardFigures(
        mean=mean(rewards),
        scored=len(scored),
        unscored=len(given) - len(scored),
        chosen=mean(chosen) if len(both) else None,
        difference=difference(answers, chosen) if len(both) else None,
        win_rate=_win_rate(answers, chosen) if len(both) else None,
        length_correlation=rank_correlation(rewards, scored["tokens"].to_numpy()),
        by_source=_by_source(scored, partial(_source_mean, column=REWARD + model)),
    )


def _win_rate(rewards: np.ndarray, chosen: np.ndarray) -> WinRate:
    wins, losses = int((rewards > chosen).sum()), int((rewards < chosen).sum())
    ties = len(rewards) - wins - losses
    rate = win_rate(wins, losses, ties)
    return WinRate(rate.value, rate.low, rate.high, wins, losses, ties)


def _source_mean(rows: pl.DataFrame, column: str) -> SourceEstimate:
    estimate = mean(rows[column].to_numpy())
    return SourceEstimate(estimate.value, estimate.low, estimate.high, len(rows))


def difference(a: np.ndarray, b: np.ndarray) -> Difference:
    """The mean of a - b on the same queries, its interval, and the p of none."""
    paired = paired_difference(a, b)
    if paired is None:
        return Difference(mean(a - b).value)
    interval, p = paired
    return Difference(interval.value, interval.low, interval.high, p)


def _against(rows: pl.DataFrame, other: pl.DataFrame, column: str) -> Difference | None:
    """The difference of one column to another decoding's, on the queries where both have it."""
    both = rows.select("query_id", a=column).join(other.select("query_id", b=column), on="query_id").drop_nulls()
    return difference(both["a"].to_numpy(), both["b"].to_numpy()) if len(both) else None


def mean(values: np.ndarray) -> Estimate:
    """The mean and the ends of its interval, which are None below two values, as the mean is without any."""
    interval = mean_interval(values)
    if interval is not None:
        return Estimate(interval.value, interval.low, interval.high)
    return Estimate(float(values[0]) if len(values) else None)


def rank_correlation(rewards: np.ndarray, lengths: np.ndarray) -> float | None:
    """Spearman's rho; None where it is not defined."""
    if len(rewards) < 3 or np.ptp(rewards) == 0 or np.ptp(lengths) == 0:
        return None
    return float(stats.spearmanr(rewards, lengths).statistic)


def distinct(texts: Sequence[str]) -> dict[str, float | None]:
    """Distinct n-grams among all n-grams of the texts (Li et al. 2016, arXiv 1510.03055), n from 1 to 3.

    Words and punctuation marks, in lower case, whatever the tokenizer. The more text, the lower: compare answers of
    like length.

    >>> distinct(["A cat, a cat"])
    {'1': 0.6, '2': 0.75, '3': 1.0}
    """
    words = [_WORD.findall(text.lower()) for text in texts]
    return {str(n): _distinct(words, n) for n in (1, 2, 3)}


def thoughts(texts: Sequence[str]) -> ThoughtFigures | None:
    """How often answers begin with a thought, and what becomes of it; None where none does.

    >>> thoughts(["<think>Hm.</think> Yes", "<think>Well", "No", "Yes"])
    ThoughtFigures(share=0.5, unended=0.5, characters=3.5)
    """
    given = [thought for text in texts if (thought := thought_of(text)) is not None]
    if not given:
        return None
    unended = sum(not thought.ended for thought in given) / len(given)
    return ThoughtFigures(len(given) / len(texts), unended, float(np.median([len(each.text) for each in given])))


def _distinct(texts: Sequence[Sequence[str]], n: int) -> float | None:
    grams = [tuple(words[start : start + n]) for words in texts for start in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None


def kl_figures(sums: np.ndarray, tokens: np.ndarray) -> KL:
    """KL divergence from the starting policy, estimated on the policy's own samples at temperature 1.

    The estimate of a response is the sum over its tokens of log p - log p_start, each given the query (under the
    prompt, if any) and the tokens before: unbiased, since p drew them, if noisy; single responses may be negative.

    Args:
        sums: (responses,) nats.
        tokens: (responses,) sampled tokens, the end of turn included.

    Returns:
        `per_response`, the mean of these sums, and `per_token`, their total over the total of tokens.
    """
    return KL(per_token=ratio(sums, tokens), per_response=mean(sums))


def perplexity(nll: np.ndarray, tokens: np.ndarray, cut: Mapping[str, int] | None = None) -> Perplexity | None:
    """Of a corpus: exp(total negative log-likelihood / total tokens), and quantiles over its records.

    Args:
        nll: (records,) summed over a response's tokens, the end of turn included.
        tokens: (records,)
        cut: what was cut or left out, by reason.
    """
    if not len(nll):
        return None
    loss = ratio(nll, tokens)
    value, low, high = (None if nats is None else perplexity_of(nats) for nats in (loss.value, loss.low, loss.high))
    return Perplexity(
        value=value,
        low=low,
        high=high,
        tokens=int(tokens.sum()),
        responses=len(nll),
        per_record=Quantiles(*(perplexity_of(nats) for nats in np.quantile(nll / tokens, (0.1, 0.5, 0.9)))),
        cut=dict(cut or {}),
    )


def ratio(sums: np.ndarray, counts: np.ndarray) -> Estimate:
    """A total over a total, with the interval over the (n,) that both were summed from.

    It is the percentile bootstrap's, below `statistics.FEW` that of a mean of so few values.
    """
    value, n = float(sums.sum() / counts.sum()), len(sums)
    if n < FEW:
        return replace(mean(ratio_values(sums, counts)), value=value)
    draws = np.random.default_rng(0)
    table = np.stack([sums, counts], axis=1).astype(np.float64)  # (n, 2)
    totals = [draws.multinomial(n, np.full(n, 1 / n), _CHUNK) @ table for _ in range(RESAMPLES // _CHUNK)]
    resampled = np.concatenate(totals)  # (resamples, 2)
    low, high = np.quantile(resampled[:, 0] / resampled[:, 1], (0.025, 0.975))
    return Estimate(value, float(low), float(high))


def _length(tokens: np.ndarray) -> Length:
    if not len(tokens):
        return Length()
    return Length(float(tokens.mean()), *(float(value) for value in np.quantile(tokens, (0.1, 0.5, 0.9))))


def _mean(values: pl.Series) -> float | None:
    return float(values.cast(pl.Float64).to_numpy().mean()) if len(values) else None


def _by_source(rows: pl.DataFrame, figure: Callable[[pl.DataFrame], T]) -> dict[str, T]:
    return {str(key[0]): figure(part) for key, part in rows.group_by("source", maintain_order=True)}
