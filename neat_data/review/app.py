"""The pages: those of `look`, a start that warns and asks for a name, and one record at a time to judge.

Text of a dataset goes through the template engine's escaping alone, after `visible` has shown its control characters;
scripts get none of it. A verdict is answered when it is on the disk.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from neat_data.errors import InputError, NeatError
from neat_data.report.escape import one_line, visible
from neat_data.report.tables import WARNING
from neat_data.review.guard import MAX_BODY
from neat_data.review.journal import writable
from neat_data.review.judging import Review
from neat_data.review.look.pages import Look, Render
from neat_data.review.look.pages import routes as look_routes
from neat_data.store.dataset import PreferenceDataset
from neat_data.thought import thought_of


def application(review: Review) -> Starlette:
    """The pages as an application; `Guard` stands before it."""
    pages = Environment(loader=PackageLoader("neat_data.review"), autoescape=True, undefined=StrictUndefined)
    pages.filters.update(visible=visible, one_line=one_line, thought=thought_of)

    def html(name: str, status: int = 200, **values: Any) -> Response:
        return HTMLResponse(pages.get_template(name).render(values), status)

    def failed(request: Request, error: Exception) -> Response:
        status = 400 if isinstance(error, InputError) else 500
        if request.method == "POST":
            return JSONResponse({"error": one_line(str(error))}, status)
        return html("error.html", status, message=str(error))

    return Starlette(
        routes=[
            *look_routes(Look(review.tasks.dataset), html),
            *_judging_routes(review, html),
            Mount("/static", StaticFiles(packages=[("neat_data.review", "static")])),
        ],
        exception_handlers={NeatError: failed, InputError: failed, HTTPException: _plain},
    )


def _judging_routes(review: Review, html: Render) -> list[Route]:
    def start(request: Request) -> Response:
        name = Path(review.tasks.dataset.path).resolve().name
        tasks, can = review.tasks, writable(Path(review.tasks.dataset.path))
        return html(
            "start.html", dataset=name, total=len(tasks.query_of), mode=tasks.mode, warning=WARNING, writable=can
        )

    def judge(request: Request) -> Response:
        if not request.query_params.get("rater"):
            return RedirectResponse("/start", 303)
        place = request.query_params.get("at")
        if place is not None and not place.isdecimal():
            raise InputError(f"at={place[:20]!r}: a number from 0")
        state = review.page(request.query_params["rater"], None if place is None else int(place[:9]))
        return html("judge.html", **state)

    def report(request: Request) -> Response:
        from neat_data.review.report import report
        from neat_data.review.tables import tables

        now = PreferenceDataset.open(review.tasks.dataset.path, review.tasks.dataset.drop_by)
        name = Path(now.path).resolve().name
        return html("report.html", dataset=name, tables=tables(report(now)))

    async def verdict(request: Request) -> Response:
        body = await _body(request)
        return JSONResponse(await run_in_threadpool(review.take, body))

    return [
        Route("/start", start),
        Route("/judge", judge),
        Route("/report", report),
        Route("/verdict", verdict, methods=["POST"]),
    ]


def _plain(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return PlainTextResponse(f"{error.detail}\n", error.status_code)


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object that was sent. Other sites cannot send this content type without asking first."""
    if request.headers.get("content-type", "").split(";")[0] != "application/json":
        raise HTTPException(415)
    if int(request.headers.get("content-length", "0")) > MAX_BODY:  # refused before it is read
        raise HTTPException(413)
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
