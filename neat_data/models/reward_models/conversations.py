"""Tasks as flat lists of chat conversations, for back ends that take text, and what they answer cut back into tasks.

A callable and a server both answer with whatever they like. `as_rewards` lets through what can be stored (as many as
were asked for, finite, float32) and says of anything else what it was; the caller says who sent it.
"""

from __future__ import annotations

import math
import reprlib
import struct
from collections.abc import Sequence
from itertools import islice
from typing import Any

from neat_data.errors import InputError
from neat_data.models.reward_model import RewardModelSpec, Task
from neat_data.models.sampler import SamplerSpec
from neat_data.models.servers.address import shown

Conversation = list[dict[str, str]]
OF_TOKENS = ("chat_template", "template_args", "max_length", "max_response")  # options of who makes token ids
_LENGTHS = ("max_length", "max_response")


def conversations(tasks: Sequence[Task]) -> list[Conversation]:
    """One conversation a response, task by task: the query's turns, then the response as the assistant's.

    >>> from neat_data.record import Message
    >>> conversations([Task((Message("user", "Hi"),), ("Hello",))])
    [[{'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Hello'}]]
    """
    dialogues = []
    for task in tasks:
        query = [{"role": m.role, "content": m.content} for m in task.messages]
        # A conversation of its own for every response: who gets it may write to it.
        dialogues += [[*map(dict, query), {"role": "assistant", "content": text}] for text in task.texts]
    return dialogues


def split(rewards: Sequence[float], tasks: Sequence[Task]) -> list[tuple[float, ...]]:
    """The inverse of flattening: each task's share of `rewards`, in the order of `conversations`."""
    rest = iter(rewards)
    return [tuple(islice(rest, len(task.texts))) for task in tasks]


def refuse_options(spec: RewardModelSpec | SamplerSpec, why: str, *options: str) -> None:
    """Raises InputError for an option that this back end cannot honour, rather than leaving it out without a word."""
    defaults = type(spec)(model="")
    inherited = _LENGTHS if getattr(spec, "lengths_inherited", False) else ()
    for option in ("dtype", *options):
        if option not in inherited and getattr(spec, option) != getattr(defaults, option):
            raise InputError(f"has no meaning for {_shown(spec.model)}: {why}", field=option)


def _shown(model: str) -> str:
    return shown(model) if model.startswith(("http://", "https://")) else model


class NotRewards(ValueError):
    """What came is not the list of rewards that was asked for; the message says what it was.

    Attributes:
        index: the entry at fault, None where the whole answer is.
    """

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


def as_rewards(values: Any, expected: int) -> list[float]:
    """`values` (a list, a tuple, an array or a tensor of one dimension) as finite float32 numbers.

    >>> as_rewards((2, 0.1), 2)
    [2.0, 0.10000000149011612]

    Raises:
        NotRewards: another number of entries, or an entry that is no finite number of float32's range.
    """
    values = _plain(values)
    if not isinstance(values, (list, tuple)):
        raise NotRewards(f"{expected} rewards were asked for and {reprlib.repr(values)} came")
    if len(values) != expected:
        raise NotRewards(f"{expected} rewards were asked for and {len(values)} came")
    return [_number(_plain(value), index) for index, value in enumerate(values)]


def _plain(value: Any) -> Any:
    """Arrays and tensors, whole or as entries of a list, as plain Python."""
    return value.tolist() if hasattr(value, "tolist") else value


def _number(value: Any, index: int) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise NotRewards(f"the reward is {reprlib.repr(value)}, not a number", index)
    try:
        (number,) = struct.unpack("<f", struct.pack("<f", value))
    except (OverflowError, struct.error):  # a float too large, an integer too large
        number = math.inf
    if not math.isfinite(number):
        raise NotRewards(f"the reward is {reprlib.repr(value)}, not a finite float32 number", index)
    return number
