"""Whether a model may run over token trees: its configuration first, then a comparison in float32 when it is loaded.

The reference is the model's own forward pass over one sequence at a time. Trees are taken where a packed row agrees
with it to 1e-4, padded batches elsewhere, and the reason is one line for the user. Whether a model suits trees is asked
with attention tree by tree, which needs no compiler and no kernel of its own; what then computes it on the device is
proved by itself (`attention_choice`). The rule is here once (`in_float32_where_it_fits`, `choose`); `choose_path` asks
it about a reward model's scores, `neat_train.policy.logprobs` about a policy's log-probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from neat_data.errors import InputError
from neat_data.models.device import is_out_of_memory, release
from neat_data.models.reward_model import RewardModelSpec
from neat_data.models.templates import ChatTemplate
from neat_data.models.trees.attention import TREES_SDPA, UnsupportedAttention
from neat_data.models.trees.attention_choice import asked_attention, choose_attention
from neat_data.models.trees.forward import Head, linear_head, run_batch, run_trees
from neat_data.models.trees.tree import grow
from neat_data.record import Message

EXACT = 1e-4  # in float32
CLOSE = 0.1  # in the model's own dtype, where float32 does not fit: bfloat16 logits move by a few hundredths
_QUESTIONS = (
    "How do I keep bread fresh for more than a day or two without a freezer?",
    "My neighbour plays the drums at night. What could I say to him that does not start a quarrel?",
    "Explain to a child of seven why the moon seems to follow a car.",
)
_ANSWERS = (
    "Keep it in a paper bag inside a bread box, cut side down, and toast it from the third day on.",
    "I would ring his bell in the afternoon, tell him that you like that he plays, and ask for silence after ten.",
    "Things that are near rush past the window, things that are far hardly move, and the moon is very, very far away.",
    "I don't know.",
)
_TURNS = 6


Groups = list[list[list[int]]]  # dialogues that share a query, as token ids
_Choice = TypeVar("_Choice")


@dataclass(frozen=True, slots=True)
class PathChoice:
    """The path taken, and one line that says why."""

    path: Literal["trees", "batches"]
    note: str


@dataclass(frozen=True, slots=True)
class ScoringChoice:
    """The path taken, whether the float32 head is used, one line that says why, and the attention that runs."""

    path: Literal["trees", "batches"]
    linear: bool
    note: str
    attention: str


def choose_path(
    model: PreTrainedModel,
    template: ChatTemplate,
    spec: RewardModelSpec,
    pad: int,
    *,
    backward: bool = False,
    dtype: torch.dtype | None = None,
) -> ScoringChoice:
    """Compare both paths with the model's own forward pass; leaves the model with the attention that was chosen.

    Args:
        pad: the token id that batches are padded with.
        backward: whether gradients are wanted.
        dtype: that passes compute in; None: the model's own.

    Raises:
        InputError: `path="trees"` or an attention was asked for and is not exact, or padding changes what the model
            computes.
    """
    asked = asked_attention(spec.model_args)
    groups = _probe(template, spec.max_length or 0)
    own = model.config._attn_implementation
    choice, linear = in_float32_where_it_fits(model, lambda exact: _choose(model, groups, spec, pad, exact))
    if choice.path == "batches":
        model.set_attn_implementation(own)
        return ScoringChoice(choice.path, linear, choice.note, own)
    attention, line = choose_attention(asked, model.config, dtype or model.dtype, model.device, backward=backward)
    model.set_attn_implementation(attention)
    return ScoringChoice(choice.path, linear, with_line(choice, line).note, attention)


def in_float32_where_it_fits(model: PreTrainedModel, choose: Callable[[bool], _Choice]) -> _Choice:
    """What `choose` says with the weights in float32, or, where there is no memory for that, as they are.

    Args:
        choose: is told whether float32 is in force.
    """
    try:
        with in_float32(model) as exact:
            return choose(exact)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    release()
    return choose(False)


def choose(
    asked: str, against: str | None, run: Callable[[], torch.Tensor], reference: torch.Tensor, tolerance: float
) -> PathChoice:
    """Trees where nothing speaks against them and a run over them agrees with the model's own pass.

    Args:
        asked: `auto`, `trees` or `batches`.
        against: what is known against trees before any run.
        run: the probe over trees; same shape as `reference`.
        reference: what the model itself says of the probe, one sequence at a time.
        tolerance: the largest difference that is taken; EXACT in float32.

    Raises:
        InputError: `trees` was asked for and is not exact.
    """
    reason = against or _inexact(run, reference, tolerance)
    if reason is None:
        precision = "exact in float32" if tolerance == EXACT else f"within {tolerance:.2g}; float32 does not fit"
        return PathChoice("trees", f"token trees: {precision}, on a probe")
    if asked == "trees":
        raise InputError(f"{reason}\nleave it at auto, which pads batches for this model", field="path", value="trees")
    return PathChoice("batches", f"length-sorted batches: {reason}")


def with_line(choice: PathChoice, line: str | None) -> PathChoice:
    """The choice with one more line of why."""
    return replace(choice, note="\n".join(filter(None, (choice.note, line))))


@contextmanager
def in_float32(model: PreTrainedModel) -> Iterator[bool]:
    """Casts a model's weights up and back again, which changes no bit of them; says whether float32 is in force.

    Not `model.float()`: its way back would also round buffers, such as rotary frequencies, that were float32 all along.
    Quantised weights stay as they are, and so do those for which there is no memory.
    """
    tensors = [tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.is_floating_point()]
    lower = [(tensor, tensor.dtype) for tensor in tensors if tensor.dtype != torch.float32]
    quantised = not all(tensor.is_floating_point() for tensor in model.parameters())
    if quantised or (model.device.type == "cpu" and 4 * sum(tensor.numel() for tensor, _ in lower) > free_memory()):
        yield False
        return
    try:
        for tensor, _ in lower:
            tensor.data = tensor.data.float()
        yield True
    finally:
        for tensor, dtype in lower:
            tensor.data = tensor.data.to(dtype)


def free_memory() -> float:
    """Bytes that this machine can still give; without end where it does not say. Linux kills who takes more."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return float("inf")
    return next((int(line.split()[1]) * 1024.0 for line in lines if line.startswith("MemAvailable")), float("inf"))


