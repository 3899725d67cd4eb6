"""A LoRA adapter over a causal language model: made from a seed or taken from a folder, saved and read again.

The adapter that is trained is called `default`. Where training goes on from an adapter there is a second one,
`reference`: the same weights, frozen. The base model's weights are never written to.
"""

from __future__ import annotations

import copy
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from neat_data.errors import InputError
from neat_data.models.adapter import adapted, adapter_config, weight_names

if TYPE_CHECKING:
    from neat_train.config.settings import LoraSettings

TRAINED, REFERENCE = "default", "reference"
WEIGHTS = "adapter_model.safetensors"
# What an adapter's own file says, by the name that our settings give it.
_SAVED_AS = {"r": "r", "alpha": "lora_alpha", "dropout": "lora_dropout", "target_modules": "target_modules"}


def new_adapter(model: PreTrainedModel, settings: LoraSettings, seed: int, task: str = "CAUSAL_LM") -> PeftModel:
    """The model with a fresh adapter: A drawn from `seed` alone, whatever was drawn before, and B zero.

    Args:
        task: peft's name for what the model is; the score head of a SEQ_CLS is trained, and saved with the adapter.

    Raises:
        InputError: no layer has such a name.
    """
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.target_modules,
        exclude_modules=_beside_language(model) if settings.target_modules == "all-linear" else None,
        task_type=task,
    )
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tied embeddings, which an adapter leaves alone
        torch.manual_seed(seed)
        try:
            peft_model = get_peft_model(model, config, autocast_adapter_dtype=settings.dtype == "float32")
        except ValueError as error:
            named = " ".join(str(error).split())[:160]
            raise InputError(f"lora.target_modules {settings.target_modules}: does not fit the policy ({named})") from (
                error
            )
    assert isinstance(peft_model, PeftModel)
    return peft_model


def _beside_language(model: PreTrainedModel) -> str | None:
    """A pattern for the linear layers of a model that are none of its language's: those that look at pictures."""
    decoder = model.get_decoder()
    prefix = next((name for name, module in model.named_modules() if module is decoder), "")
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not prefix or all(name.startswith(f"{prefix}.") or name in ("lm_head", "score") for name in layers):
        return None
    return rf"(?!{re.escape(prefix)}\.).*"


def adapter_to_go_on(model: PreTrainedModel, folder: str, settings: LoraSettings) -> PeftModel:
    """The model with the adapter in `folder` twice: `reference`, frozen, and `default`, to be trained.

    Raises:
        InputError: it does not fit the model, is no LoRA adapter, or the settings ask for another shape.
    """
    _check(folder, settings)
    cast = settings.dtype == "float32"
    peft_model = adapted(model, folder, "policy", is_trainable=True, autocast_adapter_dtype=cast)
    if weight_names(folder) != set(get_peft_model_state_dict(peft_model, save_embedding_layers=False)):
        raise InputError(
            "holds embeddings beside its adapter; merge it into its model, and go on from that",
            field="policy",
            value=folder,
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # On the CPU, and from there to wherever the layers are.
        peft_model.load_adapter(folder, REFERENCE, is_trainable=False, torch_device="cpu", autocast_adapter_dtype=cast)
    return peft_model


def save_adapter(model: PeftModel, folder: Path, base: str, revision: str | None) -> None:
    """Write the trained adapter as peft does, but for a model card: weights in safetensors, and its configuration.

    Args:
        base, revision: the model that it belongs to, as another process finds it.
    """
    weights = get_peft_model_state_dict(model, adapter_name=TRAINED, save_embedding_layers=False)
    save_file(
        {name: weight.detach().cpu().contiguous() for name, weight in weights.items()},
        folder / WEIGHTS,
        metadata={"format": "pt"},
    )
    config: Any = copy.copy(model.peft_config[TRAINED])
    config.base_model_name_or_path, config.revision, config.inference_mode = base, revision, True
    for name, value in vars(config).items():
        if isinstance(value, set):
            setattr(config, name, sorted(value))  # a set is written in another order by every process
    config.save_pretrained(str(folder))


def read_adapter(model: PeftModel, folder: Path) -> None:
    """Put the weights that `save_adapter` wrote into the adapter that is trained, in whatever type it has."""
    report: Any = set_peft_model_state_dict(model, load_file(folder / WEIGHTS), adapter_name=TRAINED)
    assert not report.unexpected_keys, report.unexpected_keys


def _check(folder: str, settings: LoraSettings) -> None:
    saved = adapter_config(folder, "policy")
    if saved.get("peft_type") != "LORA":
        raise InputError(
            f"is an adapter of kind {saved.get('peft_type')}; fit goes on from LoRA", field="policy", value=folder
        )
    for name in sorted(settings.model_fields_set & _SAVED_AS.keys()):
        has, asked = saved[_SAVED_AS[name]], getattr(settings, name)
        if asked != "all-linear" and has != asked and not (isinstance(has, list) and set(has) == set(asked)):
            raise InputError(f"lora.{name} {asked}: the policy {folder} goes on with its own adapter, which has {has}")
