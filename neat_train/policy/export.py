"""What a run leaves behind: merged into one model, put on the hub with its card, or both."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard
from yaml import YAMLError

from neat_data.errors import InputError
from neat_data.formats import hub
from neat_data.models.adapter import adapter_config
from neat_data.progress import Silent, Watcher
from neat_data.store.atomic import write_atomically

if TYPE_CHECKING:
    from neat_train.policy.merge import Merged

# What loads the model, and what tells of it; never samples, rounds, datasets or checkpoints.
_NAMES = (
    *("*.safetensors", "*.safetensors.index.json", "adapter_config.json", "config.json", "generation_config.json"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.jinja"),
    *("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"),
    *("README.md", "curves.png", "reliability.png", "base.json"),
)


def check(folder: Path, repository: str, public: bool, *, merging: bool) -> str:
    """The repository's full id, if the model may go there as wanted; asked before any work is done.

    Args:
        folder: the run.
        merging: whether what goes there is a merged model.

    Raises:
        InputError: an adapter whose base model lies in a folder here; and as `neat_data.formats.hub.check`.
        RunError: the hub cannot be reached.
    """
    if not merging and (folder / "adapter_config.json").is_file() and Path(_base_of(folder)).is_absolute():
        raise InputError(
            f"{folder}: is an adapter of a model in a folder, which nobody else has",
            advice="add {merge} {out} FOLDER: a merged model goes to the hub whole",
        )
    return hub.check(repository, public, "model")


def _base_of(folder: Path) -> str:
    """The model that an adapter belongs to, as its configuration names it."""
    return str(adapter_config(str(folder), "run").get("base_model_name_or_path") or "")


def publish(folder: Path, repository: str, *, public: bool) -> str:
    """Upload a model; returns its page. Errors as `neat_data.formats.hub.push_model`."""
    files = sorted({path.name for pattern in _NAMES for path in folder.glob(pattern)})
    return hub.push_model(folder, repository, public=public, files=files)


@dataclass(frozen=True, slots=True)
class MergedCard:
    """The card of a run, changed into that of the model that is merged from it: what it declares, and its text."""

    declared: str
    text: str

    @classmethod
    def of(cls, run: Path) -> MergedCard | None:
        """None where the run has no card.

        Raises:
            InputError: what lies there is none.
        """
        path = run / "README.md"
        if not path.is_file():
            return None
        try:
            card = ModelCard.load(path)
            card.data.library_name = "transformers"
            if card.data.tags:
                card.data.tags = [tag for tag in card.data.tags if tag != "lora"]
            declared = card.data.to_yaml()
        except (TypeError, ValueError, RecursionError, YAMLError) as error:
            raise InputError(
                f"{path}: is no model card ({type(error).__name__}: {str(error)[:200]})", advice="move it away"
            ) from error
        text = card.text.replace("from peft import AutoPeftModelForCausalLM\n", "")
        text = text.replace("import AutoTokenizer", "import AutoModelForCausalLM, AutoTokenizer")
        return cls(declared, text.replace("AutoPeftModelForCausalLM", "AutoModelForCausalLM"))

    def write(self, out: Path, lines: str) -> None:
        """Into the folder of the merged model, with these lines in front of its text."""
        whole = f"---\n{self.declared}\n---\n\n{lines}\n{self.text}"
        write_atomically(out / "README.md", lambda file: file.write(whole.encode()))


@dataclass(frozen=True, slots=True)
class RunExportRequest:
    """What `neat-train export` was asked for.

    Attributes:
        run: a run's folder, one of its checkpoints, or a folder with an adapter.
        merged: whether to merge the adapter, into `out`.
        dtype: of the merged weights; None: the base model's.
        base: the model of the adapter, where that says no more of it than a folder.
        push_to_hub: the repository to upload to; a new one is private unless `public`.
    """

    run: Path
    merged: bool = False
    out: Path | None = None
    dtype: str | None = None
    device: str = "auto"
    push_to_hub: str | None = None
    public: bool = False
    trust_remote_code: bool = False
    base: str | None = None


@dataclass(frozen=True, slots=True)
class RunExportSummary:
    """What came of it.

    Attributes:
        model: the folder to load.
        adapter: whether that is an adapter, which needs its base model.
        merged: of a merged model.
        url: its page on the hub.
    """

    model: Path
    adapter: bool
    merged: Merged | None
    url: str | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        merged = None if self.merged is None else {**asdict(self.merged), "out": str(self.merged.out)}
        return {"model": str(self.model), "adapter": self.adapter, "merged": merged, "url": self.url}


def export(request: RunExportRequest, watch: Watcher | None = None) -> RunExportSummary:
    """Merge and upload as asked.

    Raises:
        InputError: options that do not go together, nothing to export, a place that is taken.
        RunError: the disk is full; the hub refuses.
    """
    watch = watch or Silent()
    _check(request)
    repository = None
    if request.push_to_hub is not None:
        repository = check(request.run, request.push_to_hub, request.public, merging=request.merged)
    merged = _merged(request, watch) if request.merged else None
    model = request.run if merged is None else merged.out
    url = None
    if repository is not None:
        watch.phase("uploading", None)
        url = publish(model, repository, public=request.public)
    return RunExportSummary(model, merged is None and (model / "adapter_config.json").is_file(), merged, url)


def _check(request: RunExportRequest) -> None:
    if not request.run.is_dir():
        raise InputError(f"{request.run}: no such folder")
    if request.merged and request.out is None:
        raise InputError("writes a model", field="merge", advice="say where: {out} FOLDER")
    if not request.merged and (request.out is not None or request.dtype is not None):
        raise InputError(
            "no merging was asked for", field="out" if request.out else "dtype", advice="it goes with {merge}"
        )
    if request.public and request.push_to_hub is None:
        raise InputError("no upload was asked for", field="public", advice="it goes with {push_to_hub}")
    if not request.merged and not any(
        (request.run / name).is_file() for name in ("adapter_config.json", "config.json")
    ):
        raise InputError(f"{request.run}: holds neither an adapter nor a model; give a finished run")


def _merged(request: RunExportRequest, watch: Watcher) -> Merged:
    from neat_train.policy.merge import merge  # after what is asked was checked: torch takes seconds to import

    assert request.out is not None
    card = MergedCard.of(request.run)
    merged = merge(
        request.run, request.out, request.dtype, request.device, request.trust_remote_code, watch, request.base
    )
    if card is not None:
        card.write(merged.out, f"{in_words(merged)}\n")
    return merged


def in_words(merged: Merged) -> str:
    """One sentence for the card and the terminal."""
    return (
        f"The adapter was merged into its model in float32 and stored as {merged.dtype}. On a few dialogues that "
        f"changed log-probabilities by {merged.difference:.2g} at most, and probabilities by {merged.probability:.2g}."
    )
