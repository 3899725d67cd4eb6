"""Where a pretrained model comes from, what identifies it, and the sentence for every way in which it cannot be had."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError

from neat_data.errors import InputError
from neat_data.models.device import is_out_of_memory


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model comes from: a folder, or a hub id and a revision.

    Attributes:
        option, kind: the option that named it and what it is to be, for messages.
    """

    path: str
    revision: str | None
    local: bool
    option: str = "--reward-model"
    kind: str = "sequence classifier"

    @classmethod
    def parse(cls, model: str, option: str = "--reward-model", kind: str = "sequence classifier") -> Source:
        """A folder if there is one, else `ID` or `ID@REV`.

        Raises:
            InputError: what looks like a folder does not exist.
        """
        if Path(model).is_dir():
            return cls(model, None, local=True, option=option, kind=kind)
        name, _, revision = model.partition("@")
        if Path(model).exists() or name.startswith((".", "/", "~")) or not 0 < name.count("/") < 2:
            raise InputError(f"{option} {model}: no such folder, and no hub id of the form OWNER/NAME[@REVISION]")
        return cls(name, revision or None, local=False, option=option, kind=kind)

    @property
    def label(self) -> str:
        """The name for settings: a hub id with its revision, or a folder's name without the way to it."""
        return Path(self.path).resolve().name if self.local else self.reference

    @property
    def reference(self) -> str:
        """What loads this very model again."""
        return f"{self.path}@{self.revision}" if self.revision else self.path


def identity_of(source: Source) -> dict[str, str]:
    """What decides the model's numbers: the hub's commit, or hashes of a folder's weights and configuration."""
    if not source.local:
        return {"revision": source.revision or "unknown"}
    folder = Path(source.path)
    weights = sorted(folder.glob("*.safetensors"))
    return {"weights": sha256_of(weights), "config": sha256_of([folder / "config.json"])}


def sha256_of(paths: list[Path]) -> str:
    """One hash over the contents of some files, in this order."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


@contextmanager
def explained(source: Source) -> Iterator[None]:
    """Turns what transformers and the hub raise into two lines: what is wrong, and what to do."""
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, TypeError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        if is_out_of_memory(error):
            raise InputError(
                f"{source.option} {source.path}: no memory for its weights; try --dtype bfloat16"
            ) from error
        what, advice = _explain(source, error)
        raise InputError(f"{source.option} {source.path}: {what}\n{advice}") from error


def _explain(source: Source, error: BaseException) -> tuple[str, str]:
    causes = _causes(error)
    if source.local:
        return _explain_folder(source, causes)
    # In this order: a refusal by the hub may come wrapped in an error that speaks of the cache alone.
    if _one(causes, GatedRepoError):
        return "the hub keeps it behind a form (gated)", f"accept its terms at {_page(source)}, then `hf auth login`"
    if _one(causes, RevisionNotFoundError):
        return f"the hub has no revision {source.revision}", f"see {_page(source)}/commits"
    if _one(causes, RepositoryNotFoundError):
        return "the hub has no such model, or it is private", "check the name; for a private one, `hf auth login`"
    if refused := _one(causes, HfHubHTTPError):
        return _explain_status(refused)
    if _one(causes, (OfflineModeIsEnabled, LocalEntryNotFoundError, ConnectionError)):
        return "the hub cannot be reached and there is no copy in the cache", "go online once, or give a folder"
    return _explain_folder(source, causes)


def _one(causes: list[BaseException], kinds: Any) -> Any:
    return next((cause for cause in causes if isinstance(cause, kinds)), None)


def _explain_status(error: HfHubHTTPError) -> tuple[str, str]:
    status = getattr(error.response, "status_code", None)
    if status in (401, 403):
        return f"the hub refuses access ({status})", "log in with `hf auth login`, or check that the token may read it"
    if status == 429:
        return "the hub asks for patience (429, too many requests)", "wait a minute, or log in with `hf auth login`"
    return f"the hub answers {status}", "try again later, or give a folder"


def _explain_folder(source: Source, causes: list[BaseException]) -> tuple[str, str]:
    last = " ".join(str(causes[0]).split())[:200]
    if any(isinstance(cause, SafetensorError) for cause in causes):
        return f"a .safetensors file is damaged ({causes[-1]})", "copy or download it again"
    if "safetensors" in last:
        return "has no .safetensors weights", "save it with safetensors: model.save_pretrained(folder)"
    if "tokenizer" in last:
        return (
            f"has no tokenizer that can be loaded ({last})",
            "put the tokenizer it was trained with beside its weights",
        )
    if "trust_remote_code" in last:
        return "brings its own Python code", "if you trust its author, add --trust-remote-code"
    return f"cannot be loaded ({last})", f"it should be a folder or hub id of a transformers {source.kind}"


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__ or cause.__context__
    return found


def _page(source: Source) -> str:
    return f"https://huggingface.co/{source.path}"
