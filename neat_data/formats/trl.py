"""Rows for the trainers of others: TRL's conversational columns, and the texts of RRHF's `train.py`.

TRL reads the columns that it knows (`prompt`, `chosen`, `rejected`, `completion`, `label`, `margin`) and passes over
the others, which say where each text came from. No text or flag among them is ever null, so that a JSON reader sees the
same types in all of a file.

RRHF (github.com/GanjinZero/RRHF) reads `query`, `responses` and `scores`, one JSON object a line, its texts in HH's
form: `query` ends with the assistant's tag, and a response has no space in front (its own scoring joins the two by
one). Its options `only_use_provide` and `only_use_sample` take the last two responses for those that came with the
data, so responses from the source stand last. A batch of more than one record wants as many responses in each.
"""

from __future__ import annotations

import math
from dataclasses import asdict

import pyarrow as pa

from neat_data.dialogue import hh_text
from neat_data.formats.preferences import Choose, Pair, Row, Skipped, best_worst, labelled, polarity, scored
from neat_data.labels import best, firsts, verdicts
from neat_data.record import MESSAGE, Record, Response

SCHEMA = pa.schema([("query", pa.string()), ("responses", pa.list_(pa.string())), ("scores", pa.list_(pa.float32()))])
_TURNS = pa.list_(MESSAGE)


def rrhf(record: Record) -> list[Row]:
    """One row with every response that has a reward.

    Raises:
        Skipped: there are no two rewards that differ, so nothing can be ranked.
    """
    responses = scored(record)
    if len({response.reward for response in responses}) == 1:
        raise Skipped("tie")
    responses.sort(key=lambda response: response.origin == "source")
    return [
        {
            "query": hh_text(record.messages) + "\n\nAssistant:",
            "responses": [response.text for response in responses],
            "scores": [response.reward for response in responses],
        }
    ]


def _about(side: str) -> list[tuple[str, pa.DataType]]:
    return [
        (f"{side}_id", pa.string()),
        (f"{side}_reward", pa.float32()),
        (f"{side}_polarity", pa.string()),
        (f"{side}_unfinished", pa.bool_()),
    ]


_QUERY = [("query_id", pa.string()), ("prompt", _TURNS)]

DPO = pa.schema([*_QUERY, ("chosen", _TURNS), ("rejected", _TURNS), *_about("chosen"), *_about("rejected")])

REWARD = DPO.append(pa.field("margin", pa.float32()))

SFT = pa.schema([*_QUERY, ("completion", _TURNS), *_about("completion")])

KTO = SFT.append(pa.field("label", pa.bool_()))


def dpo(record: Record, choose: Choose, min_gap: float | None) -> list[Row]:
    """One row a pair."""
    return [_pair(record, pair) for pair in choose(record, min_gap)]


def reward(record: Record, choose: Choose, min_gap: float | None) -> list[Row]:
    """One row a pair with two rewards; `margin` is their gap, below 0 where people preferred the lower one."""
    floor = -math.inf if min_gap is None and choose is labelled else min_gap
    return [{**_pair(record, pair), "margin": pair.gap} for pair in choose(record, floor)]


def sft_best(record: Record) -> list[Row]:
    """One row with the best response."""
    return [_single(record, best(scored(record, at_least=1)))]


def sft_chosen(record: Record) -> list[Row]:
    """One row for each response that people put first or accepted."""
    rows = [_single(record, response) for response in firsts(record)]
    if not rows:
        raise Skipped("no_label")
    return rows


def kto(record: Record, min_gap: float | None) -> list[Row]:
    """One row for each verdict of people; where there is none, the best response is good and the worst is not."""
    judged = verdicts(record) or _both_sides(best_worst(record, min_gap))
    return [{**_single(record, response), "label": good} for response, good in judged]


def kto_best_worst(record: Record, min_gap: float | None) -> list[Row]:
    """Two rows: the best response is good, the worst is not."""
    judged = _both_sides(best_worst(record, min_gap))
    return [{**_single(record, response), "label": good} for response, good in judged]


def kto_labels(record: Record, min_gap: float | None) -> list[Row]:
    """One row for each verdict of people, and two for each of their pairs: chosen is good, rejected is not."""
    judged = verdicts(record)
    try:
        judged += _both_sides(labelled(record, min_gap))
    except Skipped:
        if not judged:
            raise
    said = {(response.response_id, good): response for response, good in judged}
    return [{**_single(record, response), "label": good} for (_, good), response in said.items()]


def _both_sides(pairs: list[Pair]) -> list[tuple[Response, bool]]:
    return [side for pair in pairs for side in ((pair.chosen, True), (pair.rejected, False))]


def _pair(record: Record, pair: Pair) -> Row:
    return {
        **_query(record),
        "chosen": _turn(pair.chosen),
        "rejected": _turn(pair.rejected),
        **_told("chosen", pair.chosen),
        **_told("rejected", pair.rejected),
    }


def _single(record: Record, response: Response) -> Row:
    return {**_query(record), "completion": _turn(response), **_told("completion", response)}


def _query(record: Record) -> Row:
    return {"query_id": record.query_id, "prompt": [asdict(message) for message in record.messages]}


def _turn(response: Response) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": response.text}]


def _told(side: str, response: Response) -> Row:
    """Where the text came from; `unfinished` where it is known to have been cut at a limit of length."""
    return {
        f"{side}_id": response.response_id,
        f"{side}_reward": response.reward,
        f"{side}_polarity": polarity(response),
        f"{side}_unfinished": response.finished is False or response.truncated,
    }
