"""The reading side of a dataset: records, lazy frames, and `datasets.Dataset`.

Shards are mapped, never loaded whole, and rounds are joined shard by shard: shard n of any round holds queries of base
shard n only. Reading needs no lock; of a folder that is still being written, what its manifest
knows is seen. A `View` is what one reader sees: which rounds, without which responses, in which ranking.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import accumulate, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from neat_data.errors import InputError
from neat_data.notebook import html_of
from neat_data.options.words import DropBy
from neat_data.record import SCHEMA, Record, canonical_json, from_table
from neat_data.store import manifest as manifests
from neat_data.store import reviews
from neat_data.store.cache import cache_folder
from neat_data.store.claim import readable
from neat_data.store.documents import RejectLine, ShardMetadata
from neat_data.store.join import Answers, records_of, with_scores
from neat_data.store.local_folder import LocalFolder
from neat_data.store.location import Location, locate
from neat_data.store.manifest import Manifest, reward_model
from neat_data.store.review_labels import labels_of
from neat_data.store.reviews import Event
from neat_data.store.scores.format import OWN, Scores
from neat_data.store.scores.ranking import RankBy, Rankings, kept
from neat_data.store.shard import read_shard, shard_metadata, write_shard

if TYPE_CHECKING:
    import datasets
    import polars as pl

_ROWS_AT_ONCE = 1024
_OWN_RANKING = RankBy("one", (OWN,))


@dataclass(frozen=True)
class View:
    """What one reader sees.

    Attributes:
        rounds: whose responses; None: all.
        left_out: ids of the responses that people dropped.
        by: the ranking; None: by the dataset's own rewards.
    """

    rankings: Rankings
    rounds: Collection[int] | None
    left_out: frozenset[str]
    by: RankBy | None

    @property
    def plain(self) -> bool:
        """Whether the base shards are what the reader sees."""
        later = any(round.round and round.shards for round in self.rankings.manifest.rounds)
        return not later and not self.left_out and self.by is None and self.rounds is None

    @cached_property
    def content(self) -> str:
        """sha256 over everything that decides what the reader sees."""
        manifest = self.rankings.manifest
        shards = [entry.sha256 for round in manifest.rounds for entry in round.shards]
        parts: list[Any] = [shards, sorted(self.left_out)]
        if self.by is not None:
            names = [name for name in self.by.names if name != OWN]
            scored = {name: [s.entry.sha256 for s in self.rankings.scores[name].shards] for name in names}
            parts += [self.by.how, list(self.by.names), scored]
        return hashlib.sha256(canonical_json(parts).encode()).hexdigest()

    def table(self, number: int, scores: bool = False) -> pa.Table:
        """The records of a base shard, with the column `scores` where it is wanted."""
        base, answers = self.rankings.answers(number)
        every = {name: self._rewards(name, number, answers) for name in self.rankings.models} if scores else None
        if self.plain:
            base = base.replace_schema_metadata(None)
            return base if every is None else with_scores(base, every)
        keep = kept(answers, self.left_out)
        if self.rounds is not None:
            keep &= np.isin(answers.column("round").to_numpy(), list(self.rounds))
        reward = None if self.by is None else self.rankings.ranking(self.by, number, answers)
        return records_of(base, answers, keep, reward=reward, scores=every)

    def records(self, number: int) -> Iterator[Record]:
        """The records of a base shard, best response first."""
        for batch in self.table(number).to_batches(max_chunksize=_ROWS_AT_ONCE):
            yield from from_table(pa.Table.from_batches([batch]))

    def shape(self, scores: bool) -> pa.Table:
        """No record, with the columns of `table`."""
        empty = SCHEMA.empty_table()
        nothing = np.empty(0, np.float32)
        return with_scores(empty, dict.fromkeys(self.rankings.models, nothing)) if scores else empty

    def frame(self, number: int, scores: bool) -> pl.DataFrame:
        import polars as pl

        return pl.DataFrame(self.table(number, scores))

    def scores_frame(self, number: int) -> pl.DataFrame:
        import polars as pl

        return pl.DataFrame(self.table(number, True).select(["scores"]))

    def cached(self, number: int) -> Path:
        """The records of a base shard as a file in the user's cache folder."""
        path = cache_folder() / "compacted" / self.content / f"{number:05d}.arrow"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_shard(path, self.table(number), {})
        return path

    def _rewards(self, name: str, number: int, answers: Answers) -> np.ndarray:
        return self.rankings.rewards(name, number, answers, partial=True)


