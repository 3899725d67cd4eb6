"""Records as narrow numeric columns: what `stats` computes on.

One lazy pass reads the records batch by batch and keeps numbers only (about 14 bytes a response and 40 a pair, never a
text), so memory does not grow with the texts. Pairs come from labels: an order of m responses gives the m(m-1)/2 pairs
in which the earlier one was preferred.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from neat_data.analysis.agreement import Compared, compare
from neat_data.expressions import explained, grouping, inner, select
from neat_data.thought import MARKED, thought_of

_SCORE = "score "  # before the names of the models in the narrow frame


@dataclass(frozen=True, slots=True)
class Responses:
    """One entry a response: reward (float32, NaN where unscored), length in characters, codes into `Columns.names`.

    Attributes:
        thought: characters of its thought, -1 where it has none.
        unended: whether that thought never ends.
    """

    reward: np.ndarray
    chars: np.ndarray
    origin: np.ndarray
    polarity: np.ndarray
    round: np.ndarray
    thought: np.ndarray
    unended: np.ndarray


@dataclass(frozen=True, slots=True)
class Pairs:
    """One entry a pair with two rewards.

    Attributes:
        record: the record's number in the dataset, ascending; it stands for the query.
        label: the label's number, counted over the dataset.
        gap: reward of chosen minus reward of rejected, float64.
        longer: characters of chosen minus characters of rejected.
        chosen, rejected: positions in the record's list of responses.
        group: code into `Columns.names["group"]`, 0 where nothing was asked.
    """

    record: np.ndarray
    gap: np.ndarray
    longer: np.ndarray
    chosen: np.ndarray
    rejected: np.ndarray
    group: np.ndarray


@dataclass(frozen=True, slots=True)
class Verdicts:
    """One entry an unpaired label with a reward: the reward and what people said."""

    reward: np.ndarray
    verdict: np.ndarray


@dataclass(frozen=True, slots=True)
class Columns:
    """The whole dataset as numbers.

    Attributes:
        spread: best minus worst reward of every record with more than two scored responses.
        names: for `origin`, `polarity` and `group`, the text (or None) behind each code.
        counts: records, labels, repeated, truncated, unscored_pairs.
        compared: what several reward models say; None where that was not asked for.
    """

    responses: Responses
    pairs: Pairs
    verdicts: Verdicts
    spread: np.ndarray
    names: dict[str, list[str | None]]
    counts: dict[str, int]
    compared: Compared | None = None


@dataclass(slots=True)
class Codes:
    """Small integers for texts, the same over all batches."""

    known: dict[str | None, int] = field(default_factory=dict)

    def encode(self, texts: pa.Array) -> np.ndarray:
        """One code a text, int32; null is a text of its own."""
        words = texts.dictionary_encode(null_encoding="encode")
        table = [self.known.setdefault(word, len(self.known)) for word in words.dictionary.to_pylist()]
        return np.asarray(table, dtype=np.int32)[words.indices.to_numpy(zero_copy_only=False)]


def columns(
    records: pl.LazyFrame, *, by: str | None = None, where: str | None = None, models: Sequence[str] = ()
) -> Columns:
    """Read the records that `where` selects, in one streaming pass.

    Args:
        records: one row a record, in the shape of `record.SCHEMA`.
        by: one of `expressions.BY`; the group of every pair.
        where: a SQL expression over the record.
        models: fields of the column `scores` to compare.

    Raises:
        InputError: `by` or `where` cannot be understood.
    """
    codes = {name: Codes() for name in ("origin", "polarity", "group")}
    narrow = _narrow(select(records.with_row_index("record"), where), by, models)
    with explained(where):
        parts = [_batch(batch, codes) for batch in narrow.collect_batches(engine="streaming") if len(batch)]
    counts: dict[str, int] = dict.fromkeys(("records", "labels", "repeated", "truncated", "unscored_pairs"), 0)
    for part in parts:
        for name, count in part.counts.items():
            counts[name] += count
    return Columns(
        responses=_joined(Responses, [part.responses for part in parts]),
        pairs=_joined(Pairs, [part.pairs for part in parts]),
        verdicts=_joined(Verdicts, [part.verdicts for part in parts]),
        spread=np.concatenate([np.empty(0), *(part.spread for part in parts)]),
        names={name: list(code.known) for name, code in codes.items()},
        counts=counts,
        compared=_joined(Compared, [part.compared for part in parts]) if models else None,
    )


def _narrow(records: pl.LazyFrame, by: str | None, models: Sequence[str]) -> pl.LazyFrame:
    element = pl.element().struct
    text = element.field("text")
    return records.select(
        "record",
        reward=inner("responses", "reward"),
        chars=pl.col("responses").list.eval(text.str.len_chars()),
        origin=inner("responses", "origin"),
        polarity=inner("responses", "polarity"),
        round=inner("responses", "round"),
        thinking=pl.col("responses").list.eval(pl.when(text.str.contains(MARKED)).then(text)),
        truncated=inner("responses", "truncated"),
        # 64-bit hashes stand for ids (themselves 64 bits): they are compared inside one record only
        ids=pl.col("responses").list.eval(element.field("response_id").hash()),
        order=pl.col("labels").list.eval(element.field("order").list.eval(pl.element().hash())),
        verdict=inner("labels", "verdict"),
        **({} if by is None else {"group": grouping(by)}),
        **{f"{_SCORE}{name}": pl.col("scores").struct.field(name) for name in models},
    )


def _batch(batch: pl.DataFrame, codes: dict[str, Codes]) -> Columns:
    responses = Responses(
        reward=numbers(batch["reward"]),
        chars=numbers(batch["chars"]),
        origin=codes["origin"].encode(batch["origin"].to_arrow().flatten()),
        polarity=codes["polarity"].encode(batch["polarity"].to_arrow().flatten()),
        round=numbers(batch["round"]),
        **_thoughts(batch["thinking"].to_arrow().flatten()),
    )
    sizes = batch["reward"].list.len().to_numpy()
    labels = batch["order"].list.len().fill_null(0).to_numpy()
    owner = np.repeat(np.arange(len(batch)), labels)
    pairs, verdicts, unscored = _judged(batch, responses, sizes, owner, _groups(batch, owner, codes["group"]))
    counts = {
        "records": len(batch),
        "labels": int(labels.sum()),
        "repeated": int(np.maximum(labels.astype(np.int64) - 1, 0).sum()),
        "truncated": int(numbers(batch["truncated"]).sum()),
        "unscored_pairs": unscored,
    }
    compared = _compared(batch, sizes, pairs)
    return Columns(responses, pairs, verdicts, spreads(responses.reward, sizes), {}, counts, compared)


def _thoughts(texts: pa.Array) -> dict[str, np.ndarray]:
    """`thought` and `unended` of the texts that bear the mark of one; the others are null."""
    length, unended = np.full(len(texts), -1, dtype=np.int32), np.zeros(len(texts), dtype=bool)
    for place in np.flatnonzero(texts.is_valid().to_numpy(zero_copy_only=False)):
        if (thought := thought_of(texts[int(place)].as_py())) is not None:
            length[place], unended[place] = len(thought.text), not thought.ended
    return {"thought": length, "unended": unended}


def _compared(batch: pl.DataFrame, sizes: np.ndarray, pairs: Pairs) -> Compared | None:
    scores = [name for name in batch.columns if name.startswith(_SCORE)]
    if not scores:
        return None
    starts = np.cumsum(sizes, dtype=np.int64) - sizes
    offsets = starts[np.searchsorted(batch["record"].to_numpy(), pairs.record)]
    rewards = np.stack([numbers(batch[name]) for name in scores], axis=1)
    return compare(rewards, sizes, offsets + pairs.chosen, offsets + pairs.rejected)


def _groups(batch: pl.DataFrame, owner: np.ndarray, codes: Codes) -> np.ndarray:
    """The group of every label: its own, or its record's; 0 where none was asked for."""
    if "group" not in batch.columns:
        return np.zeros(len(owner), dtype=np.int32)
    group = batch["group"]
    return codes.encode(
        group.to_arrow().flatten() if isinstance(group.dtype, pl.List) else group.gather(owner).to_arrow()
    )


