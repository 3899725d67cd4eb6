"""Sampling without a random state: the token with the largest sum of logit and Gumbel noise is a sample of the softmax.

The noise of a token is a function of (seed, step, the token's index) and of nothing else: an integer hash with a
counter, the same on every device. So a sample does not depend on the batch that it was drawn in, nor on what was
drawn before.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

from neat_data.models.sampler import Sampling

_WORD = (1 << 64) - 1


def draw(logits: torch.Tensor, seeds: Sequence[int], step: int, sampling: Sampling) -> torch.Tensor:
    """The next token of every row, by transformers' own temperature and top-p, then Gumbel-max.

    Args:
        logits: in any float dtype  # (rows, vocabulary)
        seeds: one a row.
        step: how many tokens the rows have sampled before.

    Returns:
        Token ids  # (rows,)
    """
    scores = logits.float()
    if sampling.temperature > 0:
        scores = warped(scores, sampling) + gumbel(seeds, step, scores.shape[-1], scores.device)
    return scores.argmax(dim=-1)


def warped(scores: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Logits after temperature and top-p; tokens that top-p leaves out are at minus infinity."""
    unused = torch.empty(0, dtype=torch.long)  # the ids so far, at which neither of the two looks
    if sampling.temperature != 1:
        scores = TemperatureLogitsWarper(sampling.temperature)(unused, scores)
    if sampling.top_p < 1:
        scores = TopPLogitsWarper(sampling.top_p)(unused, scores)
    return scores


def gumbel(seeds: Sequence[int], step: int, vocabulary: int, device: torch.device) -> torch.Tensor:
    """Standard Gumbel noise in float32, finite everywhere  # (rows, vocabulary)"""
    keys = torch.tensor([_words(_key(seed, step)) for seed in seeds], dtype=torch.int32, device=device)
    # Two rounds with half of the key each: one round alone would give two keys the same noise in another order.
    bits = _mixed(torch.arange(vocabulary, dtype=torch.int32, device=device) ^ keys[:, :1])
    bits = _mixed(bits.add_(keys[:, 1:]))
    uniform = bits.bitwise_and_(0x7FFFFFFF).float().add_(0.5).mul_(2.0**-31)
    # -log(1 - u) is fine-grained near 0, where the noise is large; 1 - 2**-24 keeps the other end finite.
    return uniform.clamp_(max=1 - 2.0**-24).neg_().log1p_().neg_().log_().neg_()


def _key(seed: int, step: int) -> int:
    """64 bits from a seed and a step: splitmix64, seeded with its own output for the seed."""
    return _splitmix(_splitmix(seed) + step)


def _splitmix(number: int) -> int:
    number = (number + 0x9E3779B97F4A7C15) & _WORD
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _WORD
    return number ^ (number >> 31)


def _words(key: int) -> tuple[int, int]:
    """The halves of 64 bits as signed 32-bit integers."""
    high, low = key >> 32, key & 0xFFFFFFFF
    return high - ((high >> 31) << 32), low - ((low >> 31) << 32)


def _mixed(bits: torch.Tensor) -> torch.Tensor:
    """lowbias32 (Chris Wellons' hash prospector) in place; products wrap around, as int32 does  # int32, any shape"""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B - (1 << 32))):
        bits.bitwise_xor_(_shifted(bits, shift)).mul_(factor)
    return bits.bitwise_xor_(_shifted(bits, 16))


def _shifted(bits: torch.Tensor, by: int) -> torch.Tensor:
    """To the right, zeros coming in: torch's own shift of signed integers repeats the sign."""
    return (bits >> by).bitwise_and_((1 << (32 - by)) - 1)
