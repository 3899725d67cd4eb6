"""The loop that continues many prompts at once with a causal language model, token by token.

`generate` of transformers would do, but its cache is copied whole for every token, its rows run on until the last one
has ended, and it computes the beginning that prompts share once a row. Here the cache is written in place, rows that
have ended leave the batch, and a shared beginning runs once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from neat_data.models.samplers.batching import groups
from neat_data.models.trees.tree import shared

Choose = Callable[[torch.Tensor, list[int], int], torch.Tensor]
Ended = Callable[[list[int]], bool]

# The batch is closed up when this share of its rows has ended: each time copies the cache of the others.
_GONE = 0.25


class _Slab(DynamicLayer):
    """The keys and values of one layer in memory that is taken once, seen through a window that grows.

    In lower precision on a CPU the whole of it is seen, and the mask hides what is not filled yet: matrix products
    there copy what does not lie in one piece.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, used: int) -> None:
        """The first `used` tokens of this memory are seen  # (rows, heads, room, head size) each"""
        super().__init__()
        self.dtype, self.device = keys.dtype, keys.device
        self.all_keys, self.all_values, self.used = keys, values, used
        self.whole = keys.device.type == "cpu" and keys.dtype != torch.float32
        self.is_initialized = True
        self._look()

    @classmethod
    def like(cls, layer: Any, rows: int, used: int, room: int) -> _Slab:
        """Zeros of the shape of another layer's; not just any memory: what is masked must be finite still."""
        sizes = [(rows, states.shape[1], used + room, states.shape[3]) for states in (layer.keys, layer.values)]
        return cls(layer.keys.new_zeros(sizes[0]), layer.values.new_zeros(sizes[1]), used)

    def put(self, row: int, states: tuple[torch.Tensor, torch.Tensor], start: int) -> None:
        """Write one row's keys and values from the token `start` on  # (heads, tokens, head size) each"""
        for whole, part in zip((self.all_keys, self.all_values), states, strict=True):
            whole[row, :, start : start + part.shape[1]] = part

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes what is new behind what is there  # (rows, heads, tokens, head size) each"""
        end = self.used + key_states.shape[2]
        self.all_keys[:, :, self.used : end] = key_states
        self.all_values[:, :, self.used : end] = value_states
        self.used = end
        return self._look()

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows  # (rows,)"""
        self.all_keys, self.all_values = self.all_keys[indices], self.all_values[indices]
        self._look()

    def get_seq_length(self) -> int:
        return self.used

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.all_keys.shape[2] if self.whole else self.used + query_length, 0

    def _look(self) -> tuple[torch.Tensor, torch.Tensor]:
        end = self.all_keys.shape[2] if self.whole else self.used
        keys, values = self.all_keys[:, :, :end], self.all_values[:, :, :end]
        self.keys, self.values = keys, values
        return keys, values


