"""Preference datasets for aligning language models: score, look, grow, export.

`import neat_data as nd` loads neither torch nor polars nor pyarrow: each function imports what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from neat_data.api import add_responses, compact, expand, export, open, rescore, score, stats, verify
from neat_data.errors import InputError, NeatError, RunError

if TYPE_CHECKING:
    from neat_data.analysis.result import Stats
    from neat_data.models.reward_model import RewardModelSpec
    from neat_data.models.sampler import SamplerSpec, Sampling
    from neat_data.prompts.sets import Prompt, PromptSet
    from neat_data.record import Label, Message, Record, Response
    from neat_data.store.dataset import PreferenceDataset

    __version__: str

__all__ = [
    "InputError",
    "Label",
    "Message",
    "NeatError",
    "PreferenceDataset",
    "Prompt",
    "PromptSet",
    "Record",
    "Response",
    "RewardModelSpec",
    "RunError",
    "SamplerSpec",
    "Sampling",
    "Stats",
    "__version__",
    "add_responses",
    "compact",
    "expand",
    "export",
    "open",
    "rescore",
    "score",
    "stats",
    "verify",
]

_MODULES = {
    "Label": "neat_data.record",
    "Message": "neat_data.record",
    "PreferenceDataset": "neat_data.store.dataset",
    "Prompt": "neat_data.prompts.sets",
    "PromptSet": "neat_data.prompts.sets",
    "Record": "neat_data.record",
    "Response": "neat_data.record",
    "RewardModelSpec": "neat_data.models.reward_model",
    "SamplerSpec": "neat_data.models.sampler",
    "Sampling": "neat_data.models.sampler",
    "Stats": "neat_data.analysis.result",
}


def __getattr__(name: str) -> Any:
    """Types are loaded when they are asked for, and `__version__` is that of what is installed."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("neat-align")


def __dir__() -> list[str]:
    return __all__
