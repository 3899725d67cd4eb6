"""The figures of an evaluation, from its answers, rewards and log-probabilities: pure functions of a table.

Every interval is a 95 % one over queries; what is compared with the chosen responses is paired, query by query.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from neat_train.statistics import (
    FEW,
    RESAMPLES,
    Interval,
    mean_interval,
    paired_difference,
    perplexity_of,
    ratio_values,
    win_rate,
)

REWARD, CHOSEN = "reward/", "chosen/"  # columns, in front of a reward model's name
_CHUNK = 500  # resamples at a time, which bounds the memory
_WORD = re.compile(r"\w+|[^\w\s]")


def decodings(answers: pl.DataFrame, models: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The figures of every decoding, in the order of the table.

    Args:
        answers: one row an answer, as `evaluate.read_answers` gives it; a text is null where there was no answer.
        models: names of the reward models.
    """
    parts = {str(key[0]): part for key, part in answers.group_by("decoding", maintain_order=True)}
    found = {name: of_decoding(part, models) for name, part in parts.items()}
    if "negative" in parts and "sampled" in parts:
        for model, figures in found["negative"]["rewards"].items():
            figures["against_sampled"] = _against(parts["negative"], parts["sampled"], REWARD + model)
    return found


def of_decoding(rows: pl.DataFrame, models: Sequence[str]) -> dict[str, Any]:
    """The figures of one decoding; see `decodings`.

    Returns:
        `answers`, `unanswered`; `length` in tokens; shares `finished`, `empty`, `refusals` (also by query source, with
        several of them); `distinct`; `kl` where it was estimated; `rewards` by model.
    """
    given = rows.filter(pl.col("text").is_not_null())
    found: dict[str, Any] = {"answers": len(given), "unanswered": len(rows) - len(given)}
    found["length"] = _spread(given["tokens"].to_numpy())
    for share, column in (("finished", "finished"), ("empty", "empty"), ("refusals", "refusal")):
        found[share] = _mean(given[column])
    if given["source"].n_unique() > 1:
        found["refusals_by_source"] = _by_source(given, lambda part: {"value": _mean(part["refusal"])})
    found["distinct"] = distinct(given["text"].to_list())
    kl = given.filter(pl.col("kl").is_not_null())
    if len(kl):
        found["kl"] = kl_figures(kl["kl"].to_numpy(), kl["tokens"].to_numpy())
    found["rewards"] = {model: of_rewards(given, model) for model in models}
    return found


def of_rewards(given: pl.DataFrame, model: str) -> dict[str, Any]:
    """How one reward model sees the answers, and beside them the chosen responses to the same queries.

    Returns:
        `mean`, over `scored` answers (`unscored`: those that the model refused); `chosen`, `difference` and `win_rate`
        over the queries where both have a reward, else None; `length_correlation`: Spearman's rho of reward and
        tokens, None where one of them never changes; `by_source`: the mean by query source.
    """
    scored = given.filter(pl.col(REWARD + model).is_not_null())
    rewards = scored[REWARD + model].to_numpy()
    both = scored.filter(pl.col(CHOSEN + model).is_not_null())
    return {
        "mean": mean(rewards),
        "scored": len(scored),
        "unscored": len(given) - len(scored),
        **_beside_chosen(both[REWARD + model].to_numpy(), both[CHOSEN + model].to_numpy()),
        "length_correlation": rank_correlation(rewards, scored["tokens"].to_numpy()),
        "by_source": _by_source(scored, lambda part: mean(part[REWARD + model].to_numpy())),
    }


def _beside_chosen(rewards: np.ndarray, chosen: np.ndarray) -> dict[str, Any]:
    if not len(rewards):
        return {"chosen": None, "difference": None, "win_rate": None}
    wins, losses = int((rewards > chosen).sum()), int((rewards < chosen).sum())
    ties = len(rewards) - wins - losses
    rate = {**win_rate(wins, losses, ties).to_dict(), "wins": wins, "losses": losses, "ties": ties}
    return {"chosen": mean(chosen), "difference": difference(rewards, chosen), "win_rate": rate}


