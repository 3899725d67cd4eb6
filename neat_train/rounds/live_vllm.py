"""vLLM as the sampler of rounds: an engine beside the policy, which gets the adapter of each block and is never merged.

It starts once, with the first adapter, takes a small share of a card, and sleeps between blocks where the platform lets
it. Its samples are those of the adapter that was handed over; training computes log-probabilities anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from peft import PeftModel

from neat_data.errors import InputError
from neat_data.models.arguments import for_the_model
from neat_data.models.device import dtype_name
from neat_data.models.sampler import Sampler, SamplerSpec
from neat_data.models.samplers.vllm import VllmSampler
from neat_data.store.documents import Settings
from neat_train.config.settings import FitSettings
from neat_train.distributed import Ranks
from neat_train.policy.lora import save_adapter
from neat_train.policy.policy import Policy
from neat_train.rounds.live_sampler import live_label, live_spec

_VISIBLE = {"cuda": "CUDA_VISIBLE_DEVICES", "npu": "ASCEND_RT_VISIBLE_DEVICES"}


class LiveVllm:
    """See `neat_train.rounds.live_sampler.Live`."""

    def __init__(self, policy: Policy, settings: FitSettings, folder: Path, ranks: Ranks) -> None:
        """Start the engine; errors as `live`.

        Args:
            folder: each rank keeps the adapter of the moment in a folder of its own there.
        """
        if not isinstance(policy.model, PeftModel) or policy.spec.load_in_4bit:
            what = "load_in_4bit" if policy.spec.load_in_4bit else "full"
            raise InputError(
                f"rounds.sampler vllm and {what}: vLLM gets an adapter over the policy's own weights. Leave one out."
            )
        if policy.device.type == "cpu" and ranks.world > 1:
            raise InputError("rounds.sampler vllm: on a CPU vLLM runs beside one process", advice="leave out {nproc}")
        self._policy, self._adapter = policy, folder / f".adapter-{ranks.rank}"
        self._adapter.mkdir(parents=True, exist_ok=True)
        self._hand_over()
        card = _card(policy.device, settings, ranks)
        with _only(card):
            self._sampler = VllmSampler(_spec(policy, settings, self._adapter, card))
        self._sampler.tells_logps = True
        self._sampler.sleep()
        # The adapter changes from block to block: it is told of each block, and not of the run.
        self.settings: Settings = {**policy.settings, **self._sampler.settings, "adapter": "live"}
        self.notes = self._sampler.notes[:1]

    @contextmanager
    def now(self, trained: str) -> Iterator[Sampler]:
        """See `Live.now`."""
        self._hand_over()
        self._sampler.wake()
        try:
            self._sampler.take_adapter(str(self._adapter), live_label(self._policy, trained))
            yield self._sampler
        finally:
            self._sampler.sleep()

    def close(self) -> None:
        """End the engine."""
        self._sampler.close()

    def _hand_over(self) -> None:
        assert isinstance(self._policy.model, PeftModel)
        save_adapter(self._policy.model, self._adapter, self._policy.source.path, self._policy.source.revision)


def _spec(policy: Policy, settings: FitSettings, adapter: Path, card: torch.device) -> SamplerSpec:
    spec = replace(live_spec(policy, settings), adapter=str(adapter), device=card.type, backend="vllm")
    own = for_the_model(policy.spec.model_args or {})
    if card.type == "cpu":
        return replace(spec, model_args=own)
    # A share of the card in place of a cache of fixed size.
    share = {"gpu_memory_utilization": settings.rounds.gpu_memory_utilization, "kv_cache_memory_bytes": None}
    return replace(spec, model_args={**share, "enable_sleep_mode": True, **own}, dtype=dtype_name(policy.body.dtype))


def _card(device: torch.device, settings: FitSettings, ranks: Ranks) -> torch.device:
    """The policy's device, or the card that the reward model has, where the two lie apart from the policy."""
    from neat_train.training.placement import reward_device

    return torch.device(reward_device(settings, device, ranks) if settings.rounds.placement == "devices" else device)


@contextmanager
def _only(card: torch.device) -> Iterator[None]:
    """Lets processes that start inside the block see one card; vLLM's engine takes the first one that it sees."""
    name = _VISIBLE.get(card.type)
    if name is None or not card.index:
        yield
        return
    before = os.environ.get(name)
    cards = before.split(",") if before else [str(number) for number in range(card.index + 1)]
    os.environ[name] = cards[card.index]
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
