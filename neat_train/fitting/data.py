"""What a run learns from: records to train on, those held out, and whether the method learns anything from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neat_data.errors import InputError
from neat_data.formats.strategies import Keep, keep, pairs_of
from neat_data.prompts.sets import load_prompts
from neat_data.record import Record
from neat_train.config.ranking import PolicyGradient
from neat_train.config.settings import BASELINES, REWARD, FitSettings
from neat_train.data.records import Records
from neat_train.data.selection import require_some
from neat_train.data.split import held_out_split
from neat_train.fitting.request import FitRequest
from neat_train.reward_model import run as reward_run
from neat_train.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class FitData:
    """Records to train on, records held out, and what identifies both."""

    train: Records
    held_out: list[Record]
    content: dict[str, Any]


def open_data(request: FitRequest, settings: FitSettings, folder: RunFolder) -> FitData:
    """The records of a request.

    Raises:
        InputError: no such dataset, or nothing in it that the method learns from.
    """
    held = settings.held_out
    records, other = _opened(request, settings, folder)
    content = {
        "dataset": records.identity(),
        "held_out": other and other.identity(),
        "prompts": _said_by(settings.rounds.prompts),
        "held_out_prompt": _said_by(held.prompt),
    }
    _require_what_is_learned(request, settings, records)
    if other is not None:
        return FitData(
            _kept(_with_something(records.without(other.ids), settings), settings),
            [other[query] for query in other.ids],
            content,
        )
    train, kept = held_out_split(records.ids, held.share)
    if not kept and measures(settings):
        raise InputError(f"{request.dataset}: of one record none can be held out", advice="say eval_strategy=no")
    return FitData(
        _kept(_with_something(records.only(train), settings), settings), [records[query] for query in kept], content
    )


def _opened(request: FitRequest, settings: FitSettings, folder: RunFolder) -> tuple[Records, Records | None]:
    """The records of the dataset, and those of the one that is held out, if there is one."""
    ranks, held = folder.ranks, settings.held_out
    grown = folder.begun_with("dataset") if settings.rounds.into == "dataset" else None
    for turn in (True, False):  # what has to be cached is cached by one rank
        if ranks.main is turn:
            records = Records.open(
                request.dataset,
                rank_by=settings.rank_by,
                reviewed=settings.labels == "reviews",
                drop_by=settings.drop_by,
                where=settings.where,
                limit=settings.limit,
                rounds=grown and grown["rounds"],
            )
            other = Records.open(held.data, rank_by=settings.rank_by) if held.data else None
        ranks.barrier()
    return records, other


def measures(settings: FitSettings) -> bool:
    """Whether anything is measured on held-out queries."""
    return settings.training["eval_strategy"] != "no"


def _require_what_is_learned(request: FitRequest, settings: FitSettings, records: Records) -> None:
    """Raises InputError where the method learns nothing from these records."""
    if settings.method == REWARD:
        reward_run.require_rewards(request.dataset, settings, records)
    if not records.contrasts and _compares(settings):
        raise InputError(
            f"{request.dataset}: no record has two responses with different rewards, so nothing can be compared.\n"
            f"method {settings.method} learns from such records; `neat-data expand` adds responses, sft needs one each."
        )
    if settings.method not in (*BASELINES, REWARD) and not settings.loss.active_ranking.needs_contrast:
        _require_two_rewards(request.dataset, settings, records)
    _require_something_to_penalise(request.dataset, settings, records)


def _compares(settings: FitSettings) -> bool:
    """Whether the method learns nothing from a record without two different rewards."""
    if settings.method in ("sft", "sft-trl", REWARD):
        return False
    if settings.method == "dpo-trl":
        return settings.dpo.pairs != "chosen"
    ranking = settings.loss.active_ranking
    if settings.online and isinstance(ranking, PolicyGradient):
        return False
    return ranking.needs_contrast and ranking.chosen_pairs != "chosen"


def _with_something(records: Records, settings: FitSettings) -> Records:
    """Those of which the method has something to learn."""
    return records.only(require_some(records.ids, records.__getitem__, settings))


def _kept(records: Records, settings: FitSettings) -> Records:
    """Those whose pairs `keep_pairs` takes; held-out queries are those of every strategy."""
    if settings.keep_pairs is None:
        return records
    pairs = pairs_of((records[query] for query in records.ids), settings.speaking_pair)
    return records.only(keep(records.dataset, Keep.parse(settings.keep_pairs), pairs, settings.rank_by))


def _require_two_rewards(path: str, settings: FitSettings, records: Records) -> None:
    rewards = ([response.reward for response in records[query].responses] for query in records.ids)
    if not settings.online and not any(len(each) - each.count(None) > 1 for each in rewards):
        raise InputError(
            f"{path}: no record has two responses with a reward, which method {settings.method} compares.\n"
            "`neat-data expand` adds responses, `neat-data rescore` scores them."
        )


def _require_something_to_penalise(path: str, settings: FitSettings, records: Records) -> None:
    if settings.loss.penalised != "negative_prompt" or settings.online or settings.method in BASELINES:
        return
    if not records.negative:
        raise InputError(
            f"{path}: loss.penalty.target negative_prompt, and no response was sampled under a negative prompt.\n"
            "`neat-data expand --prompts neat:negative` samples them; or say loss.penalty.target=worst."
        )


def _said_by(prompts: str | None) -> list[dict[str, Any]]:
    return [] if prompts is None else [prompt.to_dict() for prompt in load_prompts(prompts).prompts]
