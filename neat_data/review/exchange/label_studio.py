"""Label Studio's JSON of annotated tasks: https://labelstud.io/guide/task_format.html

A task is a response to judge; an annotation is one rater's verdict, with a result for every control of `CONFIG`. Label
Studio knows raters by number: the name goes along as the result of a control of its own, which an import reads first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from neat_data.review.exchange.form import ExchangeTask, Told

# The labelling interface that asks for the verdicts; `$` names a key of a task's `data`.
CONFIG = """\
<View>
  <Paragraphs name="dialogue" value="$dialogue" nameKey="role" textKey="content"/>
  <Header value="The response"/>
  <Text name="response" value="$response"/>
  <Choices name="verdict" toName="response" choice="single" required="true">
    <Choice value="keep"/>
    <Choice value="drop"/>
    <Choice value="off_prompt"/>
    <Choice value="edit"/>
  </Choices>
  <Rating name="scale" toName="response" maxRating="5"/>
  <TextArea name="labels" toName="response" editable="true" rows="1"/>
  <TextArea name="text" toName="response" editable="true" maxSubmissions="1"/>
  <TextArea name="note" toName="response" editable="true" maxSubmissions="1"/>
  <TextArea name="rater" toName="response" editable="true" maxSubmissions="1"/>
</View>
"""
_KINDS = {"verdict": "choices", "scale": "rating"}


def to_task(task: ExchangeTask, number: int) -> dict[str, Any]:
    """A task with its annotations; `number` from 1."""
    annotations = [_annotation(told, number) for told in task.told]
    data = {
        "query_id": task.query_id,
        "response_id": task.response_id,
        "dialogue": task.dialogue,
        "response": task.response,
    }
    return {"id": number, "data": data, "annotations": annotations, "predictions": []}


def from_task(row: dict[str, Any]) -> Iterator[tuple[str, Told]]:
    """What raters said of a task's response, with its id; annotations that were skipped say nothing.

    Raises:
        KeyError, TypeError, ValueError: it is no such task.
    """
    response = str(row["data"]["response_id"])
    for annotation in row.get("annotations") or ():
        values = {result["from_name"]: _value(result) for result in annotation["result"]}
        if annotation.get("was_cancelled") or "verdict" not in values:
            continue
        rater = _first(values.get("rater")) or _user(annotation.get("completed_by"))
        yield (
            response,
            Told(
                rater=rater,
                key=str(annotation.get("unique_id") or annotation.get("id") or ""),
                verdict=_first(values["verdict"]) or "",
                text=_first(values.get("text")),
                scale=values.get("scale"),
                labels=tuple(values.get("labels") or ()),
                note=_first(values.get("note")) or "",
            ),
        )


def _annotation(told: Told, task: int) -> dict[str, Any]:
    said = {
        "verdict": [told.verdict],
        "scale": told.scale,
        "labels": list(told.labels),
        "text": [told.text] if told.text else [],
        "note": [told.note] if told.note else [],
        "rater": [told.rater],
    }
    results = [_result(name, value, f"{told.key}-{name}") for name, value in said.items() if value]
    return {"unique_id": told.key, "task": task, "result": results, "was_cancelled": False, "ground_truth": False}


def _result(name: str, value: Any, identifier: str) -> dict[str, Any]:
    kind = _KINDS.get(name, "textarea")
    held = {kind if kind != "textarea" else "text": value}
    return {"id": identifier, "from_name": name, "to_name": "response", "type": kind, "value": held}


def _value(result: dict[str, Any]) -> Any:
    return next(result["value"][key] for key in ("choices", "rating", "text") if key in result["value"])


def _first(values: Any) -> str | None:
    return next(iter([values] if isinstance(values, str) else values or ()), None)


def _user(completed_by: Any) -> str:
    """A number, or an object with an address, by the kind of export."""
    if isinstance(completed_by, dict):
        return str(completed_by.get("email") or completed_by["id"])
    return f"user-{completed_by}"
