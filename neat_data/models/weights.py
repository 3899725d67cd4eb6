"""Pretrained weights: where they come from, what identifies them, and loading them.

Of every way in which a model cannot be had, one sentence says what to do.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from neat_data.errors import InputError
from neat_data.models.arguments import for_the_model
from neat_data.models.device import is_out_of_memory
from neat_data.models.own_class import own_class, refuse_own_class, running_own_code
from neat_data.models.reward_model import RewardModelSpec
from neat_data.models.sampler import SamplerSpec

_PROCESSOR = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
_CAUSAL = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model comes from: a folder, or a hub id and a revision.

    Attributes:
        field, kind: the argument that named it and what it is to be, for messages.
    """

    path: str
    revision: str | None
    local: bool
    field: str = "reward_model"
    kind: str = "sequence classifier"

    @classmethod
    def parse(cls, model: str, field: str = "reward_model", kind: str = "sequence classifier") -> ModelSource:
        """A folder if there is one, else `ID` or `ID@REV`.

        Raises:
            InputError: what looks like a folder does not exist.
        """
        if Path(model).is_dir():
            return cls(model, None, local=True, field=field, kind=kind)
        name, _, revision = model.partition("@")
        if Path(model).exists() or name.startswith((".", "/", "~")) or not 0 < name.count("/") < 2:
            raise InputError(
                "no such folder, and no hub id of the form OWNER/NAME[@REVISION]", field=field, value=model
            )
        return cls(name, revision or None, local=False, field=field, kind=kind)

    def wrong(self, what: str, advice: str | None = None) -> InputError:
        """What is wrong with it, as an error of the argument that named it."""
        return InputError(what, field=self.field, value=self.path, advice=advice)

    @property
    def label(self) -> str:
        """The name for settings: a hub id with its revision, or a folder's name without the way to it."""
        return Path(self.path).resolve().name if self.local else self.reference

    @property
    def reference(self) -> str:
        """What loads this very model again."""
        return f"{self.path}@{self.revision}" if self.revision else self.path


def identity_of(source: ModelSource) -> dict[str, str]:
    """What decides the model's numbers: the hub's commit, or hashes of a folder's weights and configuration."""
    if not source.local:
        return {"revision": source.revision or "unknown"}
    folder = Path(source.path)
    weights = sorted(folder.glob("*.safetensors"))
    return {"weights": sha256_of(weights), "config": sha256_of([folder / "config.json"])}


def copy_processor(source: ModelSource, folder: Path) -> None:
    """Put beside a model's weights in `folder` what its source says of pictures and sounds, where it says something.

    A policy is loaded and saved as text alone; without these files what was saved could see no more.
    """
    for name in _PROCESSOR:
        with silence():
            cached = cached_file(
                source.path,
                name,
                revision=source.revision,
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False,
            )
        if cached is not None:
            shutil.copyfile(cached, folder / name)


