"""One evaluation as `neat-train eval` wrote it: eval.json, and the figures of every query behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from neat_data.errors import InputError
from neat_data.report.tables import number
from neat_data.store.claim import readable
from neat_data.store.documents import Settings
from neat_train.comparison.result import Figure, JudgedArms, ShownAnswer, SideBySide, Start
from neat_train.evaluation.figures import REWARD
from neat_train.evaluation.folder import ANSWERS_FILE, EVAL, RECORDS_FILE, read_eval
from neat_train.evaluation.result import EvalResult, EvaluatedPolicy
from neat_train.judging.folder import read_result
from neat_train.judging.result import JudgeResult, PeoplesTexts
from neat_train.statistics import Interval

# As in `neat_train.evaluation.evaluate`, which takes torch to import.
DECODINGS = ("greedy", "sampled", "negative")
TOKENS = ("tokenizer", "template", "stop_tokens", "stop_string")
_AGREE = 1e-3  # between eval.json's mean rewards and those of its answers
JUDGE = "judge.json"
SETTINGS, RESULT = "settings.json", "result.json"
EVALUATIONS = "eval"
SHOWN_DECODING = "sampled"
# What is read of settings.json, and of which parts.
_SECTIONS = {"settings": ("training",), "identifying": ("training",), "content": ("policy", "reward_model")}


@dataclass(frozen=True)
class Evaluation:
    """An evaluation's folder and what its files hold.

    Attributes:
        result: eval.json.
        answers: one row an answer, see `neat_train.evaluation.folder.ANSWERS`.
        records: query_id, nll and tokens of a chosen response; no rows where queries came without.
    """

    folder: Path
    result: EvalResult
    answers: pl.DataFrame
    records: pl.DataFrame

    @cached_property
    def reward_models(self) -> tuple[str, ...]:
        """In the order of the evaluation: what trained first."""
        named = [model for decoding in self.result.decodings.values() for model in decoding.rewards]
        return tuple(dict.fromkeys(named))

    @property
    def weights(self) -> str | None:
        """What tells the policy from any other."""
        return self.result.subject.weights

    @property
    def tokens(self) -> Settings:
        """What decides which tokens a text becomes: figures a token compare only where this is the same."""
        subject = self.result.settings.get("subject", {})
        return {name: subject.get(name) for name in TOKENS}

    @property
    def negative(self) -> str | None:
        """The prompt that the answers called `negative` were given under; None where they were given without one."""
        prompt = self.result.settings["negative"]
        return None if prompt["text"] is None else str(prompt.get("name", "negative"))

    @property
    def start(self) -> Start | None:
        """What KL was measured from."""
        start = self.result.start
        return None if start is None else Start(start.label, start.weights, start.own)

    def answered(self, decoding: str) -> pl.DataFrame:
        """The answers of one decoding, by query_id; one row a query, the mean where an id was asked more than once."""
        rows = self.answers.filter(pl.col("decoding") == decoding)
        numbers = [name for name, kind in rows.schema.items() if kind.is_numeric() or kind == pl.Boolean]
        return rows.group_by("query_id").agg(pl.col(numbers).cast(pl.Float64).mean()).sort("query_id")


def read_evaluation(folder: Path) -> Evaluation:
    """Read what lies in an evaluation's folder.

    Raises:
        InputError: it holds no finished evaluation, one of another version, or files that do not belong together.
    """
    evaluation = Evaluation(folder, read_eval(folder), _frame(folder / ANSWERS_FILE), _frame(folder / RECORDS_FILE))
    with readable(folder / EVAL):
        _require_sections(evaluation.result.settings)
        _require_one_piece(evaluation)
    return evaluation


def _require_sections(settings: Mapping[str, Any]) -> None:
    """Raise where parts that are compared are no objects, or lack what is read of them."""
    for name, keys in {"subject": (), "reward_models": (), "negative": ("text",)}.items():
        section = dict(settings.get(name, {}))
        if lacking := [key for key in keys if key not in section]:
            raise KeyError(f"{name}.{lacking[0]}")


def _frame(path: Path) -> pl.DataFrame:
    try:
        with path.open("rb") as file:  # polars takes brackets in a path for a pattern
            return pl.read_ipc(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: cannot be read ({one_reason(error)}); run neat-train eval again") from error


def one_reason(error: Exception) -> str:
    """The first line of an error's text: libraries write long ones."""
    return str(error).partition("\n")[0]


