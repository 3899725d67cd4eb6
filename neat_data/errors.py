"""The two errors a user may see: what they asked for cannot be (2), or it failed while running (1)."""

from __future__ import annotations


class NeatError(Exception):
    """An error written for the person who reads it: what is wrong, where, and what to do, in one or two lines."""

    exit_status = 1


class InputError(NeatError):
    """Bad usage or bad input; nothing was started."""

    exit_status = 2


class RunError(NeatError):
    """A failure while running; what was committed stays."""

    exit_status = 1
