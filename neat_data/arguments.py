"""The options of a verb, as users say them, to the request that the verb takes; command line and Python share it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from neat_data.errors import InputError
from neat_data.options.groups import Admitting, Dataset, Reading, RewardModel, Workers
from neat_data.options.verbs import AddResponses, Expand, Export, Rescore, Score
from neat_data.options.words import Compression, DropBy
from neat_data.store.address import folder_or_url

if TYPE_CHECKING:
    from neat_data.formats.export import ExportRequest
    from neat_data.models.reward_model import RewardModelSpec
    from neat_data.models.sampler import SamplerSpec
    from neat_data.rounds.add_responses import GivenRequest
    from neat_data.rounds.expand import ExpandRequest
    from neat_data.rounds.finish import Scoring
    from neat_data.rounds.sampling import Draws
    from neat_data.scoring.engine import EngineSpec
    from neat_data.scoring.numbers import Numbers
    from neat_data.scoring.request import ScoreRequest
    from neat_data.scoring.rescore import RescoreRequest
    from neat_data.store.dataset import PreferenceDataset

T = TypeVar("T")


def score_request(options: Score) -> ScoreRequest:
    """What `score` takes."""
    from neat_data.scoring.request import ScoreRequest

    shards = _shards(options)
    if options.phase != "finish" and (options.reward_model is None) == (options.rewards == "model"):
        raise InputError(
            "nothing, or too much, says what scores", advice="Say either {reward_model} or {rewards} given"
        )
    spec = None if options.reward_model is None else reward_spec(options.reward_model, options)
    own = {"compression": compression(options.compression), "engine": engine_spec(options)}
    return taken(ScoreRequest, options, reward=spec, columns=column_places(options.columns), shards=shards, **own)


def _shards(options: Score | Rescore) -> Numbers | None:
    """Which shards are made; raises InputError where it is said twice what of a dataset is."""
    from neat_data.scoring.numbers import Numbers

    if options.shards is None:
        return None
    if options.phase != "all":
        raise InputError("makes no shards", field="phase", value=options.phase, advice="Leave {phase} or {shards} out.")
    return Numbers.read(options.shards)


def engine_spec(options: Workers) -> EngineSpec:
    """Where shards are made."""
    from neat_data.scoring.engine import EngineSpec

    if options.engine != "ray":
        for name in ("gpus_per_worker", "ray_address"):
            if getattr(options, name) is not None:
                raise InputError("goes with {engine} ray", field=name, value=getattr(options, name))
    return taken(EngineSpec, options, workers=worker_count(options.workers))


def rescore_request(options: Rescore) -> RescoreRequest:
    """What `rescore` takes."""
    from neat_data.scoring.rescore import RescoreRequest

    spec = reward_spec(options.reward_model, options)
    dataset = folder_or_url(dataset_path(options.dataset))
    return RescoreRequest(dataset, options.name, spec, engine_spec(options), options.phase, _shards(options))


def expand_request(options: Expand) -> ExpandRequest:
    """What `expand` takes."""
    from neat_data.rounds.expand import ExpandRequest

    if (options.policy is None) == (options.phase != "score"):
        raise InputError("nothing to answer", advice="Say {policy} MODEL, or {phase} score alone, for what was sampled")
    return ExpandRequest(
        folder_or_url(dataset_path(options.dataset)),
        None if options.policy is None else sampler_spec(options.policy, options, backend=options.sampler),
        _draws(options),
        scoring(options, options.device, engine_spec(options)),
        options.where,
        options.limit,
        options.phase,
    )


def given_request(options: AddResponses) -> GivenRequest:
    """What `add_responses` takes."""
    from neat_data.rounds.add_responses import GivenRequest

    return taken(
        GivenRequest,
        options,
        dataset=folder_or_url(dataset_path(options.dataset)),
        columns=column_places(options.columns),
        scoring=scoring(options, options.device, engine_spec(options)),
    )


def export_request(options: Export) -> ExportRequest:
    """What `export` takes."""
    from neat_data.formats.export import ExportRequest

    return taken(ExportRequest, options)


def _draws(options: Expand) -> Draws:
    """What is sampled for every query."""
    from neat_data.models.sampler import Sampling
    from neat_data.prompts.sets import PromptSet, load_prompts
    from neat_data.rounds.sampling import Draws

    prompts = options.prompts if isinstance(options.prompts, PromptSet) else load_prompts(str(options.prompts))
    return Draws(prompts, taken(Sampling, options), options.num_samples, options.seed)


def scoring(options: Admitting, device: str, engine: EngineSpec) -> Scoring:
    """How the candidates of a round become its responses."""
    from neat_data.models.reward_model import RewardModelSpec
    from neat_data.rounds.candidates import REFUSAL, Rules
    from neat_data.rounds.finish import Scoring

    model = options.reward_model
    if options.reward_args and (model is None or isinstance(model, RewardModelSpec)):
        raise InputError("goes with the name of a model", field="reward_args", advice="Say {reward_model} MODEL")
    if model is not None and not isinstance(model, RewardModelSpec):
        model = RewardModelSpec(str(model), device=device, model_args=dict(options.reward_args or {}))
    drop = tuple(sorted(set(several(options.drop))))
    return Scoring(
        rules=taken(Rules, options, drop=drop, refusal=REFUSAL if options.refusal is None else options.refusal),
        reward=model,
        device=device,
        mix=options.mix_rewards,
        engine=engine,
    )


def taken(kind: type[T], options: object, **own: Any) -> T:
    """A request with the options that are called as its fields are, in the request's types, and `own` ones."""
    said = {
        field.name: _AS.get(str(field.type), _as_it_is)(getattr(options, field.name))
        for field in fields(kind)  # type: ignore[arg-type]
        if field.name not in own and hasattr(options, field.name)
    }
    return kind(**said, **own)


