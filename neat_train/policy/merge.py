"""An adapter merged into its model: added in float32, rounded once, and compared with what it was.

Merging into half-precision weights would round twice, and adding to weights that were rounded already would not come
back; so the base model is loaded in float32, and the sum is cast to the type that it is stored in.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from neat_data.errors import InputError
from neat_data.models.device import DTYPES, dtype_name
from neat_data.models.sampler import SamplerSpec
from neat_data.models.templates import ChatTemplate
from neat_data.models.weights import copy_processor, load_policy_config, silence
from neat_data.progress import Watcher
from neat_data.record import Message, Messages
from neat_data.store.atomic import full_disk_explained
from neat_train.config.settings import LoraSettings
from neat_train.policy.policy import Policy, PolicySpec, load_policy_to_train

# A greeting, a dialogue of some turns, and text that is not prose.
PROBES: tuple[Messages, ...] = (
    (Message("user", "Hello!"), Message("assistant", "Hello. How can I help you today?")),
    (
        Message("user", "What is the capital of France?"),
        Message("assistant", "Paris."),
        Message("user", "And how many people live there? Tell me about its history, too."),
        Message("assistant", "About two million people live in Paris. It was founded more than 2,000 years ago."),
    ),
    (Message("user", "Add 17 and 25 in Python."), Message("assistant", "print(17 + 25)  # 42")),
)


@dataclass(frozen=True, slots=True)
class Merged:
    """What came of it.

    Attributes:
        out: the folder; it loads as an ordinary model.
        dtype: that its weights are stored in.
        difference: of log-probabilities, the largest over every token of a few dialogues and the whole vocabulary,
            between the merged weights and model and adapter apart, both computed in float32.
        probability: the same of probabilities, which tells how much of it can be seen in what is sampled.
    """

    out: Path
    dtype: str
    difference: float
    probability: float


def merge(
    run: Path,
    out: Path,
    dtype: str | None,
    device: str,
    trust_remote_code: bool,
    watch: Watcher,
    base: str | None = None,
) -> Merged:
    """Write the model in `out` that the adapter in `run` makes of its base model.

    Args:
        run: a run's folder, one of its checkpoints, or any folder with a LoRA adapter.
        out: where nothing is yet.
        dtype: the type of the weights; None: that of the base model.
        base: the base model, where the adapter says no more of it than a folder.

    Raises:
        InputError: nothing to merge, a place that is taken, an unknown type.
        RunError: the disk is full.
    """
    _check(run, out, dtype)
    watch.phase("loading", None)
    policy = _loaded(run, device, trust_remote_code, base)
    to = DTYPES[dtype] if dtype else _stored_as(policy)
    with silence():
        watch.phase("merging", None)
        apart = _logps(policy.model, policy.template, policy.device)
        model: Any = policy.model
        assert isinstance(model, PeftModel)
        merged: PreTrainedModel = model.merge_and_unload()
        nn.Module.to(merged, to)
        _write(merged, policy, run, out)
        nn.Module.to(merged, torch.float32)  # the rounded values, computed with as before
        together = _logps(merged, policy.template, policy.device)
    return Merged(out, dtype_name(to), _largest(apart, together), _largest(_exp(apart), _exp(together)))


def _check(run: Path, out: Path, dtype: str | None) -> None:
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"unknown; choose {', '.join(DTYPES)}", field="dtype", value=dtype)
    if not (run / "adapter_config.json").is_file():
        raise InputError(f"{run}: has no adapter to merge; where all weights were trained, it loads as it is")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("is taken; give a new folder", field="out", value=out)


def _loaded(run: Path, device: str, trust_remote_code: bool, base: str | None) -> Policy:
    spec = PolicySpec(
        str(run),
        False,
        LoraSettings(),
        device=device,
        dtype="float32",
        trust_remote_code=trust_remote_code,
        base=base,
    )
    return load_policy_to_train(spec)


def _stored_as(policy: Policy) -> torch.dtype:
    """The type that the base model's configuration names."""
    asked = SamplerSpec(policy.source.reference, trust_remote_code=policy.spec.trust_remote_code)
    named = load_policy_config(asked)[1].dtype
    return named if isinstance(named, torch.dtype) else torch.float32


def _write(merged: PreTrainedModel, policy: Policy, run: Path, out: Path) -> None:
    """All of it beside `out` first, which it becomes when it is whole."""
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with full_disk_explained(out):
        merged.config.dtype = merged.dtype
        merged.save_pretrained(partial)
        policy.tokenizer.save_pretrained(partial)
        copy_processor(policy.source, partial)
        if (run / "curves.png").is_file():
            shutil.copy2(run / "curves.png", partial / "curves.png")
    if out.exists():
        out.rmdir()
    partial.rename(out)


@torch.no_grad()
def _logps(model: nn.Module, template: ChatTemplate, device: torch.device) -> list[Tensor]:
    """Log-probabilities of the whole vocabulary at every token of each probe, on the host."""
    logps = []
    for messages in PROBES:
        ids = torch.tensor([template.ids(messages)], device=device)
        logps.append(F.log_softmax(model(input_ids=ids, use_cache=False).logits[0].float(), -1).cpu())
    return logps


def _exp(logps: Sequence[Tensor]) -> list[Tensor]:
    return [each.exp() for each in logps]


def _largest(one: Sequence[Tensor], two: Sequence[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(one, two, strict=True))
