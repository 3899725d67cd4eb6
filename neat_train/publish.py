"""A trained model made public, or kept for oneself, on the hub: which files go there, and the card of a merged one."""

from __future__ import annotations

import json
from pathlib import Path

from huggingface_hub import ModelCard

from neat_data.errors import InputError
from neat_data.export import hub
from neat_data.store.atomic import write_atomically

# What loads the model, and what tells of it; never samples, rounds, datasets or checkpoints.
_NAMES = (
    *("*.safetensors", "*.safetensors.index.json", "adapter_config.json", "config.json", "generation_config.json"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.jinja"),
    *("README.md", "curves.png"),
)


def check(folder: Path, repository: str, public: bool, *, merging: bool) -> str:
    """The repository's full id, if the model may go there as wanted; asked before any work is done.

    Args:
        folder: the run.
        merging: whether what goes there is a merged model.

    Raises:
        InputError: an adapter whose base model lies in a folder here; and as `neat_data.export.hub.check`.
        RunError: the hub cannot be reached.
    """
    if not merging and (folder / "adapter_config.json").is_file() and Path(_base_of(folder)).is_absolute():
        raise InputError(
            f"{folder}: is an adapter of a model in a folder, which nobody else has\n"
            "add --merge --out FOLDER: a merged model goes to the hub whole"
        )
    return hub.check(repository, public, "model")


def _base_of(folder: Path) -> str:
    """The model that an adapter belongs to, as its configuration names it."""
    file = folder / "adapter_config.json"
    try:
        return str(json.loads(file.read_bytes()).get("base_model_name_or_path") or "")
    except ValueError as error:
        raise InputError(f"{file}: is not JSON ({error})") from error


def publish(folder: Path, repository: str, *, public: bool) -> str:
    """Upload a model; returns its page. Errors as `neat_data.export.hub.push_model`."""
    files = sorted({path.name for pattern in _NAMES for path in folder.glob(pattern)})
    return hub.push_model(folder, repository, public=public, files=files)


def write_merged_card(run: Path, out: Path, lines: str) -> None:
    """The card of a run, for the model that was merged from it; none where the run has none."""
    if not (run / "README.md").is_file():
        return
    card = ModelCard.load(run / "README.md")
    card.data.library_name = "transformers"
    if card.data.tags:
        card.data.tags = [tag for tag in card.data.tags if tag != "lora"]
    text = card.text.replace("from peft import AutoPeftModelForCausalLM\n", "")
    text = text.replace("import AutoTokenizer", "import AutoModelForCausalLM, AutoTokenizer")
    text = text.replace("AutoPeftModelForCausalLM", "AutoModelForCausalLM")
    whole = f"---\n{card.data.to_yaml()}\n---\n\n{lines}\n{text}"
    write_atomically(out / "README.md", lambda file: file.write(whole.encode()))
