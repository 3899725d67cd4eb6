"""What a verb of the command line is called with, from flags and from a file of settings."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from neat_data.cli.command import verb
from neat_data.options.option import Option


@dataclass(frozen=True, kw_only=True)
class Loading:
    workers: Annotated[int | Literal["auto"], Option("How many.")] = 1
    model_args: Annotated[Mapping[str, Any] | None, Option("KEY=VALUE.", flag="--model-arg")] = None
    drop: Annotated[str | Iterable[str], Option("What goes.")] = ()
    limit: Annotated[int | None, Option("At most.", min=1)] = None
    full: Annotated[bool, Option("All of it.")] = False


@pytest.fixture
def call(tmp_path: Path) -> Any:
    """Calls a verb with flags, under the lines of a settings file; what it was given, or what was said."""
    given: list[Any] = []
    app = typer.Typer(rich_markup_mode=None)

    @app.command()
    @verb
    def load(options: Loading, said: Annotated[dict[str, Any], Trained], many: Annotated[int, Option("")] = 3) -> None:
        given.append((options, said, many))

    def run(*flags: str, file: str = "") -> Any:
        (tmp_path / "settings.yaml").write_text(file)
        result = CliRunner().invoke(app, ["--settings", str(tmp_path / "settings.yaml"), *flags])
        return given.pop() if result.exit_code == 0 else result.stderr

    return run


@dataclass(frozen=True, kw_only=True)
class Trained:
    device: Annotated[str, Option("Where.")] = "auto"
    load_in_4bit: Annotated[bool, Option("Small.")] = False


def test_what_is_not_said_has_its_default_or_is_left_out(call: Any) -> None:
    assert call() == (Loading(), {}, 3)


def test_flags_become_what_python_has(call: Any) -> None:
    flags = (
        "--model-arg",
        "a=1",
        "--model-arg",
        "b=x",
        "--drop",
        "cut",
        "--full",
        "--device",
        "auto",
        "--load-in-4bit",
    )
    options, said, _ = call(*flags, "--workers", "auto")
    assert options == Loading(model_args={"a": 1, "b": "x"}, drop=["cut"], full=True, workers="auto")
    assert said == {"device": "auto", "load_in_4bit": True}


def test_a_file_says_what_python_says_and_flags_win(call: Any) -> None:
    file = "workers: 2\nmodel-args: {a: 1e-4}\ndrop: cut\nlimit: 5\nfull: true\ndevice: cpu\n"
    options, said, _ = call("--limit", "7", file=file)
    assert options == Loading(workers=2, model_args={"a": 1e-4}, drop=["cut"], limit=7, full=True)
    assert said == {"device": "cpu"}


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("limits: 3", "limits: no such option. Did you mean limit?"),
        ("limit: 0", "--limit"),
        ("limit: many", "--limit"),
        ("score: {limit: 3}", "score: no such option."),
        ("- a", "holds no settings"),
        ("a: [", "settings.yaml"),
    ],
)
def test_a_file_with_something_else_is_refused(call: Any, file: str, message: str) -> None:
    assert message in call(file=file)


def test_the_option_that_settings_took_the_place_of_says_so() -> None:
    app = typer.Typer(rich_markup_mode=None)
    app.command()(verb(lambda: None))
    result = CliRunner().invoke(app, ["--config", "a.yaml"])
    assert (result.exit_code, "is called --settings now" in result.stderr) == (2, True)
