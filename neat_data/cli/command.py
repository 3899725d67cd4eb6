"""What both commands and their verbs share: `--version`, `--settings`, `--debug`, and errors written to be read."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import neat_data
from neat_data.cli.parsed import Parsed
from neat_data.cli.signals import Stopped, stopping_cleanly
from neat_data.errors import NeatError
from neat_data.report.escape import visible

_DAMAGED = "A file that was read is damaged; `neat-data verify DATASET` names one of a dataset."


class _Verbs(TyperGroup):
    """Typer's group, which answers `--help` without pydantic: that takes as long to load as all the rest together."""

    def get_params(self, ctx: Any) -> list[Any]:
        """For a flag that is None, which its own are unless they are said, typer would load it."""
        parameters: list[Any] = super().get_params(ctx)
        for parameter in parameters:
            if getattr(parameter, "is_flag", False) and parameter.default is None:
                parameter.default = False
        return parameters


def command(help: str, *modules: Any) -> typer.Typer:
    """A command of the console, with the verbs that each module's `add_to` adds."""
    app = typer.Typer(
        cls=_Verbs,
        help=help,
        callback=_with_version,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for verbs in modules:
        verbs.add_to(app)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"neat-align {neat_data.__version__}")
        raise typer.Exit()


def _with_version(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def verb(function: Callable[..., None]) -> Callable[..., None]:
    """Make a command of `function`, whose parameters are options or classes of options (`neat_data.options`).

    It gets `--debug` and, where it has none of its own, `--settings`; exceptions become messages.
    Exit status: 2 for bad usage or input, 1 for a failure while running or what its error says; after Ctrl-C 130, after
    SIGTERM or SIGHUP 128 and the signal's number.
    """
    parsed = Parsed(function)
    shared = [each for each in _shared() if each.name not in parsed.flags]
    parsed.flags |= {each.name: f"--{each.name}" for each in shared}

    @wraps(function)
    def run(*, debug: bool, **values: Any) -> None:
        try:
            with stopping_cleanly():
                function(**parsed.arguments(values))
                sys.stdout.flush()
        except BrokenPipeError:  # the reader of our output has had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except typer.Exit:  # the verb has said what there is to say
            raise
        except KeyboardInterrupt as error:
            number = error.number if isinstance(error, Stopped) else signal.SIGINT
            _fail("stopped. What was committed stays, and the same command goes on from there.", 128 + number)
        except NeatError as error:
            _fail(error.told(parsed.flag), error.exit_status, debug)
        except OSError as error:
            _fail(_of_a_file(error), 1, debug)
        except Exception as error:
            unforeseen = "This was not expected; --debug shows where."
            _fail(f"{type(error).__name__}: {error}\n{_DAMAGED if _is_no_text(error) else unforeseen}", 1, debug)

    run.__signature__ = Signature([*parsed.parameters(), *shared])  # type: ignore[attr-defined]
    return run


def _shared() -> list[Parameter]:
    """What every verb takes."""
    annotated = {"settings": (_SETTINGS, None), "config": (_CONFIG, None), "debug": (_DEBUG, False)}
    return [
        Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in annotated.items()
    ]


def _is_no_text(error: Exception) -> bool:
    """Whether bytes that were to be a text are none, in Python's words or those of polars."""
    return isinstance(error, UnicodeDecodeError) or "invalid utf8" in str(error)


def _of_a_file(error: OSError) -> str:
    """What the system said, and of which file."""
    if error.filename is None or error.strerror is None:
        return f"{type(error).__name__}: {error}"
    return f"{error.filename}: {error.strerror} (the system's words)"


def _fail(message: str, status: int, debug: bool = False) -> None:
    if debug:
        traceback.print_exc()
    typer.echo(f"error: {visible(message)}", err=True)
    raise typer.Exit(status)


def _take_settings(context: typer.Context, path: Path | None) -> Path | None:
    """Let a YAML file fill in what no flag says."""
    if path is None:
        return None
    from neat_data.options.file import meant, read_file

    try:
        said = {name.replace("-", "_"): value for name, value in read_file(path).items()}
    except NeatError as error:
        raise typer.BadParameter(f"{path}: {error.message}") from error
    many = {parameter.name: getattr(parameter, "multiple", False) for parameter in context.command.params}
    known = many.keys() - {"settings", "config", "debug"}
    if unknown := sorted(said.keys() - known):
        raise typer.BadParameter(f"{path}: {unknown[0]}: no such option.{meant(unknown[0], known)}")
    context.default_map = {
        name: [value] if many[name] and isinstance(value, str) else value for name, value in said.items()
    }
    return path


def _refuse(path: str | None) -> None:
    if path is not None:
        raise typer.BadParameter(
            "is called --settings now; such a file names options at its top level, without a section"
        )


_SETTINGS = Annotated[
    Path | None,
    typer.Option(callback=_take_settings, is_eager=True, help="YAML file of options, NAME: VALUE; flags win."),
]
_CONFIG = Annotated[str | None, typer.Option(callback=_refuse, is_eager=True, hidden=True)]
_DEBUG = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
