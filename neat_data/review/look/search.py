"""Full text: which records hold some words. The stored shards are read as they are mapped; nothing is built before.

A word is found anywhere, inside other words too, and in either case.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from neat_data.errors import InputError
from neat_data.store.dataset import PreferenceDataset

MAX_WORDS = 8
_WORD = re.compile(r'"([^"]+)"|(\S+)')


def words(text: str) -> tuple[str, ...]:
    """What must all stand in a record: words, and phrases in quotation marks.

    >>> words('rude "how to" rude')
    ('rude', 'how to')

    Raises:
        InputError: there are more than `MAX_WORDS`.
    """
    wanted = tuple(dict.fromkeys(phrase or word for phrase, word in _WORD.findall(text)))
    if len(wanted) > MAX_WORDS:
        raise InputError(f"{len(wanted)} words to find; {MAX_WORDS} at most, a phrase in quotation marks is one")
    return wanted


def places_of(dataset: PreferenceDataset, word: str) -> np.ndarray:
    """Whether each query of the base shards has the word in its dialogue or in a response of any round, bool."""
    shards = list(dataset.manifest.round(0).numbers())
    with ThreadPoolExecutor() as readers:
        parts = readers.map(lambda number: _shard(dataset.stored(number), word), shards)
        return np.concatenate([np.empty(0, dtype=bool), *parts])


def _shard(tables: list[pa.Table], word: str) -> np.ndarray:
    base, *added = tables
    holds = _rows(base, "messages", "content", word) | _rows(base, "responses", "text", word)
    for table in added:
        queries = table["query_id"].filter(pa.array(_rows(table, "responses", "text", word)))
        holds |= pc.is_in(base["query_id"], value_set=queries.combine_chunks()).to_numpy()
    return holds


def _rows(table: pa.Table, column: str, field: str, word: str) -> np.ndarray:
    """Whether any text of the list in each row holds the word."""
    parts = [_any(chunk, field, word) for chunk in table[column].chunks]
    return np.concatenate([np.empty(0, dtype=bool), *parts])


def _any(lists: pa.ListArray, field: str, word: str) -> np.ndarray:
    texts = lists.flatten().field(field)
    holds = pc.match_substring(texts, word, ignore_case=True).fill_null(False).to_numpy(zero_copy_only=False)
    before = np.concatenate([[0], np.cumsum(holds)])
    ends = np.cumsum(pc.list_value_length(lists).fill_null(0).to_numpy())
    return np.diff(before[np.concatenate([[0], ends])]) > 0
