"""Models of random weights (2 layers of 32, float32), with the names, tokenizers and templates of the shipped ones.

They do all that the shipped ones do, in a tenth of the time; what they say makes no sense.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest

MODELS = Path(__file__).resolve().parents[2] / "data" / "models"
NAMES = ("tiny-policy", "tiny-policy-plain", "tiny-reward", "tiny-reward-heldout")
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8}


@cache
def random_model(shipped: str) -> Path:
    """The folder of a model of the shipped one's class; every process that asks makes the same weights."""
    import torch
    import transformers

    from neat_data.models.weights import silence

    folder = _folder() / shipped
    config = transformers.AutoConfig.from_pretrained(MODELS / shipped)
    config.update({**SMALL, "initializer_range": 0.2, "dtype": "float32"})
    # Whichever test asks first makes it: bars of saving would be that test's output.
    with silence(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(NAMES.index(shipped))
        getattr(transformers, config.architectures[0])(config).save_pretrained(folder)
        transformers.AutoTokenizer.from_pretrained(MODELS / shipped).save_pretrained(folder)
    return folder


@cache
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="neat-align-models-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@pytest.fixture(scope="session")
def random_policy() -> Path:
    return random_model("tiny-policy")


@pytest.fixture(scope="session")
def plain_policy() -> Path:
    """It has the plain template, not that of a chat."""
    return random_model("tiny-policy-plain")


@pytest.fixture(scope="session")
def random_reward() -> Path:
    return random_model("tiny-reward")


@pytest.fixture(scope="session")
def other_reward() -> Path:
    """A classifier of other weights."""
    return random_model("tiny-reward-heldout")
