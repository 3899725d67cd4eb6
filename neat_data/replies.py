"""What is taken of a server, a hub included: a reply up to a size and a time.

A reply is measured as it is decompressed, piece by piece: a few kilobytes of gzip may hold gigabytes. Its time counts
from the request: headers that come byte by byte would keep a client waiting for ever that bounds each byte alone.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from neat_data.errors import RunError

LARGEST = 64 * 2**20  # bytes of a reply; what is asked for has a few thousand
LONGEST = 3600.0  # seconds of a reply, however steadily it comes
ENCODINGS = "gzip"  # for `Accept-Encoding`: what `Meter` can open
_PIECE = 2**20  # bytes that are decompressed at once


class Meter:
    """Opens and measures one reply."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        largest: int = LARGEST,
        longest: float = LONGEST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises RunError: the reply is announced as too large, or is compressed in a way that was not asked for."""
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("gzip", "identity", ""):
            raise RunError(f"{url}: the reply is compressed as {encoding!r}, which was not asked for")
        self._url, self._left, self._largest, self._longest = url, largest, largest, longest
        self._clock, self._end = clock, clock() + longest
        self._inflate = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
        announced = headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > largest:
            raise self._too_large()

    def read(self, part: bytes) -> Iterator[bytes]:
        """What a part of the reply holds, decompressed.

        Raises:
            RunError: the reply is too large, takes too long, or is damaged.
        """
        if self._clock() > self._end:
            raise RunError(f"{self._url}: the reply has not ended after {self._longest:,g} seconds")
        for piece in [part] if self._inflate is None else self._inflated(part):
            self._left -= len(piece)
            if self._left < 0:
                raise self._too_large()
            yield piece

    def _inflated(self, part: bytes) -> Iterator[bytes]:
        assert self._inflate is not None
        while part:
            try:
                yield self._inflate.decompress(part, _PIECE)
            except zlib.error as error:
                raise RunError(f"{self._url}: the reply is damaged ({error})") from error
            part = self._inflate.unconsumed_tail

    def _too_large(self) -> RunError:
        return RunError(f"{self._url}: the reply is larger than {self._largest:,} bytes; is this the right server?")


class Sockets:
    """The connections of a client, so that a thread that waits for an answer can be woken: closing does not do it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._ended = False

    def watch(self, event: str, info: dict[str, Any]) -> None:
        """httpcore's `trace`: called at every step of a request."""
        if event not in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            return
        with self._lock:
            self._open.add(info["return_value"].get_extra_info("socket"))
            ended = self._ended
        if ended:
            self.end()

    def end(self) -> None:
        """End these connections, and those that are made from now on."""
        with self._lock:
            self._ended = True
            for connection in self._open:
                # Of the plain socket: an SSL socket would drop its state under the thread that reads from it.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
