"""Tasks as flat lists of chat conversations, for back ends that take text, and rewards cut back into tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from itertools import islice

from neat_data.errors import InputError
from neat_data.models.reward import RewardSpec, Task
from neat_data.models.sampler import SamplerSpec

Conversation = list[dict[str, str]]
_LENGTHS = ("max_length", "max_response")


def conversations(tasks: Sequence[Task]) -> list[Conversation]:
    """One conversation a response, task by task: the query's turns, then the response as the assistant's.

    >>> from neat_data.record import Message
    >>> conversations([Task((Message("user", "Hi"),), ("Hello",))])
    [[{'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Hello'}]]
    """
    found = []
    for task in tasks:
        query = [{"role": m.role, "content": m.content} for m in task.messages]
        # A conversation of its own for every response: who gets it may write to it.
        found += [[*map(dict, query), {"role": "assistant", "content": text}] for text in task.texts]
    return found


def split(rewards: Sequence[float], tasks: Sequence[Task]) -> list[tuple[float, ...]]:
    """The inverse of flattening: each task's share of `rewards`, in the order of `conversations`."""
    rest = iter(rewards)
    return [tuple(islice(rest, len(task.texts))) for task in tasks]


def refuse_options(spec: RewardSpec | SamplerSpec, why: str, *options: str) -> None:
    """Raises InputError for an option that this back end cannot honour, rather than leaving it out without a word."""
    defaults = {field.name: field.default for field in fields(spec)}
    inherited = _LENGTHS if getattr(spec, "lengths_inherited", False) else ()
    for option in ("dtype", *options):
        if option not in inherited and getattr(spec, option) != defaults[option]:
            raise InputError(f"--{option.replace('_', '-')} has no meaning for {spec.model}: {why}")