@dataclass(frozen=True, repr=False)
class PreferenceDataset:
    """A dataset of ranked responses, as it was when it was opened; what a verb adds later is seen by opening it again.

    It is a sequence of `Record`s: `for record in dataset`, `dataset[0]`, `dataset[-3:]`; and `dataset[query_id]` is the
    record of a query. Nothing is read before it is asked for.

    Attributes:
        path: the folder or URL, as it was given.
        manifest: what `dataset.json` says: `settings`, `versions`, `rounds` with their summaries and shards.
        drop_by: which responses that reviewers dropped are left out: those that one dropped, `any`; that more than half
            (`majority`), or `all`, of those dropped who judged them.
    """

    path: str
    manifest: Manifest
    _location: Location
    drop_by: DropBy = "any"

    @classmethod
    def open(cls, path: str | Path, drop_by: DropBy = "any") -> PreferenceDataset:
        """Open a dataset folder, or an fsspec URL of one.

        Raises:
            InputError: it is no dataset of ours, or its manifest is damaged.
        """
        location = locate(path)
        content = location.read(manifests.FILE)
        if content is None:
            raise InputError(_not_a_dataset(path, location))
        return cls(str(path), Manifest.from_bytes(content, f"{path}/{manifests.FILE}"), location, drop_by)

    def __len__(self) -> int:
        """Records with a response that people did not drop: as many as iterating gives."""
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Record]:
        """`records()`: every record, in source order, its best response first."""
        return self.records()

    @overload
    def __getitem__(self, key: int | str) -> Record: ...
    @overload
    def __getitem__(self, key: slice) -> list[Record]: ...
    def __getitem__(self, key: int | str | slice) -> Record | list[Record]:
        """The record at a position (negative: from the end), the records of a slice, or the record of a query's id.

        Raises:
            IndexError: no record stands there.
            KeyError: no record has this query.
        """
        if isinstance(key, slice):
            return [self._at(position) for position in range(*key.indices(len(self)))]
        if isinstance(key, str):
            record = self._of_query(key)
            if record is None:
                raise KeyError(key)
            return record
        position = key + len(self) if key < 0 else key
        if not 0 <= position < len(self):
            raise IndexError(f"{self.path}: no record {key}; there are {len(self):,}")
        return self._at(position)

    def __contains__(self, query_id: object) -> bool:
        """Whether a record has this query."""
        return isinstance(query_id, str) and self._of_query(query_id) is not None

    def __repr__(self) -> str:
        left = "" if self.complete else ", not finished"
        return (
            f"PreferenceDataset({self.path!r}, {len(self):,} records, {self.responses:,} responses, "
            f"reward model {self.reward_model!r}{left})"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: the same, and the first records. All text is escaped, since it may be anybody's."""
        return html_of(repr(self), list(islice(self, 3)))

    @property
    def responses(self) -> int:
        """Responses of all rounds, those included that people dropped."""
        return sum(entry.responses for round in self.manifest.rounds for entry in round.shards)

    @property
    def reward_model(self) -> str | None:
        """The model of the dataset's own rewards, as the manifest names it: `given` where they came with the source."""
        return reward_model(self.manifest.settings)

    @property
    def complete(self) -> bool:
        """Whether every round was finished; of one that was not, the shards committed so far are read."""
        return bool(self.manifest.rounds) and all(r.complete for r in self.manifest.rounds)

    @property
    def models(self) -> tuple[str, ...]:
        """What `rank_by` may name: `reward`, the dataset's own, then what `rescore` added."""
        return self._rankings.models

    def records(
        self, rounds: Collection[int] | None = None, *, dropped: bool = False, rank_by: str | None = None
    ) -> Iterator[Record]:
        """Records in source order, responses best first; records without a response are passed over.

        Args:
            rounds: whose responses to take; None: all.
            dropped: whether to take responses that people dropped when reviewing.
            rank_by: a name in `models`, whose scores then stand in the place of `reward`; or `mean` or `min` over all
                of them, standardised (`mean:A,B`: over these). Ties of round 0 keep the dataset's own order. A
                response that such a model refused is left out, as one that people dropped.

        Raises:
            InputError: there are no such scores, or they do not cover every response yet.
        """
        view = self._view(rounds, dropped, rank_by)
        for number in self.manifest.round(0).numbers():
            yield from view.records(number)

    def shard_records(self, number: int, rounds: Collection[int] | None = None) -> Iterator[Record]:
        """The records of one base shard, responses that people dropped included; `rounds` as in `records`."""
        return self._view(rounds, True, None).records(number)

    def shard_table(self, number: int, *, scores: bool = False, dropped: bool = False) -> pa.Table:
        """The records of one base shard as Arrow, as `records` gives them; `scores` as in `scan_records`."""
        return self._view(None, dropped, None).table(number, scores)

    def stored(self, number: int) -> list[pa.Table]:
        """The rows of one base shard as they are stored, and those that each round added to its queries, mapped."""
        return [read_shard(self._location.shard(entry)) for _, entry in self._rankings.shards(number)]

    def scan_records(self, *, dropped: bool = False, rank_by: str | None = None, scores: bool = False) -> pl.LazyFrame:
        """One row a record, in the shape of the Arrow schema; nothing is read before the frame is collected.

        Args:
            dropped, rank_by: as in `records`.
            scores: whether to add a column `scores`: a struct with one list a model of `models`, its rewards in
                the order of `responses`, null where it gave none.
        """
        import polars as pl

        view = self._view(None, dropped, rank_by)
        numbers = self.manifest.round(0).numbers()
        empty = pl.DataFrame(view.shape(scores))
        if not numbers:
            return empty.lazy()
        if view.plain and isinstance(self._location, LocalFolder):
            frame = pl.scan_ipc([self._location.shard(entry) for entry in numbers.values()], glob=False)
            if not scores:
                return frame
            beside = [pl.defer(partial(view.scores_frame, n), schema=empty.select("scores").schema) for n in numbers]
            return pl.concat([frame, pl.concat(beside)], how="horizontal")
        shards = (partial(view.frame, number, scores) for number in numbers)
        return pl.concat([pl.defer(shard, schema=empty.schema) for shard in shards])

    def scan(self, *, dropped: bool = False, rank_by: str | None = None) -> pl.LazyFrame:
        """One row a response of any round: `query_id`, `rank` (0 is the best of its query) and a response's fields."""
        import polars as pl

        ranks = pl.int_ranges(pl.col("responses").list.len(), dtype=pl.UInt32)
        responses = self.scan_records(dropped=dropped, rank_by=rank_by).select(
            "query_id", ranks.alias("rank"), "responses"
        )
        return responses.filter(pl.col("responses").list.len() > 0).explode("rank", "responses").unnest("responses")

    @overload
    def to_hf(
        self, *, rank_by: str | None = None, dropped: bool = False, streaming: Literal[False] = False
    ) -> datasets.Dataset: ...
    @overload
    def to_hf(
        self, *, rank_by: str | None = None, dropped: bool = False, streaming: Literal[True]
    ) -> datasets.IterableDataset: ...
    def to_hf(
        self, *, rank_by: str | None = None, dropped: bool = False, streaming: bool = False
    ) -> datasets.Dataset | datasets.IterableDataset:
        """A `datasets.Dataset` over the mapped shards, or with `streaming` an iterable one that reads shard by shard.

        The latter fetches a shard of a URL when it comes to it, and processes that load in parallel share the shards;
        the former fetches all of them first. There, a dataset of several rounds, with responses that people dropped, or
        in another ranking (`rank_by` and `dropped` as in `records`) is first written as plain shards into the user's
        cache folder, once for each content.
        """
        import datasets

        view = self._view(None, dropped, rank_by)
        numbers = self.manifest.round(0).numbers()
        if streaming:
            features = datasets.Features.from_arrow_schema(SCHEMA)
            given = {"numbers": list(numbers), "view": view}
            return datasets.IterableDataset.from_generator(_rows_of, features=features, gen_kwargs=given)
        if view.plain:
            paths = [self._location.shard(entry) for entry in numbers.values()]
        else:
            paths = [view.cached(number) for number in numbers]
        tables = [read_shard(path).replace_schema_metadata(None) for path in paths]
        table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
        # Without a fingerprint of our own, datasets would read and hash every row.
        return datasets.Dataset(datasets.table.InMemoryTable(table), fingerprint=view.content[:16])

    def left_out(self, rank_by: str | None) -> int:
        """How many responses readers leave out under this ranking, because a model refused them."""
        by = self._rank_by(rank_by)
        return self._rankings.left_out(by) if by else 0

    def scores(self, name: str) -> Scores:
        """What `scores/` says of a further model; KeyError where there are none of this name."""
        return self._rankings.scores[name]

    def refusals(self, name: str, number: int) -> dict[str, str]:
        """Why a further model gave no score, by response id, for the responses of one base shard in all rounds."""
        return self._rankings.refusals(name, number)

    def rejects(self, number: int) -> list[RejectLine]:
        """The rejected source rows of a base shard.

        Raises:
            InputError: a line is damaged.
        """
        name = manifests.rejects_name(0, number)
        with readable(Path(self.path) / name):
            content = self._location.read(name) or b""
            return [cast(RejectLine, dict(json.loads(line))) for line in content.splitlines()]

    def shard_metadata(self, number: int) -> ShardMetadata:
        """What a base shard says of itself."""
        return cast(ShardMetadata, shard_metadata(self._location.shard(self._rankings.shards(number)[0][1])))

    @cached_property
    def dropped(self) -> frozenset[str]:
        """Ids of the responses that reviewers dropped and did not take back, by the rule `drop_by`.

        Raises:
            InputError: a line of `reviews/` cannot be read.
        """
        return reviews.dropped((reviews.standing(events) for events in self.reviews.values()), self.drop_by)

    @cached_property
    def reviews(self) -> dict[str, tuple[Event, ...]]:
        """What each rater said, in order, by the rater's name.

        Raises:
            InputError: a line of `reviews/` cannot be read.
        """
        names = (name for name in self._location.files(reviews.FOLDER) if name.endswith(".jsonl"))
        contents = {name: self._location.read(name) or b"" for name in names}
        return {
            reviews.rater_of(name): reviews.read_events(content, f"{self.path}/{name}").events
            for name, content in contents.items()
        }

    def reviewed(self) -> Iterator[Record]:
        """The records of which reviewers said something, with that in the place of the source's labels.

        Responses that people dropped are among them: as what others are preferred to, and as rejected.
        """
        return (record for record in map(self.with_reviews, self.records(dropped=True)) if record.labels)

    def with_reviews(self, record: Record) -> Record:
        """A record that holds its dropped responses, with what reviewers said in the place of the source's labels."""
        return replace(record, labels=labels_of(record, self._said))

    @cached_property
    def _said(self) -> dict[str, dict[str, Event]]:
        return {rater: reviews.standing(events) for rater, events in sorted(self.reviews.items())}

    @cached_property
    def dropped_count(self) -> int:
        """How many responses of the dataset readers leave out because reviewers dropped them."""
        if not self.dropped:
            return 0
        import polars as pl

        ids = self.scan(dropped=True).select("response_id").collect(engine="streaming")["response_id"]
        return int(ids.is_in(pl.Series(sorted(self.dropped), dtype=pl.String).implode()).sum())

    @cached_property
    def _ends(self) -> list[int]:
        """Behind each base shard, how many records there are so far."""
        numbers, view = self.manifest.round(0).numbers(), self._plain_view
        if not view.left_out:
            return list(accumulate(entry.rows for entry in numbers.values()))
        return list(accumulate(len(view.table(number)) for number in numbers))

    def _at(self, position: int) -> Record:
        """The record at a position from 0, which exists."""
        shard = int(np.searchsorted(self._ends, position, side="right"))
        begin = self._ends[shard - 1] if shard else 0
        table = self._plain_view.table(list(self.manifest.round(0).numbers())[shard])
        return from_table(table.slice(position - begin, 1))[0]

    def _of_query(self, query_id: str) -> Record | None:
        """The record of a query; the base shards alone are searched."""
        for number, entry in self.manifest.round(0).numbers().items():
            if pc.index(read_shard(self._location.shard(entry))["query_id"], query_id).as_py() >= 0:
                table = self._plain_view.table(number)
                return next(iter(from_table(table.filter(pc.equal(table["query_id"], query_id)))), None)
        return None

    @cached_property
    def _plain_view(self) -> View:
        """What is seen where nothing else is said."""
        return self._view(None, False, None)

    @cached_property
    def _rankings(self) -> Rankings:
        return Rankings(self._location, self.manifest, self.dropped)

    def _rank_by(self, text: str | None) -> RankBy | None:
        """None stands for the dataset's own rewards."""
        if text is None:
            return None
        by = RankBy.parse(text, self.models[1:])
        return None if by == _OWN_RANKING else by

    def _view(self, rounds: Collection[int] | None, dropped: bool, rank_by: str | None) -> View:
        return View(self._rankings, rounds, frozenset() if dropped else self.dropped, self._rank_by(rank_by))


def _rows_of(numbers: list[int], view: View) -> Iterator[dict[str, Any]]:
    """The records of some base shards, as plain Python."""
    for number in numbers:
        for batch in view.table(number).to_batches(max_chunksize=_ROWS_AT_ONCE):
            yield from batch.to_pylist()


def _not_a_dataset(path: str | Path, location: Location) -> str:
    if location.files("round-0000"):
        return (
            f"{path}: {manifests.FILE} is missing. `neat-data verify {path} --rebuild` makes it anew from the shards."
        )
    return f"{path}: no dataset folder (it has no {manifests.FILE}). `neat-data score` makes one."
