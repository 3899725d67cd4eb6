"""What a policy has learned, as a reward: `--reward-model implicit:RUN`, log pi(y | x) - log pi_ref(y | x) in nats.

A policy that was trained by DPO is its own reward model, up to a factor beta and a term of the query alone (Rafailov et
al. 2023, arXiv 2305.18290, Eq. 5). RUN is an adapter, whose reference is its base model, or a whole model, whose
reference `--base` names. The sum runs over the tokens of the response, its end of turn included.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer

from neat_data.errors import InputError
from neat_data.models.adapter import adapted, adapter_hash
from neat_data.models.device import (
    device_name,
    dtype_name,
    out_of_memory_as_ours,
    release,
    resolve_device,
    resolve_dtype,
)
from neat_data.models.encode import encode
from neat_data.models.reward_adapter import base_of, is_adapter
from neat_data.models.reward_model import RewardModelSpec, Scored, Task
from neat_data.models.reward_models.tokenized import scored
from neat_data.models.reward_models.transformers import with_lengths
from neat_data.models.sampler import SamplerSpec
from neat_data.models.templates import ChatTemplate
from neat_data.models.trees.exactness import window
from neat_data.models.trees.packing import rectangles
from neat_data.models.weights import load_policy

PREFIX = "implicit:"


@dataclass(frozen=True, slots=True)
class _Row:
    """A response behind its query, whose tokens are the first `start` ones."""

    ids: list[int]
    start: int


class ImplicitRewardModel:
    """See `neat_data.models.reward_model.RewardModel`."""

    not_taken: tuple[str, ...] = ()

    def __init__(self, spec: RewardModelSpec) -> None:
        """Load policy and reference; errors as `load_reward_model`."""
        run = spec.model.removeprefix(PREFIX)
        _require(spec, run)
        self.device = resolve_device(spec.device)
        dtype = resolve_dtype(spec.dtype, self.device)
        self._policy, self._reference, identity, tokenizer = _load(run, spec, dtype)
        for model in (self._policy, self._reference):
            if model is not None:
                model.to(self.device)
        self.template = ChatTemplate(tokenizer, spec.chat_template, spec.template_args)
        self._pad = tokenizer.pad_token_id or 0
        spec = with_lengths(spec, window(self._policy, tokenizer), self.device)
        device = device_name(spec.device, self.device)
        self.spec = replace(spec, model=f"{PREFIX}{Path(run).resolve()}", device=device, dtype=dtype_name(dtype))
        lengths = {name: getattr(spec, name) for name in ("max_length", "max_response", "token_budget")}
        self.settings = {
            "model": f"{PREFIX}{Path(run).resolve().name}",
            **identity,
            **self.template.fingerprint,
            "backend": "implicit",
            "device": self.device.type,
            "dtype": self.spec.dtype,
            **lengths,
        }
        self.notes = [f"{device}, {self.spec.dtype}: log-ratios of {Path(run).name} against its start, in nats"]

    def score(
        self,
        tasks: Sequence[Task],
        *,
        token_budget: int | None = None,
        advance: Callable[[int, int], None] | None = None,
    ) -> list[Scored]:
        """See `RewardModel.score`."""
        budget, longest, response = token_budget or self.spec.token_budget, self.spec.max_length, self.spec.max_response
        assert budget is not None
        assert longest is not None
        assert response is not None
        encoded = [encode(task, self.template, longest, response) for task in tasks]
        rows = [_Row(ids, item.query) for item in encoded for ids in item.sequences if ids is not None]
        rewards = [0.0] * len(rows)
        for batch in rectangles([len(row.ids) for row in rows], budget):
            with out_of_memory_as_ours(self.device, budget):
                values = self._log_ratios([rows[index] for index in batch]).tolist()
            for index, value in zip(batch, values, strict=True):
                rewards[index] = value
        if advance is not None:
            advance(len(tasks), sum(len(row.ids) for row in rows))
        return scored(encoded, rewards)

    def close(self) -> None:
        """See `RewardModel.close`."""
        del self._policy, self._reference
        gc.collect()
        release()

    def _log_ratios(self, rows: Sequence[_Row]) -> Tensor:
        ours = _log_probabilities(self._policy, rows, self._pad)
        with self._start() as reference:
            return ours - _log_probabilities(reference, rows, self._pad)

    @contextmanager
    def _start(self) -> Iterator[Any]:
        if self._reference is not None:
            yield self._reference
        else:
            with self._policy.disable_adapter():
                yield self._policy


def _require(spec: RewardModelSpec, run: str) -> None:
    if spec.backend == "vllm" or spec.path == "trees":
        field = "backend" if spec.backend == "vllm" else "path"
        raise InputError(f"has no meaning for {spec.model}, which runs padded batches of transformers", field=field)
    if not is_adapter(run) and spec.base is None:
        raise InputError(
            "is no adapter: what it began from is not known",
            field="reward_model",
            value=spec.model,
            advice="name it: {base} MODEL",
        )


def _load(run: str, spec: RewardModelSpec, dtype: torch.dtype) -> tuple[Any, Any, dict[str, str], Any]:
    """Policy, reference (None where it is the policy without its adapter), what identifies both, and the tokenizer."""

    def loaded(model: str) -> Any:
        return load_policy(
            SamplerSpec(model, model_args=spec.model_args, trust_remote_code=spec.trust_remote_code), dtype
        )

    if not is_adapter(run):
        policy, start = loaded(run), loaded(str(spec.base))
        known = {f"reference_{name}": value for name, value in start.identity.items()}
        return policy.model, start.model, {**policy.identity, **known}, policy.tokenizer
    start = loaded(base_of(run, spec.base))
    identity = {**start.identity, "adapter": adapter_hash(run, "reward_model")}
    policy = adapted(start.model, run, "reward_model", autocast_adapter_dtype=False).eval()
    own = (Path(run) / "tokenizer_config.json").is_file()
    return policy, None, identity, AutoTokenizer.from_pretrained(run) if own else start.tokenizer


@torch.inference_mode()
def _log_probabilities(model: Any, rows: Sequence[_Row], pad: int) -> Tensor:
    """Sums over the tokens behind each query, in float32  # (rows,)"""
    lengths = torch.tensor([len(row.ids) for row in rows])
    starts = torch.tensor([row.start for row in rows])
    width = int(lengths.max())
    ids = torch.tensor([[*row.ids, *[pad] * (width - len(row.ids))] for row in rows], device=model.device)
    places = torch.arange(width)
    attended = (places < lengths[:, None]).long().to(model.device)
    logits = model(input_ids=ids, attention_mask=attended, use_cache=False).logits[:, :-1].float()
    values = logits.log_softmax(dim=-1).gather(2, ids[:, 1:, None])[..., 0].cpu()  # (rows, width - 1)
    answered = (places[1:] >= starts[:, None]) & (places[1:] < lengths[:, None])
    return (values * answered).sum(dim=1)
