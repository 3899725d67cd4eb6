"""A JSON server that may be busy, slow or dead: requests that are sent again until it answers or is given up.

Tried again, after a growing wait with jitter: 408, 425, 429 and 5xx, time-outs, broken connections, half a body.
`Retry-After` is honoured up to the longest wait. Everything else is an error at once, in words for the user. Requests
may come from several threads; `stop` ends their waiting, also for an answer that is under way.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from json import JSONDecodeError
from typing import Any

import httpx
import tenacity

from neat_data.errors import InputError, RunError
from neat_data.models.servers.address import checked, shown, with_path
from neat_data.replies import ENCODINGS, LARGEST, LONGEST, Meter, Sockets

API_KEY = "NEAT_REWARD_API_KEY"
CONNECT = 10.0  # seconds; a machine that is there accepts a connection at once, however busy it is
_REFUSED = (400, 413, 422)
_ACCESS = (401, 403)
_BUSY = (408, 425, 429)
_ABSENT = (404, 501)  # 501 is how Python's own http.server says that it knows no such request
_LONGEST_QUOTE = 200  # characters of an answer in a message


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to put up with a server that does not answer.

    Attributes:
        attempts: times that one request is sent.
        first_wait: seconds before the second attempt; doubled for each further one, half of it random.
        longest_wait: seconds that no wait exceeds, whatever the server asks for.
        timeout: seconds without a byte after which an attempt has failed.
        longest: seconds that an attempt may take from its sending to the last byte of the answer.
    """

    attempts: int = 8
    first_wait: float = 0.5
    longest_wait: float = 30.0
    timeout: float = 120.0
    longest: float = LONGEST


class BadReply(RunError):
    """The server answered, and the answer is of no use."""


class Refused(BadReply):
    """The server does not accept this one request (too long, say); others may do."""


class NotThere(InputError):
    """The server has nothing at this address."""


class _TryAgain(Exception):
    """A failure that may pass; `wait` is what the server asked for, in seconds."""

    def __init__(self, what: str, wait: float = 0.0) -> None:
        super().__init__(what)
        self.wait = wait


