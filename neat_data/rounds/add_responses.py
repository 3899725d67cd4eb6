"""Grow a dataset by responses that somebody else wrote: other models, or experts.

`take` is behind `neat-data expand --responses`. Rows are joined with records on the query, whatever their order; a row
whose query no record asks is rejected. `take_edits`, behind `--edits`, takes what reviewers wrote. The rest is
`expand`'s second phase.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from neat_data.errors import InputError
from neat_data.progress import Silent, Watcher
from neat_data.record import Response, canonical_json, query_id, response_id
from neat_data.rounds.candidates import Candidate
from neat_data.rounds.finish import (
    GrowSummary,
    Scoring,
    finished_round,
    full_settings,
    load_settings,
    score_staged,
    take_up,
)
from neat_data.scoring.engines import opened
from neat_data.sources import Source, open_source
from neat_data.sources.row import Reject, Row, reject_line
from neat_data.store.address import DatasetPath
from neat_data.store.dataset import PreferenceDataset
from neat_data.store.documents import RejectLine, Settings
from neat_data.store.folder import DatasetFolder
from neat_data.store.location import locate
from neat_data.store.reviews import standing
from neat_data.store.shard import read_shard


@dataclass(frozen=True)
class GivenRequest:
    """What `neat-data expand --responses` was asked for; `source` to `ignore` as in `score`.

    Attributes:
        limit: rows read at most.
    """

    dataset: DatasetPath
    source: str
    subset: str | None = None
    split: str | None = None
    format: str = "auto"
    columns: dict[str, str] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    scoring: Scoring = field(default_factory=Scoring)
    limit: int | None = None


@dataclass
class _Joined:
    """Rows joined with records: candidates by base shard, and the rows that found none."""

    candidates: dict[int, list[Candidate]] = field(default_factory=dict)
    rejects: list[RejectLine] = field(default_factory=list)
    rows: int = 0


def take(request: GivenRequest, watch: Watcher | None = None) -> GrowSummary:
    """Append the responses of a source as a round; the same call again goes on where an earlier one stopped.

    Raises:
        InputError: no finished dataset, a bad source, none of its queries in the dataset, another unfinished round.
        RunError: as `expand`.
    """
    watch = watch or Silent()
    dataset = PreferenceDataset.open(request.dataset)
    watch.phase("looking at the source", None, " B")
    source = _open(request, watch)

    def join(round: int) -> _Joined:
        watch.phase("reading", source.bytes, " B")
        rows = islice(source.rows(watch.advance), request.limit)
        joined = _join(rows, _shards(dataset, request.dataset), round, source)
        source.require_unchanged()
        if not joined.candidates:
            raise _none_joined(request, joined)
        return joined

    settings = {"source": source.fingerprint, "limit": request.limit}
    return _append(request.dataset, request.scoring, settings, join, watch)


def take_edits(path: DatasetPath, scoring: Scoring, watch: Watcher | None = None) -> GrowSummary:
    """Append what reviewers wrote in the place of responses as a round; the same edits again are a round that is there.

    Raises:
        InputError: no finished dataset, nothing was rewritten, another unfinished round.
        RunError: as `expand`.
    """
    dataset = PreferenceDataset.open(path)
    edits = _edits(dataset)
    if not edits:
        raise InputError(
            f"{path}: nobody has rewritten a response; `neat-data review {path} --mode edits` asks for it."
        )

    def join(round: int) -> _Joined:
        shards, joined = _shards(dataset, path), _Joined(rows=len(edits))
        for query, text in edits:
            response = Response(response_id(query, text), text, origin="human", round=round)
            candidates = joined.candidates.setdefault(shards[bytes.fromhex(query)], [])
            candidates.append(Candidate(query, "human", response))
        return joined

    settings = {"edits": hashlib.sha256(canonical_json(edits).encode()).hexdigest()}
    return _append(path, scoring, settings, join, watch or Silent())


def _append(
    path: DatasetPath, scoring: Scoring, settings: Settings, join: Callable[[int], _Joined], watch: Watcher
) -> GrowSummary:
    """Stage what `join` gives for a round, and score it; a round with these settings that is finished is left alone."""
    with (
        DatasetFolder.claim(path, watch.say) as folder,
        opened(scoring.engine, folder.place.workplace) as engine,
    ):
        folder.require_finished()
        round_settings = full_settings(settings, scoring.rules, load_settings(folder, scoring, engine, watch))
        done = finished_round(folder, round_settings)
        if done is not None and not folder.lost(done.round):
            return GrowSummary(path, done.round, True, done.summary)
        joined = join(folder.next_round if done is None else done.round)
        queries = {
            number: list(dict.fromkeys(candidate.query_id for candidate in joined.candidates[number]))
            for number in sorted(joined.candidates)
        }
        staging = take_up(folder, "responses", settings, round_settings, lambda: queries, done)
        for number in staging.queries:
            rejects = joined.rejects if number == min(queries) else []  # they belong to no shard; the first keeps them
            staging.commit(number, joined.candidates[number], {"usage": {}, "rejects": rejects})
        return score_staged(folder, scoring, engine, watch)


def _edits(dataset: PreferenceDataset) -> list[tuple[str, str]]:
    """Query and text of every edit that stands, in the order of the queries' ids."""
    stand = [standing(events).values() for events in dataset.reviews.values()]
    written = [(event.response_id, event.text) for events in stand for event in events if event.text is not None]
    if not written:
        return []
    frame = dataset.scan(dropped=True).select("response_id", "query_id").collect()
    queries = dict(frame.filter(frame["response_id"].is_in([response for response, _ in written])).iter_rows())
    return sorted({(queries[response], text) for response, text in written if response in queries})


