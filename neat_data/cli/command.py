"""What both commands and their verbs share: `--version`, `--config`, `--debug`, and errors written to be read."""

from __future__ import annotations

import inspect
import os
import signal
import sys
import traceback
from collections.abc import Callable
from functools import wraps
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from typer.models import ArgumentInfo, OptionInfo

import neat_data
from neat_data.cli.signals import Stopped, stopping_cleanly
from neat_data.errors import NeatError
from neat_data.report.escape import visible


def command(help: str, *modules: Any) -> typer.Typer:
    """A command of the console, with the verbs that each module's `add_to` adds."""
    app = typer.Typer(
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
    """Make a command of `function`: adds `--config` and `--debug`, and turns exceptions into messages.

    Exit status: 2 for bad usage or input, 1 for a failure while running or what its error says; after Ctrl-C
    130, after SIGTERM or SIGHUP 128 and the signal's number.
    """
    signature = inspect.signature(function, eval_str=True)
    shared = [
        Parameter("config", Parameter.KEYWORD_ONLY, default=None, annotation=_CONFIG),
        Parameter("debug", Parameter.KEYWORD_ONLY, default=False, annotation=_DEBUG),
    ]
    whole = signature.replace(parameters=[*signature.parameters.values(), *shared])

    @wraps(function)
    def run(*args: Any, config: Path | None = None, debug: bool = False, **options: Any) -> None:
        try:
            with stopping_cleanly():
                function(*args, **options)
                sys.stdout.flush()
        except BrokenPipeError:  # the reader of our output has had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except typer.Exit:  # the verb has said what there is to say
            raise
        except KeyboardInterrupt as error:
            number = error.number if isinstance(error, Stopped) else signal.SIGINT
            _fail("stopped. What was committed stays, and the same command goes on from there.", 128 + number)
        except NeatError as error:
            _fail(error.told(_flags(whole)), error.exit_status, debug)
        except OSError as error:
            _fail(_of_a_file(error), 1, debug)
        except Exception as error:
            _fail(f"{type(error).__name__}: {error}\nThis was not expected; --debug shows where.", 1, debug)

    run.__signature__ = whole  # type: ignore[attr-defined]
    return run


def _flags(signature: inspect.Signature) -> Callable[[str], str]:
    """What a user types for the argument that an error is about; settings that are no options keep their names."""
    written = {name.rstrip("_"): _written(name, parameter) for name, parameter in signature.parameters.items()}
    return lambda field: written.get(field) or written.get(field.removesuffix("s")) or field


def _written(name: str, parameter: Parameter) -> str:
    option = next(part for part in parameter.annotation.__metadata__ if isinstance(part, OptionInfo | ArgumentInfo))
    if isinstance(option, ArgumentInfo):
        return name.upper()
    # Behind `Annotated`, typer keeps the first name that an option is given as its default.
    given = [word for word in map(str, (option.default, *(option.param_decls or ()))) if word.startswith("--")]
    return given[0] if given else f"--{name.replace('_', '-')}"


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


def _take_defaults(context: typer.Context, path: Path | None) -> Path | None:
    """Let the section of a YAML file that is named after the verb fill in what no flag says."""
    if path is None:
        return None
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise typer.BadParameter(f"{path}: {error}") from error
    section = content.get(context.info_name) if isinstance(content, dict) else None
    if not isinstance(section, dict):
        raise typer.BadParameter(f"{path} has no section '{context.info_name}:'")
    defaults = {str(key).replace("-", "_"): value for key, value in section.items()}
    known = {parameter.name for parameter in context.command.params} - {"config", "debug"}
    if unknown := sorted(set(defaults) - known):
        raise typer.BadParameter(f"{path}: no such option of {context.info_name}: {', '.join(unknown)}")
    context.default_map = defaults
    return path


_CONFIG = Annotated[
    Path | None,
    typer.Option(
        callback=_take_defaults,
        is_eager=True,
        show_default=False,
        help="YAML file; its section named after the verb fills in what no flag says.",
    ),
]
_DEBUG = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
