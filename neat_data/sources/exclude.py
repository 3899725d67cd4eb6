"""Decontamination: which queries occur in another dataset or source, by id and by word n-grams.

Words are casefolded; a character of a script without spaces is a word of its own. System turns are left out, as they
are shared by design. A query of fewer words than n matches only a whole query of the same words.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from neat_data.errors import InputError
from neat_data.record import Message, Messages, canonical_json, query_id
from neat_data.sources import Row, open_source
from neat_data.sources.files.compressed import sha256

_UNSPACED = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff"  # Chinese, Japanese and Korean
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying by it loses nothing modulo 2**64


@dataclass(frozen=True)
class Exclusion:
    """The queries of some sources: their ids, their n-grams as sorted 64-bit hashes, and the short ones whole.

    `fingerprint` comes from the sources' content and `n`.
    """

    n: int
    query_ids: frozenset[str]
    ngrams: np.ndarray = field(repr=False)  # (distinct n-grams,), uint64, ascending
    short: frozenset[int] = field(repr=False)
    fingerprint: dict[str, Any] = field(repr=False)

    @classmethod
    def load(cls, paths: Sequence[str], n: int = 13) -> Exclusion:
        """Read every query of `paths`: dataset folders of this project, or sources (all of their splits).

        Raises:
            InputError: a path is neither.
        """
        fingerprints, ids, short = [], set(), set()
        grams: list[np.ndarray] = []
        for path in paths:
            fingerprint, queries = _queries(path)
            fingerprints.append(fingerprint)
            for messages in queries:
                ids.add(query_id(messages))
                words = _words(messages)
                if len(words) >= n:
                    grams.append(np.unique(_windows(words, n)))
                elif len(words):
                    short.add(_whole(words))
        return cls(
            n=n,
            query_ids=frozenset(ids),
            ngrams=np.unique(np.concatenate(grams)) if grams else np.empty(0, np.uint64),
            short=frozenset(short),
            fingerprint={"n": n, "sources": sorted(fingerprints, key=canonical_json)},
        )

    def reason(self, messages: Messages) -> str | None:
        """`excluded_query_id` or `excluded_ngram` where the query occurs in the sources, else None."""
        if query_id(messages) in self.query_ids:
            return "excluded_query_id"
        words = _words(messages)
        if len(words) < self.n:
            return "excluded_ngram" if len(words) and _whole(words) in self.short else None
        return "excluded_ngram" if self._holds_any(_windows(words, self.n)) else None

    def _holds_any(self, windows: np.ndarray) -> bool:
        if not len(self.ngrams):
            return False
        # A binary search each: np.isin would sort all n-grams again for every query.
        nearest = np.searchsorted(self.ngrams, windows).clip(max=len(self.ngrams) - 1)
        return bool((self.ngrams[nearest] == windows).any())


def _queries(path: str) -> tuple[dict[str, Any], Iterator[Messages]]:
    """The fingerprint and the queries of a dataset folder or a source."""
    folder = Path(path)
    if (folder / "dataset.json").is_file():
        shards = sorted((folder / "round-0000").glob("*.arrow"))
        if not shards:
            raise InputError(f"{path}: the dataset holds no shard yet; finish its `score` first")
        return {"shards": {shard.name: sha256(shard) for shard in shards}}, _dataset_queries(shards)
    source = open_source(path, split="all")
    return source.fingerprint, (row.messages for row in source.rows() if isinstance(row, Row))


def _dataset_queries(shards: Iterable[Path]) -> Iterator[Messages]:
    for shard in shards:
        with pa.memory_map(str(shard)) as mapped:
            for turns in pa.ipc.open_file(mapped).read_all()["messages"].to_pylist():
                yield tuple(Message(**turn) for turn in turns)


def _words(messages: Messages) -> np.ndarray:
    """Hashes of the query's words, in order."""  # (words,), uint64
    text = "\n".join(message.content for message in messages if message.role != "system")
    return np.array([_word_hash(word) for word in _WORD.findall(text.casefold())], dtype=np.uint64)


@lru_cache(maxsize=1 << 17)
def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")


def _windows(words: np.ndarray, n: int) -> np.ndarray:
    """A hash of every n words in a row: a polynomial of their hashes modulo 2**64."""  # (words - n + 1,), uint64
    total = np.zeros(len(words) - n + 1, np.uint64)
    for offset in range(n):
        total = total * _BASE + words[offset : offset + len(total)]
    return total


def _whole(words: np.ndarray) -> int:
    """A hash of all the words, other for each number of them."""
    return int(_windows(np.concatenate([np.array([len(words)], np.uint64), words]), len(words) + 1)[0])
