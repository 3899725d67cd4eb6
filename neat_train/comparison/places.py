"""Where what is compared lies: `NAME=RUN` on the command line, and the evaluation of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neat_data.errors import InputError
from neat_train.eval_folder import EVAL

SETTINGS, RESULT = "settings.json", "result.json"
FOLDER = "eval"


def named(given: Sequence[str]) -> dict[str, list[Path]]:
    """Arms by name, each with its seeds.

    A path without NAME= is called as its folder is; only a NAME that was given may come again.

    >>> named(["runs/sft", "neat=runs/a", "neat=runs/b"])
    {'sft': [PosixPath('runs/sft')], 'neat': [PosixPath('runs/a'), PosixPath('runs/b')]}

    Raises:
        InputError: two paths without a name end in the same folder's name.
    """
    arms: dict[str, list[Path]] = {}
    unnamed = set()
    for text in given:
        name, path = _split(text)
        if name is None:
            name = path.resolve().name
            if name in arms:
                raise InputError(f"{text}: something else is called {name}; say NAME={text} (the same NAME for seeds)")
            unnamed.add(name)
        elif name in unnamed:
            raise InputError(f"{text}: another run is called {name} by its folder; give that one a NAME too")
        arms.setdefault(name, []).append(path)
    return arms


def _split(text: str) -> tuple[str | None, Path]:
    name, separator, path = text.partition("=")
    if not separator or Path(text).exists():
        return None, Path(text)
    if not name or not path:
        raise InputError(f"{text!r}: an arm is RUN or NAME=RUN")
    return name, Path(path)


def run_of(path: Path) -> Path | None:
    """The run's folder that `path` is, or that the evaluation at `path` lies in; None for an evaluation elsewhere."""
    if (path / SETTINGS).is_file():
        return path
    run, as_given = path.resolve().parent.parent, path.parent.parent
    if not (run / SETTINGS).is_file():
        return None
    return as_given if as_given.resolve() == run else run


def run_settings(run: Path) -> dict[str, Any]:
    """The resolved settings of a run, from its settings.json."""
    return stored(run).get("settings", {})


def stored(run: Path) -> dict[str, Any]:
    """What a run's settings.json holds.

    Raises:
        InputError: it cannot be read.
    """
    path = run / SETTINGS
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


def evaluation_of(path: Path, wanted: str) -> Path | None:
    """The folder of an evaluation: `path` itself, or the wanted one of a run; None where the run has none such."""
    if (path / EVAL).is_file():
        return path
    folder = path / FOLDER / wanted
    return folder if (folder / EVAL).is_file() else None


def wanted_evaluation(arms: Mapping[str, Sequence[Path]], given: str | None) -> str:
    """Which evaluation of the runs is compared.

    Raises:
        InputError: a path is no run and no evaluation; there is no evaluation at all, or several and none was named;
            or one was named that no run has, or that no run was given for.
    """
    paths = [path for seeds in arms.values() for path in seeds]
    for path in paths:
        if not (path / EVAL).is_file() and not (path / SETTINGS).is_file():
            raise InputError(f"{path}: is no run of neat-train fit, and holds no {EVAL}")
    runs = [path for path in paths if not (path / EVAL).is_file()]
    found = sorted({folder for path in runs for folder in _evaluations(path)})
    if given is not None:
        if not runs:
            raise InputError(f"--eval {given}: every path is that of an evaluation itself; leave --eval out")
        if given not in found:
            raise InputError(f"--eval {given}: no run has it; there is {', '.join(found) or 'none at all'}")
        return given
    if len(found) > 1:
        raise InputError(f"the runs have several evaluations: {', '.join(found)}; say which with --eval")
    if not found and len(runs) == len(paths):
        raise InputError(
            f"{paths[0]}: was not evaluated, nor was any other;\n"
            f"neat-train eval {paths[0]} --queries SOURCE --reward-model MODEL"
        )
    return found[0] if found else ""


def _evaluations(run: Path) -> list[str]:
    folder = run / FOLDER
    return [found.name for found in folder.iterdir() if (found / EVAL).is_file()] if folder.is_dir() else []
