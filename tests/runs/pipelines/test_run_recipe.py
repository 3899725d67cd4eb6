"""The recipe runner: words, variables, order, failures, and one real recipe in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from neat_data.errors import InputError, RunError
from pipelines.run import Recipe, commands, in_a_process, main, read_recipe, run
from tests.support.killing import ROOT

RECIPE = """
about: two steps
variables:
  data: "a b.jsonl"
  size: 3
  more: [--device, cpu, --limit, 3]
steps:
  - name: first
    run: tool make {data} --out {out}/made/{size} {more}
  - name: second
    run: >-
      tool look 'a word'
      --at {out}/made
"""
TELL = "import pathlib, sys; pathlib.Path(sys.argv[1]).open('a').write(sys.argv[2] + '\\\\n')"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def words(path: Path, *given: str) -> list[tuple[str, ...]]:
    return [command.words for command in commands(read_recipe(path), Path("o"), given)]


def test_a_value_is_one_word_and_a_list_as_many_as_it_has(recipe: Path) -> None:
    assert words(recipe) == [
        ("tool", "make", "a b.jsonl", "--out", "o/made/3", "--device", "cpu", "--limit", "3"),
        ("tool", "look", "a word", "--at", "o/made"),
    ]


def test_given_values_replace_the_recipes_own(recipe: Path) -> None:
    first, _ = words(recipe, "data=c=d", "more=--device 'cuda 1'", "size=9")
    assert first == ("tool", "make", "c=d", "--out", "o/made/9", "--device", "cuda 1")
    assert words(recipe, "more=")[0] == ("tool", "make", "a b.jsonl", "--out", "o/made/3")


def test_braces_in_a_value_are_not_read_again(recipe: Path) -> None:
    assert words(recipe, "data={size}")[0][2] == "{size}"


@pytest.mark.parametrize("given", ["nothing=1", "data", "out=elsewhere"])
def test_what_is_no_variable_is_refused_and_the_variables_named(recipe: Path, given: str) -> None:
    with pytest.raises(InputError, match="Its variables: data, size, more"):
        words(recipe, given)


def test_a_quotation_without_an_end_is_refused_in_one_line(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(recipe), "--out", "o", "--set", 'more="a', "--dry-run"]) == 2
    assert capsys.readouterr().err == 'error: --set more="a: cannot be cut into words (no closing quotation)\n'


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ("tool {nobody}", "is no variable"),
        ("tool x{more}", "is a list and must stand alone"),
        ("tool 'a", "cannot be cut into words"),
    ],
)
def test_a_step_that_asks_for_what_is_not_there_is_refused(step: str, problem: str) -> None:
    made = Recipe.model_validate({"about": "", "variables": {"more": []}, "steps": [{"name": "one", "run": step}]})
    with pytest.raises(InputError, match=f"step one: .*{problem}"):
        commands(made, Path("o"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("about: x\nvariables: {}\nsteps: []", "steps"),
        ("about: x\nvariables: {}\nsteps: [{name: a, run: b, else: c}]", "steps.0.else"),
        ("about: [", "recipe.yaml"),
        ("- a", "recipe.yaml"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(InputError, match=problem):
        read_recipe(tmp_path / "recipe.yaml")


def test_commands_run_in_order_and_are_told_before(recipe: Path) -> None:
    seen: list[str] = []

    def execute(given: Sequence[str]) -> int:
        seen.append(f"ran {given[1]}")
        return 0

    run(commands(read_recipe(recipe), Path("o")), execute, seen.append)
    assert seen == [
        "\n# first (1 of 2)\ntool make 'a b.jsonl' --out o/made/3 --device cpu --limit 3",
        "ran make",
        "\n# second (2 of 2)\ntool look 'a word' --at o/made",
        "ran look",
    ]


def test_the_first_that_fails_ends_the_run(recipe: Path) -> None:
    ran: list[str] = []

    def execute(given: Sequence[str]) -> int:
        ran.append(given[1])
        return 3

    with pytest.raises(RunError, match="step first failed with exit status 3"):
        run(commands(read_recipe(recipe), Path("o")), execute, lambda line: None)
    assert ran == ["make"]


def test_a_dry_run_prints_commands_for_a_shell_and_runs_none(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(recipe), "--out", "o", "--dry-run", "--from", "second"]) == 0
    assert capsys.readouterr().out == "tool look 'a word' --at o/made\n"


def test_an_unknown_step_to_begin_with_names_the_steps(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(recipe), "--out", "o", "--from", "third"]) == 2
    assert "there are first, second" in capsys.readouterr().err


def test_a_command_that_is_not_there_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"no-such-tool: cannot be run \(No such file"):
        in_a_process(["no-such-tool"])


def small(tmp_path: Path, *steps: str) -> Path:
    """A recipe whose steps write their word to a file, or are the Python code that is given."""
    made = [{"name": step[:4], "run": f'"{sys.executable}" -c "{TELL}" {tmp_path}/said {step}'} for step in steps]
    path = tmp_path / "small.json"  # JSON is YAML
    path.write_text(json.dumps({"about": "", "variables": {}, "steps": made}))
    return path


def test_steps_run_as_processes_and_find_the_commands_beside_this_python(tmp_path: Path) -> None:
    path = small(tmp_path, "one", "two")
    assert main([str(path), "--out", str(tmp_path / "o")]) == 0
    assert (tmp_path / "said").read_text() == "one\ntwo\n"
    assert in_a_process(["neat-data", "show", str(tmp_path / "nothing")]) == 2


STOPS_LATE = """
import pathlib, sys, time
try:
    print(1, flush=True)
    time.sleep(600)
finally:
    time.sleep(0.5)
    pathlib.Path(sys.argv[1]).write_text("whole")
"""


def slow(tmp_path: Path) -> subprocess.Popen[str]:
    """A recipe at its only step, which needs half a second to put its things in order."""
    (tmp_path / "step.py").write_text(STOPS_LATE)
    step = {"name": "slow", "run": f'"{sys.executable}" {tmp_path}/step.py {tmp_path}/left'}
    path = tmp_path / "slow.json"
    path.write_text(json.dumps({"about": "", "variables": {}, "steps": [step]}))
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.run", str(path), "--out", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    return process


def test_an_interrupt_lets_the_step_end_in_its_own_time(tmp_path: Path) -> None:
    process = slow(tmp_path)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to the whole group
    _, errors = process.communicate()
    assert process.returncode == 130
    assert "the same command again goes on from there" in errors
    assert (tmp_path / "left").read_text() == "whole"


def test_a_step_ends_with_the_run_that_began_it(tmp_path: Path) -> None:
    process = slow(tmp_path)
    process.terminate()
    _, errors = process.communicate()  # returns when the step, which holds the other end of the pipe, has gone too
    assert process.returncode == 128 + signal.SIGTERM
    assert errors.splitlines()[-1] == "stopped; the same command again goes on from there."
    assert "Traceback" not in errors
