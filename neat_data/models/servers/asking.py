"""Questions to a server of a language model, through the official client of its API; `several` asks many at a time.

The client sends a request again after 408, 409, 429, 5xx, time-outs and broken connections, with a growing wait. This
module knows what is left then: a question that the server does not take (told, the others go on), and everything that
ends the run, in words for the user.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import httpx2

from neat_data.errors import InputError, NeatError, RunError
from neat_data.models.servers.address import shown
from neat_data.replies import ENCODINGS, LARGEST, Meter

Turns = list[dict[str, str]]
Result = TypeVar("Result")
CUT = "max_tokens"
PLAIN: Turns = [{"role": "user", "content": "Reply with the word OK."}]
_REFUSED = (400, 413, 422)
_ACCESS = (401, 403)
_ABSENT = (404, 405)
_TROUBLE = (408, 409, 429)  # and 5xx: what the clients send again
_LONGEST_QUOTE = 200  # characters of an answer in a message
_NO_KEY = "EMPTY"  # for servers that want none; the clients insist on some
_OTHER_SHAPE = (AttributeError, TypeError, LookupError, ValueError, RecursionError)
_BEAT = 0.2  # seconds


@dataclass(frozen=True, slots=True)
class Request:
    """Chat messages, and what this one request says beside them: a seed, say."""

    turns: Turns
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a question.

    Attributes:
        text: None where the model does not take this question, for the reason `refused`.
        unfinished: why the text lacks its end: `CUT`, or the server's word; None where the model ended by itself.
        prompt_tokens, completion_tokens: None where they are not counted.
        stopped_at: the stop string that ended it; only vLLM says so.
        thought: what the model thought before, where the server takes it out of the text.
    """

    text: str | None
    unfinished: str | None = None
    refused: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    stopped_at: str | None = None
    thought: str | None = None

    @property
    def tokens(self) -> int:
        """All that are counted."""
        return (self.prompt_tokens or 0) + (self.completion_tokens or 0)


Tell = Callable[[int, Reply], None]


class Api(Protocol):
    """One API: how its client is made, asked, and read.

    Attributes:
        client_errors: (what the client raises for a status, what it raises where no answer comes).
        key_name: the environment variable that holds its key.
        key: the key, so that no message repeats it.
        attempts: times that a request is sent.
        timeout: seconds that one attempt may take without a byte.
        url: of the server.
    """

    client_errors: tuple[type[Exception], type[Exception]]
    key_name: str
    key: str
    attempts: int
    timeout: float
    url: str

    @property
    def not_taken(self) -> tuple[str, ...]:
        """Settings that the server turned out not to take, so that it answers without."""
        ...

    def client(self) -> Any:
        """A client for the running event loop; an async context manager."""
        ...

    async def complete(self, client: Any, request: Request) -> Reply:
        """The answer to one question; settings that the server does not take are left out from then on.

        Raises:
            AttributeError, TypeError, LookupError, ValueError, RecursionError: what came has another shape.
        """
        ...


