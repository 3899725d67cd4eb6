"""Candidates: responses on their way into a dataset, sampled or given, before they are scored.

`sift` says which of them cannot be used and why, without looking at rewards; `keep_by` asks the user's expression once
the rewards are there. Both are pure functions. A shard of candidates is stored as Arrow between the two phases.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import polars as pl
import pyarrow as pa

from neat_data.errors import InputError
from neat_data.expressions import scalar
from neat_data.labels import pair
from neat_data.record import RESPONSE, Record, Response
from neat_data.thought import answer_of

# English openings of a refusal, as in the keyword test of AdvBench (Zou et al. 2023, arXiv 2307.15043, appendix B).
REFUSAL = (
    r"(?i)\b(?:i(?:'m| am) (?:sorry|not able|unable)|i (?:can ?not|can't|won't|will not|could not|couldn't) "
    r"(?:help|assist|answer|provide|do|tell|give|support|condone|recommend)|i apologi[sz]e|as an ai\b|"
    r"i don't (?:think (?:i|you|that|it)|want to (?:help|answer))|that(?:'s| is) (?:illegal|unethical|not appropriate))"
)
DROPPABLE = ("unfinished", "cut", "refusal")
KEEP_COLUMNS = {
    "reward": pl.Float64,
    "chosen": pl.Float64,
    "rejected": pl.Float64,
    "best": pl.Float64,
    "worst": pl.Float64,
    "prompt": pl.String,
    "polarity": pl.String,
    "text": pl.String,
    "characters": pl.Int64,
    "tokens": pl.Int64,
    "finished": pl.Boolean,
    "refusal": pl.Boolean,
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A response without a reward.

    Attributes:
        query_id: the record that it answers.
        prompt: the name of the prompt that it was sampled under, or what names a group of given ones.
        response: as it will be stored.
        cut: text behind a stop string was cut off.
        turns_cut: oldest turns that the query lost before it was sampled.
        refused: the sampler's reason for giving none.
    """

    query_id: str
    prompt: str
    response: Response
    cut: bool = False
    turns_cut: int = 0
    refused: str | None = None


SCHEMA = pa.schema(
    [
        ("query_id", pa.string()),
        ("prompt", pa.string()),
        ("response", RESPONSE),
        ("cut", pa.bool_()),
        ("turns_cut", pa.int32()),
        ("refused", pa.string()),
    ]
)


def to_table(candidates: Sequence[Candidate]) -> pa.Table:
    """Candidates as an Arrow table of `SCHEMA`."""
    return pa.Table.from_pylist([asdict(candidate) for candidate in candidates], schema=SCHEMA)


def from_table(table: pa.Table) -> list[Candidate]:
    """The inverse of `to_table`."""
    return [Candidate(**{**row, "response": _response(row["response"])}) for row in table.to_pylist()]


def _response(row: dict) -> Response:
    return Response(**{**row, "tokens": None if row["tokens"] is None else tuple(row["tokens"])})


@dataclass(frozen=True)
class Rules:
    """What becomes of a candidate.

    Attributes:
        min_tokens: shorter ones are dropped (words are counted where a back end does not tell tokens).
        drop: of `DROPPABLE`, what is dropped as well. Refused, empty and repeated responses always are: the first two
            have nothing to learn from, and a record holds a text once.
        keep: a SQL expression over `KEEP_COLUMNS`; None keeps all.
        refusal: a regular expression; a response in whose beginning it is found counts as a refusal.
    """

    min_tokens: int = 0
    drop: tuple[str, ...] = ()
    keep: str | None = None
    refusal: str = REFUSAL

    def __post_init__(self) -> None:
        """Raises InputError where a rule cannot be read."""
        if unknown := sorted(set(self.drop) - set(DROPPABLE)):
            raise InputError(f"choose among {', '.join(DROPPABLE)}", field="drop", value=unknown[0])
        try:
            re.compile(self.refusal)
        except re.error as error:
            raise InputError(f"no regular expression ({error})", field="refusal", value=repr(self.refusal)) from error
        keep_by(self.keep, pl.DataFrame(schema=KEEP_COLUMNS))

    def refuses(self, text: str) -> bool:
        """Whether the response says that it will not answer; the first 200 characters of its answer are looked at."""
        return re.search(self.refusal, (answer_of(text) or "")[:200]) is not None


def length(response: Response) -> int:
    """Tokens of a response, or its words where the tokens are not known."""
    return len(response.text.split()) if response.tokens is None else len(response.tokens)


def sift(candidates: Sequence[Candidate], known: dict[str, set[str]], rules: Rules) -> list[str | None]:
    """For each candidate the reason why it is dropped before it is scored, or None.

    Args:
        known: ids of the responses that each query has already; those of the candidates are not added.
    """
    seen: set[str] = set()
    reasons = []
    for candidate in candidates:
        response = candidate.response
        repeated = response.response_id in known.get(candidate.query_id, ()) or response.response_id in seen
        reasons.append(_reason(candidate, repeated, rules))
        seen.add(response.response_id)
    return reasons


def _reason(candidate: Candidate, repeated: bool, rules: Rules) -> str | None:
    response = candidate.response
    if candidate.refused:
        return candidate.refused
    if not response.text:
        return "empty"
    if repeated:
        return "duplicate"
    if length(response) < rules.min_tokens:
        return "too_short"
    holds = {
        "unfinished": response.finished is False,
        "cut": candidate.cut,
        "refusal": "refusal" in rules.drop and rules.refuses(response.text),
    }
    return next((name for name in DROPPABLE if name in rules.drop and holds[name]), None)


def described(candidate: Candidate, reward: float, record: Record, rules: Rules) -> dict:
    """One row of `KEEP_COLUMNS`. `best` and `worst` are the record's rewards so far."""
    rewards = [response.reward for response in record.responses if response.reward is not None]
    chosen, rejected = ends(record)
    response = candidate.response
    return {
        "reward": reward,
        "chosen": chosen,
        "rejected": rejected,
        "best": max(rewards, default=None),
        "worst": min(rewards, default=None),
        "prompt": candidate.prompt,
        "polarity": response.polarity,
        "text": response.text,
        "characters": len(response.text),
        "tokens": length(response),
        "finished": response.finished,
        "refusal": rules.refuses(response.text),
    }


def ends(record: Record) -> tuple[float | None, float | None]:
    """Rewards of the two responses that people chose between; None where they compared nothing."""
    compared = pair(record)
    return (None, None) if compared is None else (compared[0].reward, compared[1].reward)


def keep_by(keep: str | None, rows: pl.DataFrame) -> list[bool]:
    """Which rows the expression is true for.

    Raises:
        InputError: it cannot be read, names an unknown column, or is neither true nor false.
    """
    if keep is None:
        return [True] * len(rows)
    try:
        kept = rows.select(scalar(keep).alias("kept"))["kept"]
    except pl.exceptions.PolarsError as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{reason}\ncolumns: {', '.join(KEEP_COLUMNS)}", field="keep", value=repr(keep)) from error
    if kept.dtype != pl.Boolean:
        raise InputError(
            "is neither true nor false; compare, as in 'reward < rejected'", field="keep", value=repr(keep)
        )
    return (kept if len(kept) == len(rows) else kept.new_from_index(0, len(rows))).fill_null(False).to_list()