def _open(request: GivenRequest, watch: Watcher) -> Source:
    return open_source(
        request.source,
        subset=request.subset,
        split=request.split,
        format=request.format,
        columns=request.columns,
        ignore=request.ignore,
        answers=True,
        on_read=watch.advance,
    )


def _none_joined(request: GivenRequest, joined: _Joined) -> InputError:
    """What to raise where no row has a query of the dataset: rows were not read, or ask something else."""
    unread = [line for line in joined.rejects if line["reason"] != "unmatched_query"]
    message = f"{request.source}: none of its {joined.rows:,} rows can be joined"
    if len(unread) < joined.rows:
        asks = f"none of its {joined.rows - len(unread):,} {'readable ' if unread else ''}rows asks a query"
        message = (
            f"{request.source}: {asks} of {request.dataset}.\nRows are joined on the whole query, every turn of it"
        )
    if unread:
        line = unread[0]
        detail = f": {line['detail']}" if line["detail"] else ""
        message += f".\n{len(unread):,} could not be read; the first, row {line['row']}, is {line['reason']}{detail}"
    return InputError(f"{message}.")


def _shards(dataset: PreferenceDataset, root: DatasetPath) -> dict[bytes, int]:
    """The base shard of every query."""
    place = locate(root)
    return {
        bytes.fromhex(query): number
        for number, entry in dataset.manifest.round(0).numbers().items()
        for query in read_shard(place.shard(entry))["query_id"].to_pylist()
    }


def _join(rows: Iterator[Row | Reject], shards: dict[bytes, int], round: int, source: Source) -> _Joined:
    joined = _Joined()
    for row in rows:
        joined.rows += 1
        if isinstance(row, Reject):
            joined.rejects.append(reject_line(row))
            continue
        query = query_id(row.messages)
        shard = shards.get(bytes.fromhex(query))
        if shard is None:
            unmatched = Reject(row.place, "unmatched_query", "no record of the dataset asks this query", row.raw)
            joined.rejects.append(reject_line(unmatched))
        else:
            joined.candidates.setdefault(shard, []).extend(_candidates(row, query, round))
    return joined


def _candidates(row: Row, query: str, round: int) -> Iterator[Candidate]:
    for answer in row.answers:
        identifier = response_id(query, answer.text)
        response = Response(identifier, answer.text, origin="given", model=answer.model, round=round)
        yield Candidate(query, answer.model or "given", response)
