"""The pages: a start that warns and asks for a name, and one record at a time to judge.

Text of a dataset goes through the template engine's escaping alone, after `visible` has shown its control characters;
scripts get none of it. A verdict is answered when it is on the disk.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from neat_data.errors import InputError, NeatError
from neat_data.record import Response as Answer
from neat_data.report.escape import one_line, visible
from neat_data.report.tables import WARNING, number
from neat_data.review.guard import MAX_BODY
from neat_data.review.journal import Journal
from neat_data.review.tasks import Tasks
from neat_data.store.reviews import VERDICTS, Event, rater_name, standing

MAX_NOTE = 4_000  # characters
WORDS = {"keep": "Keep", "drop": "Drop", "off_prompt": "Not what the prompt asked for"}


@dataclass(frozen=True)
class Review:
    """What the pages show and write.

    Attributes:
        tasks: what is to be judged.
        show_rewards: whether rewards and origins are seen before the verdict.
    """

    tasks: Tasks
    show_rewards: bool = False
    _journals: dict[str, Journal] = field(default_factory=dict)
    _one_at_a_time: Lock = field(default_factory=Lock)

    def journal(self, name: str) -> tuple[str, Journal]:
        """A rater's name in its one spelling, and what they write into.

        Raises:
            InputError: this cannot name a rater.
        """
        rater = rater_name(name)
        with self._one_at_a_time:
            if rater not in self._journals:
                self._journals[rater] = Journal(Path(self.tasks.dataset.path), rater)
            return rater, self._journals[rater]

    def page(self, name: str, place: int | None) -> dict[str, Any]:
        """What the judging page is filled with; `place` None: the first record that is not judged whole.

        Raises:
            InputError: a bad name; no such place.
        """
        rater, journal = self.journal(name)
        events = journal.events()
        given, queries = standing(events), self.tasks.order(rater)
        if place is None:
            place = next((n for n, q in enumerate(queries) if not given.keys() >= set(self.tasks.responses[q])), None)
        done = self._done(given)
        common = {"rater": rater, "total": len(self.tasks.known), "done": done, "last": self._last(given, queries)}
        if place is None:
            return {**common, "place": len(queries), "records": len(queries), "record": None}
        if not 0 <= place < len(queries):
            raise InputError(f"there are {len(queries):,} records to judge, and none at {place}")
        record, ids = self.tasks.record(queries[place], rater)
        answers = [self._shown(record.response(identifier), given.get(identifier)) for identifier in ids]
        return {**common, "place": place, "records": len(queries), "record": record, "answers": answers}

    def take(self, body: dict[str, Any]) -> dict[str, Any]:
        """Write what the page sent; what it shows then.

        Raises:
            InputError: it is no event on a response that is to be judged.
            RunError: it could not be written.
        """
        rater, journal = self.journal(_text(body, "rater", 200))
        journal.append(self._event(body))
        given = standing(journal.events())
        query = next(q for q, ids in self.tasks.responses.items() if body["response_id"] in ids)
        answer = self.tasks.record(query, rater)[0].response(body["response_id"])
        last = self._last(given, self.tasks.order(rater))
        return {"saved": body["event"], "done": self._done(given), "last": last, "facts": _facts(answer)}

    def _event(self, body: dict[str, Any]) -> Event:
        response, verdict, scale = _text(body, "response_id", 64), body.get("verdict"), body.get("scale")
        if response not in self.tasks.known:
            raise InputError(f"response {response!r} is not among those to judge")
        event = _text(body, "event", 64)
        if body.get("undoes") is not None:
            return Event(event, response, undoes=_text(body, "undoes", 64))
        if verdict not in VERDICTS:
            raise InputError(f"verdict {str(verdict)[:40]!r} is none of {', '.join(VERDICTS)}")
        if scale is not None and (type(scale) is not int or not 1 <= scale <= 5):
            raise InputError("scale is a number from 1 to 5")
        note = _text(body, "note", MAX_NOTE) if body.get("note") else ""
        return Event(event, response, verdict, scale=scale, note=note)

    def _done(self, given: dict[str, Event]) -> int:
        return len(self.tasks.known & given.keys())

    def _last(self, given: dict[str, Event], queries: list[str]) -> dict[str, Any] | None:
        """The verdict that undo takes back, and the record that it is of."""
        mine = [event for event in given.values() if event.event and event.response_id in self.tasks.known]
        if not mine:
            return None
        last = mine[-1]
        place = next(n for n, query in enumerate(queries) if last.response_id in self.tasks.responses[query])
        return {"event": last.event, "response_id": last.response_id, "place": place}

    def _shown(self, answer: Answer, event: Event | None) -> dict[str, Any]:
        seen = self.show_rewards or event is not None
        return {
            "id": answer.response_id,
            "text": answer.text,
            "event": event,
            "facts": _facts(answer) if seen else "",
        }


def application(review: Review) -> Starlette:
    """The pages as an application; `Guard` stands before it."""
    pages = Environment(loader=PackageLoader("neat_data.review"), autoescape=True, undefined=StrictUndefined)
    pages.filters.update(visible=visible, one_line=one_line)

    def html(name: str, status: int = 200, **values: Any) -> Response:
        return HTMLResponse(pages.get_template(name).render(values), status)

    def start(request: Request) -> Response:
        name = Path(review.tasks.dataset.path).resolve().name
        return html("start.html", dataset=name, total=len(review.tasks.known), warning=WARNING)

    def judge(request: Request) -> Response:
        place = request.query_params.get("at")
        if place is not None and not place.isdecimal():
            raise InputError(f"at={place[:20]!r}: a number from 0")
        state = review.page(request.query_params.get("rater", ""), None if place is None else int(place[:9]))
        return html("judge.html", **state, words=WORDS)

    async def verdict(request: Request) -> Response:
        body = await _body(request)
        return JSONResponse(await run_in_threadpool(review.take, body))

    def failed(request: Request, error: Exception) -> Response:
        status = 400 if isinstance(error, InputError) else 500
        if request.method == "POST":
            return JSONResponse({"error": one_line(str(error))}, status)
        return html("error.html", status, message=str(error))

    return Starlette(
        routes=[
            Route("/", start),
            Route("/judge", judge),
            Route("/verdict", verdict, methods=["POST"]),
            Mount("/static", StaticFiles(packages=[("neat_data.review", "static")])),
        ],
        exception_handlers={NeatError: failed, InputError: failed, HTTPException: _plain},
    )


def _plain(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return PlainTextResponse(f"{error.detail}\n", error.status_code)


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object that was sent. Other sites cannot send this content type without asking first."""
    if request.headers.get("content-type", "").split(";")[0] != "application/json":
        raise HTTPException(415)
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > MAX_BODY:
            raise HTTPException(413)
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError("the body is no JSON") from error
    if not isinstance(body, dict):
        raise InputError("the body is no JSON object")
    return body


def _text(body: dict[str, Any], name: str, most: int) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= most:
        raise InputError(f"{name} is a text of 1 to {most:,} characters")
    return value


def _facts(answer: Answer) -> str:
    """What is told of a response once it was judged."""
    parts = [f"reward {number(answer.reward)}", answer.origin, answer.polarity and f"{answer.polarity} prompt"]
    return one_line(" · ".join(part for part in (*parts, answer.model, f"round {answer.round}") if part))
