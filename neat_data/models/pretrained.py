"""A classifier with one output from a folder or the hub, and the sentence for every way in which that can fail.

transformers initialises a missing score head at random with no more than a warning; here that is an error. A hub id is
resolved to its commit once, so that another process, or a run tomorrow, loads the same weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import logging as hub_logging
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from neat_data.errors import InputError
from neat_data.models.device import is_out_of_memory
from neat_data.models.reward import RewardSpec


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model comes from: a folder, or a hub id and a revision."""

    path: str
    revision: str | None
    local: bool

    @classmethod
    def parse(cls, model: str) -> Source:
        """A folder if there is one, else `ID` or `ID@REV`.

        Raises:
            InputError: what looks like a folder does not exist.
        """
        if Path(model).is_dir():
            return cls(model, None, local=True)
        name, _, revision = model.partition("@")
        if Path(model).exists() or name.startswith((".", "/", "~")) or not 0 < name.count("/") < 2:
            raise InputError(f"--reward-model {model}: no such folder, and no hub id of the form OWNER/NAME[@REVISION]")
        return cls(name, revision or None, local=False)

    @property
    def label(self) -> str:
        """The name for settings: a hub id with its revision, or a folder's name without the way to it."""
        return Path(self.path).resolve().name if self.local else self.reference

    @property
    def reference(self) -> str:
        """What loads this very model again."""
        return f"{self.path}@{self.revision}" if self.revision else self.path


@dataclass(frozen=True, slots=True)
class Classifier:
    """A loaded classifier in evaluation mode on the CPU (or where `device_map` put it), and what identifies it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: Source
    identity: dict[str, str]


def load_classifier(spec: RewardSpec, dtype: torch.dtype) -> Classifier:
    """Load the model that `spec` names.

    Raises:
        InputError: it cannot be had, has no score head or more than one output, or its weights are damaged.
    """
    source = Source.parse(spec.model)
    with _silence(), explained(source):
        return _load(spec, source, dtype)


@contextmanager
def _silence() -> Iterator[None]:
    """No bar, no warnings from transformers and the hub: what matters of them is checked here and said in one line."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    hub_level = hub_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    hub_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        hub_logging.set_verbosity(hub_level)
        if bars:
            transformers_logging.enable_progress_bar()


def _load(spec: RewardSpec, source: Source, dtype: torch.dtype) -> Classifier:
    where: dict[str, Any] = {"revision": source.revision, "trust_remote_code": spec.trust_remote_code}
    config = AutoConfig.from_pretrained(source.path, **where)
    check_head(config, source.path)
    if not source.local:
        source = Source(source.path, config._commit_hash or source.revision, local=False)
        where["revision"] = source.revision
    tokenizer = AutoTokenizer.from_pretrained(source.path, **where)
    model, report = AutoModelForSequenceClassification.from_pretrained(
        source.path, dtype=dtype, use_safetensors=True, output_loading_info=True, **where, **spec.model_args
    )
    missing = sorted(report["missing_keys"])
    if missing or report["mismatched_keys"]:
        what = missing[0] if missing else sorted(report["mismatched_keys"])[0]
        raise InputError(
            f"--reward-model {source.path}: has no score head that fits ({what} is missing from its weights)\n"
            "give a model trained as a sequence classifier with one output"
        )
    return Classifier(model.eval(), tokenizer, source, identity_of(source))


def check_head(config: PreTrainedConfig, name: str) -> None:
    """Refuses, before any weights are read, a configuration that cannot give one reward."""
    kinds = config.architectures or []
    if kinds and all(kind.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for kind in kinds):
        raise InputError(
            f"--reward-model {name}: has no score head, it is a generative model ({kinds[0]})\n"
            "give a model trained as a sequence classifier with one output"
        )
    if config.num_labels != 1:
        raise InputError(
            f"--reward-model {name}: has {config.num_labels} outputs, a reward model has one\n"
            "give a sequence classifier with num_labels = 1"
        )


def identity_of(source: Source) -> dict[str, str]:
    """What decides the model's numbers: the hub's commit, or hashes of a folder's weights and configuration."""
    if not source.local:
        return {"revision": source.revision or "unknown"}
    folder = Path(source.path)
    weights = sorted(folder.glob("*.safetensors"))
    return {"weights": _sha256(weights), "config": _sha256([folder / "config.json"])}


def _sha256(paths: list[Path]) -> str:
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
                f"--reward-model {source.path}: no memory for its weights; try --dtype bfloat16"
            ) from error
        what, advice = _explain(source, error)
        raise InputError(f"--reward-model {source.path}: {what}\n{advice}") from error


def _explain(source: Source, error: BaseException) -> tuple[str, str]:
    causes = _causes(error)
    if source.local:
        return _explain_folder(causes)
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
    return _explain_folder(causes)


def _one(causes: list[BaseException], kinds: Any) -> Any:
    return next((cause for cause in causes if isinstance(cause, kinds)), None)


def _explain_status(error: HfHubHTTPError) -> tuple[str, str]:
    status = getattr(error.response, "status_code", None)
    if status in (401, 403):
        return f"the hub refuses access ({status})", "log in with `hf auth login`, or check that the token may read it"
    if status == 429:
        return "the hub asks for patience (429, too many requests)", "wait a minute, or log in with `hf auth login`"
    return f"the hub answers {status}", "try again later, or give a folder"


def _explain_folder(causes: list[BaseException]) -> tuple[str, str]:
    last = " ".join(str(causes[0]).split())[:200]
    if any(isinstance(cause, SafetensorError) for cause in causes):
        return f"a .safetensors file is damaged ({causes[-1]})", "copy or download it again"
    if "safetensors" in last:
        return "has no .safetensors weights", "save it with safetensors: model.save_pretrained(folder)"
    if "trust_remote_code" in last:
        return "brings its own Python code", "if you trust its author, add --trust-remote-code"
    return f"cannot be loaded ({last})", "it should be a folder or hub id of a transformers sequence classifier"


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__ or cause.__context__
    return found


def _page(source: Source) -> str:
    return f"https://huggingface.co/{source.path}"