class _Batch:
    """Some prompts on their way through the model, padded on the left.

    Attributes:
        rows: which prompt each row of the batch continues.
        logits: behind the last token of every row  # (rows, vocabulary)
    """

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], room: int, limit: int | None) -> None:
        self.model = model
        self.accepted = inspect.signature(model.forward).parameters
        self.rows = list(range(len(prompts)))
        self.positions = torch.tensor([[len(prompt)] for prompt in prompts], device=model.device)
        width = max(map(len, prompts))
        self.mask = _real(prompts, width, model.device)
        self.cache = DynamicCache(config=model.config)
        kinds = {type(layer) for layer in self.cache.layers}
        self.shrinks = kinds <= {DynamicLayer, DynamicSlidingWindowLayer}
        if kinds == {DynamicLayer}:
            # A window or a running state would have to know of the gaps that sharing leaves.
            alike = [(self.rows, shared(prompts))] if limit is None else groups(prompts, limit)
            self.logits = self._prefill_groups(prompts, alike, width, room)
        else:
            self.logits = self._prefill(prompts, 0, self.cache)

    def _prefill_groups(
        self, prompts: Sequence[Sequence[int]], alike: list[tuple[list[int], int]], width: int, room: int
    ) -> torch.Tensor:
        """Run group after group, and put every row's keys and values in its place, the last token to the right."""
        layers: list[Any] = []
        logits: list[torch.Tensor] = []
        for rows, depth in alike:
            own = DynamicCache(config=self.model.config)
            logits.append(self._prefill([prompts[row] for row in rows], depth, own))
            layers = layers or [_Slab.like(layer, len(prompts), width, room) for layer in own.layers]
            for place, row in enumerate(rows):
                for slab, layer in zip(layers, cast("list[DynamicLayer]", own.layers), strict=True):
                    keys, values = layer.keys[place], layer.values[place]  # type: ignore[index]
                    rest = len(prompts[row]) - depth
                    slab.put(row, (keys[:, :depth], values[:, :depth]), width - rest - depth)
                    slab.put(row, (keys[:, -rest:], values[:, -rest:]), width - rest)
        self.cache.layers = layers
        order = torch.tensor([row for rows, _ in alike for row in rows])
        return torch.cat(logits)[order.argsort().to(self.model.device)]

    def _prefill(self, prompts: Sequence[Sequence[int]], depth: int, cache: DynamicCache) -> torch.Tensor:
        """Run prompts whose first `depth` tokens are the same: those once, then the rest, padded between the two."""
        device = self.model.device
        if depth:
            beginning = torch.tensor([prompts[0][:depth]], device=device)
            self._forward(beginning, torch.arange(depth, device=device)[None], torch.ones_like(beginning), cache)
            cache.batch_repeat_interleave(len(prompts))
        rests = [prompt[depth:] for prompt in prompts]
        width = max(map(len, rests))
        # The padding is never looked at: any id of the vocabulary will do.
        ids = torch.tensor([[0] * (width - len(rest)) + list(rest) for rest in rests], device=device)
        real = _real(rests, width, device)
        positions = (depth + real.cumsum(dim=1) - 1).clamp(min=0)
        mask = torch.nn.functional.pad(real, (depth, 0), value=1)
        return self._forward(ids, positions, mask, cache)

    def step(self, tokens: torch.Tensor) -> None:
        """Run one more token of every row  # (rows,)"""
        self.mask = torch.nn.functional.pad(self.mask, (0, 1), value=1)
        self.logits = self._forward(tokens[:, None], self.positions, self.mask, self.cache)
        self.positions = self.positions + 1

    def keep(self, places: list[int]) -> None:
        """Drop all rows but these, given by their places in the batch."""
        indices = torch.tensor(places, device=self.model.device)
        self.cache.batch_select_indices(indices)
        self.mask, self.positions = self.mask[indices], self.positions[indices]
        self.rows = [self.rows[place] for place in places]

    def _forward(
        self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, cache: DynamicCache
    ) -> torch.Tensor:
        """Logits behind the last token of every row  # (rows, vocabulary)"""
        options: dict[str, Any] = {"position_ids": positions, "logits_to_keep": 1}
        options = {name: value for name, value in options.items() if name in self.accepted}
        output = self.model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **options)
        return output.logits[:, -1]


def _real(prompts: Sequence[Sequence[int]], width: int, device: torch.device) -> torch.Tensor:
    """1 at tokens, 0 at the padding on their left  # (prompts, width)"""
    return torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    choose: Choose,
    ended: Ended,
    max_new_tokens: int,
    prefill_limit: int | None = None,
) -> list[list[int]]:
    """Continue every prompt until it has ended or has `max_new_tokens`.

    Args:
        model: a causal language model in evaluation mode.
        prompts: token ids; none is empty.
        choose: from logits (rows, vocabulary), the prompt that each row continues, and the number of tokens made
            before, to the next token of each row  # (rows,)
        ended: whether the tokens made so far end a response.
        prefill_limit: tokens in one pass over prompts; None runs all of them in one.

    Returns:
        The new token ids of every prompt.
    """
    batch = _Batch(model, prompts, max_new_tokens, prefill_limit)
    made: list[list[int]] = [[] for _ in prompts]
    going = set(batch.rows)
    for step in range(max_new_tokens):
        tokens = choose(batch.logits, batch.rows, step)
        for row, token in zip(batch.rows, tokens.tolist(), strict=True):
            if row in going:
                made[row].append(token)
        going = {row for row in going if not ended(made[row])}
        if not going or step + 1 == max_new_tokens:
            break
        if batch.shrinks and len(going) <= (1 - _GONE) * len(batch.rows):
            places = [place for place, row in enumerate(batch.rows) if row in going]
            batch.keep(places)
            tokens = tokens[torch.tensor(places, device=tokens.device)]
        batch.step(tokens)
    return made