def _judged(
    batch: pl.DataFrame, responses: Responses, sizes: np.ndarray, owner: np.ndarray, group: np.ndarray
) -> tuple[Pairs, Verdicts, int]:
    orders = batch["order"].to_arrow().flatten()
    ends = orders.offsets.to_numpy().astype(np.int64)
    ends, lengths, ids = ends - ends[0], np.diff(ends), orders.flatten().to_numpy()
    starts = np.cumsum(sizes, dtype=np.int64) - sizes
    record = np.repeat(owner, lengths)
    place = positions(ids, starts[record], sizes[record], numbers(batch["ids"]))
    known = place >= 0
    indices = np.where(known, starts[record] + place, 0)
    reward = np.full(len(ids), np.nan)
    reward[known] = responses.reward[indices[known]]

    label, better, worse = ordered_pairs(lengths)
    better, worse = ends[label] + better, ends[label] + worse
    gap = reward[better] - reward[worse]
    scored = ~np.isnan(gap)
    label, better, worse = label[scored], better[scored], worse[scored]
    chars = responses.chars.astype(np.int64)
    pairs = Pairs(
        record=batch["record"].to_numpy()[owner[label]],
        gap=gap[scored],
        longer=(chars[indices[better]] - chars[indices[worse]]).astype(np.int32),
        chosen=place[better].astype(np.int32),
        rejected=place[worse].astype(np.int32),
        group=group[label],
    )
    single = np.flatnonzero((lengths == 1) & batch["verdict"].explode(empty_as_null=False).is_not_null().to_numpy())
    single = single[~np.isnan(reward[ends[single]])]
    said = batch["verdict"].explode(empty_as_null=False).gather(single).cast(pl.Boolean).to_numpy().astype(bool)
    return pairs, Verdicts(reward[ends[single]], said), int((~scored).sum())


