"""The reference sampler: a causal language model of transformers, many queries at once, each reproducible alone.

`Decoder` stands around a model that is loaded already, by `TransformersSampler` or by who trains it. It turns asks into
token ids, groups them into batches of like length within one call, and decodes one batch after another. The noise of a
sample comes from its own seed (see `gumbel`), so what is sampled does not depend on the batch, unless the rounding of a
forward pass tips a tie.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from neat_data.errors import InputError
from neat_data.models.adapter import adapter_hash, with_adapter
from neat_data.models.arguments import for_the_model
from neat_data.models.device import (
    device_name,
    dtype_name,
    out_of_memory_as_ours,
    release,
    resolve_device,
    resolve_dtype,
)
from neat_data.models.encode import encode_query
from neat_data.models.fused_kernels import fuse_kernels, kernels_setting
from neat_data.models.memory import budget_of, check, estimate
from neat_data.models.sampler import Ask, Sample, SamplerSpec
from neat_data.models.samplers.batching import batches
from neat_data.models.samplers.decode_attention import use_where_faster
from neat_data.models.samplers.decoding import decode
from neat_data.models.samplers.gumbel import draw
from neat_data.models.stopping import Stops, end_of_turn, reaches_stop_string, sampled, tokenizer_id
from neat_data.models.templates import ChatTemplate, policy_template
from neat_data.models.trees.exactness import configured_window
from neat_data.models.weights import Loaded, ModelSource, load_policy
from neat_data.store.documents import Settings

# Tokens of one pass over queries on a CPU, whose caches hold no more; a card takes a whole batch at once.
CPU_PREFILL = 2_048
LONGEST = 4_096  # where a model's configuration names no window


@dataclass(frozen=True, slots=True, eq=False)
class Decoder:
    """A model that answers asks; see `Sampler` for `usage` and `sample`.

    Attributes:
        model: a causal language model in evaluation mode.
        tokenizer: decodes.
        template, stops: as training uses them.
        max_length: tokens of query and response together.
        token_budget: (query + new tokens) x rows of one batch.
        tells_logps: whether samples say how likely their tokens were.
    """

    model: Any
    tokenizer: PreTrainedTokenizerBase
    template: ChatTemplate
    stops: Stops
    max_length: int
    token_budget: int
    tells_logps: bool = False
    usage: dict[str, int] = field(default_factory=lambda: {"prompt_tokens": 0, "completion_tokens": 0})

    def sample(
        self,
        asks: Sequence[Ask],
        *,
        token_budget: int | None = None,
        advance: Callable[[int, int], None] | None = None,
    ) -> list[Sample]:
        """See `Sampler.sample`."""
        budget = token_budget or self.token_budget
        check_room(asks, self.max_length)
        queries = [encode_query(ask, self.template, self.max_length) for ask in asks]
        samples = [Sample("", None, finished=False, refused=query.refused) for query in queries]
        prompts = [query.ids for query in queries]
        if advance is not None:
            advance(sum(query.refused is not None for query in queries), 0)
        for batch in batches(prompts, [ask.sampling for ask in asks], budget):
            with out_of_memory_as_ours(self.model.device, budget):
                made, logps = self._decode([asks[index] for index in batch], [prompts[index] for index in batch])
            for index, ids, values in zip(batch, made, logps, strict=True):
                sample = sampled(ids, self.stops, self.tokenizer, queries[index].turns_cut, self.template.opened)
                samples[index] = replace(sample, logps=tuple(values[: len(ids)])) if self.tells_logps else sample
            tokens = sum(map(len, made))
            self.usage["prompt_tokens"] += sum(len(prompts[index]) for index in batch)
            self.usage["completion_tokens"] += tokens
            if advance is not None:
                advance(len(batch), tokens)
        return samples

    def _decode(
        self, asks: Sequence[Ask], prompts: Sequence[Sequence[int]]
    ) -> tuple[list[list[int]], list[list[float]]]:
        """The sampled ids of asks that share their sampling, and where wanted their log-probabilities, or more."""
        sampling = asks[0].sampling
        logps: list[list[float]] = [[] for _ in asks]

        def choose(logits: torch.Tensor, rows: list[int], step: int) -> torch.Tensor:
            tokens = draw(logits, [asks[row].seed for row in rows], step, sampling)
            if self.tells_logps:
                values = logits.float().log_softmax(dim=-1).gather(1, tokens[:, None])[:, 0]  # (rows,)
                for row, value in zip(rows, values.tolist(), strict=True):
                    logps[row].append(value)
            return tokens

        def ended(ids: list[int]) -> bool:
            return ids[-1] in self.stops.ids or reaches_stop_string(ids, self.stops, self.tokenizer)

        limit = CPU_PREFILL if self.model.device.type == "cpu" else None
        return decode(self.model, prompts, choose, ended, sampling.max_new_tokens, limit), logps


class TransformersSampler:
    """See `neat_data.models.sampler.Sampler`."""

    not_taken: tuple[str, ...] = ()

    def __init__(self, spec: SamplerSpec) -> None:
        """Load the model and fill in whatever `spec` leaves open; errors as `load_sampler`."""
        self.device = resolve_device(spec.device)
        dtype = resolve_dtype(spec.dtype, self.device)
        adapter = adapter_hash(spec.adapter) if spec.adapter else None
        check([estimate(spec)], spec.device)
        loaded = load_policy(spec, dtype)
        model = with_adapter(loaded.model, spec.adapter) if spec.adapter else loaded.model
        if not hasattr(model, "hf_device_map"):
            nn.Module.to(model, self.device)
        self._fused = fuse_kernels(loaded.model, spec.model_args)
        use_where_faster(model)
        self.template = policy_template(loaded.tokenizer, spec.chat_template, spec.template_args, spec.thinking)
        self.stops = end_of_turn(self.template, loaded.tokenizer)
        max_length = window_of(spec, configured_window(model.config))
        budget = budget_of(spec, self.device)
        self.spec = replace(
            spec,
            model=loaded.source.reference,
            backend="transformers",
            device=device_name(spec.device, self.device),
            dtype=dtype_name(dtype),
            max_length=max_length,
            token_budget=budget,
        )
        self.decoder = Decoder(model, loaded.tokenizer, self.template, self.stops, max_length, budget)
        self.label = policy_label(loaded.source, loaded.identity, adapter)
        self.tokenizer: str | None = tokenizer_id(self.template, self.stops)
        self.settings = self._settings(loaded, adapter)
        self.notes = self._notes()
        self.usage = self.decoder.usage

    def sample(
        self,
        asks: Sequence[Ask],
        *,
        token_budget: int | None = None,
        advance: Callable[[int, int], None] | None = None,
    ) -> list[Sample]:
        """See `Sampler.sample`."""
        return self.decoder.sample(asks, token_budget=token_budget, advance=advance)

    def close(self) -> None:
        """See `Sampler.close`."""
        del self.decoder
        gc.collect()
        release()

    @property
    def model(self) -> Any:
        """The model, its adapter inside it."""
        return self.decoder.model

    def _settings(self, loaded: Loaded, adapter: str | None) -> Settings:
        spec = self.spec
        return {
            "model": loaded.source.label,
            **loaded.identity,
            "adapter": adapter,
            **self.template.fingerprint,
            "backend": "transformers",
            "device": self.device.type,
            "dtype": spec.dtype,
            "max_length": spec.max_length,
            "token_budget": spec.token_budget,
            "attention": self.model.config._attn_implementation,
            "stop_tokens": list(self.stops.ids),
            "stop_string": self.stops.string,
            "model_args": for_the_model(spec.model_args),
            **kernels_setting(self._fused),
        }

    def _notes(self) -> list[str]:
        spec = self.spec
        line = f"policy {self.label}: {spec.device}, {spec.dtype}, a window of {spec.max_length} tokens"
        stop = [self.stops.note] if self.stops.note else []
        return [line, *self._fused.splitlines(), *self.template.asking_notes, *stop]


def policy_label(source: ModelSource, identity: dict[str, str], adapter: str | None) -> str:
    """For `Response.model`: ID@REVISION or FOLDER@WEIGHTS, and the adapter's hash."""
    name = f"{source.label}@{identity['weights'][:12]}" if source.local else source.label
    return f"{name}+adapter:{adapter[:12]}" if adapter else name


def window_of(spec: SamplerSpec, window: int | None) -> int:
    """Tokens of query and response together.

    Raises:
        InputError: more were asked for than the model's window holds.
    """
    max_length = spec.max_length or window or LONGEST
    if window is not None and max_length > window:
        raise InputError(f"the policy's window is {window} tokens", field="max_length", value=max_length)
    return max_length


def check_room(asks: Sequence[Ask], max_length: int) -> None:
    """Raises InputError where the new tokens alone fill the window."""
    new = max((ask.sampling.max_new_tokens for ask in asks), default=0)
    if new >= max_length:
        raise InputError(
            f"leaves no room for a query, the policy's window is {max_length} tokens", field="max_new_tokens", value=new
        )
