"""What a run shows in a terminal, and that it shows nothing where it should not."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from transformers import TrainerControl, TrainerState

from neat_train.progress import TrainingProgress


class Terminal:
    """A console of some width whose output is kept, and the frame it shows now."""

    def __init__(self, width: int = 80) -> None:
        self.file = io.StringIO()
        self.console = Console(file=self.file, width=width, force_terminal=True, color_system=None)

    def frame(self, progress: TrainingProgress) -> list[str]:
        with self.console.capture() as shown:
            self.console.print(progress._bars.get_renderable())
        return [line.rstrip() for line in shown.get().splitlines()]


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


def begun(terminal: Terminal, *, at: int = 0) -> TrainingProgress:
    progress = TrainingProgress(terminal.console)
    progress.on_train_begin(None, TrainerState(global_step=at, max_steps=600), TrainerControl())
    return progress


def step(progress: TrainingProgress, number: int, loss: float) -> None:
    state = TrainerState(global_step=number, max_steps=600)
    progress.on_step_begin(None, state, TrainerControl())
    progress.advance(64, 9_000)
    progress.on_step_end(None, state, TrainerControl())
    progress.on_log(None, state, TrainerControl(), logs={"loss": loss})


def test_steps_loss_and_rates_stand_on_one_line(terminal):
    progress = begun(terminal)
    step(progress, 1, 2.5)
    (line,) = terminal.frame(progress)
    assert line.startswith("steps  loss 2.500 ")
    assert " 1/600 " in line
    assert "records/s" in line
    assert "tokens/s" in line


def test_a_phase_has_a_second_line_until_training_goes_on(terminal):
    progress = begun(terminal)
    step(progress, 1, 2.5)
    progress.phase("sampling", 64)
    progress.advance(16, 700)
    first, second = terminal.frame(progress)
    assert (" 1/600 " in first, second.startswith("  sampling"), " 16/64 " in second) == (True, True, True)
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


def test_eighty_columns_are_enough(terminal):
    progress = begun(terminal)
    for number in range(1, 401):
        step(progress, number, 12.5)
    progress.phase("held out: perplexity", 200)
    progress.advance(120, 40_000)
    lines = terminal.frame(progress)
    assert len(lines) == 2
    assert all(len(line) <= 80 for line in lines)


def test_a_run_that_goes_on_begins_at_its_checkpoint(terminal):
    assert " 250/600" in terminal.frame(begun(terminal, at=250))[0]


def test_a_loss_that_is_not_finite_is_not_shown(terminal):
    progress = begun(terminal)
    step(progress, 1, float("nan"))
    assert terminal.frame(progress)[0].startswith("steps ")


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