def sha256_of(paths: list[Path]) -> str:
    """One hash over the contents of some files, in this order."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


@contextmanager
def explained(source: ModelSource) -> Iterator[None]:
    """Turns what transformers and the hub raise into two lines: what is wrong, and what to do."""
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, TypeError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        if is_out_of_memory(error):
            raise source.wrong("no memory for its weights", "try {dtype} bfloat16") from error
        raise source.wrong(*_explain(source, error)) from error


def _explain(source: ModelSource, error: BaseException) -> tuple[str, str]:
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


def _explain_folder(source: ModelSource, causes: list[BaseException]) -> tuple[str, str]:
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
        return "brings its own Python code", "if you trust its author, add {trust_remote_code}"
    return f"cannot be loaded ({last})", f"it should be a folder or hub id of a transformers {source.kind}"


def _causes(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    return chain


def _page(source: ModelSource) -> str:
    return f"https://huggingface.co/{source.path}"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in evaluation mode on the CPU (or where `device_map` put it), and what identifies it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: ModelSource
    identity: dict[str, str]


def load_classifier(spec: RewardModelSpec, dtype: torch.dtype) -> Loaded:
    """Load the reward model that `spec` names.

    Raises:
        InputError: it cannot be had, has no score head or more than one output, or its weights are damaged.
    """
    source, config = _classifier_config(spec)
    with silence(), explained(source), running_own_code(source.path, config):
        loaded, missing = _load(AutoModelForSequenceClassification, source, spec, dtype)
    if missing:
        raise InputError(
            f"has no score head that fits ({missing} is missing from its weights)\n"
            "give a model trained as a sequence classifier with one output",
            field="reward_model",
            value=source.path,
        )
    return loaded


def load_body_of_classifier(
    source: ModelSource, spec: RewardModelSpec, dtype: torch.dtype
) -> tuple[PreTrainedModel, list[str]]:
    """A model as a classifier with one output, whatever it is, and the names of weights that its files lack.

    For heads that come from elsewhere: an adapter's, or one that is to be trained.

    Raises:
        InputError: it cannot be had, or its weights are damaged.
    """
    with silence(), explained(source):
        config = AutoConfig.from_pretrained(
            source.path, revision=source.revision, trust_remote_code=spec.trust_remote_code
        )
        if not spec.trust_remote_code:
            refuse_kernels(config, source)
        model, missing = _model(AutoModelForSequenceClassification, source, spec, dtype, num_labels=1)
    return model.eval(), missing


def load_classifier_source(spec: RewardModelSpec) -> ModelSource:
    """Where a reward model comes from, a hub id resolved to its commit; no weights are read, errors are the same."""
    return _classifier_config(spec)[0]


def _classifier_config(spec: RewardModelSpec) -> tuple[ModelSource, PreTrainedConfig]:
    source = ModelSource.parse(spec.model)
    with silence(), explained(source):
        refuse_adapter(source)
        refuse_own_class(source.path, source.revision, spec.trust_remote_code)
        config = _config_of(source, spec, check_head)
    return resolved(source, config), config


def policy_source(model: str) -> ModelSource:
    """Where a policy comes from; InputError where what looks like a folder does not exist."""
    return ModelSource.parse(model, "policy", "causal language model")


def load_policy(spec: SamplerSpec, dtype: torch.dtype) -> Loaded:
    """Load the causal language model that `spec` names, without its adapter.

    Raises:
        InputError: it cannot be had, does not generate, has no tokenizer, or its weights are damaged.
    """
    source, _ = load_policy_config(spec)
    with silence(), explained(source):
        loaded, missing = _load(AutoModelForCausalLM, source, spec, dtype)
    if missing:
        raise InputError(
            f"{missing} is missing from its weights\n"
            "copy or download it again, or give a model that was saved as a causal language model",
            field="policy",
            value=source.path,
        )
    return loaded


def load_policy_shape(spec: SamplerSpec) -> tuple[ModelSource, PreTrainedConfig, PreTrainedTokenizerBase]:
    """Where a policy comes from, its configuration and its tokenizer, for back ends that load the weights themselves.

    Errors as `load_policy`.
    """
    source, config = load_policy_config(spec)
    with silence(), explained(source):
        return source, config, _tokenizer_of(source, spec)


def load_policy_config(spec: SamplerSpec) -> tuple[ModelSource, PreTrainedConfig]:
    """Where a policy comes from, a hub id resolved to its commit, and its configuration; errors as `load_policy`."""
    source = policy_source(spec.model)
    with silence(), explained(source):
        config = _config_of(source, spec, check_generative)
    return resolved(source, config), config


def resolved(source: ModelSource, config: PreTrainedConfig) -> ModelSource:
    """A hub id with the commit that its configuration came from; a folder as it is."""
    return source if source.local else replace(source, revision=config._commit_hash or source.revision)


@contextmanager
def silence() -> Iterator[None]:
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


def _config_of(source: ModelSource, spec: RewardModelSpec | SamplerSpec, check: Any) -> PreTrainedConfig:
    refuse_adapter(source)
    config = AutoConfig.from_pretrained(source.path, revision=source.revision, trust_remote_code=spec.trust_remote_code)
    if not spec.trust_remote_code:
        refuse_kernels(config, source)
    check(config, source.path)
    return config


def refuse_adapter(source: ModelSource) -> None:
    """Refuses a folder that holds an adapter alone, where a whole model is wanted."""
    if (Path(source.path) / "adapter_config.json").exists() and not (Path(source.path) / "config.json").exists():
        raise source.wrong("is an adapter without its model; give the model it belongs to")


def refuse_kernels(config: PreTrainedConfig, source: ModelSource) -> None:
    """Refuses a configuration that asks for kernels of a repository, which are code that comes with no model class."""
    parts = [config, *(getattr(config, name, None) for name in config.sub_configs)]
    names = (getattr(part, f"_{kind}_implementation", None) for part in parts for kind in ("attn", "experts"))
    if kernel := next((name for name in names if isinstance(name, str) and "/" in name), None):
        raise source.wrong(
            f"its config.json asks for the code of {kernel}", "if you trust its author, add {trust_remote_code}"
        )


def _tokenizer_of(source: ModelSource, spec: RewardModelSpec | SamplerSpec) -> PreTrainedTokenizerBase:
    tokenizer = AutoTokenizer.from_pretrained(
        source.path, revision=source.revision, trust_remote_code=spec.trust_remote_code
    )
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # made up from the kind of model where there are no files
        raise ValueError("its tokenizer has no vocabulary")
    return tokenizer


def _load(
    kind: Any, source: ModelSource, spec: RewardModelSpec | SamplerSpec, dtype: torch.dtype
) -> tuple[Loaded, str | None]:
    """The model, and the name of a weight that its files lack or hold in another shape."""
    tokenizer = _tokenizer_of(source, spec)
    model, wrong = _model(kind, source, spec, dtype)
    return Loaded(model.eval(), tokenizer, source, identity_of(source)), wrong[0] if wrong else None


def _model(
    kind: Any, source: ModelSource, spec: RewardModelSpec | SamplerSpec, dtype: torch.dtype, **options: Any
) -> tuple[PreTrainedModel, list[str]]:
    """The model, and the names of the weights that its files lack or hold in another shape."""
    model, report = kind.from_pretrained(
        source.path,
        dtype=dtype,
        use_safetensors=True,
        output_loading_info=True,
        revision=source.revision,
        trust_remote_code=spec.trust_remote_code,
        **for_the_model(spec.model_args),
        **options,
    )
    return model, sorted(report["missing_keys"]) or sorted(map(str, report["mismatched_keys"]))


def check_head(config: PreTrainedConfig, name: str) -> None:
    """Refuses, before any weights are read, a configuration that cannot give one reward.

    What a class of the model's own gives is seen when it runs.
    """
    kinds = config.architectures or []
    if kinds and all(kind.endswith(_CAUSAL) for kind in kinds):
        raise InputError(
            f"has no score head, it is a generative model ({kinds[0]})\n"
            "give a model trained as a sequence classifier with one output",
            field="reward_model",
            value=name,
        )
    if own_class(kinds) is None and config.num_labels != 1:
        raise InputError(
            f"has {config.num_labels} outputs, a reward model has one\ngive a sequence classifier with num_labels = 1",
            field="reward_model",
            value=name,
        )


def check_generative(config: PreTrainedConfig, name: str) -> None:
    """Refuses, before any weights are read, a configuration of a model that does not continue a text."""
    kinds = config.architectures or []
    if getattr(config, "is_encoder_decoder", False):
        raise InputError("is an encoder with a decoder; give a causal language model", field="policy", value=name)
    if kinds and not any(kind.endswith(_CAUSAL) for kind in kinds):
        what = "a classifier" if any("Classification" in kind for kind in kinds) else "an encoder"
        raise InputError(
            f"is {what} ({kinds[0]}) and generates no text; give a causal language model", field="policy", value=name
        )
