"""Where the reward model and the sampler of a run lie, and whether everything fits.

`colocate` has them on the policy's device: the reward model waits on the host while nothing is scored, where the device
is an accelerator. `devices` gives them a card of their own, `server` asks a reward model behind a URL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neat_data.errors import InputError
from neat_data.models.device import release
from neat_data.models.load import load_reward_model
from neat_data.models.memory import check, estimate
from neat_data.models.reward_model import RewardModel, RewardModelSpec, Scored, Task
from neat_data.models.reward_models.transformers import TransformersRewardModel
from neat_data.progress import Watcher
from neat_data.scoring.dataset_reward import completed, remember, require_same, require_same_files, spec_of
from neat_data.store.dataset import PreferenceDataset
from neat_train.config.settings import FitSettings
from neat_train.distributed import Ranks
from neat_train.policy.policy import PolicySpec
from neat_train.training.memory import memory_sum

_URLS = ("http://", "https://", "judge:")


def check_memory(
    settings: FitSettings, policy: PolicySpec, dataset: PreferenceDataset, ranks: Ranks, watch: Watcher
) -> None:
    """Print what the run will need in memory, and refuse what cannot fit, before anything is loaded.

    Raises:
        InputError: it does not fit; models that do not exist; settings that contradict each other.
    """
    device = torch.device(policy.device)
    reward = _reward_or_none(settings, dataset, device)
    beside = reward is not None and torch.device(reward.device) == device
    needs = memory_sum(settings, policy, reward if beside else None, device, ranks.world, rests(settings, device))
    watch.say(needs.line())
    needs.check()
    if reward is not None and not beside:
        check([estimate(reward)], reward.device)


def load_reward(settings: FitSettings, dataset: PreferenceDataset, device: torch.device, watch: Watcher) -> RewardModel:
    """The reward model of a run, loaded once and used by rounds and held-out measurements alike.

    Args:
        device: the policy's.

    Raises:
        InputError: it cannot be had, or is not the one that scored the dataset and `rounds.mix_rewards` is not said.
    """
    watch.phase("loading the reward model", None)
    own, spec = dataset.manifest.settings["reward_model"], reward_spec(settings, dataset, device)
    mixed = settings.rounds.mix_rewards
    with _in_our_words():
        if not mixed or settings.rounds.reward_model is None:
            require_same_files(own, spec, Path(dataset.path))
        model = load_reward_model(spec)
        if not mixed:
            require_same(own, model.settings, Path(dataset.path))
    remember(model.spec, model.settings)
    for note in model.notes:
        watch.say(f"reward model: {note}")
    if rests(settings, device) and isinstance(model, TransformersRewardModel) and model.device == device:
        return Resting(model)
    return model


def reward_spec(settings: FitSettings, dataset: PreferenceDataset, device: torch.device) -> RewardModelSpec:
    """What loads the reward model of a run; errors as `load_reward`."""
    wanted, own = settings.rounds, dataset.manifest.settings["reward_model"]
    where = reward_device(settings, device, Ranks.here())
    model = wanted.reward_model
    if wanted.placement == "server" and not (model or "").startswith(_URLS):
        raise InputError(
            f"rounds.placement server and rounds.reward_model {model or '(not set)'}: say the server's URL there"
        )
    if model is not None:
        return completed(RewardModelSpec(model, device=where), own, another=settings.rounds.mix_rewards)
    with _in_our_words():
        return spec_of(Path(dataset.path), own, where)


def reward_device(settings: FitSettings, device: torch.device, ranks: Ranks) -> str:
    """The reward model's device; with `devices`, the card as far behind this rank's as there are ranks.

    Raises:
        InputError: there is no such card.
    """
    wanted = settings.rounds
    if wanted.reward_device is not None or wanted.placement != "devices":
        return wanted.reward_device or str(device)
    number = (device.index or 0) + ranks.world
    if device.type == "cpu" or number >= torch.accelerator.device_count():
        raise InputError(
            f"rounds.placement devices: there is no card for the reward model beside the {ranks.world} that train.\n"
            "Say rounds.reward_device (cpu will do), or rounds.placement colocate."
        )
    return f"{device.type}:{number}"


def rests(settings: FitSettings, device: torch.device) -> bool:
    """Whether the reward model leaves the policy's device while nothing is scored."""
    return settings.rounds.placement == "colocate" and device.type != "cpu"


class Resting:
    """A reward model that lies on the host, and on its device only while it scores; see `RewardModel`."""

    not_taken: tuple[str, ...] = ()

    def __init__(self, model: TransformersRewardModel) -> None:
        self._model, self._awake = model, False
        self.spec, self.settings = model.spec, model.settings
        self.notes = [*model.notes, "between rounds it lies on the host"]
        self._move(torch.device("cpu"))

    def score(
        self,
        tasks: Sequence[Task],
        *,
        token_budget: int | None = None,
        advance: Callable[[int, int], None] | None = None,
    ) -> list[Scored]:
        """See `RewardModel.score`."""
        with self.awake():
            return self._model.score(tasks, token_budget=token_budget, advance=advance)

    @contextmanager
    def awake(self) -> Iterator[None]:
        """On its device for as long as the block lasts."""
        if self._awake:
            yield
            return
        self._move(self._model.device)
        self._awake = True
        try:
            yield
        finally:
            self._awake = False
            self._move(torch.device("cpu"))

    def close(self) -> None:
        """See `RewardModel.close`."""
        self._model.close()

    def _move(self, device: torch.device) -> None:
        nn.Module.to(self._model.model, device)
        release()


def awake(model: RewardModel) -> Any:
    """Spares a model that rests the way to its device and back for every call inside the block."""
    return model.awake() if isinstance(model, Resting) else nullcontext()


def _reward_or_none(settings: FitSettings, dataset: PreferenceDataset, device: torch.device) -> RewardModelSpec | None:
    """None for an offline run that will do without."""
    if not settings.online and settings.training.get("eval_strategy") == "no":
        return None
    try:
        return reward_spec(settings, dataset, device)
    except InputError:
        if settings.online or settings.rounds.reward_model is not None:
            raise
        return None


@contextmanager
def _in_our_words() -> Iterator[None]:
    """Errors that name the arguments of `neat-data expand`, with the names that these have here."""
    try:
        yield
    except InputError as error:
        raise error.renamed({"reward_model": "rounds.reward_model", "mix_rewards": "rounds.mix_rewards"}) from error
