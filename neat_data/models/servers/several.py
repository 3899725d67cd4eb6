"""Questions to the servers of one model, one or several: whichever has room takes the next one.

Each server has so many requests under way, so a slow one answers fewer and holds up no other; when no question is left
to begin, those that others are still at are asked again where there is room, and the first answer counts. A server that
fails for good is left out from then on, and its questions go to the others; the last one's failure ends the run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from neat_data.errors import InputError, NeatError
from neat_data.models.servers.asking import Asker, Request, Tell, first_of, wait_for

_log = logging.getLogger(__name__)


def addresses(urls: str | None) -> tuple[str | None, ...]:
    """Those in a list with commas between; (None,) where none is given.

    Raises:
        InputError: one occurs twice.

    >>> addresses("http://a:8000/v1, http://b:8000/v1")
    ('http://a:8000/v1', 'http://b:8000/v1')
    """
    listed = tuple(filter(None, (url.strip().rstrip("/") for url in (urls or "").split(","))))
    if len(set(listed)) < len(listed):
        raise InputError("one address stands there twice", field="base_url", value=urls)
    return listed or (None,)


class Servers:
    """Asks one model of these servers, each with up to `at_once` requests under way."""

    def __init__(self, askers: Sequence[Asker], at_once: int) -> None:
        self._askers = list(askers)
        self._at_once = at_once

    @property
    def not_taken(self) -> tuple[str, ...]:
        """Settings that one of the servers turned out not to take, so that it answers without."""
        return tuple(dict.fromkeys(name for asker in self._askers for name in asker.api.not_taken))

    def ask(self, requests: Sequence[Request], tell: Tell) -> None:
        """Ask all of them, and tell of each reply with its request's number, in the order in which they come.

        Raises:
            InputError: no such model or address, or the key is refused, by the last server that was left.
            RunError: that one is gone, takes nothing at all, or answers with something else.
        """
        if requests:
            try:
                wait_for(self._ask(_Questions(requests), tell))
            except ExceptionGroup as group:
                raise first_of(group) from group

    async def _ask(self, questions: _Questions, tell: Tell) -> None:
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            clients = [(asker, await stack.enter_async_context(asker.api.client())) for asker in self._askers]
            at_once = min(self._at_once, len(questions.requests))
            tasks = [
                group.create_task(self._serve(asker, client, questions, tell))
                for asker, client in clients
                for _ in range(at_once)
            ]
            await questions.all_answered.wait()
            for task in tasks:
                task.cancel()

    async def _serve(self, asker: Asker, client: Any, questions: _Questions, tell: Tell) -> None:
        """One request after the other to one server, until there is none for it."""
        while asker in self._askers and (number := questions.take(asker)) is not None:
            try:
                reply = await asker.reply(client, questions.requests[number])
            except NeatError as error:
                self._leave_out(asker, error)
            else:
                if questions.answer(number):
                    tell(number, reply)

    def _leave_out(self, asker: Asker, error: NeatError) -> None:
        if self._askers == [asker]:
            raise error
        if asker in self._askers:  # another of its requests may have failed before
            self._askers.remove(asker)
            _log.warning("%s; the other servers go on without it", str(error).splitlines()[0])


class _Questions:
    """Which questions are begun, at which servers, and which are answered."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.requests = requests
        self.all_answered = asyncio.Event()
        self._begun = 0
        self._open: dict[int, set[Asker]] = {}  # begun and not answered, the oldest first

    def take(self, asker: Asker) -> int | None:
        """The next question for this server: one that nobody has begun, else the oldest that others are at."""
        if self._begun < len(self.requests):
            self._begun += 1
            self._open[self._begun - 1] = {asker}
            return self._begun - 1
        number = next((number for number, askers in self._open.items() if asker not in askers), None)
        if number is not None:
            self._open[number].add(asker)
        return number

    def answer(self, number: int) -> bool:
        """Whether this is its first answer."""
        first = self._open.pop(number, None) is not None
        if self._begun == len(self.requests) and not self._open:
            self.all_answered.set()
        return first
