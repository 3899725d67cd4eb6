"""How reward models scored before: the run's dataset, and that of the queries.

A policy is measured by the reward that it was trained on, so a model that scored before is loaded with the settings
that it had then, as `fit` loads it: a template, lengths and a dtype other than the defaults make other rewards.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neat_data import recorded
from neat_data.models.reward import RewardSpec
from neat_data.models.templates import HH
from neat_data.own_reward import completed, template_of
from neat_data.store import manifest
from neat_data.store.dataset import PreferenceDataset
from neat_train.rounds import DATASET
from neat_train.run_folder import SETTINGS

_ADVICE = "Say yourself what it is loaded with, by --reward-arg KEY=VALUE."


@dataclass(frozen=True, slots=True)
class Before:
    """What a reward model said of itself when it scored.

    Attributes:
        what: it scored, for messages.
    """

    what: str
    settings: dict[str, Any]

    def is_of(self, identity: dict[str, Any]) -> bool:
        """Whether it is the model with this identity."""
        if "judge" in identity:
            return self.settings.get("model") == identity["judge"]
        return bool(identity) and all(self.settings.get(key) == value for key, value in identity.items())

    def applied(self, spec: RewardSpec, said: Collection[str] = ()) -> RewardSpec:
        """`spec`, of the same model, with the settings that it had.

        Args:
            said: arguments that the user gives, which win over those that it had.

        Raises:
            InputError: it had an argument that is for the user to say.
        """
        if "weights" not in self.settings and "revision" not in self.settings:
            return spec
        of_transformers = self.settings.get("backend") == "transformers"
        return replace(
            completed(spec, self.settings),
            dtype=recorded.scoring(self.settings).get("dtype", spec.dtype),
            chat_template=self._template(),
            model_args=recorded.arguments(self.settings, _ADVICE, said) if of_transformers else {},
        )

    def _template(self) -> str:
        """What is noted; where nothing is, the plain template is known by its hash."""
        if (noted := template_of(self.settings)) != "auto":
            return noted
        plain = hashlib.sha256(HH.read_text(encoding="utf-8").encode()).hexdigest()
        return "hh" if self.settings.get("template") == plain else "auto"


def scored_before(run: Path | None, queries: str) -> list[Before]:
    """What is known of how the rewards of a run came about, and then those of the queries.

    Args:
        run: its folder, None for a model that was not trained here.
        queries: as `open_queries` takes them; only a dataset tells.
    """
    return [*(_of_run(run) if run else ()), *_of_dataset("the queries", Path(queries))]


def _of_run(run: Path) -> Iterator[Before]:
    what = "the run's dataset"
    yield from _of_dataset(what, run / DATASET)
    if told := json.loads((run / SETTINGS).read_bytes())["content"].get("reward_model"):
        yield Before(what, told)


def _of_dataset(what: str, folder: Path) -> Iterator[Before]:
    if (folder / manifest.FILE).is_file():
        settings = PreferenceDataset.open(folder).manifest.settings.get("reward_model")
        if isinstance(settings, dict):
            yield Before(what, settings)
