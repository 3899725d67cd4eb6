"""The rounds of a dataset: what each added, and the removal of the newest."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from neat_data.errors import InputError
from neat_data.report.card import write_card
from neat_data.rounds.staging import Staging
from neat_data.store import manifest as manifests
from neat_data.store.address import DatasetPath
from neat_data.store.folder import DatasetFolder
from neat_data.store.location import locate

if TYPE_CHECKING:
    from neat_data.store.dataset import PreferenceDataset
    from neat_data.store.manifest import Round


@dataclass(frozen=True, slots=True)
class RoundInfo:
    """One line of `neat-data rounds`.

    Attributes:
        kind: `score`, `expand` or `responses`.
        models: whose responses these are, as far as they say.
        prompts: names of the prompts that they were sampled under.
        responses, reward: how many readers see, and their mean reward.
    """

    round: int
    kind: str
    complete: bool
    models: tuple[str, ...]
    prompts: tuple[str, ...]
    responses: int
    reward: float | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def rounds(dataset: PreferenceDataset) -> list[RoundInfo]:
    """Every round, the dataset's own first."""
    grouped = dataset.scan().group_by("round").agg(pl.len(), pl.col("reward").mean(), pl.col("model").unique().sort())
    counted = {row["round"]: row for row in grouped.collect().to_dicts()}
    return [_info(entry, counted.get(entry.round), dataset.manifest.kind) for entry in dataset.manifest.rounds]


def _info(entry: Round, counted: dict[str, Any] | None, kind: str) -> RoundInfo:
    counted = counted or {"len": 0, "reward": None, "model": []}
    models = tuple(model for model in counted["model"] if model)
    prompts = tuple(prompt["name"] for prompt in entry.settings.get("prompts", {}).get("prompts", ()))
    return RoundInfo(
        entry.round, entry.kind or kind, entry.complete, models, prompts, counted["len"], counted["reward"]
    )


def drop(path: DatasetPath, number: int) -> None:
    """Remove the newest round, finished or not; what is staged for it goes as well.

    Raises:
        InputError: it is not the newest, or another process writes to the folder.
    """
    if locate(path).read(manifests.FILE) is None:  # a folder that is no dataset must not become one by being claimed
        raise InputError(f"{path}: no such dataset")
    with DatasetFolder.claim(path) as folder:
        folder.require_finished()
        staging = Staging.found(path)
        if staging is not None and staging.round > number:  # its samples were drawn beside those of this round
            raise InputError(
                f"{path}: samples of round {staging.round} wait to be scored.",
                advice=f"Score them, or remove them first: {{drop_round}} {staging.round}",
            )
        if staging is not None and staging.round == number:
            staging.remove()
        if staging is None or folder.manifest.newest.round == number:
            folder.drop_round(number)
            write_card(folder)
