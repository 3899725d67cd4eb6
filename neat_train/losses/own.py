"""A loss of the user's: a function in a Python file, `--method FILE.py:FUNCTION`.

It is called for one record at a time, best response first, and gives one number to be minimised. What it needs it names
as parameters:

    def hinge_of_two(logps, rewards):
        return (logps[-1] - logps[0] + 1).clamp(min=0)

`logps`, `reference` (log-probabilities of whole responses), `lengths` (tokens) and `rewards` are tensors of one value a
response. The reference is computed only for a function that names it.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from neat_data.errors import InputError
from neat_train.config.ranking import OwnLoss
from neat_train.losses.lists import Lists

PARAMETERS = ("logps", "reference", "rewards", "lengths")


@dataclass(frozen=True, slots=True)
class Own:
    """A function that was loaded, and the settings that name it."""

    settings: OwnLoss
    function: Callable[..., Any]

    def __call__(self, lists: Lists) -> Tensor:
        """One value a record  # (n,)

        Raises:
            InputError: the function raised, or gave something else than one finite number that hangs on `logps`.
        """
        losses = [self._of_record(lists, record) for record in range(len(lists.there))]
        return torch.stack(losses) if losses else lists.total.sum(1)

    def _of_record(self, lists: Lists, record: int) -> Tensor:
        there = lists.there[record]
        whole = {"logps": lists.total, "reference": lists.reference, "rewards": lists.reward, "lengths": lists.length}
        given = {
            name: values[record, there] for name in self.settings.parameters if (values := whole[name]) is not None
        }
        try:
            loss = self.function(**given)
        except Exception as error:
            raise InputError(f"raised {type(error).__name__}: {error}", field="method", value=self.name) from error
        if complaint := _complaint(loss, len(given["logps"]), lists.total.requires_grad):
            raise InputError(complaint, field="method", value=self.name)
        return loss

    @property
    def name(self) -> str:
        """FILE.py:FUNCTION"""
        return self.settings.function


def load_own(place: str) -> Own:
    """Run the file that the user named, and try the function on records of two and three responses.

    Args:
        place: FILE.py:FUNCTION, from the command line: a file is a program.

    Raises:
        InputError: no such file or function, parameters that no loss has, or it does not give a loss.
    """
    file, _, name = place.rpartition(":")
    path = Path(file)
    try:
        source = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})", field="method", value=place) from error
    function = getattr(_run(path, source), name, None)
    if not callable(function):
        raise InputError(f"{path.name} has no function {name}", field="method", value=place)
    settings = OwnLoss(
        function=f"{path.name}:{name}",
        sha256=hashlib.sha256(source).hexdigest(),
        parameters=_parameters(function, place),
    )
    own = Own(settings, function)
    own(_tried())
    return own


def _run(path: Path, source: bytes) -> ModuleType:
    """Run the bytes that were hashed: importing the path could run a cached compilation of other ones."""
    module = ModuleType(f"neat_loss_{path.stem}")
    module.__file__ = str(path)
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        raise InputError(f"cannot be run: {type(error).__name__}: {error}", field="method", value=path) from error
    return module


def _parameters(function: Callable[..., Any], place: str) -> tuple[str, ...]:
    taken = inspect.signature(function).parameters
    needed = {name for name, taking in taken.items() if taking.default is inspect.Parameter.empty}
    if unknown := sorted(needed.difference(PARAMETERS)):
        raise InputError(
            f"takes {unknown[0]}; a loss is given {', '.join(PARAMETERS)}, by name", field="method", value=place
        )
    if "logps" not in taken:
        raise InputError("takes no logps, the log-probabilities that a loss hangs on", field="method", value=place)
    return tuple(name for name in PARAMETERS if name in taken)


def _complaint(loss: Any, responses: int, trained: bool) -> str | None:
    """What is wrong with what the function gave for a record."""
    if not isinstance(loss, Tensor) or loss.shape != ():
        shape = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        return f"gave {shape} for a record of {responses} responses; a loss is one number, a tensor of shape ()"
    if not bool(loss.isfinite()):
        return f"gave {loss.item()} for a record of {responses} responses; a loss is finite"
    if trained and not loss.requires_grad:
        return "gave a number without a gradient: compute it from logps, without detach(), item() or no_grad()"
    return None


def _tried() -> Lists:
    """Two records, of two and of three responses, with plausible numbers."""
    there = torch.tensor([[True, True, False], [True, True, True]])
    total = torch.tensor([[-20.0, -31.0, 0.0], [-12.0, -9.0, -40.0]], requires_grad=True)
    length = torch.tensor([[10.0, 14.0, 0.0], [5.0, 4.0, 16.0]])
    reward = torch.tensor([[1.0, 0.0, 0.0], [2.0, 0.5, -1.0]])
    mean = total / length.clamp(min=1)
    return Lists(there, reward, total, mean, length, torch.where(there, total.detach() - 1, 0))
