"""Plain language modelling of the rows' dialogues, preferred and not preferred alike.

The rows have one turn each. Some dialogues of a kind are chained at random into dialogues of several turns, so that
the model meets later turns and later positions.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pipelines.tiny_models.batches import by_length, optimise, pad
from pipelines.tiny_models.rows import Pair
from pipelines.tiny_models.tokenizer import Encoder

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM


def new_policy(shape: dict, encoder: Encoder, window: int, seed: int) -> LlamaForCausalLM:
    """A causal LM of Llama's architecture with tied embeddings and random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(encoder.tokenizer),
        hidden_size=shape["hidden"],
        intermediate_size=shape["intermediate"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["heads"],
        max_position_embeddings=window,
        tie_word_embeddings=True,
        bos_token_id=encoder.bos,
        eos_token_id=encoder.end,
        pad_token_id=encoder.pad,
        use_cache=True,
    )
    return LlamaForCausalLM(config)


def dialogues(
    pairs: Sequence[Pair], encoder: Encoder, rng: random.Random, single: float, longest_chain: int
) -> list[list[int]]:
    """Token ids of every dialogue of `pairs` once, some alone and the rest chained with others of their kind."""
    turns = [
        (pair.kind, [*encoder.query(pair.query)[1:], *encoder.response(text)])
        for pair in pairs
        for text in (pair.chosen, pair.rejected)
    ]
    rng.shuffle(turns)
    sequences = []
    for kind in sorted({kind for kind, _ in turns}):
        left = [ids for k, ids in turns if k == kind]
        while left:
            length = 1 if rng.random() < single else rng.randint(2, longest_chain)
            taken, left = left[:length], left[length:]
            sequences.append([encoder.bos, *(i for ids in taken for i in ids)])
    return sequences


def next_token_loss(model: LlamaForCausalLM, ids: torch.Tensor, learn: torch.Tensor) -> torch.Tensor:
    """Mean negative log-likelihood of the tokens where `learn` is true.

    Args:
        ids: (sequences, longest), padded on the right.
        learn: (sequences, longest), never true at padding or at the first position.
    """
    return loss_at(model, model.model(input_ids=ids, use_cache=False).last_hidden_state, ids, learn)


def loss_at(model: LlamaForCausalLM, hidden: torch.Tensor, ids: torch.Tensor, learn: torch.Tensor) -> torch.Tensor:
    """As `next_token_loss`, from the body's last hidden states, (sequences, longest, width)."""
    import torch

    wanted = learn[:, 1:]
    logits = model.lm_head(hidden[:, :-1][wanted])  # (learnt tokens, vocabulary)
    return torch.nn.functional.cross_entropy(logits.float(), ids[:, 1:][wanted])


def train_language(
    model: LlamaForCausalLM,
    pairs: Sequence[Pair],
    encoder: Encoder,
    settings: dict,
    seed: int,
    log: Callable[[str], None],
) -> None:
    """Train `model` in place on every dialogue of `pairs`, `settings["epochs"]` times; the last may be a part."""
    rng = random.Random(seed)
    epochs = []
    for _ in range(math.ceil(settings["epochs"])):
        sequences = dialogues(pairs, encoder, rng, settings["single"], settings["longest_chain"])
        batches = by_length([len(ids) for ids in sequences], settings["tokens_per_step"], rng)
        epochs.append([[sequences[i] for i in batch] for batch in batches])
    part = settings["epochs"] - len(epochs) + 1
    epochs[-1] = epochs[-1][: math.ceil(part * len(epochs[-1]))]

    def loss_of(batch: list[list[int]]) -> torch.Tensor:
        ids = pad(batch, encoder.pad)
        return next_token_loss(model, ids, (ids != encoder.pad) & (ids != encoder.bos))

    optimise(model, loss_of, epochs, settings, log=log)
