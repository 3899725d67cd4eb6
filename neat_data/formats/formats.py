"""The formats by name: what a row is made of, and which options and endings each of them takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa

from neat_data.errors import InputError
from neat_data.formats import trl
from neat_data.formats.preferences import ONE_PAIR, Choose, Row, every, labelled
from neat_data.formats.trl import SCHEMA as RRHF
from neat_data.formats.trl import rrhf
from neat_data.options.words import PairsOf
from neat_data.record import MESSAGE, RESPONSE, SCHEMA, Record

RESPONSES = pa.schema(
    [
        ("query_id", pa.string()),
        ("rank", pa.uint32()),
        ("messages", pa.list_(MESSAGE)),
        *RESPONSE,
    ]
)
Container = Literal["lines", "parquet", "folder"]
_CHOOSE: dict[str, Choose] = {**ONE_PAIR, "labels": labelled, "reviews": labelled, "all": every}
_PAIRS: dict[str, tuple[str, ...]] = {
    "trl-dpo": get_args(PairsOf),
    "trl-reward": get_args(PairsOf),
    "trl-sft": ("best-worst", "labels"),
    "trl-kto": ("best-worst", "labels", "reviews"),
}
_ENDINGS: dict[str, Container] = {".jsonl": "lines", ".json": "lines", ".parquet": "parquet"}
_CONTAINERS: dict[str, tuple[Container, str]] = {
    "rrhf": ("lines", "JSON Lines: a file that ends in .json or .jsonl"),
    "parquet": ("parquet", "a file that ends in .parquet"),
    "hf": ("folder", "a folder"),
}


def responses(record: Record) -> list[Row]:
    """One row a response, best first; `rank` 0 is the best of its query."""
    row = record.to_dict()
    query = {"query_id": row["query_id"], "messages": row["messages"]}
    return [{**query, "rank": rank, **response} for rank, response in enumerate(row["responses"])]


def whole(record: Record) -> list[Row]:
    """The record as one row."""
    return [record.to_dict()]


@dataclass(frozen=True, slots=True)
class Format:
    """What a record becomes: `rows` gives rows of `schema`, or raises `Skipped`."""

    name: str
    schema: pa.Schema
    rows: Callable[[Record], list[Row]]


def find(name: str, pairs: str | None = None, min_gap: float | None = None) -> Format:
    """The format called `name`.

    Args:
        name: one of `options.words.Form`.
        pairs: whose preferences: rewards (`best-worst`, `mu-2sigma`, `random`, `all`), people (`labels`) or reviewers
            (`reviews`, who are found in the records' labels); None: what the format does.
        min_gap: the reward of chosen must exceed that of rejected by more than this.

    Raises:
        InputError: the format does not take these options.
    """
    allowed = _PAIRS.get(name, ())
    if pairs is not None and pairs not in allowed:
        raise InputError(f"{name} takes {' or '.join(allowed) or 'none'}", field="pairs", value=pairs)
    if min_gap is not None and (not allowed or name == "trl-sft"):
        raise InputError(f"{name} makes no pairs; leave it out", field="min_gap", value=min_gap)
    if min_gap is not None and not 0 <= min_gap < float("inf"):
        raise InputError("a gap is a number from 0 up", field="min_gap", value=min_gap)
    return _format(name, pairs, min_gap)


def _format(name: str, pairs: str | None, min_gap: float | None) -> Format:
    choose = _CHOOSE[pairs or "best-worst"]
    if name == "trl-dpo":
        return Format(name, trl.DPO, partial(trl.dpo, choose=choose, min_gap=min_gap))
    if name == "trl-reward":
        return Format(name, trl.REWARD, partial(trl.reward, choose=choose, min_gap=min_gap))
    if name == "trl-sft":
        return Format(name, trl.SFT, trl.sft_chosen if pairs == "labels" else trl.sft_best)
    if name == "trl-kto":
        rows = {None: trl.kto, "best-worst": trl.kto_best_worst, "labels": trl.kto_labels, "reviews": trl.kto_labels}[
            pairs
        ]
        return Format(name, trl.KTO, partial(rows, min_gap=min_gap))
    plain = {"rrhf": (RRHF, rrhf), "parquet": (RESPONSES, responses), "hf": (SCHEMA, whole)}
    return Format(name, *plain[name])


def container(name: str, out: Path) -> Container:
    """How the rows are stored at `out`: TRL's forms by its ending, the others in one way each.

    Raises:
        InputError: the ending is another format's.
    """
    by_ending = _ENDINGS.get(out.suffix.lower(), "folder")
    wanted, described = _CONTAINERS.get(name, (by_ending, ""))
    if by_ending != wanted:
        raise InputError(f"{name} writes {described}", field="out", value=out)
    return wanted
