"""What a run will need in memory, estimated from files and shapes before anything is loaded.

Some of it is there all the time (weights, optimiser), some in turns (activations of a micro-batch, the sampler's
cache): of that the largest counts. Weights and the cache are counted as `neat_data.models.memory` does; activations are
those of a decoder whose attention keeps no scores, and a rough figure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig

from neat_data.errors import InputError
from neat_data.models.device import resolve_dtype
from neat_data.models.memory import Need, estimate, free_bytes
from neat_data.models.reward_model import RewardModelSpec
from neat_data.models.sampler import SamplerSpec
from neat_data.models.weights import load_policy_config, silence
from neat_train.config.settings import FitSettings, LoraSettings
from neat_train.policy.policy import PolicySpec
from neat_train.policy.start import base_of

_GB = 1e9
_ADAM = 2  # running means a parameter has, of its own type
_FOUR_BITS = 0.56  # bytes of a weight, its share of the scales included


@dataclass(frozen=True, slots=True)
class MemorySum:
    """Bytes of a device by what they are for.

    Attributes:
        always: there all the time.
        turns: never two at once.
    """

    device: torch.device
    always: dict[str, float]
    turns: dict[str, float]
    free: float

    @property
    def total(self) -> float:
        """The most that is there at once."""
        return sum(self.always.values()) + max(self.turns.values(), default=0)

    def line(self) -> str:
        """The sum, for a person."""
        parts = [f"{name} {size / _GB:.2f}" for name, size in self.always.items()]
        turns = [f"{name} {size / _GB:.2f}" for name, size in self.turns.items()]
        return (
            f"memory on {self.device}, GB: {' + '.join(parts)} + in turns {' | '.join(turns)} "
            f"= {self.total / _GB:.2f} of {self.free / _GB:.2f} free (estimated)"
        )

    def check(self) -> None:
        """Raise InputError where it does not fit."""
        if self.total > self.free:
            raise InputError(
                f"{self.line()}\ntry a smaller token_budget, gradient_checkpointing true, load_in_4bit, or "
                "rounds.placement devices or server"
            )


def memory_sum(
    settings: FitSettings,
    policy: PolicySpec,
    reward: RewardModelSpec | None,
    device: torch.device,
    world: int,
    reward_rests: bool,
) -> MemorySum:
    """What a rank needs on its device; on a CPU, which all ranks share, what all of them need.

    Args:
        reward: a reward model on the same device.
        reward_rests: it is there only while it scores.

    Raises:
        InputError: models that do not exist.
    """
    dtype = torch.float32 if policy.full else resolve_dtype(policy.dtype, device)
    spec = SamplerSpec(
        _base(policy),
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
        model_args=policy.model_args or {},
        trust_remote_code=policy.trust_remote_code,
    )
    _, config = load_policy_config(spec)
    need = estimate(spec)
    always = _of_the_policy(policy, config, need, dtype, world)
    assert settings.token_budget is not None
    checkpointing = bool(settings.training.get("gradient_checkpointing"))
    turns = {"activations": activations(config, settings.token_budget, checkpointing, dtype.itemsize)}
    if settings.rounds.sampler == "vllm" and settings.online and device.type != "cpu":
        always["vLLM"] = settings.rounds.gpu_memory_utilization * _whole(device)
    else:
        turns["sampling"] = need.cache
    if reward is not None:
        (turns if reward_rests else always)["reward model"] = estimate(replace(reward, device=str(device))).weights
    share = world if device.type == "cpu" else 1
    return MemorySum(
        device,
        {name: share * size for name, size in always.items()},
        {name: share * size for name, size in turns.items()},
        free_bytes(device),
    )


def _of_the_policy(
    policy: PolicySpec, config: PreTrainedConfig, need: Need, dtype: torch.dtype, world: int
) -> dict[str, float]:
    """Bytes of its weights, and of what the optimiser keeps of those that are trained."""
    weights = need.weights / dtype.itemsize * _FOUR_BITS if policy.load_in_4bit else need.weights
    if policy.full:
        trained, size = need.weights // dtype.itemsize, dtype.itemsize
    else:
        trained = adapter_numbers(config, policy.lora, policy.trust_remote_code)
        size = 4 if policy.lora.dtype == "float32" else dtype.itemsize
        weights += trained * size
    copies = 1 + _ADAM + (world > 1)  # gradients, and what data parallelism gathers them in
    return {"policy": weights, "gradients and optimiser": trained * size * copies}


def adapter_numbers(config: PreTrainedConfig, lora: LoraSettings, trust_remote_code: bool = False) -> int:
    """Weights of a LoRA adapter over a model of this shape: rank x (inputs + outputs) of every layer that gets one."""
    with silence(), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    head: Any = model.get_output_embeddings()
    layers = {
        name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and layer is not head
    }
    if isinstance(lora.target_modules, list):
        ends = tuple(lora.target_modules)
        layers = {name: layer for name, layer in layers.items() if name.rpartition(".")[2] in ends}
    return sum(lora.r * (layer.in_features + layer.out_features) for layer in layers.values())


def activations(config: PreTrainedConfig, token_budget: int, checkpointing: bool, size: int) -> float:
    """Bytes that the backward pass of a micro-batch needs: a layer keeps about 8 hidden and 4 inner vectors a token.

    Args:
        token_budget: tokens of the micro-batch.
        checkpointing: only the inputs of layers are kept, and the rest of one layer at a time.
        size: bytes of a number.
    """
    text = config.get_text_config()
    inner = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    layer = 8 * text.hidden_size + 4 * inner
    if checkpointing:
        return token_budget * size * (text.num_hidden_layers * text.hidden_size + layer)
    return token_budget * size * text.num_hidden_layers * layer


def _base(policy: PolicySpec) -> str:
    """The model, or the one that an adapter belongs to."""
    adapter = (Path(policy.model) / "adapter_config.json").is_file()
    return base_of(policy.model, policy.base) if adapter else policy.model


def _whole(device: torch.device) -> float:
    """Bytes that a device has; 0 where it does not say."""
    backend = getattr(torch, device.type)
    return float(backend.mem_get_info(device)[1]) if hasattr(backend, "mem_get_info") else 0.0
