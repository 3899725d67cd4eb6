"""Export a dataset: records -> rows of a format -> a file or folder, and the hub if that is wanted.

One pass, a batch of records at a time. Every record gives rows or is counted under the reason why it does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neat_data.errors import InputError, RunError
from neat_data.expressions import explained, select
from neat_data.formats import hub
from neat_data.formats.formats import Format, container, find
from neat_data.formats.preferences import Row, Skipped, only
from neat_data.formats.strategies import Keep, keep, pairs_of
from neat_data.formats.upload import uploaded
from neat_data.formats.write import check_place, write
from neat_data.progress import Silent, Watcher
from neat_data.record import Record, from_table
from neat_data.store.address import DatasetPath

if TYPE_CHECKING:
    from neat_data.store.dataset import PreferenceDataset

POLARITIES = ("positive", "negative", "none")
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class ExportRequest:
    """What `neat-data export` was asked for.

    Attributes:
        to: one of `options.words.Form`.
        out: the file or folder, or its URL.
        pairs, min_gap: as `formats.find` takes them.
        where: a SQL expression over the record.
        limit: records taken at most.
        keep_pairs: which of those take part, by the pair that they give, as `strategies.Keep` reads it.
        rank_by: the scores that stand in for the dataset's own rewards, as `PreferenceDataset.records` takes them.
        polarities: responses sampled under a prompt of one of these, `none` for those that were not; all by default.
        overwrite: whether to replace what is at `out`.
        license, language: of the dataset card; a licence is never guessed.
        push_to_hub: the repository to upload to.
        public: whether a repository that is made is public.
        include_negative: whether responses sampled under a negative prompt may go to the hub.
    """

    to: str
    out: DatasetPath
    pairs: str | None = None
    min_gap: float | None = None
    where: str | None = None
    limit: int | None = None
    keep_pairs: str | None = None
    rank_by: str | None = None
    polarities: tuple[str, ...] = ()
    overwrite: bool = False
    license: str | None = None
    language: str | None = None
    push_to_hub: str | None = None
    public: bool = False
    include_negative: bool = False


@dataclass
class ExportSummary:
    """What came of it.

    Attributes:
        records: records read.
        exported: those that gave rows.
        rows: rows written.
        skipped: records without a row, by reason.
        responses_left_out: responses of a polarity that was not asked for.
        dropped: responses of the dataset that reviewers dropped, left out by every reader.
        without_score: responses of the dataset that the scores of `rank_by` do not speak of, left out by every reader.
        negative: responses sampled under a negative prompt that were taken into consideration.
        url: the repository's page on the hub.
    """

    out: DatasetPath
    to: str
    records: int = 0
    exported: int = 0
    rows: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    responses_left_out: int = 0
    dropped: int = 0
    without_score: int = 0
    negative: int = 0
    url: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        counts = {name: getattr(self, name) for name in ("records", "exported", "rows")}
        responses = {
            "responses_left_out": self.responses_left_out,
            "responses_dropped": self.dropped,
            "responses_without_score": self.without_score,
            "negative_responses": self.negative,
        }
        skipped = dict(sorted(self.skipped.items()))
        return {"out": str(self.out), "to": self.to, **counts, "skipped": skipped, **responses, "url": self.url}


def export(dataset: PreferenceDataset, request: ExportRequest, watch: Watcher | None = None) -> ExportSummary:
    """Write the dataset in another form.

    Raises:
        InputError: options that do not go together, a place that is taken, or nothing to write.
        RunError: the disk is full; the hub refuses; a store does not answer.
    """
    if isinstance(request.out, str):
        container(request.to, Path(request.out))  # refused before anything is asked of the store
        with uploaded(request.out, request.overwrite) as out:
            return replace(export(dataset, replace(request, out=out), watch), out=request.out)
    watch = watch or Silent()
    form = find(request.to, request.pairs, request.min_gap)
    stored_as = container(request.to, request.out)
    polarities = _polarities(request)
    check_place(request.out, stored_as, request.overwrite)
    repository = hub.check(request.push_to_hub, request.public) if request.push_to_hub else None

    watch.phase("exporting", request.limit or len(dataset))
    summary = ExportSummary(
        request.out,
        request.to,
        dropped=0 if request.pairs == "reviews" else dataset.dropped_count,
        without_score=dataset.left_out(request.rank_by),
    )
    rows = _counted(_taken(dataset, request, polarities), form, polarities, summary, watch)
    card = _Card(dataset, request, summary)
    batches = iter(lambda: list(islice(rows, _ROWS_AT_ONCE)), [])
    write(request.out, stored_as, form.schema, batches, card.readme if request.to == "hf" else None)
    if repository is not None:
        watch.phase("uploading", None)
        summary.url = hub.push(request.out, repository, public=request.public, card=card.text(on_hub=True))
    return summary


def _polarities(request: ExportRequest) -> frozenset[str]:
    """The polarities that are let through.

    Raises:
        InputError: an unknown one, or options that need each other.
    """
    wanted = frozenset(request.polarities or POLARITIES)
    if unknown := sorted(wanted - set(POLARITIES)):
        raise InputError(f"is none of {', '.join(POLARITIES)}", field="polarities", value=repr(unknown[0]))
    if request.push_to_hub is None:
        if request.public or request.include_negative:
            raise InputError("no upload was asked for", advice="{public} and {include_negative} go with {push_to_hub}")
        return wanted
    if request.to != "hf":
        raise InputError("goes with the format hf alone", field="push_to_hub")
    allowed = wanted if request.include_negative else wanted - {"negative"}
    if not allowed:
        raise InputError(
            "responses sampled under a negative prompt do not go to the hub unasked", advice="say {include_negative}"
        )
    return allowed


def _taken(dataset: PreferenceDataset, request: ExportRequest, polarities: frozenset[str]) -> Iterator[Record]:
    """The records that were asked for, in source order."""
    records = _records(dataset, request)
    if request.keep_pairs is not None:
        pairs = pairs_of((only(record, polarities) for record in records), request.pairs, request.min_gap)
        kept = keep(dataset, Keep.parse(request.keep_pairs), pairs, request.rank_by)
        return (record for record in _records(dataset, request) if record.query_id in kept)
    return records


def _records(dataset: PreferenceDataset, request: ExportRequest) -> Iterator[Record]:
    """The first `limit` that `where` is true for, in source order."""
    reviewed = request.pairs == "reviews"
    frame = select(dataset.scan_records(rank_by=request.rank_by, dropped=reviewed), request.where)
    if request.limit is not None:
        frame = frame.head(request.limit)
    with explained(request.where):
        for batch in frame.collect_batches(engine="streaming", maintain_order=True):
            records = from_table(batch.to_arrow())
            yield from map(dataset.with_reviews, records) if reviewed else records


def _counted(
    records: Iterator[Record], form: Format, polarities: frozenset[str], summary: ExportSummary, watch: Watcher
) -> Iterator[Row]:
    """The rows of all records; counts as it goes, and checks the sum at the end."""
    for record in records:
        yield from _rows(record, form, polarities, summary)
        watch.advance(1)
    if summary.records != summary.exported + summary.skipped.total():
        raise RunError("the records do not add up. This is a mistake of this program; please report it.")
    if not summary.rows:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(summary.skipped.items()))
        raise InputError(f"nothing to export: {summary.records:,} records gave no row ({reasons or 'none was chosen'})")


def _rows(record: Record, form: Format, polarities: frozenset[str], summary: ExportSummary) -> list[Row]:
    """The rows of one record, counted."""
    kept = only(record, polarities)
    summary.records += 1
    summary.responses_left_out += len(record.responses) - len(kept.responses)
    summary.negative += sum(response.polarity == "negative" for response in kept.responses)
    try:
        if not kept.responses:
            raise Skipped("no_response")
        rows = form.rows(kept)
    except Skipped as skipped:
        summary.skipped[skipped.reason] += 1
        return []
    summary.exported += 1
    summary.rows += len(rows)
    return rows


@dataclass(frozen=True)
class _Card:
    """The card of what was exported; made when its counts are known."""

    dataset: PreferenceDataset
    request: ExportRequest
    summary: ExportSummary

    def readme(self) -> bytes:
        """README.md of the folder; what the user wrote in the one that is replaced stays."""
        from neat_data.store.markers import with_body

        before = Path(self.request.out) / "README.md"
        return with_body(before.read_bytes() if before.exists() else b"", self.text(on_hub=False))

    def text(self, *, on_hub: bool) -> str:
        """The card. On the hub `datasets` itself says which files there are."""
        from neat_data.analysis.stats import compute
        from neat_data.report.card import Export, card

        export = Export(
            records=self.summary.rows,
            left_out=self.summary.responses_left_out,
            polarities=tuple(sorted(_polarities(self.request))),
            limit=self.request.limit,
            keep_pairs=self.request.keep_pairs,
            rank_by=self.request.rank_by,
            license=self.request.license,
            language=self.request.language,
            on_hub=on_hub,
        )
        return card(self.dataset, compute(self.dataset, where=self.request.where), export)
