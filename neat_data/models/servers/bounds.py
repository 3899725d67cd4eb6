"""What is taken of a server: an address without secrets, and a reply up to a size and a time.

A reply is measured as it is decompressed, piece by piece: a few kilobytes of gzip may hold gigabytes.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import urlsplit

from neat_data.errors import InputError, RunError

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
            raise RunError(f"{self._url}: the reply has not ended after {self._longest:,.0f} seconds")
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


def shown(url: str) -> str:
    """An address for people: without user, query and fragment, where keys are.

    >>> shown("https://me:secret@host:8000/v1?key=secret#there")
    'https://host:8000/v1'
    """
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def checked(url: str, key_name: str) -> str:
    """An address without a slash at its end.

    Raises:
        InputError: it carries a password, which `key_name` is for, or is no address.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InputError(f"{shown_or_nothing(url)}: not an address ({error})") from error
    if parts.username is not None or parts.password is not None:
        raise InputError(f"{parts.hostname}: leave the password out of the address and put the key in {key_name}")
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise InputError(f"{shown_or_nothing(url)}: not an address of the form http://HOST:PORT/…")
    return url.rstrip("/")


def shown_or_nothing(url: str) -> str:
    """`shown`, also of what is no address."""
    try:
        return shown(url)
    except ValueError:
        return "the URL"


def with_path(url: str, path: str) -> str:
    """`path` behind that of an address, in front of its query.

    >>> with_path("http://host/v1?key=secret", "/models")
    'http://host/v1/models?key=secret'
    """
    if not path:
        return url
    parts = urlsplit(url)
    return parts._replace(path=parts.path.rstrip("/") + path).geturl()
