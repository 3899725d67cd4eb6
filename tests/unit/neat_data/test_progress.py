"""What a long verb shows in a terminal: one line that fits, whatever is counted and however fast it goes."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from neat_data.progress import TerminalWatcher


class Clock:
    """Seconds that a test sets."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def console(clock) -> Console:
    return Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None, get_time=clock)


def frame(watch: TerminalWatcher) -> str:
    console = watch._progress.console
    with console.capture() as shown:
        console.print(watch._progress.get_renderable())
    (line,) = shown.get().splitlines()
    return " ".join(line.translate({ord(mark): None for mark in "━╸"}).split())


def test_a_phase_shows_counts_rates_and_the_time_left(console, clock):
    watch = TerminalWatcher(console)
    watch.phase("scoring", 1_000)
    for clock.seconds in (10.0, 20.0):
        watch.advance(150, 42_000)
    assert frame(watch) == "scoring 300/1000 15 rows/s 4.2k tokens/s 0:00:47"


def test_advice_names_arguments_as_the_user_does(console):
    watch = TerminalWatcher(console, name=lambda field: f"--{field}")
    with console.capture() as shown:
        watch.say("KL is left out: {start} is gone", advice="name it: {start} POLICY")
    assert shown.get() == "KL is left out: {start} is gone; name it: --start POLICY\n"


def test_rows_of_a_phase_without_a_total_have_no_time_left(console, clock):
    watch = TerminalWatcher(console)
    watch.phase("reading", None)
    clock.seconds = 2.0
    watch.advance(5)
    assert frame(watch).endswith(" 5/? 2.5 rows/s")


@pytest.mark.parametrize(
    ("seconds", "rates"),
    [
        (1e-9, "500T rows/s 136T tokens/s"),
        (1e-3, "500M rows/s 136M tokens/s"),
        (1.0, "500k rows/s 136k tokens/s"),
        (1e6, "0.50 rows/s 0.14 tokens/s"),
    ],
)
def test_no_speed_cuts_a_line(console, clock, seconds, rates):
    watch = TerminalWatcher(console)
    watch.phase("scoring", 999_998)
    clock.seconds = seconds
    watch.advance(499_999, 136_407)
    assert frame(watch) == f"scoring 499999/999998 {rates} -:--:--"


def test_only_a_long_name_gives_way(console, clock):
    watch = TerminalWatcher(console)
    watch.phase("answers of a [red]run[/red] with a name that is far too long", 20_000_000_000)
    clock.seconds = 1.0
    watch.advance(123_456, 7)
    assert frame(watch) == "answers of a [red]run[/re… 123456/20B 123k rows/s 7.0 tokens/s -:--:--"


def test_a_time_left_beyond_a_hundred_hours_is_told_in_days(console, clock):
    watch = TerminalWatcher(console)
    watch.phase("scoring", 4_000_000)
    for clock.seconds in (10.0, 20.0):
        watch.advance(1)
    assert frame(watch) == "scoring 2/4.0M 0.10 rows/s 463 d"
