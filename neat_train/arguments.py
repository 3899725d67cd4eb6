"""The options of a verb, as users say them, to the request that the verb takes; command line and Python share it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neat_data.arguments import dataset_path, engine_spec, several, taken
from neat_data.errors import InputError

if TYPE_CHECKING:
    from neat_train.config.settings import FitSettings
    from neat_train.config.verbs import Evaluate, Export, Fit, Judge
    from neat_train.evaluation.evaluate import EvalRequest
    from neat_train.fitting import FitRequest
    from neat_train.judging.judge import JudgeRequest
    from neat_train.losses.own import Own
    from neat_train.policy.export import RunExportRequest

JUDGED, PRESETS = 300, {"paper": 30}


def fit_settings(options: Fit, said: Mapping[str, Any], sets: Iterable[str] = ()) -> tuple[FitSettings, Own | None]:
    """The settings of a run, and the user's loss, where the method is one.

    Args:
        said: settings by their dotted names.
        sets: more of them, `a.b=c`.
    """
    from neat_train.config.reading import read_settings

    own = _own(options.method)
    of_pairs = "dpo.pairs" if options.method == "dpo-trl" else "loss.ranking.pairs"
    named = {
        "method": None if own else options.method,
        of_pairs: options.pairs,
        "rounds.reward_model": options.reward_model,
        "held_out.data": options.eval_data,
    }
    named = {name: str(value) for name, value in named.items() if value is not None}
    file = None if options.settings is None else Path(options.settings)
    chosen = read_settings(file, {**said, **named}, sets, options.preset or "", own.settings if own else None)
    return chosen, own


def fit_request(options: Fit, settings: FitSettings, own: Own | None) -> FitRequest:
    """What `fit` takes."""
    from neat_train.fitting import FitRequest

    return taken(FitRequest, options, dataset=dataset_path(options.dataset), settings=settings, own=own)


def _own(method: str | None) -> Own | None:
    """The user's loss, where the method names a file."""
    if method is None or ".py:" not in method:
        return None
    from neat_train.losses.own import load_own

    return load_own(method)


def eval_request(options: Evaluate) -> EvalRequest:
    """What `evaluate` takes."""
    from neat_data.rounds.candidates import REFUSAL
    from neat_train.evaluation.evaluate import EvalRequest

    return taken(
        EvalRequest,
        options,
        subject=str(options.model),
        queries=dataset_path(options.queries),
        rewards=several(options.reward_models),
        engine=engine_spec(options),
        refusal=REFUSAL if options.refusal is None else options.refusal,
    )


def judge_request(options: Judge) -> JudgeRequest:
    """What `judge` takes."""
    from neat_train.judging.clients.client import JudgeSpec
    from neat_train.judging.judge import JudgeRequest
    from neat_train.judging.prompt import DEFAULT
    from neat_train.judging.sides import Answering

    names = ("device", "dtype", "chat_template", "trust_remote_code", "base")
    loading = {name: getattr(options, name) for name in names}
    return taken(
        JudgeRequest,
        options,
        judge=taken(JudgeSpec, options, model=str(options.judge), args=dict(options.judge_args or {})),
        queries=None if options.queries is None else dataset_path(options.queries),
        n=_queries(options),
        prompt_file=DEFAULT if options.prompt_file is None else Path(options.prompt_file),
        answering=taken(Answering, options, loading=loading),
    )


def _queries(options: Judge) -> int:
    """How many queries are judged."""
    if options.preset is None:
        return JUDGED if options.n is None else options.n
    if options.n is not None:
        raise InputError(
            f"says {PRESETS[options.preset]} queries",
            field="preset",
            value=options.preset,
            advice="Leave out {n}, or {preset}",
        )
    return PRESETS[options.preset]


def export_request(options: Export) -> RunExportRequest:
    """What `export` takes."""
    from neat_train.policy.export import RunExportRequest

    return taken(RunExportRequest, options, merged=options.merge)
