"""One base shard joined with what later rounds added to its queries: Arrow tables in, a table of records out.

Everything runs on whole columns, so that a reader of many rounds, of reviewed data or of another ranking is not held up
by one Python object a response. The ranking is that of `record.ranked`, the labels' rule that of `labels_over`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from neat_data.record import RESPONSE, SCHEMA


@dataclass(frozen=True)
class Answers:
    """The responses to a base shard's queries, those of the base first, then round after round.

    Attributes:
        responses: structs of `record.RESPONSE`.
        record: the row of the base shard that each answers; -1 where there is none.
    """

    responses: pa.StructArray
    record: np.ndarray

    def column(self, name: str) -> pa.Array:
        """One field of every response."""
        return self.responses.field(name)

    @property
    def rewards(self) -> np.ndarray:
        """float32, NaN where unscored."""
        return as_rewards(self.column("reward"))


def as_rewards(column: pa.Array) -> np.ndarray:
    """float32 as numpy, nulls as NaN."""
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float32)


def from_rewards(rewards: np.ndarray) -> pa.Array:
    """The inverse of `as_rewards`."""
    return pa.array(rewards, pa.float32(), mask=np.isnan(rewards))


def answers(base: pa.Table, added: Sequence[pa.Table]) -> Answers:
    """Join a base shard with the shards of the same number of later rounds, on `query_id`."""
    queries = base["query_id"].combine_chunks()
    records = [np.repeat(np.arange(len(base)), _lengths(base))]
    for table in added:
        row = pc.index_in(table["query_id"].combine_chunks(), value_set=queries).fill_null(-1).to_numpy()
        records.append(np.repeat(row, _lengths(table)))
    responses = [flat_responses(table) for table in (base, *added)]
    return Answers(pa.concat_arrays(responses) if added else responses[0], np.concatenate(records))


def flat_responses(table: pa.Table) -> pa.StructArray:
    """The responses of a shard, one record's after the other's."""
    return table["responses"].combine_chunks().flatten()


def records_of(
    base: pa.Table,
    answers: Answers,
    keep: np.ndarray,
    *,
    reward: np.ndarray | None = None,
    scores: Mapping[str, np.ndarray] | None = None,
) -> pa.Table:
    """The records with the responses that are kept, best first; a record that keeps none is left out.

    Args:
        base: the base shard.
        answers: every response of that shard, of whatever round.
        keep: bool, one a response of `answers`.
        reward: float32, one a response, to rank by and to show instead of the stored one; NaN is not kept.
        scores: rewards of several models, one a response each, for the column `scores` (see `with_scores`).
    """
    keep = keep & (answers.record >= 0)
    if reward is not None:
        keep &= ~np.isnan(reward)
    order = np.flatnonzero(keep)
    order = order[_ranking(answers, order, answers.rewards if reward is None else reward)]
    rows, sizes = np.unique(answers.record[order], return_counts=True)
    responses = answers.responses.take(pa.array(order))
    if reward is not None:
        responses = _with_rewards(responses, reward[order])
    labels = labels_over(base["labels"].combine_chunks().take(pa.array(rows)), responses.field("response_id"))
    table = base.take(pa.array(rows)).select(["query_id", "messages", "meta"])
    columns = {
        **{name: table[name] for name in table.column_names},
        "responses": pa.ListArray.from_arrays(_offsets(sizes), responses),
        "labels": labels,
    }
    made = pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)
    return made if scores is None else with_scores(made, {name: values[order] for name, values in scores.items()})


def with_scores(records: pa.Table, scores: Mapping[str, np.ndarray]) -> pa.Table:
    """`records` with a column `scores`: a struct of one list of float32 a model, in the order of `responses`.

    Args:
        scores: one float32 a response of `records`, NaN (null in the column) where the model gave none.
    """
    offsets = _offsets(_lengths(records))
    lists = [pa.ListArray.from_arrays(offsets, from_rewards(values)) for values in scores.values()]
    return records.append_column("scores", pa.StructArray.from_arrays(lists, list(scores)))


def labels_over(labels: pa.ListArray, kept: pa.Array) -> pa.ListArray:
    """Labels that forget the responses which are not `kept`, and go when fewer than two are left to put in order.

    Args:
        labels: one list a record.
        kept: ids of responses.
    """
    said = labels.flatten()
    order = said.field("order")
    mentions, lengths = order.flatten(), pc.list_value_length(order).to_numpy()
    known = pc.is_in(mentions, value_set=kept).to_numpy(zero_copy_only=False)
    if known.all():
        return labels
    owner = np.repeat(np.arange(len(said)), lengths)
    left = np.bincount(owner[known], minlength=len(said))
    stays = (left == lengths) | (left >= 2)
    mentions = mentions.filter(pa.array(known & stays[owner]))
    orders = pa.ListArray.from_arrays(_offsets(left[stays]), mentions)
    remaining = said.filter(pa.array(stays))
    fields = [orders if f.name == "order" else remaining.field(f.name) for f in remaining.type]
    sizes = pc.list_value_length(labels).fill_null(0).to_numpy()
    counts = np.bincount(np.repeat(np.arange(len(labels)), sizes)[stays], minlength=len(labels))
    return pa.ListArray.from_arrays(_offsets(counts), pa.StructArray.from_arrays(fields, fields=list(remaining.type)))


def _ranking(answers: Answers, these: np.ndarray, reward: np.ndarray) -> np.ndarray:
    """How `record.ranked` puts the responses numbered `these` in order, record after record."""
    of, value = answers.record[these], reward[these]
    round = answers.column("round").to_numpy()[these]
    tie = np.zeros(len(these), dtype=np.int64)
    if round.any():  # ids break ties of later rounds only
        ids = answers.column("response_id").take(pa.array(these))
        tie = np.where(round == 0, 0, pc.rank(ids, tiebreaker="dense").to_numpy().astype(np.int64))
    unscored = np.isnan(value)
    return np.lexsort((tie, round, np.where(unscored, 0, -value), unscored, of))


def _with_rewards(responses: pa.StructArray, reward: np.ndarray) -> pa.StructArray:
    column = pa.array(reward, pa.float32())
    fields = [column if f.name == "reward" else responses.field(f.name) for f in RESPONSE]
    return pa.StructArray.from_arrays(fields, fields=list(RESPONSE))


def _lengths(table: pa.Table) -> np.ndarray:
    return pc.list_value_length(table["responses"].combine_chunks()).fill_null(0).to_numpy()


def _offsets(sizes: np.ndarray) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(sizes)]), pa.int32())
