"""Log-probabilities of a micro-batch's target tokens, through the model's own forward.

`prepare` chooses the path (token trees, or padded rows where trees prove inexact) and gives the model's forward a
keyword of its own, with which it returns log-probabilities at given positions instead of logits; without it the model
generates as ever. `training_attention` holds the attention over trees for as long as a forward and its backward pass
take: gradient checkpointing runs layers again in the backward pass. `head` turns hidden states into log-probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import wraps
from types import MethodType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from neat_data.errors import InputError
from neat_data.models.trees.attention import KINDS, TREES_SDPA, laid_out, plant
from neat_data.models.trees.attention_choice import AUTO, choose_attention
from neat_data.models.trees.exactness import (
    CLOSE,
    EXACT,
    PathChoice,
    choose,
    configured_against_trees,
    configured_window,
    in_float32_where_it_fits,
    with_line,
)
from neat_train.data.batches import MicroBatch, PackingMode, micro_batches
from neat_train.data.examples import Example, TrainedResponse
from neat_train.policy.head import log_probabilities, logits_of
from neat_train.policy.undisturbed import evaluating

_READY = "_neat_gives_logps"
_ATTENTION = "_neat_tree_attention"  # what `prepare` chose for token trees


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The keyword that the model's forward is given: what to predict where, and the trees that the row is made of."""

    at: Tensor
    targets: Tensor
    trees: tuple[tuple[int, ...], ...] | None


def prepare(
    body: PreTrainedModel,
    path: Literal["auto", "trees", "batches"] = "auto",
    *,
    attention: str = AUTO,
    dtype: torch.dtype | None = None,
    backward: bool = True,
) -> PathChoice:
    """Give `body` what `logps` needs, and choose the path by a comparison with its own forward, in float32.

    Args:
        body: the transformers model inside any adapter; its forward takes one more keyword from now on.
        path: `auto` takes token trees where they are exact.
        attention: over token trees: `auto`, or one of `attention.KINDS`.
        dtype: that passes compute in; None: the body's own.
        backward: whether gradients are wanted.

    Raises:
        InputError: `path="trees"` or an attention was asked for and is not exact on this model, or its
            log-probabilities do not come out of its hidden states and its head in a way that is known here.
    """
    _give_keyword(body)
    take_attention(body, TREES_SDPA)  # needs no compiler: whether the model suits trees is asked with it
    with evaluating(body), torch.no_grad():
        choice = in_float32_where_it_fits(body, lambda exact: _choose(body, path, exact))
    if choice.path == "batches":
        return choice
    chosen, line = choose_attention(attention, body.config, dtype or body.dtype, body.device, backward=backward)
    take_attention(body, chosen)
    return with_line(choice, line)


@contextmanager
def training_attention(body: PreTrainedModel, path: PackingMode) -> Iterator[None]:
    """Attention over trees inside the block (where `path` is `trees`), the model's own outside of it."""
    own = body.config._attn_implementation
    if path == "trees":
        body.set_attn_implementation(tree_attention(body))
    try:
        yield
    finally:
        if path == "trees":
            body.set_attn_implementation(own)


def take_attention(body: PreTrainedModel, attention: str) -> None:
    """Let a model take this attention over trees from now on."""
    setattr(body, _ATTENTION, attention)


def tree_attention(body: PreTrainedModel) -> str:
    """The attention function that token trees take on this model; tree by tree where nothing was chosen yet."""
    return getattr(body, _ATTENTION, TREES_SDPA)


def share_choice(body: PreTrainedModel, copy: PreTrainedModel) -> None:
    """Let a copy of a prepared model, made before it was prepared, take the same attention over trees."""
    take_attention(copy, tree_attention(body))


def logps(module: nn.Module, batch: MicroBatch) -> Tensor:
    """Log-probabilities of the batch's targets.

    Args:
        module: the prepared model itself or wrapped (peft, DDP): it is called, so that hooks of a wrapper run. With
            gradients, the caller holds `training_attention` around this and the backward pass; without, it need not.
        batch: on the module's device.

    Returns:
        (N,) float32
    """
    body = body_of(module)
    if not hasattr(body, _READY):
        _give_keyword(body)  # a frozen copy, made before the policy was prepared
    inputs: dict[str, Any] = {"input_ids": batch.ids, "position_ids": batch.positions}
    if batch.trees is None:
        width = torch.arange(batch.ids.shape[1], device=batch.ids.device)
        inputs["attention_mask"] = (width < batch.lengths[:, None]).long()
    alone = batch.trees is not None and not torch.is_grad_enabled()
    with training_attention(body, "trees") if alone else nullcontext():
        return module(**inputs, neat_wanted=_Wanted(batch.at, batch.targets, batch.trees))


