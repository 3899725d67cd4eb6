"""How many cores there are, and how many threads each of several processes is given."""

from __future__ import annotations

import os


def threads_each(processes: int) -> int:
    """Threads of each of so many processes that share the cores which this one may run on."""
    return max(1, usable_cores() // processes)


def usable_cores() -> int:
    """Cores that this process may run on: a job of a scheduler, or one under `taskset`, has fewer than the machine."""
    allowed = getattr(os, "sched_getaffinity", None)  # macOS has none
    return len(allowed(0)) if allowed else os.cpu_count() or 1
