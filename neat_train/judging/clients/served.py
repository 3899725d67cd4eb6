"""Questions to a server, some under way at a time, through the official client of its API.

The client sends a request again after 408, 409, 429, 5xx, time-outs and broken connections, with a growing wait. This
module knows what is left then: a question that the server does not take (told, the others go on), and everything that
ends the run, in words for the user. The first failure, Ctrl-C included, ends all that is under way.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

from neat_data.errors import InputError, NeatError, RunError
from neat_train.judging.clients.client import JudgeSpec, Question, Reply, Tell

_PLAIN: Question = [{"role": "user", "content": "Reply with the word OK."}]
_REFUSED = (400, 413, 422)
_ACCESS = (401, 403)
_ABSENT = (404, 405)
_TROUBLE = (408, 409, 429)  # and 5xx: what the clients send again
_LONGEST_QUOTE = 200  # characters of an answer in a message
_NO_KEY = "EMPTY"  # for servers that want none; the clients insist on some
_OTHER_SHAPE = (AttributeError, TypeError, LookupError, ValueError)
_STAYS = "what was judged stays: run the same command again"


class Chat(Protocol):
    """One API: how its client is made, asked, and read.

    Attributes:
        client_errors: (what the client raises for a status, what it raises where no answer comes).
        key_name: the environment variable that holds its key.
        key: the key, so that no message repeats it.
        attempts: times that a request is sent.
        url: of the server.
        not_taken: see `Judge.not_taken`.
    """

    client_errors: tuple[type[Exception], type[Exception]]
    key_name: str
    key: str
    attempts: int
    url: str
    not_taken: tuple[str, ...]

    def client(self) -> Any:
        """A client for the running event loop; an async context manager."""
        ...

    async def begin(self, client: Any, question: Question) -> None:
        """Ask, and settle what the server does not take of the settings."""
        ...

    async def complete(self, client: Any, question: Question) -> Reply:
        """The answer to one question.

        Raises:
            AttributeError, TypeError, LookupError, ValueError: what came has another shape.
        """
        ...


class ServedJudge:
    """See `neat_train.judging.clients.client.Judge`."""

    def __init__(self, chat: Chat, concurrency: int) -> None:
        self._chat = chat
        self._concurrency = concurrency
        self._checked = False

    @property
    def settings(self) -> dict[str, Any]:
        """See `Judge.settings`."""
        return {}

    @property
    def not_taken(self) -> tuple[str, ...]:
        """See `Judge.not_taken`."""
        return self._chat.not_taken

    def check(self) -> None:
        """See `Judge.check`; done once."""
        if not self._checked:
            asyncio.run(self._begin())
            self._checked = True

    def ask(self, questions: Sequence[Question], tell: Tell) -> None:
        """See `Judge.ask`."""
        self.check()
        try:
            asyncio.run(self._ask(questions, tell))
        except ExceptionGroup as group:
            raise _first(group) from group

    def close(self) -> None:
        """Nothing is held between calls."""

    async def _ask(self, questions: Sequence[Question], tell: Tell) -> None:
        places = asyncio.Semaphore(self._concurrency)
        async with self._chat.client() as client:

            async def one(number: int, question: Question) -> None:
                async with places:
                    tell(number, await self._reply(client, question))

            async with asyncio.TaskGroup() as tasks:
                for number, question in enumerate(questions):
                    tasks.create_task(one(number, question))

    async def _begin(self) -> None:
        """A wrong address shows at once; a server in trouble is given time."""
        status_error, no_answer = self._chat.client_errors
        try:
            async with self._chat.client() as client:
                try:
                    await self._chat.begin(client.with_options(max_retries=0), _PLAIN)
                except status_error as error:
                    if not _trouble(error):
                        raise
                    await self._chat.begin(client, _PLAIN)
        except no_answer as error:
            raise InputError(
                f"{self._chat.url}: nothing answers there ({self._said(error)}); is the server running, is the "
                "address right?"
            ) from error
        except status_error as error:
            raise self._explained(error) from error
        except _OTHER_SHAPE as error:
            raise self._no_answer(error) from error

    async def _reply(self, client: Any, question: Question) -> Reply:
        status_error, no_answer = self._chat.client_errors
        try:
            return await self._chat.complete(client, question)
        except status_error as error:
            if _status(error) in _REFUSED:
                return Reply(None, refused=self._said(error))
            raise self._explained(error) from error
        except no_answer as error:
            raise self._gone(error) from error
        except _OTHER_SHAPE as error:
            raise self._no_answer(error) from error

    def _explained(self, error: Exception) -> NeatError:
        status, url = _status(error), self._chat.url
        if status in _ACCESS:
            return InputError(f"{url}: the server refuses access ({status}); set {self._chat.key_name} to its key")
        if status in _ABSENT:
            return InputError(
                f"{url}: the server says {status}: {self._said(error)}; check --base-url and the model's name"
            )
        if status in _REFUSED:
            return InputError(f"{url}: the server does not take a plain question ({status}): {self._said(error)}")
        if not _trouble(error):
            return RunError(f"{url}: the server says {status}: {self._said(error)}\n{_STAYS} once that is mended")
        return self._gone(error)

    def _gone(self, error: Exception) -> RunError:
        return RunError(
            f"{self._chat.url}: no answer after {self._chat.attempts} attempts, the last: {self._said(error)}\n"
            f"{_STAYS} once the server is back"
        )

    def _no_answer(self, error: Exception) -> RunError:
        return RunError(f"{self._chat.url}: what came is no answer of this API ({self._said(error)})")

    def _said(self, error: Exception) -> str:
        """The beginning of a message; some servers repeat the key that they got."""
        text = " ".join(str(error).split())
        text = text.replace(self._chat.key, "…") if self._chat.key else text
        return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…"


def _status(error: Exception) -> int:
    return int(getattr(error, "status_code", 0))


def _trouble(error: Exception) -> bool:
    return _status(error) in _TROUBLE or _status(error) >= 500


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def address(url: str | None) -> str | None:
    """The address, checked.

    Raises:
        InputError: it carries a password, or is none.
    """
    if url is None:
        return None
    parsed = urlsplit(url)
    if parsed.username or parsed.password:
        raise InputError(f"{parsed.hostname}: leave the password out of the address; keys belong into the environment")
    if parsed.scheme not in ("http", "https") or not parsed.hostname:
        raise InputError(f"{url}: not an address of the form http://HOST:PORT/…")
    return url


def key(name: str, spec: JudgeSpec, url: str | None) -> str:
    """The key in the environment variable `name`; a server of one's own may want none.

    Raises:
        InputError: it is not set although the vendor's own server is asked, or no header can carry it.
    """
    found = os.environ.get(name, "").strip()
    if not (found.isascii() and found.isprintable()):
        raise InputError(f"{name} holds characters that no key has; set it again")
    if not found and url is None:
        raise InputError(f"set {name} to your key, or give the server's --base-url", field="judge", value=spec.model)
    return found or _NO_KEY


def count(usage: Any, name: str) -> int | None:
    """Tokens that an answer tells of; None where it does not tell, or not in a whole number."""
    found = getattr(usage, name, None)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def extra_body(spec: JudgeSpec, known: Sequence[str]) -> dict[str, Any]:
    """What `--judge-arg` adds to every request.

    Raises:
        InputError: something that this project says itself, or that would put a secret into the settings.
    """
    for name in spec.extra:
        if name in known or "key" in name.lower() or "auth" in name.lower():
            raise InputError(
                "not handed to the server; a key belongs into the environment", field="judge_args", value=name
            )
    return spec.extra
