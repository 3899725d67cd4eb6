"""Argilla's JSON of records, as `dataset.records.to_json` writes and `from_json` reads it:
https://docs.argilla.io/latest/reference/argilla/records/records/

A record is a response to judge; each question has a list of answers, one a user. Argilla knows users by UUIDs of its
own server: the name goes along as the answer to the question `rater`, which an import reads first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from neat_data.review.exchange.form import ExchangeTask, Told

QUESTIONS = ("verdict", "scale", "labels", "text", "note", "rater")


def to_record(task: ExchangeTask) -> dict[str, Any]:
    """A record with its answers."""
    responses: dict[str, list[dict[str, Any]]] = {}
    for told in task.told:
        said = {"labels": list(told.labels), **{name: getattr(told, name) for name in QUESTIONS if name != "labels"}}
        for question in QUESTIONS:
            if said[question]:
                answer = {"value": said[question], "user_id": str(uuid5(NAMESPACE_URL, f"neat-align:{told.rater}"))}
                responses.setdefault(question, []).append(answer)
    return {
        "id": task.response_id,
        "fields": {"dialogue": task.dialogue, "response": task.response},
        "metadata": {"query_id": task.query_id},
        "suggestions": {},
        "responses": responses,
        "vectors": {},
        "_server_id": None,
    }


def from_record(row: dict[str, Any]) -> Iterator[tuple[str, Told]]:
    """What users said of a record's response, with its id; users who gave no verdict say nothing.

    Raises:
        KeyError, TypeError, ValueError: it is no such record.
    """
    users: dict[str, dict[str, Any]] = {}
    for question in QUESTIONS:
        for answer in row["responses"].get(question) or ():
            users.setdefault(str(answer["user_id"]), {})[question] = answer["value"]
    for user, said in users.items():
        if "verdict" in said:
            verdict = Told(
                rater=said.get("rater") or f"user-{user}",
                key=user,
                verdict=said["verdict"],
                text=said.get("text"),
                scale=said.get("scale"),
                labels=tuple(said.get("labels") or ()),
                note=said.get("note") or "",
            )
            yield str(row["id"]), verdict
