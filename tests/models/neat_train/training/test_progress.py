"""What a run shows in a terminal, and that it shows nothing where it should not."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console
from transformers import TrainerControl, TrainerState

from neat_train.training.progress import TrainingProgress


class Terminal:
    """A console of some width whose output is kept, the clock that it reads, and the frame it shows now."""

    def __init__(self, width: int = 80) -> None:
        self.file = io.StringIO()
        self.seconds = 0.0
        self.console = Console(
            file=self.file, width=width, force_terminal=True, color_system=None, get_time=lambda: self.seconds
        )

    def frame(self, progress: TrainingProgress) -> list[str]:
        with self.console.capture() as shown:
            self.console.print(progress._bars.get_renderable())
        return [line.rstrip() for line in shown.get().splitlines()]


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


def begun(terminal: Terminal, *, step: int = 0, of: int = 600) -> TrainingProgress:
    progress = TrainingProgress(terminal.console)
    progress.on_train_begin(None, TrainerState(global_step=step, max_steps=of), TrainerControl())
    return progress


def step(progress: TrainingProgress, number: int, loss: float, *, of: int = 600) -> None:
    state = TrainerState(global_step=number, max_steps=of)
    progress.on_step_begin(None, state, TrainerControl())
    progress.advance(64, 9_000)
    progress.on_step_end(None, state, TrainerControl())
    progress.on_log(None, state, TrainerControl(), logs={"loss": loss})


def test_steps_loss_and_rates_stand_on_one_line(terminal):
    progress = begun(terminal)
    terminal.seconds = 2.0
    step(progress, 1, 2.5)
    (line,) = terminal.frame(progress)
    assert " ".join(line.split()) == "steps loss 2.500 1/600 32 records/s 4.5k tokens/s -:--:--"


def test_a_phase_has_a_second_line_until_training_goes_on(terminal):
    progress = begun(terminal)
    step(progress, 1, 2.5)
    progress.phase("sampling", 64)
    progress.advance(16, 700)
    first, second = terminal.frame(progress)
    assert " 1/600 " in first
    assert second.startswith("  sampling")
    assert " 16/64 " in second
    progress.phase("training", None)
    assert len(terminal.frame(progress)) == 1


def test_samples_of_a_phase_do_not_count_as_trained_records(terminal):
    progress = begun(terminal)
    progress.phase("scoring", 64)
    progress.advance(64, 700)
    (steps,) = [task for task in progress._bars.tasks if task.description == "steps"]
    assert (steps.fields["rows"], steps.completed) == (0, 0)
    step(progress, 1, 2.5)
    assert (steps.fields["rows"], steps.fields["tokens"], steps.completed) == (64, 9_000, 1)


@pytest.mark.parametrize("seconds", [1e-9, 1e-6, 1e-3, 1.0, 1e3, 1e6, 1e9])
@pytest.mark.parametrize(
    ("steps", "counted"), [(600, "300/600"), (999_998, "499999/999998"), (20_000_000_000, "10B/20B")]
)
def test_eighty_columns_are_enough_at_any_speed_and_count(terminal, seconds, steps, counted):
    progress = begun(terminal, of=steps)
    for done in (1, steps // 2):
        terminal.seconds = done * seconds
        step(progress, done, 12.5, of=steps)
    progress.phase("held out: perplexity", steps)
    terminal.seconds += seconds
    progress.advance(steps // 2, 40_000)
    first, second = terminal.frame(progress)
    assert first.startswith("steps  loss 12.500 ")
    assert second.startswith("  held out: perple")
    for line, unit in ((first, r" records/s"), (second, "/s")):
        assert len(line) <= 80
        assert re.search(rf" {counted} +\S+{unit}  \S+ tokens/s +(\S+:\S\S:\S\S|\S+ d)$", line), line


def test_a_run_that_goes_on_begins_at_its_checkpoint(terminal):
    assert " 250/600" in terminal.frame(begun(terminal, step=250))[0]


def test_a_loss_that_is_not_finite_is_not_shown(terminal):
    progress = begun(terminal)
    step(progress, 1, float("nan"))
    assert terminal.frame(progress)[0].startswith("steps ")


def test_a_large_loss_is_short(terminal):
    progress = begun(terminal)
    step(progress, 1, -123_456.7)
    assert terminal.frame(progress)[0].startswith("steps  loss -1.2e+05 ")


def test_a_said_line_is_no_markup(terminal):
    progress = TrainingProgress(terminal.console)
    with progress:
        progress.say("held out [red]at[/red] step 3")
    assert "held out [red]at[/red] step 3" in terminal.file.getvalue()


def test_quiet_is_quiet(capfd):
    with TrainingProgress(None) as progress:
        progress.phase("sampling", 3)
        progress.advance(3, 30)
        progress.say("nobody reads this")
    assert capfd.readouterr() == ("", "")
