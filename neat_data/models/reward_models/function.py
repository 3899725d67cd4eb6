"""A reward model that is a function in a Python file: `--reward-model file.py:function`.

The function gets conversations (lists of `{"role": …, "content": …}`, the last one the assistant's) and returns one
number for each, higher for better:

    def shorter_is_better(conversations):
        return [-len(conversation[-1]["content"]) for conversation in conversations]

It is called with at most `BATCH` conversations at a time. The file's sha256 and the function's name identify it,
wherever the file stands; what the function imports or reads is the user's to keep as it is.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from neat_data.errors import InputError, RunError
from neat_data.models.reward_model import RewardModelSpec, Scored, Task
from neat_data.models.reward_models.conversations import (
    OF_TOKENS,
    NotRewards,
    as_rewards,
    conversations,
    refuse_options,
    split,
)
from neat_data.record import query_id

BATCH = 64


class CallableRewardModel:
    """Scores with a function of the user's. Same attributes and methods as `reward_model.RewardModel`."""

    not_taken: tuple[str, ...] = ()

    def __init__(self, spec: RewardModelSpec) -> None:
        """Raises InputError where there is no such file or function, or the file cannot be run."""
        refuse_options(spec, "a Python function takes conversations", *OF_TOKENS)
        if spec.model_args:
            raise InputError("a Python function takes none", field="model_args", value=next(iter(spec.model_args)))
        file, _, name = spec.model.rpartition(":")
        path = Path(file)
        try:
            source = path.read_bytes()
        except OSError as error:
            raise InputError(
                f"{path} cannot be read ({error.strerror})", field="reward_model", value=spec.model
            ) from error
        sha256 = hashlib.sha256(source).hexdigest()
        self.spec = replace(spec, model=f"{path.resolve()}:{name}")
        self.name = f"{path.name}:{name}"
        self.settings = {"backend": "callable", "model": self.name, "sha256": sha256}
        self.notes = [f"rewards from {self.name}, {BATCH} conversations a call"]
        self._function = _function(_module(path, source, sha256), name, path)

    def score(
        self,
        tasks: Sequence[Task],
        *,
        token_budget: int | None = None,
        advance: Callable[[int, int], None] | None = None,
    ) -> list[Scored]:
        """Rewards of every response. There are no tokens here: the budget is not used and none are counted.

        Raises:
            RunError: the function raised, or did not return one finite number a conversation.
        """
        places = [(task, number) for task in tasks for number in range(len(task.texts))]
        asked = conversations(tasks)
        rewards: list[float] = []
        for start in range(0, len(asked), BATCH):
            rewards += self._call(asked[start : start + BATCH], places[start : start + BATCH], start)
        if advance:
            advance(len(tasks), 0)
        return [Scored(part, (None,) * len(part)) for part in split(rewards, tasks)]

    def close(self) -> None:
        """There is nothing to free: what the function keeps is its own."""

    def _call(self, batch: list[Any], places: list[tuple[Task, int]], start: int) -> list[float]:
        """One call; a failure names the conversation by its number in this shard and by its query."""
        try:
            return as_rewards(self._function(batch), len(batch))
        except NotRewards as error:
            where = f"conversations {start + 1} to {start + len(batch)}"
            if error.index is not None:
                task, number = places[error.index]
                query = query_id(task.messages)
                where = f"conversation {start + error.index + 1} (query {query}, response {number + 1})"
            raise RunError(f"{self.name}: {error}; {where} of the shard") from error
        except Exception as error:
            raise RunError(
                f"{self.name} raised {type(error).__name__}: {error}\n"
                f"at conversations {start + 1} to {start + len(batch)} of the shard, the first of them of query "
                f"{query_id(places[0][0].messages)}",
                advice="{debug} shows the traceback",
            ) from error


def _module(path: Path, source: bytes, sha256: str) -> ModuleType:
    """Run the bytes that were hashed: importing the path could run a cached compilation of other ones."""
    module = ModuleType(f"neat_reward_{sha256[:16]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        raise InputError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    return module


def _function(module: ModuleType, name: str, path: Path) -> Callable[[list[Any]], Any]:
    function = getattr(module, name, None)
    if function is None:
        there = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise InputError(f"{path} has no function {name!r}; it has: {', '.join(there) or 'none'}")
    if not callable(function):
        raise InputError(f"{path}: {name} is a {type(function).__name__}, not a function of conversations")
    return function