def _choose(
    model: PreTrainedModel, groups: Groups, spec: RewardModelSpec, pad: int, exact: bool
) -> tuple[PathChoice, bool]:
    """The path, and whether the float32 head is used."""
    tolerance = EXACT if exact else CLOSE
    reference = _alone(model, groups, pad)
    head = _agreeing_head(model, groups, pad, reference, tolerance)

    def run() -> torch.Tensor:
        assert head is not None  # or there is something against trees
        model.set_attn_implementation(TREES_SDPA)
        return run_trees(model, head, [grow(group) for group in groups], TREES_SDPA)

    return choose(spec.path, _against_trees(model, head, spec), run, reference, tolerance), head is not None


def window(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The longest sequence the model can take; None where its configuration names no limit."""
    limit = configured_window(model.config)
    if not hasattr(model, "score") and limit is not None:
        # RoBERTa's table begins behind its padding index; its tokenizer knows the true limit.
        limit = min(limit, tokenizer.model_max_length)
    return limit


def configured_window(config: PreTrainedConfig) -> int | None:
    """The longest sequence that a configuration allows; None where it names no limit."""
    config = config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None)
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope":
        # Beyond this length its frequencies change for a whole batch: a result would depend on its neighbours.
        limit = rope.get("original_max_position_embeddings", limit)
    return limit


def configured_against_trees(config: PreTrainedConfig) -> str | None:
    """What a configuration says against trees: a window, layers that are not full attention, no causality."""
    config = config.get_text_config()
    if getattr(config, "is_encoder_decoder", False):
        return "the model is an encoder with a decoder"
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    if kinds:
        return f"the model has layers of {', '.join(sorted(kinds))}"
    if getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True):
        return f"the model's attention has a window of {config.sliding_window} tokens"
    if getattr(config, "attention_chunk_size", None):
        return "the model's attention works in chunks"
    if not getattr(config, "is_causal", True) or getattr(config, "use_bidirectional_attention", False):
        return "the model's attention is not causal"
    return None


def _against_trees(model: PreTrainedModel, head: Head | None, spec: RewardModelSpec) -> str | None:
    if spec.path == "batches":
        return "as asked for"
    if "attn_implementation" in spec.model_args:
        return f"attention {spec.model_args['attn_implementation']} was asked for"
    if head is None:
        return "the model's head is not a single linear layer on a decoder"
    return configured_against_trees(model.config)


def _inexact(run: Callable[[], torch.Tensor], reference: torch.Tensor, tolerance: float) -> str | None:
    """Why trees are not exact on the probe, or None where they are."""
    try:
        off = float((run() - reference).abs().max())
    except (UnsupportedAttention, TypeError, ValueError) as error:
        return f"trees do not run on this model ({' '.join(str(error).split())[:120]})"
    return None if off <= tolerance else f"trees are off by {off:.2g} on this model"


def _agreeing_head(
    model: PreTrainedModel, groups: Groups, pad: int, reference: torch.Tensor, tolerance: float
) -> Head | None:
    """The linear head if padded batches through it give the model's own logits; None if only its own forward does."""
    rows = [ids for group in groups for ids in group]
    for head in (linear_head(model), None):
        off = float((run_batch(model, head, rows, pad) - reference).abs().max())
        if off <= tolerance:
            return head
    raise InputError(f"the model's logits change by {off:.2g} when rows are padded: they would depend on their batch")


def _alone(model: PreTrainedModel, groups: Groups, pad: int) -> torch.Tensor:
    """The model's own logits, one unpadded dialogue at a time  # (dialogues,)"""
    return torch.cat([run_batch(model, None, [ids], pad) for group in groups for ids in group])


def _probe(template: ChatTemplate, max_length: int) -> Groups:
    """Three long dialogues with two, three and four answers each, as token ids, cut to the model's length."""
    groups = []
    for count, question in zip((2, 3, 4), _QUESTIONS, strict=True):
        query = [
            Message("assistant", _ANSWERS[turn % 4]) if turn % 2 else Message("user", f"{question} ({turn})")
            for turn in range(_TURNS - 1)
        ]
        ids = [template.ids((*query, Message("assistant", answer))) for answer in _ANSWERS[:count]]
        groups.append([_shortened(row, max_length) for row in ids])
    return groups


def _shortened(ids: list[int], limit: int) -> list[int]:
    """Front and end kept: enough for a comparison, and answers still differ."""
    return ids if len(ids) <= limit else [*ids[: limit // 2], *ids[-(limit - limit // 2) :]]
