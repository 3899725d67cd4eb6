"""The folder of a comparison: what was asked for, the texts that are compared, every verdict, and the figures.

`settings.json` comes first, `texts.jsonl` when all texts are there, `verdicts.jsonl` grows by a line a pair, and
`judge.json` comes last. A kill loses the pairs under way and nothing else. A pair that is judged again has another line
until `finish` leaves the last ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neat_data.errors import InputError
from neat_data.record import Message, Messages, canonical_json
from neat_data.store.atomic import write_atomically
from neat_data.store.claim import changes, claimed, others, put, read
from neat_data.store.documents import Settings
from neat_train.judging.result import JudgeResult
from neat_train.judging.verdicts import JudgedPair
from neat_train.training.json_lines import append, keep, read_rows

SETTINGS, TEXTS, VERDICTS, RESULT = "settings.json", "texts.jsonl", "verdicts.jsonl", "judge.json"
FORMAT = 1
_NOT_TAKEN = "not_taken"


@dataclass(frozen=True, slots=True)
class Texts:
    """A query and what is compared on it; None where a side has nothing to say, `cut` where max_new_tokens ended it."""

    query_id: str
    messages: Messages
    a: str | None
    b: str | None
    chosen: str | None
    rejected: str | None
    a_cut: bool = False
    b_cut: bool = False

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Texts:
        """The inverse of `dataclasses.asdict`."""
        return cls(**{**row, "messages": tuple(Message(**turn) for turn in row["messages"])})


@dataclass(frozen=True, slots=True)
class JudgeFolder:
    """OUT, held by this process."""

    path: Path

    @classmethod
    @contextmanager
    def claim(cls, path: Path) -> Iterator[JudgeFolder]:
        """Make the folder and hold it.

        Raises:
            InputError: another process holds it, or it holds something else than a comparison.
        """
        if others(path) and not _is_comparison(path):
            raise InputError("is not empty and holds no comparison; give another folder.", field="out", value=path)
        with claimed(path):
            keep(path / VERDICTS, lambda row: True)
            yield cls(path)

    def require(self, settings: Settings) -> None:
        """Raise InputError where a comparison with other settings lies here."""
        stored = self._stored()
        if stored and (changed := changes(stored, settings)):
            raise InputError(
                f"holds another comparison ({changed}).",
                field="out",
                value=self.path,
                advice="Go on with its own settings, give another {out}, or remove it.",
            )

    def begin(self, settings: Settings, texts: Sequence[Texts], not_taken: Sequence[str]) -> None:
        """Write what is compared, before anything is judged, and which of its arguments the judge does not take."""
        put(self.path / SETTINGS, {**settings, _NOT_TAKEN: list(not_taken)})
        lines = "".join(canonical_json(asdict(text)) + "\n" for text in texts)
        write_atomically(self.path / TEXTS, lambda file: file.write(lines.encode("utf-8", "backslashreplace")))

    def not_taken(self) -> list[str]:
        """What `begin` was given."""
        return list((read(self.path / SETTINGS) or {}).get(_NOT_TAKEN, []))

    def texts(self) -> list[Texts] | None:
        """What is compared; None where that is not known yet."""
        if not (self.path / TEXTS).exists():
            return None
        return [Texts.from_dict(row) for row in read_rows(self.path / TEXTS)]

    def judged(self) -> list[JudgedPair]:
        """The pairs that were judged so far."""
        return [JudgedPair.from_dict(row) for row in read_rows(self.path / VERDICTS)]

    def add(self, judged: JudgedPair) -> None:
        """Write one more pair."""
        append(self.path / VERDICTS, judged.to_dict())

    def finish(self, judged: Sequence[JudgedPair], result: JudgeResult) -> None:
        """Put the verdicts into the order of the pairs, whichever came first, and mark the comparison as finished."""
        lines = "".join(json.dumps(pair.to_dict(), ensure_ascii=False) + "\n" for pair in judged)
        write_atomically(self.path / VERDICTS, lambda file: file.write(lines.encode("utf-8", "backslashreplace")))
        put(self.path / RESULT, result.to_dict())

    def result(self) -> JudgeResult | None:
        """What `finish` was given; None before."""
        content = read(self.path / RESULT)
        return None if content is None else read_result(content, self.path / RESULT)

    def _stored(self) -> dict[str, Any]:
        return {name: value for name, value in (read(self.path / SETTINGS) or {}).items() if name != _NOT_TAKEN}


def read_result(content: Any, path: Path) -> JudgeResult:
    """The content of a judge.json.

    Raises:
        InputError: it is none, or of another version; `path` is where it lies.
    """
    version = content.get("format") if isinstance(content, dict) else None
    if version is not None and version != FORMAT:
        raise InputError(f"{path}: is of format {version}, not {FORMAT}; run neat-train judge again")
    try:
        return JudgeResult.from_dict(content)
    except ValueError as error:
        raise InputError(f"{path}: is no result of neat-train judge ({error})") from error


def _is_comparison(path: Path) -> bool:
    """The folder of a run or of an evaluation has a settings.json too."""
    try:
        stored = json.loads((path / SETTINGS).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(stored, dict) and {"a", "b", "judge"} <= set(stored)
