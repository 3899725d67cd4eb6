"""What is taken of a server, measured by a clock that the test sets."""

from __future__ import annotations

import gzip
import zlib

import pytest

from neat_data.errors import RunError
from neat_data.replies import Meter


def read(meter: Meter, *parts: bytes) -> bytes:
    return b"".join(piece for part in parts for piece in meter.read(part))


@pytest.mark.parametrize("cut", [1, 7, 10_000])
def test_a_compressed_reply_comes_out_whatever_its_parts(cut: int) -> None:
    text = bytes(range(256)) * 40
    packed = gzip.compress(text)
    parts = [packed[start : start + cut] for start in range(0, len(packed), cut)]
    assert read(Meter("u", {"content-encoding": "gzip"}), *parts) == text


def test_a_reply_is_measured_as_it_is_decompressed() -> None:
    bomb = gzip.compress(bytes(50 * 2**20))
    pieces = Meter("u", {"content-encoding": "gzip"}, largest=3 * 2**20).read(bomb)
    assert [len(next(pieces)) for _ in range(3)] == [2**20] * 3
    with pytest.raises(RunError, match="larger than 3,145,728 bytes"):
        next(pieces)


def test_a_reply_that_is_announced_as_too_large_is_not_begun() -> None:
    with pytest.raises(RunError, match="larger than 10 bytes"):
        Meter("u", {"content-length": "11"}, largest=10)
    assert read(Meter("u", {"content-length": "10"}, largest=10), b"x" * 10) == b"x" * 10


def test_a_reply_that_drips_ends() -> None:
    now = [0.0]
    meter = Meter("u", {}, longest=60, clock=lambda: now[0])
    assert read(meter, b"a") == b"a"
    now[0] = 61
    with pytest.raises(RunError, match="has not ended after 60 seconds"):
        read(meter, b"b")


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "gzip, gzip"])
def test_what_was_not_asked_for_is_refused(encoding: str) -> None:
    with pytest.raises(RunError, match="was not asked for"):
        Meter("u", {"content-encoding": encoding})


def test_a_damaged_reply_is_an_error() -> None:
    with pytest.raises(RunError, match="is damaged"):
        read(Meter("u", {"content-encoding": "gzip"}), zlib.compress(b"no gzip"))