def _give_keyword(body: PreTrainedModel) -> None:
    """Patch the instance's forward, as peft and DDP call it; generation reads the signature of the class's own."""
    hooked, logits = body.__dict__.get("forward"), logits_of(body.config)

    @wraps(type(body).forward)
    def forward(self: PreTrainedModel, *args: Any, neat_wanted: _Wanted | None = None, **kwargs: Any) -> Any:
        if neat_wanted is None:
            # Looked up on the instance at hand: a deep copy of a prepared model runs itself.
            return hooked(*args, **kwargs) if hooked else type(self).forward(self, *args, **kwargs)
        if neat_wanted.trees is not None:
            kwargs.update(planted(self, kwargs["input_ids"], kwargs["position_ids"], neat_wanted.trees))
        hidden = self.base_model(*args, use_cache=False, **kwargs).last_hidden_state.flatten(0, 1)
        # Positions are picked before the head: logits of the query's tokens never exist.
        hidden = hidden.index_select(0, neat_wanted.at)
        return log_probabilities(hidden, self.get_output_embeddings(), neat_wanted.targets, logits)

    body.forward = MethodType(forward, body)
    setattr(body, _READY, True)


def planted(
    body: PreTrainedModel, ids: Tensor, positions: Tensor, trees: tuple[tuple[int, ...], ...]
) -> dict[str, Any]:
    """The keywords of a row of trees; the places in it that are to predict stay what they are."""
    attention, device = body.config._attn_implementation, body.device
    if attention not in KINDS.values():
        raise RuntimeError("token trees need training_attention around the forward and the backward pass")
    ids, positions, trees = laid_out(ids, positions, trees, attention)
    autocast = torch.is_autocast_enabled(device.type)
    dtype = torch.get_autocast_dtype(device.type) if autocast else body.dtype
    return {"input_ids": ids, "position_ids": positions, "forest": plant(trees, attention, dtype, device)}


def body_of(module: Any) -> PreTrainedModel:
    """The transformers model inside DDP, a compiled module and an adapter."""
    for name in ("module", "_orig_mod"):
        if isinstance(getattr(module, name, None), nn.Module):
            return body_of(getattr(module, name))
    return module.get_base_model() if hasattr(module, "get_base_model") else module


def _choose(body: PreTrainedModel, path: str, exact: bool) -> PathChoice:
    probe = _probe(body)
    reference = _alone(body, probe)
    noise = float((_run(body, probe, "batches") - reference).abs().max())
    tolerance = EXACT if exact else max(CLOSE, 2 * noise)
    if exact and noise > tolerance:
        raise InputError(
            f"log-probabilities of this {body.config.model_type} model are {noise:.2g} off its own pass:\n"
            "its rows depend on padding, or something unknown is done to its logits; give another model",
            field="policy",
        )
    return choose(path, _against_trees(body, path), lambda: _run(body, probe, "trees"), reference, tolerance)


def _against_trees(body: PreTrainedModel, path: str) -> str | None:
    if path == "batches":
        return "as asked for"
    if getattr(body.config.get_text_config(), "attention_dropout", 0):
        return "the model's attention has dropout"
    return configured_against_trees(body.config)


def _run(body: PreTrainedModel, probe: Sequence[Example], path: PackingMode) -> Tensor:
    """Log-probabilities of the probe in one micro-batch, in its order  # (tokens,)"""
    (batch,) = micro_batches(probe, 1 << 30, path)
    return logps(body, batch.to(body.device))


def _alone(body: PreTrainedModel, probe: Sequence[Example]) -> Tensor:
    """The same from the model's own logits, one sequence at a time  # (tokens,)"""
    parts = []
    for example in probe:
        for answer in example.answers:
            ids = torch.tensor([[*example.query, *answer.ids]], device=body.device)
            logits = body(input_ids=ids, use_cache=False).logits[0, len(example.query) - 1 : -1].float()
            targets = ids[0, len(example.query) :, None]
            parts.append(torch.log_softmax(logits, dim=-1).gather(1, targets)[:, 0])
    return torch.cat(parts)


def _probe(body: PreTrainedModel) -> list[Example]:
    """Three queries with two, three and four answers, of ordinary tokens drawn at random; longest first."""
    vocabulary = body.config.get_text_config().vocab_size
    limit = (configured_window(body.config) or 512) // 3
    generator = torch.Generator().manual_seed(0)

    def drawn(count: int) -> tuple[int, ...]:
        low, high = vocabulary // 8, vocabulary // 2 + 1  # special tokens stand at either end
        return tuple(torch.randint(low, high, (max(2, min(count, limit)),), generator=generator).tolist())

    return [
        Example("", drawn(length), tuple(TrainedResponse("", drawn(size), 0.0) for size in (40, 7, 23, 31)[:count]))
        for length, count in ((90, 4), (61, 3), (34, 2))
    ]
