"""A chat template comes with a model, so it may loop or write without end: it is tried elsewhere before it is used."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from neat_data.errors import InputError, RunError
from neat_data.models.template_trial import TOO_LARGE
from neat_data.record import Message, Messages

SECONDS = 5  # of processor time; templates take milliseconds
CHARACTERS = 1 << 20  # of a dialogue that has a hundred
MEMORY = 512 << 20  # bytes of address space

_SYSTEM, _USER, _ANSWER = Message("system", "Be kind."), Message("user", "Hi"), Message("assistant", "Hello")
_DIALOGUES: tuple[Messages, ...] = (
    (_USER, _ANSWER),
    (_SYSTEM, _USER, _ANSWER, _USER, _ANSWER),
    (_USER,),
    (_SYSTEM, _USER),
)


def require_bounded(source: str, special_tokens: Mapping[str, str]) -> None:
    """Render a few short dialogues in a process with limits.

    Args:
        source: the template's Jinja text.
        special_tokens: what a template may name, `bos_token` and the like.

    Raises:
        InputError: the template takes more than `SECONDS`, `CHARACTERS` or `MEMORY`.
        RunError: no such process could be run.
    """
    _tried(source, tuple(sorted(special_tokens.items())))


@cache
def _tried(source: str, special_tokens: tuple[tuple[str, str], ...]) -> None:
    task = {
        "path": sys.path,
        "seconds": SECONDS,
        "memory": MEMORY,
        "characters": CHARACTERS,
        "source": source,
        "calls": [_call(messages, special_tokens, parts) for parts in (False, True) for messages in _DIALOGUES],
    }
    program = str(Path(__file__).with_name("template_trial.py"))
    done = subprocess.run(
        [sys.executable, "-I", program], input=json.dumps(task), capture_output=True, encoding="utf-8", check=False
    )
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise _refusal(f"takes more than {SECONDS} seconds to write a dialogue of a few words")
    if done.returncode == TOO_LARGE:
        raise _refusal(f"makes more than {CHARACTERS:,} characters of a dialogue of a few words")
    if done.returncode:
        why = " ".join(done.stderr.split())[-200:]
        raise RunError(f"the chat template could not be tried in a process of its own: {why or done.returncode}")


def _call(messages: Messages, special_tokens: tuple[tuple[str, str], ...], parts: bool) -> dict[str, object]:
    turns = [
        {"role": turn.role, "content": [{"type": "text", "text": turn.content}] if parts else turn.content}
        for turn in messages
    ]
    return {**dict(special_tokens), "messages": turns, "add_generation_prompt": messages[-1].role == "user"}


def _refusal(what: str) -> InputError:
    return InputError(f"the chat template {what}", advice="give another one: {chat_template} hh|FILE")
