"""What is shipped of a run of `fit --method reward`: the adapter with its head, and the hash of the model it is for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"


def ship(run: Path, folder: Path) -> Path:
    """Write the adapter of `run` to `folder`, in bfloat16 and without the paths of who trained it.

    The tokenizer and the chat template are the base model's and stay there.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    weights = {name: weight.to(torch.bfloat16).contiguous() for name, weight in load_file(run / _WEIGHTS).items()}
    save_file(weights, folder / _WEIGHTS, metadata={"format": "pt"})
    config = {**json.loads((run / _CONFIG).read_bytes()), "base_model_name_or_path": None}
    (folder / _CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    shutil.copyfile(run / "base.json", folder / "base.json")
    return folder
