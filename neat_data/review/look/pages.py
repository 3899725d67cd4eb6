"""The pages to look through a dataset: `/`, `/records`, `/record` and `/rejects`. Each view is an address.

The dataset is read when the first of them is asked for, and again when somebody asks for that; until then the pages
show it as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from threading import Lock
from typing import Any

import numpy as np
from markupsafe import Markup
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from neat_data.analysis.result import Stats
from neat_data.analysis.stats import compute
from neat_data.errors import InputError
from neat_data.expressions import worked_out
from neat_data.record import Message
from neat_data.report.tables import WARNING, number, tables
from neat_data.review.look import overview
from neat_data.review.look.index import Index, build
from neat_data.review.look.listing import PAGE, Listing, RecordLists, sorts
from neat_data.review.look.markdown import rendered
from neat_data.review.look.record import page, preview
from neat_data.review.look.rejects import PAGE as REJECTS_PAGE
from neat_data.review.look.rejects import Rejects
from neat_data.store.dataset import PreferenceDataset

Render = Callable[..., Response]


class Opened:
    """A dataset and what is made of it in the background; `index`, `stats` and `pictures` wait for that."""

    def __init__(self, dataset: PreferenceDataset) -> None:
        self.dataset = dataset
        self.rejects = Rejects(dataset)
        reader = ThreadPoolExecutor(1)
        self._index: Future[Index] = reader.submit(build, dataset)
        self._lists: Future[RecordLists] = reader.submit(lambda: RecordLists(dataset, self.index))
        self._stats: Future[Stats] = reader.submit(compute, dataset)
        self._pictures: Future[list[tuple[str, Markup]]] = reader.submit(lambda: overview.pictures(self.stats))
        reader.shutdown(wait=False)

    @property
    def index(self) -> Index:
        return self._index.result()

    @property
    def lists(self) -> RecordLists:
        return self._lists.result()

    @property
    def stats(self) -> Stats:
        return self._stats.result()

    @property
    def pictures(self) -> list[tuple[str, Markup]]:
        return self._pictures.result()


@dataclass
class Look:
    """The dataset that is looked through, as it was when it was last read."""

    dataset: PreferenceDataset
    _opened: Opened | None = field(default=None, repr=False)
    _one_at_a_time: Lock = field(default_factory=Lock, repr=False)

    @property
    def opened(self) -> Opened:
        with self._one_at_a_time:
            if self._opened is None:
                self._opened = Opened(self.dataset)
            return self._opened

    def changed(self) -> bool:
        """Whether the folder holds other rounds or scores by now."""
        now = PreferenceDataset.open(self.dataset.path, self.dataset.drop_by)
        return (now.manifest, now.models) != (self.dataset.manifest, self.dataset.models)

    def read_again(self) -> None:
        """See what the folder holds by now."""
        with self._one_at_a_time:
            self.dataset = PreferenceDataset.open(self.dataset.path, self.dataset.drop_by)
            self._opened = None


def routes(look: Look, render: Render) -> list[Route]:
    """The pages; `render` makes an answer of a template's name, a status and what the template is told."""

    def html(name: str, here: str, status: int = 200, **state: Any) -> Response:
        dataset = PurePosixPath(str(look.dataset.path)).name or "dataset"
        return render(name, status, here=here, dataset=dataset, changed=look.changed(), number=number, **state)

    def first(request: Request) -> Response:
        return html("overview.html", "overview", **_overview(look.opened))

    def records(request: Request) -> Response:
        state, error = _listed(look.opened, request.query_params)
        return html("records.html", "records", 400 if error else 200, error=error, **state)

    def record(request: Request) -> Response:
        return html("record.html", "records", **_record(look.opened, request.query_params))

    def rejects(request: Request) -> Response:
        return html("rejects.html", "rejects", **_rejects(look.opened, request.query_params))

    def again(request: Request) -> Response:
        look.read_again()
        return RedirectResponse("/", 303)

    return [
        Route("/", first),
        Route("/records", records),
        Route("/record", record),
        Route("/rejects", rejects),
        Route("/again", again, methods=["POST"]),
    ]


