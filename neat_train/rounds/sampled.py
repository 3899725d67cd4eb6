"""The responses that a run has sampled so far, by their query, and which of a record's training uses.

An index in memory over shards that stay mapped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from neat_data.record import Polarity, Response
from neat_data.store.join import flat_responses


def kept(
    responses: Sequence[Response], keep: Literal["newest", "all"], age: Callable[[Response], Any]
) -> tuple[Response, ...]:
    """The responses that training uses, in their order.

    `newest` takes what came with the dataset (round 0, and what others gave later), and of the samples of each polarity
    those that were drawn last, together; samples under plain prompts count as a polarity of their own. So a record of k
    responses is trained with k + 2 (NEAT, section 3.3).

    Args:
        age: of a sampled response: larger for a later draw, equal for samples that were drawn together.
    """
    if keep == "all":
        return tuple(responses)
    newest: dict[Polarity | None, Any] = {}
    for response in filter(_drawn, responses):
        drawn = age(response)
        newest[response.polarity] = max(newest.get(response.polarity, drawn), drawn)
    return tuple(r for r in responses if not _drawn(r) or age(r) == newest[r.polarity])


def _drawn(response: Response) -> bool:
    return response.round > 0 and response.origin == "sampled"


@dataclass(frozen=True, slots=True)
class Sampled:
    """Responses, each with the number of the block that it was drawn in."""

    _shards: list[pa.StructArray] = field(default_factory=list)
    _places: dict[str, list[tuple[int, int, int]]] = field(default_factory=dict)  # block, shard, row

    def of(self, query: str) -> list[tuple[int, Response]]:
        """The responses to a query with their blocks, oldest block first."""
        return [(block, self._response(shard, row)) for block, shard, row in sorted(self._places.get(query, ()))]

    def add_block(self, number: int, table: pa.Table) -> None:
        """Those of a block's candidates that joined.

        Args:
            table: as `block_files` stores it; rewards stand beside the responses there.
        """
        joined = pc.is_null(table["dropped"]).combine_chunks()
        kept = table.filter(joined)
        responses = kept["response"].combine_chunks()
        fields = [
            kept["reward"].combine_chunks() if f.name == "reward" else responses.field(f.name) for f in responses.type
        ]
        self._add(
            kept["query_id"].to_pylist(),
            [number] * len(kept),
            pa.StructArray.from_arrays(fields, fields=list(responses.type)),
        )

    def add_shard(self, table: pa.Table, block_of: dict[int, int]) -> None:
        """All of a shard of a round.

        Args:
            block_of: the block that each seed was drawn in.
        """
        responses = flat_responses(table)
        lengths = pc.list_value_length(table["responses"].combine_chunks()).to_pylist()
        queries = [
            query for query, count in zip(table["query_id"].to_pylist(), lengths, strict=True) for _ in range(count)
        ]
        self._add(queries, [block_of[seed] for seed in responses.field("seed").to_pylist()], responses)

    def _add(self, queries: Sequence[str], blocks: Iterable[int], responses: pa.StructArray) -> None:
        shard = len(self._shards)
        self._shards.append(responses)
        for row, (query, block) in enumerate(zip(queries, blocks, strict=True)):
            self._places.setdefault(query, []).append((block, shard, row))

    def _response(self, shard: int, row: int) -> Response:
        values = self._shards[shard][row].as_py()
        return Response(**{**values, "tokens": None if values["tokens"] is None else tuple(values["tokens"])})