def several(value: str | Path | Iterable[str | Path]) -> tuple[str, ...]:
    """One or several names or paths, as text.

    >>> several("a"), several(["a", "b"])
    (('a',), ('a', 'b'))
    """
    return (str(value),) if isinstance(value, str | Path) else tuple(map(str, value))


def _as_it_is(value: Any) -> Any:
    return value


# What the types of requests, as their modules write them, make of what users say.
_AS: Mapping[str, Callable[[Any], Any]] = {
    "str": str,
    "str | None": lambda value: None if value is None else str(value),
    "Path": Path,
    "Path | None": lambda value: None if value is None else Path(value),
    "tuple[str, ...]": several,
    "Arguments": lambda value: dict(value or {}),
    "DatasetPath": folder_or_url,
}


def compression(word: Compression) -> str | None:
    """What shards are written with; None for shards that can be mapped."""
    return None if word == "none" else word


def worker_count(workers: int | str) -> int:
    """What requests take: 0 for a process on every device.

    >>> worker_count("auto"), worker_count(2), worker_count("2")
    (0, 2, 2)
    """
    if workers == "auto":
        return 0
    if not str(workers).isdecimal() or int(workers) < 1:
        raise InputError("a number from 1, or auto", field="workers", value=repr(workers))
    return int(workers)


def dataset_path(dataset: Dataset) -> str:
    """Where a dataset lies that is named by its folder, or opened already."""
    from neat_data.store.dataset import PreferenceDataset

    return dataset.path if isinstance(dataset, PreferenceDataset) else str(dataset)


def opened(dataset: Dataset, drop_by: DropBy | None = None) -> PreferenceDataset:
    """The dataset as it is now; one that was opened already as it was then. `drop_by` None: as it was opened."""
    from neat_data.store.dataset import PreferenceDataset

    if drop_by not in (None, *get_args(DropBy)):
        raise InputError(f"choose one of {', '.join(get_args(DropBy))}", field="drop_by", value=repr(drop_by))
    if not isinstance(dataset, PreferenceDataset):
        return PreferenceDataset.open(dataset, drop_by or "any")
    return dataset if drop_by in (None, dataset.drop_by) else replace(dataset, drop_by=drop_by)


def reward_spec(model: RewardModel, options: object) -> RewardModelSpec:
    """What loads a reward model: `model` itself where it says how, else its name with the options."""
    from neat_data.models.reward_model import RewardModelSpec

    return _spec(RewardModelSpec, model, options, "reward_model")


def sampler_spec(model: str | Path | SamplerSpec, options: object, **own: Any) -> SamplerSpec:
    """What loads a policy: `model` itself where it says how, else its name with the options."""
    from neat_data.models.sampler import SamplerSpec

    return _spec(SamplerSpec, model, options, "policy", **own)


def _spec(kind: type[T], model: str | Path | T, options: object, argument: str, **own: Any) -> T:
    named = taken(kind, options, model="" if isinstance(model, kind) else str(model), **own)
    if not isinstance(model, kind):
        return named
    plain = kind(model="")  # type: ignore[call-arg]
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    if said := [name for name in names if getattr(named, name) != getattr(plain, name)]:
        raise InputError(f"{argument} is a {kind.__name__}: say {', '.join(said)} there")
    return model


def column_places(columns: str | Path | Mapping[str, str] | None) -> dict[str, str]:
    """Where the words of a mapping of columns stand; none without one."""
    from neat_data.sources.shapes.columns import mapping

    return mapping(columns) if columns else {}


def reading(options: Reading) -> dict[str, Any]:
    """How `open_source` reads a source."""
    said = {name: getattr(options, name) for name in ("subset", "split", "format")}
    return {**said, "columns": column_places(options.columns), "ignore": several(options.ignore)}
