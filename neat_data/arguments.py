"""What a caller from Python hands to a verb, checked and made into what the requests hold.

The command line has typer for this. Everything wrong is an `InputError` that names the argument.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from neat_data.errors import InputError

if TYPE_CHECKING:
    from neat_data.models.reward_model import RewardModelSpec
    from neat_data.models.sampler import SamplerSpec
    from neat_data.store.dataset import PreferenceDataset
    from neat_data.store.reviews import DropBy

T = TypeVar("T")


def at_least(least: int, **values: int | None) -> None:
    """Refuse a number below `least`; None is no number.

    >>> at_least(1, limit=None, workers=2)
    """
    for name, value in values.items():
        if value is not None and value < least:
            raise InputError(f"{name}={value}: must be at least {least}")


def one_of(choices: Any, **values: object) -> None:
    """Refuse what is not among the words of a `Literal`."""
    for name, value in values.items():
        if value not in get_args(choices):
            raise InputError(f"{name}={value!r}: choose one of {', '.join(map(repr, get_args(choices)))}")


def several(value: str | Path | Iterable[str | Path]) -> tuple[str, ...]:
    """One or several names or paths, as text.

    >>> several("a"), several(["a", "b"])
    (('a',), ('a', 'b'))
    """
    return (str(value),) if isinstance(value, str | Path) else tuple(map(str, value))


def text_or_none(value: str | Path | None) -> str | None:
    """A name or a path as text."""
    return None if value is None else str(value)


def path_or_none(value: str | Path | None) -> Path | None:
    """A path, where there is one."""
    return None if value is None else Path(value)


def worker_count(workers: int | str) -> int:
    """What requests take: 0 for a process on every device.

    >>> worker_count("auto"), worker_count(2)
    (0, 2)
    """
    if workers == "auto":
        return 0
    if not isinstance(workers, int) or workers < 1:
        raise InputError(f"workers={workers!r}: a number from 1, or 'auto'")
    return workers


def place_of(dataset: str | Path | PreferenceDataset) -> str:
    """Where a dataset lies that is named by its folder, or opened already."""
    from neat_data.store.dataset import PreferenceDataset

    return dataset.path if isinstance(dataset, PreferenceDataset) else str(dataset)


def opened(dataset: str | Path | PreferenceDataset, drop_by: DropBy | None = None) -> PreferenceDataset:
    """The dataset as it is now; one that was opened already is taken as it was then. `drop_by` None: as opened."""
    from neat_data.store.dataset import PreferenceDataset
    from neat_data.store.reviews import DropBy

    if drop_by is not None:
        one_of(DropBy, drop_by=drop_by)
    if not isinstance(dataset, PreferenceDataset):
        return PreferenceDataset.open(dataset, drop_by or "any")
    return dataset if drop_by in (None, dataset.drop_by) else replace(dataset, drop_by=drop_by)


def reward_spec(model: str | Path | RewardModelSpec, **options: Any) -> RewardModelSpec:
    """What loads a reward model: `model` itself where it says how, else its name with `options`."""
    from neat_data.models.reward_model import RewardModelSpec

    return _spec(RewardModelSpec, model, options, "reward_model")


def sampler_spec(model: str | Path | SamplerSpec, **options: Any) -> SamplerSpec:
    """What loads a policy: `model` itself where it says how, else its name with `options`."""
    from neat_data.models.sampler import SamplerSpec

    return _spec(SamplerSpec, model, options, "policy")


def _spec(kind: type[T], model: str | Path | T, options: dict[str, Any], argument: str) -> T:
    if not isinstance(model, kind):
        return kind(model=str(model), **options)  # type: ignore[call-arg]
    defaults = kind(model="")  # type: ignore[call-arg]
    if said := [name for name, value in options.items() if value != getattr(defaults, name)]:
        raise InputError(f"{argument} is a {kind.__name__}: say {', '.join(said)} there")
    return model
