"""How many threads each of several processes is given."""

from __future__ import annotations

import os


def threads_each(processes: int) -> int:
    """Threads of each of so many processes that share the cores which this one may run on.

    A job of a scheduler, or one started under `taskset`, has fewer than the machine.
    """
    allowed = getattr(os, "sched_getaffinity", None)  # macOS has none
    cores = len(allowed(0)) if allowed else os.cpu_count() or 1
    return max(1, cores // processes)