def _require_one_piece(evaluation: Evaluation) -> None:
    """eval.json and the answers beside it tell the same rewards."""
    for decoding, figures in evaluation.result.decodings.items():
        rows = evaluation.answers.filter(pl.col("decoding") == decoding)
        for model, reward in figures.rewards.items():
            said, counted = reward.mean.value, _mean(rows, f"{REWARD}{model}")
            if (said is None) != (counted is None) or abs((said or 0) - (counted or 0)) > _AGREE:
                raise InputError(
                    f"{evaluation.folder}: {EVAL} says a mean reward of {number(said)} under {model} ({decoding}), "
                    f"{ANSWERS_FILE} says {number(counted)};\n"
                    "the files are of two evaluations: remove the folder and run neat-train eval again"
                )


def _mean(rows: pl.DataFrame, column: str) -> float | None:
    values = rows[column].drop_nulls().to_numpy() if column in rows.columns else np.empty(0)
    return float(values.mean()) if len(values) else None


def read_judged(path: Path, arms: Mapping[Path, str]) -> JudgedArms:
    """A judge.json, given itself or by its folder.

    Args:
        arms: names of runs by their resolved paths: a side that is one of them is called so.

    Raises:
        InputError: it cannot be read, or is none.
    """
    file = path / JUDGE if path.is_dir() else path
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: cannot be read ({error})") from error
    return _judged(read_result(content, file), file, arms)


def _judged(result: JudgeResult, file: Path, arms: Mapping[Path, str]) -> JudgedArms:
    with readable(file):
        return _told(result, file, arms)


def _told(result: JudgeResult, file: Path, arms: Mapping[Path, str]) -> JudgedArms:
    return JudgedArms(
        _side(result.a, arms),
        _side(result.b, arms),
        result.verdicts.win,
        result.verdicts.lose,
        result.verdicts.tie,
        _figure(result.win_rate),
        result.sign_test,
        source=str(file),
        judge=str(result.judge["model"]),
        unread=result.verdicts.unread,
        length_controlled=_figure(result.length_controlled),
        first=_figure(result.position_bias.first_preferred),
        agreement=_figure(result.calibration.agreement) if result.calibration else None,
    )


def _side(side: EvaluatedPolicy | PeoplesTexts, arms: Mapping[Path, str]) -> str:
    return arms.get(Path(side.spec).resolve(), side.label)


def _figure(interval: Interval | None) -> Figure | None:
    return None if interval is None else Figure(interval.value, interval.low, interval.high)


def named(given: Sequence[str]) -> dict[str, list[Path]]:
    """Arms by name, each with its seeds.

    A path without NAME= is called as its folder is; only a NAME that was given may come again.

    >>> named(["runs/sft", "neat=runs/a", "neat=runs/b"])
    {'sft': [PosixPath('runs/sft')], 'neat': [PosixPath('runs/a'), PosixPath('runs/b')]}

    Raises:
        InputError: two paths without a name end in the same folder's name.
    """
    arms: dict[str, list[Path]] = {}
    unnamed = set()
    for text in given:
        name, path = _split(text)
        if name is None:
            name = path.resolve().name
            if name in arms:
                raise InputError(f"{text}: something else is called {name}; say NAME={text} (the same NAME for seeds)")
            unnamed.add(name)
        elif name in unnamed:
            raise InputError(f"{text}: another run is called {name} by its folder; give that one a NAME too")
        arms.setdefault(name, []).append(path)
    return arms


def _split(text: str) -> tuple[str | None, Path]:
    name, separator, path = text.partition("=")
    if not separator or Path(text).exists():
        return None, Path(text)
    if not name or not path:
        raise InputError(f"{text!r}: an arm is RUN or NAME=RUN")
    return name, Path(path)