def difference(a: np.ndarray, b: np.ndarray) -> dict[str, float | None]:
    """The mean of a - b on the same queries, its interval, and the p of none."""
    found = paired_difference(a, b)
    if found is None:
        return {**mean(a - b), "p": None}
    return {**found[0].to_dict(), "p": found[1]}


def _against(rows: pl.DataFrame, other: pl.DataFrame, column: str) -> dict[str, Any] | None:
    """The difference of one column to another decoding's, on the queries where both have it."""
    both = rows.select("query_id", a=column).join(other.select("query_id", b=column), on="query_id").drop_nulls()
    return difference(both["a"].to_numpy(), both["b"].to_numpy()) if len(both) else None


def mean(values: np.ndarray) -> dict[str, float | None]:
    """The mean and the ends of its interval, which are None below two values, as the mean is without any."""
    found = mean_interval(values)
    if found is not None:
        return dict(found.to_dict())
    return {"value": float(values[0]) if len(values) else None, "low": None, "high": None}


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


def _distinct(texts: Sequence[Sequence[str]], n: int) -> float | None:
    grams = [tuple(words[at : at + n]) for words in texts for at in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None


def kl_figures(sums: np.ndarray, tokens: np.ndarray) -> dict[str, dict[str, float | None]]:
    """KL divergence from the starting policy, estimated on the policy's own samples at temperature 1.

    The estimate of a response is the sum over its tokens of log p - log p_start, each given the query (under the
    prompt, if any) and the tokens before: unbiased, since p drew them, if noisy; single responses may be negative.

    Args:
        sums: (responses,) nats.
        tokens: (responses,) sampled tokens, the end of turn included.

    Returns:
        `per_response`, the mean of these sums, and `per_token`, their total over the total of tokens.
    """
    return {"per_token": ratio(sums, tokens), "per_response": mean(sums)}


def perplexity(nll: np.ndarray, tokens: np.ndarray) -> dict[str, Any] | None:
    """Of a corpus: exp(total negative log-likelihood / total tokens), and quantiles over its records.

    Args:
        nll: (records,) summed over a response's tokens, the end of turn included.
        tokens: (records,)
    """
    if not len(nll):
        return None
    whole = {name: None if value is None else perplexity_of(value) for name, value in ratio(nll, tokens).items()}
    low, middle, high = (perplexity_of(value) for value in np.quantile(nll / tokens, (0.1, 0.5, 0.9)))
    return {
        **whole,
        "tokens": int(tokens.sum()),
        "responses": len(nll),
        "per_record": {"p10": low, "median": middle, "p90": high},
    }


def ratio(sums: np.ndarray, counts: np.ndarray) -> dict[str, float | None]:
    """A total over a total, with the interval over the (n,) that both were summed from.

    It is the percentile bootstrap's, below `statistics.FEW` that of a mean of so few values.
    """
    value, n = float(sums.sum() / counts.sum()), len(sums)
    if n < FEW:
        return {**mean(ratio_values(sums, counts)), "value": value}
    draws = np.random.default_rng(0)
    table = np.stack([sums, counts], axis=1).astype(np.float64)  # (n, 2)
    totals = [draws.multinomial(n, np.full(n, 1 / n), _CHUNK) @ table for _ in range(RESAMPLES // _CHUNK)]
    resampled = np.concatenate(totals)  # (resamples, 2)
    low, high = np.quantile(resampled[:, 0] / resampled[:, 1], (0.025, 0.975))
    return dict(Interval(value, float(low), float(high)).to_dict())


def _spread(tokens: np.ndarray) -> dict[str, float | None]:
    if not len(tokens):
        return dict.fromkeys(("mean", "p10", "median", "p90"))
    low, middle, high = np.quantile(tokens, (0.1, 0.5, 0.9))
    return {"mean": float(tokens.mean()), "p10": float(low), "median": float(middle), "p90": float(high)}


def _mean(values: pl.Series) -> float | None:
    return float(values.cast(pl.Float64).to_numpy().mean()) if len(values) else None


def _by_source(rows: pl.DataFrame, figure: Callable[[pl.DataFrame], dict[str, Any]]) -> dict[str, dict[str, Any]]:
    parts = rows.group_by("source", maintain_order=True)
    return {str(key[0]): {**figure(part), "n": len(part)} for key, part in parts}
