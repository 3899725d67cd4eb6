"""Errors name arguments as Python has them, and the command line turns the names into what its user types."""

from __future__ import annotations

import ast
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from neat_data.cli.command import verb
from neat_data.cli.output import print_json
from neat_data.errors import InputError, RunError
from neat_data.options.option import Argument, Option
from neat_data.report.escape import visible

ROOT = Path(__file__).resolve().parents[3]


def shout(name: str) -> str:
    return f"--{name}"


def test_a_python_caller_sees_keywords_and_the_command_line_its_flags() -> None:
    error = InputError("unknown", field="device", value="tpu", advice="say {dtype} too")
    assert str(error) == "device tpu: unknown\nsay dtype too"
    assert error.told(shout) == "--device tpu: unknown\nsay --dtype too"


def test_what_was_said_is_never_taken_for_a_name() -> None:
    error = InputError("no {dtype} here", field="device", value="{dtype}")
    assert error.told(shout) == "--device {dtype}: no {dtype} here"


def test_a_caller_with_other_names_has_them_everywhere() -> None:
    error = InputError("unknown", field="device", value="tpu", advice="or {dtype}, or {path}")
    renamed = error.renamed({"device": "reward_device", "dtype": "reward_dtype"})
    assert renamed.told(shout) == "--reward_device tpu: unknown\nor --reward_dtype, or --path"
    assert str(error.renamed({"device": None}, "or leave it out")) == "tpu: unknown\nor dtype, or path\nor leave it out"
    assert str(error.renamed({"device": None}).renamed({None: "start"})).startswith("start tpu: unknown\n")


def test_an_error_of_a_part_names_the_whole_first() -> None:
    error = RunError("unknown", field="model_args", value="x").within("reward_model", "rm")
    assert isinstance(error, RunError)
    assert error.told(shout) == "--reward_model rm: --model_args x: unknown"


def test_an_error_from_another_process_says_the_same() -> None:
    error = InputError("unknown", field="device", value="tpu", advice="say {dtype} too").within("policy", "p")
    assert pickle.loads(pickle.dumps(error)).told(shout) == error.told(shout)


@pytest.mark.parametrize(
    ("field", "shown"),
    [
        ("reward_model", "--reward-model x: no"),
        ("model_args", "--model-arg x: no"),
        ("judge", "--judge x: no"),
        ("debug", "--debug x: no"),
        ("dataset", "DATASET x: no"),
        ("rounds.reward_model", "rounds.reward_model x: no"),
    ],
)
def test_a_verb_turns_a_field_into_what_its_user_types(field: str, shown: str) -> None:
    app = typer.Typer()

    @app.command()
    @verb
    def fail(
        dataset: Annotated[str, Argument("")] = "d",
        reward_model: Annotated[str, Option("")] = "",
        model_args: Annotated[Mapping[str, str] | None, Option("", flag="--model-arg")] = None,
        judged: Annotated[Sequence[str], Option("", flag="--judge")] = (),
    ) -> None:
        raise InputError("no", field=field, value="x")

    result = CliRunner().invoke(app, [])
    assert (result.exit_code, result.stderr) == (2, f"error: {shown}\n")


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_an_exit_of_a_verb_passes_through(debug: list[str]) -> None:
    app = typer.Typer()

    @app.command()
    @verb
    def end() -> None:
        raise typer.Exit(3)

    result = CliRunner().invoke(app, debug)
    assert (result.exit_code, result.stderr) == (3, "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_is_whole_whatever_the_terminal_can_show(encoding: str) -> None:
    program = "from neat_data.cli.output import print_json; print_json({'text': 'a \\u2014 \\u00e9 \\U0001f600'})"
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        check=True,
    )
    assert json.loads(run.stdout.decode(encoding)) == {"text": "a \u2014 \u00e9 \U0001f600"}


def test_json_says_nothing_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    text = "\x1b[2J\x9b31m \u202e \ufeff \ud800 \U000e0041 é"
    print_json({"text": text})
    printed = capsys.readouterr().out
    assert visible(printed) == printed
    assert "é" in printed
    assert json.loads(printed) == {"text": text}


ERRORS = ("InputError", "RunError", "OutOfMemory", "BadReply")
COMMAND = re.compile(r"`[^`]*`|neat-(?:data|train) .*", re.DOTALL)


def said(call: ast.Call) -> str:
    """The literal text of an error's message and advice, without the commands in it, which stand as they are typed."""
    parts = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "advice")]
    words = (node.value for part in parts for node in ast.walk(part) if isinstance(node, ast.Constant))
    return COMMAND.sub("", "".join(word for word in words if isinstance(word, str)))


def test_no_error_outside_the_command_line_names_a_flag() -> None:
    flags = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for package in ("neat_data", "neat_train")
        for path in sorted((ROOT / package).rglob("*.py"))
        if "cli" not in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS
        if re.search(r"--[a-z]", said(node))
    ]
    assert flags == []
