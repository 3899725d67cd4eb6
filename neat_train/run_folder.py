"""The folder of a run: which configuration it belongs to, whether it is finished, and who may write to it.

`settings.json` holds the resolved settings, what identifies policy, data and reward model by content, and a fingerprint
over all that can change a byte. `result.json` is written last: a folder that has it is finished.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neat_data.errors import InputError
from neat_data.store.claim import changes, claimed, others, put, read, readable
from neat_data.store.documents import Settings
from neat_data.store.manifest import package_versions
from neat_train.config.settings import FitSettings, fingerprint, identifying, of_earlier_versions
from neat_train.distributed import Ranks
from neat_train.documents import Section

SETTINGS, RESULT = "settings.json", "result.json"
_PACKAGES = ("accelerate", "peft", "trl")  # beside those that making a dataset uses


@dataclass(frozen=True, slots=True)
class Identity:
    """What a run is, by content.

    Attributes:
        settings: those that can change a byte.
        content: of dataset, policy and reward model: what they say of themselves; without any place or time.
    """

    settings: Section
    content: Settings

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
        if others(path) and not (path / SETTINGS).exists():
            raise InputError("is not empty and holds no run; give another folder.", field="out", value=path)
        with claimed(path) if ranks.main else nullcontext():
            ranks.barrier()
            yield cls(path, ranks)

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
        if changed := changes({**stored["identifying"], **shared}, {**identity.settings, **identity.content}):
            raise InputError(
                f"holds a run of another configuration ({changed}).",
                field="out",
                value=self.path,
                advice="Go on with its own settings, give another {out}, or remove it.",
            )

    def write(self, settings: FitSettings, identity: Identity, computing: Mapping[str, Any]) -> None:
        """Write settings.json; every rank calls it, the main one writes.

        Args:
            computing: what came of the settings that leave a choice to the device, for the record: path and attention.
        """
        if self.ranks.main:
            content = {
                "settings": settings.resolved(),
                "fingerprint": identity.fingerprint,
                "identifying": identity.settings,
                "content": identity.content,
                "computing": dict(computing),
                "ranks": self.ranks.world,
                "versions": package_versions(*_PACKAGES),
            }
            put(self.path / SETTINGS, content, sort_keys=True)
        self.ranks.barrier()

    def finish(self, result: dict[str, Any]) -> None:
        """Mark the run as finished."""
        put(self.path / RESULT, result, sort_keys=True)

    def result(self) -> dict[str, Any]:
        """What `finish` was given."""
        with readable(self.path / RESULT):
            return dict(json.loads((self.path / RESULT).read_bytes()))

    def begun_with(self, key: str) -> Any:
        """What the run that lies here was begun with, by its name in the content; None where there is none."""
        stored = self._stored()
        return None if stored is None else stored["content"].get(key)

    def _stored(self) -> dict[str, Any] | None:
        path = self.path / SETTINGS
        stored = read(path)
        if stored is None:
            return None
        with readable(path):
            return {"content": dict(stored["content"]), "identifying": of_earlier_versions(stored["identifying"])}


def run_of(folder: Path) -> Path | None:
    """The run that a folder is, or is a checkpoint of."""
    if (folder / SETTINGS).is_file():
        return folder
    checkpoint = folder.name.startswith("checkpoint-") and (folder.parent / SETTINGS).is_file()
    return folder.parent if checkpoint else None
