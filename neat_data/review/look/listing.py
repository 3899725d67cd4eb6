"""A list of records as an address says it: which, in which order, which page; and the address that says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

import numpy as np
import polars as pl

from neat_data.errors import InputError
from neat_data.review.look.filtering import filtered
from neat_data.review.look.index import POLARITIES, QUARTILES, Index, against
from neat_data.review.look.search import places_of, words
from neat_data.store.dataset import PreferenceDataset

PAGE = 25  # records
MAX_TEXT = 500  # characters of what is searched for
_REMEMBERED = 32  # lists, and words that were searched for


@dataclass(frozen=True)
class Listing:
    """One list, one page of it.

    Attributes:
        where: a SQL expression, as `--where` takes it.
        text: words that must all stand in the record.
        polarity: only records with a response that was sampled so, and whose reward is in `quarter`.
        quarter: from 1 (lowest) to 4.
        sort: a column of the index; "" for the order of the source.
        order: `down`, the largest first, or `up`.
        page: from 1.
    """

    where: str = ""
    text: str = ""
    polarity: str = ""
    quarter: int = 0
    sort: str = ""
    order: str = "down"
    page: int = 1

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Listing:
        """What the query string of an address says.

        Raises:
            InputError: a value that cannot be.
        """
        given: dict[str, Any] = {field.name: query.get(field.name, "").strip() for field in fields(cls)}
        numbers = {name: _number(name, given[name]) for name in ("quarter", "page") if given[name]}
        listing = cls(**{name: value for name, value in (given | numbers).items() if value != ""})
        if (listing.polarity != "") != (listing.quarter != 0) or listing.polarity not in ("", *POLARITIES):
            raise InputError(f"polarity is one of {', '.join(POLARITIES)}, and comes with a quarter")
        if listing.quarter > QUARTILES or listing.page < 1 or listing.order not in ("down", "up"):
            raise InputError("quarter is a number from 1 to 4, page one from 1, order is down or up")
        if len(listing.text) > MAX_TEXT:
            raise InputError(f"{MAX_TEXT} characters to search for at most")
        return listing

    def query(self, **changes: Any) -> str:
        """The query string that says this list, with what is changed; a change begins at page 1."""
        changed = replace(self, **{"page": 1, **changes})
        usual = asdict(Listing())
        return urlencode({name: value for name, value in asdict(changed).items() if value != usual[name]})


def sorts(models: tuple[str, ...]) -> dict[str, str]:
    """What a list can be sorted by: columns of the index, and what to call them."""
    named = {
        "": "the source's order",
        "gap": "gap, chosen minus rejected",
        "gap_abs": "size of the gap",
        "spread": "best minus worst reward",
        "reward_best": "best reward",
        "reward_worst": "worst reward",
        "length": "longest response",
        "turns": "turns of the dialogue",
        "n_responses": "number of responses",
    }
    if models:
        named["disagreement"] = "disagreement of the reward models"
    return named | {against(model): f"{model} against the reward" for model in models}


class RecordLists:
    """The rows that lists consist of; the latest ones are remembered, so that turning a page costs nothing."""

    def __init__(self, dataset: PreferenceDataset, index: Index) -> None:
        self.dataset, self.index = dataset, index
        self.rows = lru_cache(_REMEMBERED)(self._rows)
        self._where = lru_cache(_REMEMBERED)(lambda where: filtered(dataset, index, where))
        self._word = lru_cache(_REMEMBERED)(lambda word: places_of(dataset, word))

    def of(self, listing: Listing) -> np.ndarray:
        """Rows of the index, in the list's order.

        Raises:
            InputError: a bad expression, one that takes too long, or an unknown column to sort by.
        """
        return self.rows(replace(listing, page=1))

    def _rows(self, listing: Listing) -> np.ndarray:
        if listing.sort not in sorts(self.index.models):
            raise InputError("there is no such column to sort by", field="sort", value=repr(listing.sort))
        rows = np.flatnonzero(self._chosen(listing)).astype(np.uint32)
        if not listing.sort:
            return rows if listing.order == "down" else rows[::-1]
        return rows[_order(self.index.frame[listing.sort].gather(rows), listing.order == "down")]

    def _chosen(self, listing: Listing) -> np.ndarray:
        chosen = np.ones(len(self.index), dtype=bool)
        if listing.polarity:
            chosen &= self.index.cells.holding(listing.polarity, listing.quarter - 1)
        if listing.where:
            chosen &= self._where(listing.where)
        for word in words(listing.text):
            chosen &= self._word(word.lower())[self.index.places]
        return chosen


def _order(values: pl.Series, descending: bool) -> np.ndarray:
    """The stable order of values, those that are not there last."""
    return values.arg_sort(descending=descending, nulls_last=True).to_numpy()


def _number(name: str, text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise InputError(f"{name}={text[:20]!r}: a number")
    return int(text)