def positions(wanted: np.ndarray, starts: np.ndarray, sizes: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Where in its record's responses each wanted id stands, -1 where it does not.

    Args:
        wanted: ids, one a mention in a label.
        starts: for each of them, where its record's responses begin in `ids`.
        sizes: for each of them, how many responses its record has.
        ids: the ids of all responses, record after record.
    """
    places = np.full(len(wanted), -1, dtype=np.int64)
    left = np.arange(len(wanted))
    step = 0
    while len(left := left[sizes[left] > step]):
        hit = ids[starts[left] + step] == wanted[left]
        places[left[hit]] = step
        left = left[~hit]
        step += 1
    return places


def ordered_pairs(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every (label, i, j) with i < j < lengths[label], by label: the pairs that an order of that length states."""
    label, better, worse = [], [], []
    for length in np.unique(lengths[lengths > 1]):
        these = np.flatnonzero(lengths == length)
        i, j = np.triu_indices(length, 1)
        label.append(np.repeat(these, len(i)))
        better.append(np.tile(i, len(these)))
        worse.append(np.tile(j, len(these)))
    if len(label) == 1:
        return label[0], better[0], worse[0]
    joined = [np.concatenate([np.empty(0, dtype=np.int64), *part]) for part in (label, better, worse)]
    order = np.argsort(joined[0], kind="stable")
    return joined[0][order], joined[1][order], joined[2][order]


def spreads(reward: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Best minus worst reward of every record with more than two scored responses, in record order."""
    record = np.repeat(np.arange(len(sizes)), sizes)[~np.isnan(reward)]
    reward = reward[~np.isnan(reward)].astype(np.float64)
    scored = np.bincount(record, minlength=len(sizes))
    starts = (np.cumsum(scored) - scored)[scored > 2]
    if not len(starts):
        return np.empty(0)
    keep = np.repeat(scored, scored) > 2
    sizes = scored[scored > 2]
    starts, reward = np.cumsum(sizes) - sizes, reward[keep]
    return np.maximum.reduceat(reward, starts) - np.minimum.reduceat(reward, starts)


def numbers(series: pl.Series) -> np.ndarray:
    """The values of a list column, one after the other, as numpy; nulls of a float column are NaN."""
    return np.asarray(series.to_arrow().flatten().to_numpy(zero_copy_only=False))


def _joined(kind: type, parts: list[Any]) -> Any:
    """The parts' arrays end to end; empty arrays where there are no parts."""

    def column(name: str) -> Iterable[np.ndarray]:
        return (getattr(part, name) for part in parts)

    return kind(**{f.name: np.concatenate([*column(f.name)]) if parts else np.empty(0) for f in fields(kind)})
