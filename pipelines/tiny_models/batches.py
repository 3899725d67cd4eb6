"""Token sequences of like length in padded batches, and the loop that trains on them.

Batches are padded on the right and attention is causal, so no attention mask is needed: a real token never sees
padding, and what stands at padded positions is not read.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from neat_data.models.trees.packing import rectangles

if TYPE_CHECKING:
    import torch


def by_length(lengths: Sequence[int], budget: int, rng: random.Random) -> list[list[int]]:
    """Indices in batches whose padded size is at most `budget` tokens (or one item), the batches in random order.

    Items of one length are shuffled, so that batches differ from one epoch to the next.
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i] * rng.uniform(0.9, 1.1), rng.random()))
    batches = list(rectangles(lengths, budget, order=order))
    rng.shuffle(batches)
    return batches


def pad(sequences: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    """Right-padded rows, (sequences, longest)."""
    import torch

    longest = max(map(len, sequences))
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in sequences])


def optimise(
    model: torch.nn.Module,
    loss_of: Callable[[list[Any]], torch.Tensor],
    epochs: Sequence[Sequence[list[Any]]],
    settings: dict[str, Any],
    *,
    log: Callable[[str], None] = print,
    after_epoch: Callable[[int], None] | None = None,
) -> None:
    """AdamW with warm-up and cosine decay, a step a batch; matrix products in bf16, weights in fp32.

    Args:
        loss_of: the loss of one batch.
        epochs: batches, which are lists of whatever `loss_of` takes.
        settings: `learning_rate` (its peak) and `weight_decay`.
        after_epoch: called with the epoch's number, from 0.
    """
    import torch

    optimiser = torch.optim.AdamW(_groups(model, settings["weight_decay"]), betas=(0.9, 0.98), fused=True)
    steps, done, running, began = sum(map(len, epochs)), 0, 0.0, time.monotonic()
    model.train()
    for number, batches in enumerate(epochs):
        for batch in batches:
            for group in optimiser.param_groups:
                group["lr"] = settings["learning_rate"] * schedule(done / steps)
            with torch.autocast("cpu", torch.bfloat16):
                loss = loss_of(batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            done += 1
            running = loss.item() if done == 1 else 0.98 * running + 0.02 * loss.item()
            if done % 50 == 0:
                log(f"step {done}/{steps} loss {running:.4f} {time.monotonic() - began:.0f} s")
        if after_epoch:
            after_epoch(number)


def schedule(progress: float, warm_up: float = 0.05) -> float:
    """Share of the peak learning rate at `progress` in [0, 1]: linear warm-up, cosine decay to 0.05."""
    if progress < warm_up:
        return (progress + 1e-3) / (warm_up + 1e-3)
    decay = min(1.0, (progress - warm_up) / (1 - warm_up))
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * decay))


def _groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Norms are not decayed."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]