class Asker:
    """Asks one model of one server. `lasts` is what a failure leaves, for messages."""

    def __init__(self, api: Api, lasts: str = "what was committed stays") -> None:
        self.api = api
        self._lasts = f"{lasts}: run the same command again"
        self._trusted = False  # it took a question before

    def check(self) -> None:
        """Ask something plain, once, so that a wrong address, key or name shows before anything else is done.

        Raises:
            InputError, RunError: as `reply`.
        """
        if not self._trusted:
            wait_for(self._check())

    async def reply(self, client: Any, request: Request) -> Reply:
        """The reply to one question.

        Raises:
            InputError: no such model or address, or the key is refused.
            RunError: the server is gone, takes nothing at all, or answers with something else.
        """
        reply = await self._attempt(client, request)
        if reply.refused is not None and not self._trusted:
            # One question may be too long. Who refuses a plain one as well does not take these settings.
            plain = await self._attempt(client, Request(PLAIN, request.fields))
            if plain.refused is not None:
                raise RunError(
                    f"{shown(self.api.url)}: the server does not take the question: {reply.refused}\n"
                    "a plain question is refused as well: it is not this one query"
                )
        self._trusted = True
        return reply

    async def _check(self) -> None:
        """A wrong address shows at once; a server in trouble is given time."""
        status_error, no_answer = self.api.client_errors
        try:
            async with self.api.client() as client:
                await self._first_answer(client)
        except no_answer as error:
            raise self.absent(error) from error
        except TimeoutError as error:
            raise self._gone(error) from error
        except status_error as error:
            raise self.explained(error) from error
        except _OTHER_SHAPE as error:
            raise self._no_answer(error) from error
        self._trusted = True

    async def _first_answer(self, client: Any) -> None:
        status_error, _ = self.api.client_errors
        try:
            await self._complete(client.with_options(max_retries=0), Request(PLAIN))
        except status_error as error:
            if not _trouble(error):
                raise
            await self._complete(client, Request(PLAIN))

    async def _complete(self, client: Any, request: Request) -> Reply:
        """The client's time-out is one of each byte: headers that drip would keep it waiting for ever."""
        async with asyncio.timeout(self.api.attempts * self.api.timeout):
            return await self.api.complete(client, request)

    async def _attempt(self, client: Any, request: Request) -> Reply:
        status_error, no_answer = self.api.client_errors
        try:
            return await self._complete(client, request)
        except status_error as error:
            if _status(error) in _REFUSED:
                return Reply(None, refused=self._said(error))
            raise self.explained(error) from error
        except (no_answer, TimeoutError) as error:
            raise self._gone(error) from error
        except _OTHER_SHAPE as error:
            raise self._no_answer(error) from error

    def explained(self, error: Exception) -> NeatError:
        """The client's error for a status, in words."""
        status, url = _status(error), shown(self.api.url)
        if status in _ACCESS:
            return InputError(f"{url}: the server refuses access ({status}); set {self.api.key_name} to its key")
        if status in _ABSENT:
            return InputError(
                f"{url}: the server says {status}: {self._said(error)}; check the address and the model's name"
            )
        if status in _REFUSED:
            return InputError(f"{url}: the server does not take a plain question ({status}): {self._said(error)}")
        if not _trouble(error):
            return RunError(f"{url}: the server says {status}: {self._said(error)}\n{self._lasts} once that is mended")
        return self._gone(error)

    def absent(self, error: Exception) -> InputError:
        """The client's error where nothing listens, in words."""
        return InputError(
            f"{shown(self.api.url)}: nothing answers there ({self._said(error)}); is the server running, is the "
            "address right?"
        )

    def _gone(self, error: Exception) -> RunError:
        return RunError(
            f"{shown(self.api.url)}: no answer after {self.api.attempts} attempts, the last: {self._said(error)}\n"
            f"{self._lasts} once the server is back"
        )

    def _no_answer(self, error: Exception) -> RunError:
        return RunError(f"{shown(self.api.url)}: what came is no answer of this API ({self._said(error)})")

    def _said(self, error: Exception) -> str:
        """The beginning of a message; some servers repeat the key that they got."""
        text = " ".join(str(error).split()) or type(error).__name__
        text = text.replace(self.api.key, "…") if self.api.key else text
        return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…"


def wait_for(work: Coroutine[Any, Any, Result]) -> Result:
    """What `work` comes to; in a thread of its own where a loop runs here already, as in notebooks."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_awake(work))
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


async def _awake(work: Coroutine[Any, Any, Result]) -> Result:
    """polars handles SIGINT so that a wait goes on after it: a loop that never wakes would not see Ctrl-C."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(_BEAT)

    heart = asyncio.create_task(beat())
    try:
        return await work
    finally:
        heart.cancel()


def bounded(url: str) -> dict[str, Any]:
    """Options of an `httpx2.AsyncClient`: no redirects, which could lead anywhere, and no reply above a size."""

    async def measure(response: httpx2.Response) -> None:
        response.stream = _Measured(response.stream, Meter(shown(url), response.headers, LARGEST))
        response.headers.pop("content-encoding", None)  # what the stream gives is open already

    headers = {"Accept-Encoding": ENCODINGS}
    return {"follow_redirects": False, "headers": headers, "event_hooks": {"response": [measure]}}


class _Measured(httpx2.AsyncByteStream):
    def __init__(self, stream: Any, meter: Meter) -> None:
        self._stream, self._meter = stream, meter

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            for piece in self._meter.read(part):
                yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


def _status(error: Exception) -> int:
    return int(getattr(error, "status_code", 0))


def _trouble(error: Exception) -> bool:
    return _status(error) in _TROUBLE or _status(error) >= 500


def first_of(group: BaseExceptionGroup[Any]) -> BaseException:
    """The first failure of a group of tasks, itself."""
    inner = group.exceptions[0]
    return first_of(inner) if isinstance(inner, BaseExceptionGroup) else inner


def key_of(name: str, vendors_own: bool) -> str:
    """The key in the environment variable `name`; a server of one's own may want none.

    Raises:
        InputError: it is not set although the vendor's own server is asked, or no header can carry it.
    """
    key = os.environ.get(name, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise InputError(f"{name} holds characters that no key has; set it again")
    if not key and vendors_own:
        raise InputError(f"set {name} to your key", advice="or give the address of a server: {base_url} URL")
    return key or _NO_KEY


def count(usage: Any, name: str) -> int | None:
    """Tokens that an answer tells of; None where it does not tell, or not in a whole number."""
    value = getattr(usage, name, None)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def add_usage(usage: dict[str, int], reply: Reply) -> None:
    """Add the reply's tokens to `prompt_tokens` and `completion_tokens`, or one to `unreported`."""
    if reply.prompt_tokens is not None and reply.completion_tokens is not None:
        usage["prompt_tokens"] += reply.prompt_tokens
        usage["completion_tokens"] += reply.completion_tokens
    elif reply.text is not None:
        usage["unreported"] += 1