def run_of(path: Path) -> Path | None:
    """The run's folder that `path` is, or that the evaluation at `path` lies in; None for an evaluation elsewhere."""
    if (path / SETTINGS).is_file():
        return path
    run, as_given = path.resolve().parent.parent, path.parent.parent
    if not (run / SETTINGS).is_file():
        return None
    return as_given if as_given.resolve() == run else run


def run_settings(run: Path) -> Settings:
    """The resolved settings of a run, from its settings.json."""
    return stored(run)["settings"]


def stored(run: Path) -> Settings:
    """`settings`, `identifying` and `content` of a run's settings.json, empty where it lacks them.

    Raises:
        InputError: it cannot be read, or one of these is no object.
    """
    path = run / SETTINGS
    try:
        with readable(path):
            document = json.loads(path.read_bytes())
            return {name: _section(document, name, parts) for name, parts in _SECTIONS.items()}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


def _section(document: Settings, name: str, parts: Sequence[str]) -> Settings:
    section = dict(document.get(name, {}))
    return {**section, **{part: dict(section.get(part) or {}) for part in parts}}


def evaluation_of(path: Path, wanted: str) -> Path | None:
    """The folder of an evaluation: `path` itself, or the wanted one of a run; None where the run has none such."""
    if (path / EVAL).is_file():
        return path
    folder = path / EVALUATIONS / wanted
    return folder if (folder / EVAL).is_file() else None


def wanted_evaluation(arms: Mapping[str, Sequence[Path]], given: str | None) -> str:
    """Which evaluation of the runs is compared.

    Raises:
        InputError: a path is no run and no evaluation; there is no evaluation at all, or several and none was named;
            or one was named that no run has, or that no run was given for.
    """
    paths = [path for seeds in arms.values() for path in seeds]
    for path in paths:
        if not (path / EVAL).is_file() and not (path / SETTINGS).is_file():
            raise InputError(f"{path}: is no run of neat-train fit, and holds no {EVAL}")
    runs = [path for path in paths if not (path / EVAL).is_file()]
    names = sorted({folder for path in runs for folder in _evaluations(path)})
    if given is not None:
        if not runs:
            raise InputError(
                "every path is that of an evaluation itself; leave it out", field="evaluation", value=given
            )
        if given not in names:
            raise InputError(
                f"no run has it; there is {', '.join(names) or 'none at all'}", field="evaluation", value=given
            )
        return given
    if len(names) > 1:
        raise InputError(f"the runs have several evaluations: {', '.join(names)}", advice="say which with {eval}")
    if not names and len(runs) == len(paths):
        raise InputError(
            f"{paths[0]}: was not evaluated, nor was any other;\n"
            f"neat-train eval {paths[0]} --queries SOURCE --reward-model MODEL"
        )
    return names[0] if names else ""


def _evaluations(run: Path) -> list[str]:
    folder = run / EVALUATIONS
    return [entry.name for entry in folder.iterdir() if (entry / EVAL).is_file()] if folder.is_dir() else []


def samples(evaluated: Mapping[str, Sequence[Evaluation]], count: int) -> tuple[SideBySide, ...]:
    """What the first seed of each arm said to `count` queries: those of the lowest ids, which are hashes.

    So they are the same for any arms, and nobody picked them.
    """
    frames = {arm: _first_answers(evaluations[0]) for arm, evaluations in evaluated.items()}
    if not frames:
        return ()
    shared = sorted(set.intersection(*(set(rows) for rows in frames.values())))[:count]
    return tuple(_sample(query, frames) for query in shared)


def _first_answers(evaluation: Evaluation) -> dict[str, dict]:
    rows = evaluation.answers.filter(pl.col("decoding") == SHOWN_DECODING).unique("query_id", keep="first")
    return {row["query_id"]: row for row in rows.to_dicts()}


def _sample(query: str, frames: Mapping[str, Mapping[str, dict]]) -> SideBySide:
    row = next(iter(frames.values()))[query]
    answers = tuple(_answer(arm, rows[query]) for arm, rows in frames.items())
    return SideBySide(query, row["source"] or "", row["query"], answers)


def _answer(arm: str, row: Mapping) -> ShownAnswer:
    rewards = {name.removeprefix(REWARD): value for name, value in row.items() if name.startswith(REWARD)}
    return ShownAnswer(arm, row["text"], row["finished"], rewards)
