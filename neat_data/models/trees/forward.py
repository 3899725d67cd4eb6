"""One forward pass: a packed row of trees, or a padded batch, to one float32 logit a sequence.

A linear score head runs in float32 on the last hidden state at each sequence's last token, whose place is known from
lengths and never from pad ids: a pad token that equals the end-of-turn token would move it. Any other classifier
runs its own forward pass.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from neat_data.models.own_class import one_each
from neat_data.models.trees.attention import laid_out, plant
from neat_data.models.trees.tree import TokenTree, lay


@dataclass(frozen=True, slots=True)
class Head:
    """A linear score head in float32  # weight (1, hidden), bias (1,) or None"""

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits of hidden states in any dtype  # (n, hidden) -> (n,)"""
        return nn.functional.linear(hidden.float(), self.weight, self.bias)[:, 0]


def linear_head(model: PreTrainedModel) -> Head | None:
    """The model's score head if it is a decoder's body with one linear `score` and no more, else None."""
    score = getattr(model, "score", None)
    children = {name for name, child in model.named_children() if any(True for _ in child.parameters())}
    if not isinstance(score, nn.Linear) or children != {model.base_model_prefix, "score"}:
        return None
    bias = None if score.bias is None else score.bias.detach().float()
    return Head(score.weight.detach().float(), bias)


@torch.inference_mode()
def run_trees(model: PreTrainedModel, head: Head, trees: Sequence[TokenTree], attention: str) -> torch.Tensor:
    """Logits of every branch, tree by tree, in float32  # (branches,)"""
    row = lay(trees)
    device = model.device
    ids, positions = (torch.tensor([numbers], device=device) for numbers in (row.ids, row.positions))
    ids, positions, lengths = laid_out(ids, positions, row.lengths, attention)
    forest = plant(lengths, attention, model.dtype, device)
    hidden = model.base_model(input_ids=ids, position_ids=positions, use_cache=False, forest=forest).last_hidden_state
    return head(hidden[0, torch.tensor(row.last, device=device)])


@torch.inference_mode()
def run_batch(model: PreTrainedModel, head: Head | None, sequences: Sequence[Sequence[int]], pad: int) -> torch.Tensor:
    """Logits of separate sequences, padded on the right, in float32  # (sequences,)"""
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    width = int(lengths.max())
    if head is None and hasattr(model, "score"):
        # Decoders with another head look for the last token that is not padding: give them a pad that no text holds.
        pad = _unused(sequences)
        model.config.get_text_config().pad_token_id = pad
    rows = [[*sequence, *[pad] * (width - len(sequence))] for sequence in sequences]
    inputs: dict[str, Any] = {
        "input_ids": torch.tensor(rows, device=model.device),
        "attention_mask": (torch.arange(width) < lengths[:, None]).long().to(model.device),
    }
    body = model if head is None else model.base_model
    accepted = inspect.signature(body.forward).parameters
    if hasattr(model, "score") and "position_ids" in accepted:  # encoders count from elsewhere, and pad on the right
        inputs["position_ids"] = torch.arange(width, device=model.device).expand(len(rows), width)
    if "use_cache" in accepted:
        inputs["use_cache"] = False
    output = body(**inputs)
    if head is None:
        return one_each(output.logits, len(rows)).float()
    return head(output.last_hidden_state[torch.arange(len(rows)), (lengths - 1).to(model.device)])


def _unused(sequences: Sequence[Sequence[int]]) -> int:
    used = set().union(*sequences)
    return next(number for number in range(len(used) + 1) if number not in used)