def _overview(opened: Opened) -> dict[str, Any]:
    index, stats = opened.index, opened.stats
    bars, ticks = overview.bars(index.frame["gap"].to_numpy())
    return {
        "warning": WARNING,
        "heads": overview.heads(stats, index),
        "bars": bars,
        "ticks": ticks,
        "quarters": overview.quarters(index.cells),
        "quarter_names": overview.quarter_names(index.cells.edges),
        "pictures": opened.pictures,
        "tables": tables(stats),
    }


def _listed(opened: Opened, query: QueryParams) -> tuple[dict[str, Any], str]:
    """What a list shows, and what is wrong with what was asked for."""
    try:
        listing = Listing.parse(query)
        rows, error = opened.lists.of(listing), ""
    except InputError as failure:
        listing = Listing(where=query.get("where", ""), text=query.get("text", ""))
        rows, error = np.empty(0, dtype=np.uint32), str(failure)
    shown = rows[(listing.page - 1) * PAGE : listing.page * PAGE]
    state = {
        "listing": listing,
        "total": len(rows),
        "pages": max(1, -(-len(rows) // PAGE)),
        "first": (listing.page - 1) * PAGE + 1,
        "rows": _rows(opened, shown),
        "sorts": sorts(opened.index.models),
        "columns": ["query_id", *worked_out(), "messages", "responses", "labels", "meta"],
    }
    return state, error


def _rows(opened: Opened, rows: Sequence[int] | np.ndarray) -> list[dict[str, Any]]:
    index = opened.index
    kept = index.frame[rows].to_dicts()
    return [{**row, "preview": preview(_messages(opened, int(at)))} for at, row in zip(rows, kept, strict=True)]


def _messages(opened: Opened, row: int) -> list[Message]:
    shard, place = opened.index.shard_of(row)
    stored = opened.dataset.stored(shard)[0].slice(place, 1)["messages"][0].as_py()
    return [Message(**message) for message in stored or ()]


def _record(opened: Opened, query: QueryParams) -> dict[str, Any]:
    listing, index = Listing.parse(query), opened.index
    identifier = query.get("id", "")
    row = index.row_of(identifier)
    if row is None:
        raise InputError(f"no record has the query {identifier[:40]!r}")
    rows = opened.lists.of(listing)
    places = np.flatnonzero(rows == row)
    place = int(places[0]) if len(places) else None
    ids = index.frame["query_id"]
    near = [None if place is None or not 0 <= at < len(rows) else ids[int(rows[at])] for at in _beside(place)]
    return {
        "page": page(opened.dataset, index, row, _two(query)),
        "figures": index.frame.row(row, named=True),
        "listing": listing,
        "place": place,
        "list_page": 1 if place is None else place // PAGE + 1,
        "total": len(rows),
        "before": near[0],
        "after": near[1],
        "markdown": rendered if query.get("shown") == "markdown" else None,
    }


def _beside(place: int | None) -> tuple[int, int]:
    return (-1, -1) if place is None else (place - 1, place + 1)


def _two(query: QueryParams) -> tuple[int, int] | None:
    """The responses to compare, counted from 1."""
    given = query.get("first", ""), query.get("second", "")
    if not any(given):
        return None
    if not all(text.isdecimal() and len(text) < 6 for text in given):
        raise InputError("two responses are compared by their numbers, from 1")
    return int(given[0]), int(given[1])


def _rejects(opened: Opened, query: QueryParams) -> dict[str, Any]:
    listing, reason = Listing.parse({"page": query.get("page", "")}), query.get("reason", "")
    found, total = opened.rejects.page(listing.page, reason)
    return {
        "found": found,
        "total": total,
        "reason": reason,
        "reasons": opened.rejects.reasons,
        "page": listing.page,
        "pages": max(1, -(-total // REJECTS_PAGE)),
    }
