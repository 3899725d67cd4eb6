"""One evaluation as `neat-train eval` wrote it: eval.json, and the figures of every query behind it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from neat_data.errors import InputError
from neat_data.report.tables import number
from neat_train.comparison.data import Start
from neat_train.eval_figures import REWARD
from neat_train.eval_folder import ANSWERS_FILE, EVAL, FORMAT, RECORDS_FILE

# As in `neat_train.evaluate`, which takes torch to import.
DECODINGS = ("greedy", "sampled", "negative")
TOKENS = ("tokenizer", "template", "stop_tokens", "stop_string")
_NEEDED = ("subject", "queries", "prompt", "settings", "decodings")
_AGREE = 1e-3  # between eval.json's mean rewards and those of its answers


@dataclass(frozen=True)
class Evaluation:
    """An evaluation's folder and what its files hold.

    Attributes:
        content: eval.json.
        answers: one row an answer, see `neat_train.evaluate.ANSWERS`.
        records: query_id, nll and tokens of a chosen response; no rows where queries came without.
    """

    folder: Path
    content: dict[str, Any]
    answers: pl.DataFrame
    records: pl.DataFrame

    @cached_property
    def reward_models(self) -> tuple[str, ...]:
        """In the order of the evaluation: what trained first."""
        named = [model for decoding in self.content["decodings"].values() for model in decoding.get("rewards", {})]
        return tuple(dict.fromkeys(named))

    @property
    def weights(self) -> str | None:
        """What tells the policy from any other."""
        return self.content["subject"].get("weights")

    @property
    def tokens(self) -> dict[str, Any]:
        """What decides which tokens a text becomes: figures a token compare only where this is the same."""
        subject = self.content["settings"].get("subject", {})
        return {name: subject.get(name) for name in TOKENS}

    @property
    def negative(self) -> str | None:
        """The prompt that the answers called `negative` were given under; None where they were given without one."""
        told = self.content["settings"]["negative"]
        return None if told["text"] is None else str(told["name"])

    @property
    def start(self) -> Start | None:
        """What KL was measured from."""
        told = self.content.get("start")
        return Start(told["label"], told["weights"], bool(told.get("own"))) if told else None

    def answered(self, decoding: str) -> pl.DataFrame:
        """The answers of one decoding, by query_id; one row a query, the mean where an id was asked more than once."""
        found = self.answers.filter(pl.col("decoding") == decoding)
        numbers = [name for name, kind in found.schema.items() if kind.is_numeric() or kind == pl.Boolean]
        return found.group_by("query_id").agg(pl.col(numbers).cast(pl.Float64).mean()).sort("query_id")


def read_evaluation(folder: Path) -> Evaluation:
    """Read what lies in an evaluation's folder.

    Raises:
        InputError: it holds no finished evaluation, one of another version, or files that do not belong together.
    """
    content = _content(folder / EVAL)
    found = Evaluation(folder, content, _frame(folder / ANSWERS_FILE), _frame(folder / RECORDS_FILE))
    _require_one_piece(found)
    return found


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); run neat-train eval again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path}: is no evaluation of format {FORMAT}; run neat-train eval again")
    if lacking := [name for name in _NEEDED if name not in content]:
        raise InputError(f"{path}: lacks {', '.join(lacking)}; run neat-train eval again")
    return content


def _frame(path: Path) -> pl.DataFrame:
    try:
        with path.open("rb") as file:  # polars takes brackets in a path for a pattern
            return pl.read_ipc(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: cannot be read ({one_reason(error)}); run neat-train eval again") from error


def one_reason(error: Exception) -> str:
    """The first line of an error's text: libraries write long ones."""
    return str(error).partition("\n")[0]


def _require_one_piece(found: Evaluation) -> None:
    """eval.json and the answers beside it tell the same rewards."""
    for decoding, content in found.content["decodings"].items():
        rows = found.answers.filter(pl.col("decoding") == decoding)
        for model, told in content.get("rewards", {}).items():
            said, counted = told["mean"]["value"], _mean(rows, f"{REWARD}{model}")
            if (said is None) != (counted is None) or abs((said or 0) - (counted or 0)) > _AGREE:
                raise InputError(
                    f"{found.folder}: {EVAL} says a mean reward of {number(said)} under {model} ({decoding}), "
                    f"{ANSWERS_FILE} says {number(counted)};\n"
                    "the files are of two evaluations: remove the folder and run neat-train eval again"
                )


def _mean(rows: pl.DataFrame, column: str) -> float | None:
    values = rows[column].drop_nulls().to_numpy() if column in rows.columns else np.empty(0)
    return float(values.mean()) if len(values) else None