class JsonServer:
    """One server, by its address. The key comes from the environment alone, so that no file or log ever holds it."""

    def __init__(self, url: str, patience: Patience, connections: int, key_name: str = API_KEY) -> None:
        """`key_name` is the environment variable that holds the server's key.

        Raises:
            InputError: an address that carries a password or is none, a key that cannot be sent.
        """
        self._url = checked(url, key_name)
        self.url = shown(self._url)
        self._key_name = key_name
        self._key = _key(key_name)
        self._patience = patience
        self._stopped = threading.Event()
        self._late = threading.Event()
        self._sockets = Sockets()
        self._client = httpx.Client(
            headers={"Accept-Encoding": ENCODINGS} | ({"Authorization": f"Bearer {self._key}"} if self._key else {}),
            event_hooks={"response": [self._measure]},
            timeout=httpx.Timeout(patience.timeout, connect=min(patience.timeout, CONNECT)),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        )

    def stop(self) -> None:
        """Let no request of any thread wait, or be sent again, from now on."""
        self._stopped.set()
        self._sockets.end()

    def close(self) -> None:
        """End the connections."""
        self._client.close()

    def check_alive(self) -> None:
        """Raises InputError where nothing listens at all: rather a wrong address than a server in trouble."""
        try:
            self._request("GET", self._url, self.url, None)
        except httpx.ConnectError as error:
            raise InputError(
                f"{self.url}: nothing answers there ({error}); is the server running, is the address right?"
            ) from error
        except httpx.HTTPError:
            return  # something listens; whether it answers is for the requests to find out

    def get(self, path: str) -> Any:
        """The JSON at `path`. Errors as `post`."""
        return self._persist("GET", path, None)

    def post(self, path: str, body: Any) -> Any:
        """The JSON that the server answers to `body`.

        Raises:
            InputError: the key is refused.
            NotThere: there is nothing at this address.
            BadReply: any other refusal, or an answer that is not JSON.
            RunError: no answer after all attempts.
        """
        return self._persist("POST", path, body)

    def refuses(self, path: str, body: Any) -> bool:
        """Whether the server rejects this request as malformed."""
        try:
            self.post(path, body)
        except BadReply:
            return True
        return False

    def _persist(self, method: str, path: str, body: Any) -> Any:
        patience = self._patience
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_TryAgain),
            stop=tenacity.stop_any(
                tenacity.stop_after_attempt(patience.attempts), tenacity.stop_when_event_set(self._stopped)
            ),
            wait=self._wait,
            sleep=tenacity.sleep_using_event(self._stopped),
            reraise=True,
        )
        try:
            return retrying(self._once, method, path, body)
        except _TryAgain as error:
            raise RunError(
                f"{self.url}{path}: no answer after {patience.attempts} attempts, the last: {error}\n"
                "what was committed stays: run the same command again once the server is back"
            ) from error

    def _wait(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.wait if isinstance(error, _TryAgain) else 0.0
        return wait_before_next(state.attempt_number, asked, self._patience, random.random())

    def _measure(self, response: httpx.Response) -> None:
        response.stream = _Measured(response.stream, Meter(self.url, response.headers, LARGEST, self._patience.longest))
        response.headers.pop("content-encoding", None)  # what the stream gives is open already

    def _once(self, method: str, path: str, body: Any) -> Any:
        url, address = self.url + path, with_path(self._url, path)
        try:
            reply = self._request(method, address, url, body)
        except httpx.RequestError as error:
            raise _TryAgain(f"{type(error).__name__}: {error}") from error
        status = reply.status_code
        if status == 200:
            return self._json(reply, url)
        if status in _ABSENT:
            raise NotThere(
                f"{url}: the server says {status}: {self._said(reply)}; check the address and the model's name"
            )
        if status in _BUSY or status >= 500:
            wish = asked_wait(reply.headers.get("retry-after", ""), datetime.now(UTC))
            raise _TryAgain(f"status {status}: {self._said(reply)}", wish)
        if status in _ACCESS:
            raise InputError(f"{url}: the server refuses access ({status}); set {self._key_name} to its key")
        kind = Refused if status in _REFUSED else BadReply
        raise kind(f"{url}: the server says {status}: {self._said(reply)}")

    def _request(self, method: str, address: str, url: str, body: Any) -> httpx.Response:
        """One attempt; RunError where its answer drips past `longest`, which ends the other requests as well."""
        timer = threading.Timer(self._patience.longest, self._give_up)
        timer.daemon = True
        timer.start()
        try:
            return self._client.request(method, address, json=body, extensions={"trace": self._sockets.watch})
        except httpx.RequestError as error:
            if self._late.is_set():
                raise RunError(f"{url}: the reply has not ended after {self._patience.longest:,g} seconds") from error
            raise
        finally:
            timer.cancel()

    def _give_up(self) -> None:
        self._late.set()
        self._sockets.end()

    def _json(self, reply: httpx.Response, url: str) -> Any:
        try:
            return reply.json()
        except RecursionError as error:
            raise BadReply(f"{url}: the server answered with JSON that is nested too deeply") from error
        except (JSONDecodeError, UnicodeDecodeError) as error:
            # Without a length or chunks the end of the connection is the end of the body: it may have broken off.
            if not {"content-length", "transfer-encoding"} & set(reply.headers):
                raise _TryAgain(f"half an answer: {self._said(reply)}") from error
            raise BadReply(f"{url}: the server answered with what is not JSON: {self._said(reply)}") from error

    def _said(self, reply: httpx.Response) -> str:
        """The beginning of an answer, its control characters escaped; some servers repeat the key that they got."""
        text = " ".join(reply.text.split())
        text = text.replace(self._key, "…") if self._key else text
        return repr(text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…")


class _Measured(httpx.SyncByteStream):
    def __init__(self, stream: Any, meter: Meter) -> None:
        self._stream, self._meter = stream, meter

    def __iter__(self) -> Iterator[bytes]:
        for part in self._stream:
            yield from self._meter.read(part)

    def close(self) -> None:
        self._stream.close()


def _key(name: str) -> str | None:
    """The key in the environment variable `name`; one that no header can carry would be quoted in an error."""
    key = os.environ.get(name, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise InputError(f"{name} holds characters that no key has; set it again")
    return key or None


def wait_before_next(attempt: int, asked: float, patience: Patience, chance: float) -> float:
    """Seconds to wait after the `attempt`-th failure (from 1); `asked` is the server's wish, `chance` is in [0, 1).

    Doubling waits of which the second half is left to chance, so that many clients do not come back together.

    >>> [wait_before_next(attempt, 0, Patience(first_wait=1, longest_wait=3), 0.5) for attempt in (1, 2, 3)]
    [0.75, 1.5, 2.25]
    """
    grown = min(patience.first_wait * 2 ** (attempt - 1), patience.longest_wait)
    return min(max(grown * (1 + chance) / 2, asked), patience.longest_wait)


def asked_wait(retry_after: str, now: datetime) -> float:
    """The header `Retry-After` in seconds from `now`: it holds a number of them or a date.

    >>> asked_wait("120", datetime.now(UTC))
    120.0
    >>> asked_wait("Wed, 21 Oct 2015 07:28:00 GMT", datetime(2015, 10, 21, 7, 27, tzinfo=UTC))
    60.0
    >>> asked_wait("soon", datetime.now(UTC))
    0.0
    """
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        date = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - now).total_seconds())
