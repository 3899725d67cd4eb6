"""The loop that continues many prompts at once with a causal language model, token by token.

`generate` of transformers would do, but its cache is copied whole for every token, its rows run on until the last one
has ended, and it computes the beginning that prompts share once a row. Here the cache is written in place, rows that
have ended leave the batch, and a shared beginning runs once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from neat_data.models.trees import shared as shared_start

Choose = Callable[[torch.Tensor, list[int], int], torch.Tensor]
Ended = Callable[[list[int]], bool]

# The batch is closed up when this share of its rows has ended: each time copies the cache of the others.
_GONE = 0.25


class _Slab(DynamicLayer):
    """The keys and values of one layer in memory that is taken once, seen through a window that grows."""

    all_keys: torch.Tensor  # (rows, heads, room, head size)
    all_values: torch.Tensor

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.used = room, 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.all_keys, self.all_values = self._memory(key_states), self._memory(value_states)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes what is new behind what is there  # (rows, heads, tokens, head size) each"""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.used + key_states.shape[2]
        self.all_keys[:, :, self.used : end] = key_states
        self.all_values[:, :, self.used : end] = value_states
        self.used = end
        return self._seen()

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows; a row may be taken more than once  # (rows,)"""
        keys, values = (seen[indices] for seen in self._seen())
        self.all_keys, self.all_values = self._memory(keys), self._memory(values)
        self.all_keys[:, :, : self.used], self.all_values[:, :, : self.used] = keys, values
        self._seen()

    def _memory(self, states: torch.Tensor) -> torch.Tensor:
        return states.new_empty((*states.shape[:2], self.room, states.shape[3]))

    def _seen(self) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = self.all_keys[:, :, : self.used], self.all_values[:, :, : self.used]
        self.keys, self.values = keys, values
        return keys, values


class _Batch:
    """Some prompts on their way through the model: left-padded, or padded between a beginning they share and the rest.

    Attributes:
        rows: which prompt each row of the batch continues.
    """

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], room: int) -> None:
        self.model = model
        self.accepted = inspect.signature(model.forward).parameters
        self.cache = DynamicCache(config=model.config)
        self.plain = all(type(layer) is DynamicLayer for layer in self.cache.layers)
        self.shrinks = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in self.cache.layers)
        self.rows = list(range(len(prompts)))
        self.positions = torch.tensor([[len(prompt)] for prompt in prompts], device=model.device)
        shared = shared_start(prompts) if self.plain and len(prompts) > 1 else 0
        if self.plain:
            width = max(map(len, prompts))
            self.cache.layers = [_Slab(width + room) for _ in self.cache.layers]
        self.logits = self._prefill(prompts, shared)

    def _prefill(self, prompts: Sequence[Sequence[int]], shared: int) -> torch.Tensor:
        device = self.model.device
        if shared:
            beginning = torch.tensor([prompts[0][:shared]], device=device)
            self.mask = torch.ones_like(beginning)
            self._forward(beginning, torch.arange(shared, device=device)[None])
            self.cache.batch_select_indices(torch.zeros(len(prompts), dtype=torch.long, device=device))
        width = max(map(len, prompts))
        # The pad id is never looked at: any id of the vocabulary will do.
        ids = [[0] * (width - len(prompt)) + list(prompt[shared:]) for prompt in prompts]
        places = torch.arange(shared, width, device=device) - (width - self.positions)
        real = places >= shared
        self.mask = torch.cat((torch.ones(len(prompts), shared, device=device), real), dim=1).long()
        return self._forward(torch.tensor(ids, device=device), places.clamp(min=0))

    def step(self, tokens: torch.Tensor) -> None:
        """Run one more token of every row  # (rows,)"""
        self.mask = torch.nn.functional.pad(self.mask, (0, 1), value=1)
        self.logits = self._forward(tokens[:, None], self.positions)
        self.positions = self.positions + 1

    def keep(self, places: list[int]) -> None:
        """Drop all rows but these, given by their places in the batch."""
        indices = torch.tensor(places, device=self.model.device)
        self.cache.batch_select_indices(indices)
        self.mask, self.positions = self.mask[indices], self.positions[indices]
        self.rows = [self.rows[place] for place in places]

    def _forward(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Logits behind the last token of every row  # (rows, vocabulary)"""
        options: dict[str, Any] = {"position_ids": positions, "logits_to_keep": 1}
        options = {name: value for name, value in options.items() if name in self.accepted}
        output = self.model(
            input_ids=ids, attention_mask=self.mask, past_key_values=self.cache, use_cache=True, **options
        )
        return output.logits[:, -1]


@torch.inference_mode()
def decode(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], choose: Choose, ended: Ended, max_new_tokens: int
) -> list[list[int]]:
    """Continue every prompt until it has ended or has `max_new_tokens`.

    Args:
        model: a causal language model in evaluation mode.
        prompts: token ids; none is empty.
        choose: from logits (rows, vocabulary), the prompt that each row continues, and the number of tokens made
            before, to the next token of each row  # (rows,)
        ended: whether the tokens made so far end a response.

    Returns:
        The new token ids of every prompt.
    """
    batch = _Batch(model, prompts, max_new_tokens)
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
