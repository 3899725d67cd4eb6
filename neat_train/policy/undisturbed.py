"""Looking at a model in training without leaving a trace: modes and random states are put back as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import torch
from torch import nn


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Without dropout and without gradients; what the block draws at random is drawn as if it had not been.

    Every submodule goes back to the mode it was in; the random states are those of Python, numpy, and torch on the host
    and on the module's device.
    """
    python, host = random.getstate(), np.random.get_state()
    try:
        with evaluating(module), torch.no_grad(), _forked(module):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(host)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Without dropout; every submodule goes back to the mode it was in."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _forked(module: nn.Module) -> AbstractContextManager[None]:
    devices = {weight.device for weight in module.parameters() if weight.device.type != "cpu"}
    kind = next((device.type for device in devices), None)
    return torch.random.fork_rng(sorted(device.index or 0 for device in devices), device_type=kind)
