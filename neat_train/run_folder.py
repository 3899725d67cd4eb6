"""The folder of a run: which configuration it belongs to, whether it is finished, and who may write to it.

`settings.json` holds the resolved settings, what identifies policy, data and reward model by content, and a fingerprint
over all that can change a byte. `result.json` is written last: a folder that has it is finished.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from neat_data.errors import InputError
from neat_data.store.atomic import full_disk_explained, locked, remove_leftovers, write_atomically
from neat_data.store.manifest import differences
from neat_train.config.settings import FitSettings, fingerprint, identifying
from neat_train.distributed import Ranks

SETTINGS, RESULT = "settings.json", "result.json"
_PACKAGES = ("neat-align", "torch", "transformers", "peft", "accelerate", "trl", "tokenizers", "pyarrow", "vllm")


@dataclass(frozen=True, slots=True)
class Identity:
    """What a run is, by content.

    Attributes:
        settings: those that can change a byte.
        content: of dataset, policy and reward model: what they say of themselves; without any place or time.
    """

    settings: dict[str, Any]
    content: dict[str, Any]

    @classmethod
    def of(cls, settings: FitSettings, **content: Any) -> Identity:
        return cls(identifying(settings), content)

    @property
    def fingerprint(self) -> str:
        return fingerprint({"settings": self.settings, **self.content})


@dataclass(frozen=True, slots=True)
class RunFolder:
    """RUN, held by this process where it is the main one."""

    path: Path
    ranks: Ranks

    @classmethod
    @contextmanager
    def claim(cls, path: Path, ranks: Ranks) -> Iterator[RunFolder]:
        """Make the folder and hold it.

        Raises:
            InputError: another process holds it, or it holds something else than a run.
        """
        if path.is_dir() and not (path / SETTINGS).exists() and _strange(path):
            raise InputError("is not empty and holds no run; give another folder.", field="out", value=path)
        if ranks.main:
            with full_disk_explained(path):
                path.mkdir(parents=True, exist_ok=True)
        ranks.barrier()
        try:
            with locked(path) if ranks.main else nullcontext():
                if ranks.main:
                    remove_leftovers(path)
                yield cls(path, ranks)
        finally:
            if ranks.main and not any(path.iterdir()):  # what was asked for could not be begun
                path.rmdir()

    @property
    def finished(self) -> bool:
        """Whether the run that lies here came to its end."""
        return (self.path / RESULT).exists()

    def require(self, identity: Identity) -> None:
        """Raise InputError where a run of another configuration lies here; what `identity` leaves out is not compared.

        Of the two contents only what both have is compared, so that cheap checks can come first.
        """
        stored = self._stored()
        if stored is None:
            return
        shared = {key: value for key, value in stored["content"].items() if key in identity.content}
        changed = differences({**stored["identifying"], **shared}, {**identity.settings, **identity.content})
        if changed:
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            raise InputError(
                f"holds a run of another configuration ({'; '.join(changed[:3])}{more}).\n"
                "Go on with its own settings, give another --out, or remove it.",
                field="out",
                value=self.path,
            )

    def write(self, settings: FitSettings, identity: Identity) -> None:
        """Write settings.json; every rank calls it, the main one writes."""
        if self.ranks.main:
            content = {
                "settings": settings.resolved(),
                "fingerprint": identity.fingerprint,
                "identifying": identity.settings,
                "content": identity.content,
                "ranks": self.ranks.world,
                "versions": _versions(),
            }
            self._put(SETTINGS, content)
        self.ranks.barrier()

    def finish(self, result: dict[str, Any]) -> None:
        """Mark the run as finished."""
        self._put(RESULT, result)

    def result(self) -> dict[str, Any]:
        """What `finish` was given."""
        return json.loads((self.path / RESULT).read_bytes())

    def begun_with(self, key: str) -> Any:
        """What the run that lies here was begun with, by its name in the content; None where there is none."""
        stored = self._stored()
        return None if stored is None else stored["content"].get(key)

    def _stored(self) -> dict[str, Any] | None:
        path = self.path / SETTINGS
        if not path.exists():
            return None
        try:
            stored = json.loads(path.read_bytes())
            return {"content": dict(stored["content"]), "identifying": dict(stored["identifying"])}
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: cannot be read ({error}); give another --out, or remove the run.") from error

    def _put(self, name: str, content: dict[str, Any]) -> None:
        text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
        write_atomically(self.path / name, lambda file: file.write(text.encode()))


def run_of(folder: Path) -> Path | None:
    """The run that a folder is, or is a checkpoint of."""
    if (folder / SETTINGS).is_file():
        return folder
    checkpoint = folder.name.startswith("checkpoint-") and (folder.parent / SETTINGS).is_file()
    return folder.parent if checkpoint else None


def _strange(path: Path) -> bool:
    return any(not entry.name.startswith(".") for entry in path.iterdir())


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
