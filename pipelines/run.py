"""`python -m pipelines.run RECIPE.yaml --out FOLDER`: a whole experiment, one command of the console after another.

A recipe names variables and steps; a step is a command line, as one would type it, with `{variables}` in it. A word
that is one variable alone becomes as many words as its list has. Each command is shown before it runs and can be
copied; the first that fails ends the run. The same command again goes on from there: every verb knows what it has done.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neat_data.errors import InputError, RunError
from pipelines.processes import Processes, exit_status_of

Value = str | int | float | list[str | int | float]
Execute = Callable[[Sequence[str]], int]
_VARIABLE = re.compile(r"\{(\w+)\}")


class Step(BaseModel):
    """One command of a recipe."""

    model_config = ConfigDict(extra="forbid")

    name: str
    run: str


class Recipe(BaseModel):
    """What a recipe file says."""

    model_config = ConfigDict(extra="forbid")

    about: str
    variables: dict[str, Value]
    steps: list[Step] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Command:
    """A step with its variables filled in."""

    step: str
    words: tuple[str, ...]

    @property
    def line(self) -> str:
        """For a shell."""
        return shlex.join(self.words)


def read_recipe(path: Path) -> Recipe:
    """The recipe in a YAML file.

    Raises:
        InputError: there is none, or it is not one.
    """
    try:
        return Recipe.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def commands(recipe: Recipe, out: Path, given: Sequence[str] = ()) -> list[Command]:
    """The commands of a recipe, in order.

    Args:
        out: stands for `{out}`.
        given: NAME=VALUE that replace variables; where the recipe has a list, a shell's rules cut the value into words.

    Raises:
        InputError: an unknown variable, here or in a step; a quotation without an end.
    """
    values: dict[str, Value] = {**recipe.variables, "out": str(out)}
    for assignment in given:
        name, equals, value = assignment.partition("=")
        if not equals or name not in recipe.variables:
            known = ", ".join(recipe.variables)
            raise InputError(f"--set {assignment}: not NAME=VALUE of a variable of the recipe.\nIts variables: {known}")
        values[name] = [*_cut(value, f"--set {assignment}")] if isinstance(recipe.variables[name], list) else value
    return [Command(step.name, tuple(_words(step, values))) for step in recipe.steps]


def _words(step: Step, values: Mapping[str, Value]) -> list[str]:
    words: list[str] = []
    for word in _cut(step.run, f"step {step.name}"):
        alone = _VARIABLE.fullmatch(word)
        value = values.get(alone[1]) if alone else None
        words += map(str, value) if isinstance(value, list) else [_filled(word, step.name, values)]
    return words


def _cut(text: str, where: str) -> list[str]:
    """Words, as a shell cuts them."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InputError(f"{where}: cannot be cut into words ({str(error).lower()})") from None


def _filled(word: str, step: str, values: Mapping[str, Value]) -> str:
    def value_of(match: re.Match[str]) -> str:
        value = values.get(match[1])
        if value is None or isinstance(value, list):
            problem = "is a list and must stand alone" if value is not None else "is no variable of the recipe"
            raise InputError(f"step {step}: {match[0]} {problem}")
        return str(value)

    return _VARIABLE.sub(value_of, word)


def run(todo: Sequence[Command], execute: Execute, tell: Callable[[str], None]) -> None:
    """Run the commands in order.

    Args:
        execute: runs one, and gives its exit status.
        tell: is told each command before it runs.

    Raises:
        RunError: one failed; those behind it were not begun.
    """
    for number, command in enumerate(todo, 1):
        tell(f"\n# {command.step} ({number} of {len(todo)})\n{command.line}")
        if status := execute(command.words):
            raise RunError(
                f"step {command.step} failed with exit status {status}.\n"
                "The same command again goes on from there: what is done is not done again."
            )


def in_a_process(words: Sequence[str]) -> int:
    """Run a command in a process of its own, with the commands that were installed beside this Python."""
    beside = str(Path(sys.executable).parent)
    path = os.pathsep.join((beside, os.environ.get("PATH", os.defpath)))
    try:
        with Processes() as processes:
            return processes.run(words, {**os.environ, "PATH": path})
    except OSError as error:
        raise InputError(f"{words[0]}: cannot be run ({error.strerror})") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, or that of the error it prints."""
    options = _parser().parse_args(arguments)
    return exit_status_of(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    todo = _from(commands(read_recipe(options.recipe), options.out, options.set), options.first)
    if options.dry_run:
        print("\n".join(command.line for command in todo))
    else:
        run(todo, in_a_process, lambda line: print(line, file=sys.stderr, flush=True))


def _from(todo: list[Command], first: str | None) -> list[Command]:
    names = [command.step for command in todo]
    if first is not None and first not in names:
        raise InputError(f"--from {first}: no such step; there are {', '.join(names)}")
    return todo[names.index(first) :] if first is not None else todo


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipelines.run", description="Run the steps of a recipe.")
    parser.add_argument("recipe", type=Path, help="a YAML file, say pipelines/hh_rlhf.yaml")
    parser.add_argument("--out", type=Path, required=True, help="the folder that everything is written to")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a variable; repeatable")
    parser.add_argument("--from", dest="first", metavar="STEP", help="leave out the steps before this one")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and run none")
    return parser


if __name__ == "__main__":
    sys.exit(main())
