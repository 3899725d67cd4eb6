"""The folder of an evaluation: which settings it belongs to, what of it is done, and who may write to it.

Every step's result for one shard of the queries is a part, an Arrow file under `.parts` that has its name only when it
is whole, so that the same command makes those that are missing, and no other. `eval.json` is written last, and the
parts are removed. Until then other reward models may be named than before: no parts but those of their own rewards
depend on them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from neat_data.errors import InputError
from neat_data.store.atomic import full_disk_explained
from neat_data.store.claim import claimed, differences, in_words, others, put, read
from neat_data.store.documents import Metadata, Settings
from neat_data.store.shard import read_shard, shard_metadata, write_shard
from neat_train.evaluation.result import EvalResult

FORMAT = 1
EVAL = "eval.json"
ANSWERS_FILE, RECORDS_FILE = "answers.arrow", "records.arrow"
ANSWERS: dict[str, Any] = {
    "decoding": pl.String,
    "query_id": pl.String,
    "source": pl.String,
    "query": pl.String,
    "prompt": pl.String,
    "text": pl.String,
    "tokens": pl.Int64,
    "finished": pl.Boolean,
    "empty": pl.Boolean,
    "refusal": pl.Boolean,
    "kl": pl.Float64,
}
"""Columns of answers.arrow; then Float64 `reward/MODEL` and `chosen/MODEL`. `text` is null where there is no answer."""
_PARTS = ".parts"
_SETTINGS = "settings.json"
_REWARDS = "reward_models"

Made = tuple[pa.Table, Metadata]  # rows, and what is to be remembered of how they were made


@dataclass(frozen=True, slots=True)
class Parts:
    """What the steps of an evaluation made so far; whoever sees the folder may add to it."""

    path: Path

    def has(self, name: str) -> bool:
        """Whether a part was made."""
        return self._place(name).is_file()

    def put(self, name: str, made: Made) -> None:
        """Keep a part, whole or not at all."""
        write_shard(self._place(name), *made)

    def read(self, name: str) -> Made:
        """What `put` was given."""
        return read_shard(self._place(name)), shard_metadata(self._place(name))

    def _place(self, part: str) -> Path:
        return self.path / f"{part}.arrow"


@dataclass(frozen=True, slots=True)
class EvalFolder:
    """A folder, held by this process.

    Attributes:
        files: what a finished evaluation has beside `eval.json`.
    """

    path: Path
    files: tuple[str, ...]

    @classmethod
    @contextmanager
    def claim(cls, path: Path, files: tuple[str, ...] = ()) -> Iterator[EvalFolder]:
        """Make the folder and hold it.

        Raises:
            InputError: the folder cannot be made, another process holds it, or it holds something else.
        """
        folder = cls(path, files)
        _require_ours(path)
        with claimed(path):
            try:
                yield folder
            finally:
                folder._tidy()

    def begin(self, settings: Settings, source: str) -> None:
        """Write down what the evaluation is made with, or see that it is what it was begun with.

        Args:
            settings: all that can change a figure.
            source: of the queries, as the user gave it.

        Raises:
            InputError: it holds an evaluation with other settings.
        """
        self._require(settings, source)
        with full_disk_explained(self.path):
            self.parts.path.mkdir(exist_ok=True)
        put(self.parts.path / _SETTINGS, {"settings": settings, "queries": {"source": source}})

    @property
    def parts(self) -> Parts:
        """What its figures are made of."""
        return Parts(self.path / _PARTS)

    @property
    def finished(self) -> bool:
        """Whether every figure is there, in today's format, and every file."""
        there = all((self.path / name).is_file() for name in (EVAL, *self.files))
        return there and (read(self.path / EVAL) or {}).get("format") == FORMAT

    def result(self) -> EvalResult:
        """What `finish` was given."""
        return read_eval(self.path)

    def finish(self, result: EvalResult) -> None:
        """Write the figures."""
        put(self.path / EVAL, result.to_dict())

    def _require(self, settings: Settings, source: str) -> None:
        places = (self.path / EVAL, self.parts.path / _SETTINGS)
        stored = next((content for place in places if (content := read(place)) is not None), None)
        if stored is None:
            return
        before, now = dict(stored.get("settings", stored)), dict(settings)
        if not (self.path / EVAL).is_file():
            before.pop(_REWARDS, None)
            now.pop(_REWARDS, None)
        changed = differences(before, now)
        if any(change.startswith("queries.") for change in changed):
            asked = stored.get("queries", {}).get("source", "other ones")
            changed = [change for change in changed if not change.startswith("queries.")]
            difference = f"{asked} -> {source}" if asked != source else f"others of {source}"
            changed = [f"queries: {difference}", *changed]
        if changed:
            raise InputError(
                f"holds an evaluation with other settings ({in_words(changed)}).",
                field="out",
                value=self.path,
                advice="Give another {out}, or remove it.",
            )

    def _tidy(self) -> None:
        """Leave nothing but results behind, and what they are made of until they are there."""
        parts = self.parts.path
        if self.finished or not any(parts.glob("*.arrow")):
            shutil.rmtree(parts, ignore_errors=True)


def read_eval(folder: Path) -> EvalResult:
    """The figures of a finished evaluation.

    Raises:
        InputError: there is none, or one of another version.
    """
    content = read(folder / EVAL)
    if content is None:
        raise InputError(f"{folder}: holds no finished evaluation (no {EVAL}); `neat-train eval` makes one.")
    if content.get("format") != FORMAT:
        raise InputError(f"{folder / EVAL}: is no evaluation of format {FORMAT}; run neat-train eval again")
    try:
        return EvalResult.from_dict(content)
    except ValueError as error:
        raise InputError(f"{folder / EVAL}: cannot be read ({error}); run neat-train eval again") from error


def _require_ours(path: Path) -> None:
    if path.is_file():
        raise InputError("is a file; give a folder.", field="out", value=path)
    ours = (path / EVAL).is_file() or (path / _PARTS).is_dir()
    if others(path) and not ours:
        raise InputError("is not empty and holds no evaluation; give another folder.", field="out", value=path)
