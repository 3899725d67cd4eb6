"""Prompt sets: what stands around a query when responses to it are sampled, and how many and how.

A set is a YAML file with a `name` and a list of `prompts`; `neat` (Table 1 of the paper) and `plain` (the bare query)
are shipped. Reading is strict: an unknown key or a value of another type is an error that names the file and the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from neat_data.errors import InputError
from neat_data.record import Message, Messages, Polarity

Placement = Literal["last_user", "first_user", "system"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt of a set.

    Attributes:
        name: unique in its set.
        polarity: what its responses are marked with; None for a plain prompt.
        text: goes in front of a turn; None leaves the query as it is.
        placement: the user turn that `text` goes in front of, or `system` for a turn of its own.
        samples, temperature, top_p, max_new_tokens: None takes the run's own setting.
    """

    name: str
    polarity: Polarity | None
    text: str | None = None
    placement: Placement = "last_user"
    samples: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_new_tokens: int | None = None

    @property
    def lead(self) -> str:
        """For `Ask.lead`: what the first user turn begins with, wherever turns are cut; other placements stay."""
        return f"{self.text} " if self.text is not None and self.placement == "first_user" else ""

    def applied(self, messages: Messages) -> Messages:
        """The query with `text` and one space in front of the user turn that `placement` names.

        `system` puts it into a system turn in front, followed by a blank line and the system turn that was there.

        >>> Prompt("rude", "negative", "Be rude.").applied((Message("user", "Hi"),))
        (Message(role='user', content='Be rude. Hi'),)
        """
        if self.text is None:
            return messages
        if self.placement == "system":
            own = messages[0].role == "system"
            text = f"{self.text}\n\n{messages[0].content}" if own else self.text
            return (Message("system", text), *messages[own:])
        turns = [index for index, message in enumerate(messages) if message.role == "user"]
        turn = turns[-1 if self.placement == "last_user" else 0]
        asked = replace(messages[turn], content=f"{self.text} {messages[turn].content}")
        return (*messages[:turn], asked, *messages[turn + 1 :])

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; for settings."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PromptSet:
    """A named set of prompts, in the order of its file."""

    name: str
    prompts: tuple[Prompt, ...]

    def only(self, field: str, spec: str) -> Prompt:
        """Its one prompt.

        Args:
            field, spec: what asked for the set, for the message.

        Raises:
            InputError: it has several.
        """
        if len(self.prompts) != 1:
            names = " or ".join(f"{spec}:{prompt.name}" for prompt in self.prompts)
            raise InputError(f"has {len(self.prompts)} prompts; name one of them: {names}", field=field, value=spec)
        return self.prompts[0]


def load_prompts(spec: str) -> PromptSet:
    """A prompt set: `neat`, `plain` or a YAML file, whole or the part behind a colon.

    `neat:negative` is the prompt of that name, or else all of that polarity.

    Raises:
        InputError: no such file or part, or a file that is not a prompt set.
    """
    shipped = _shipped()
    if spec in shipped or Path(spec).is_file():
        return _read(shipped.get(spec) or Path(spec), spec)
    source, colon, part = spec.rpartition(":")
    if not colon or not (source in shipped or Path(source).is_file()):
        raise InputError(
            f"no such file; choose {', '.join(shipped)} or a YAML file, or a part: neat:negative",
            field="prompts",
            value=spec,
        )
    prompt_set = _read(shipped.get(source) or Path(source), source)
    chosen = [p for p in prompt_set.prompts if p.name == part] or [p for p in prompt_set.prompts if p.polarity == part]
    if not chosen:
        names = ", ".join(prompt.name for prompt in prompt_set.prompts)
        raise InputError(f"{source} has no prompt named {part}; it has {names}", field="prompts", value=spec)
    return replace(prompt_set, prompts=tuple(chosen))


def _shipped() -> dict[str, Path]:
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}


def _read(path: Path, called: str) -> PromptSet:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(
            f"cannot be read as YAML ({' '.join(str(error).split())})", field="prompts", value=called
        ) from error
    whole = _Entry(content, called, "the file")
    whole.refuse_other_keys(("name", "prompts"))
    entries = whole.content.get("prompts")
    if not isinstance(entries, list) or not entries:
        raise whole.wrong("prompts", "must be a list of one prompt or more")
    prompts = [_prompt(_Entry(entry, called, f"prompt {number}")) for number, entry in enumerate(entries, 1)]
    names = [prompt.name for prompt in prompts]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise whole.wrong("prompts", f"two of them are named {twice[0]}; names are unique in a set")
    return PromptSet(whole.text("name"), tuple(prompts))


@dataclass(frozen=True, slots=True)
class _Entry:
    """A mapping of the file, where it stands, and typed access to its keys."""

    content: Any
    file: str
    place: str

    def __post_init__(self) -> None:
        if not isinstance(self.content, dict):
            raise InputError(f"{self.place} must be a mapping of keys to values", field="prompts", value=self.file)

    def wrong(self, key: str, why: str) -> InputError:
        return InputError(f"{self.place}, key {key}: {why}", field="prompts", value=self.file)

    def refuse_other_keys(self, known: Sequence[str]) -> None:
        for key in self.content:
            if key not in known:
                raise self.wrong(str(key), f"unknown; there are {', '.join(known)}")

    def text(self, key: str) -> str:
        value = self.content.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(key, "must be a text")
        return value.strip()

    def choice(self, key: str, choices: Sequence[str]) -> Any:
        value = self.content.get(key)
        if value not in choices:
            raise self.wrong(key, f"must be one of {', '.join(choices)}, not {value!r}")
        return value

    def number(self, key: str, low: float, high: float, *, whole: bool = False) -> Any:
        value = self.content.get(key)
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not low <= value <= high:
            span = f"from {low:g}" + (f" to {high:g}" if high < float("inf") else "")
            raise self.wrong(key, f"must be a {'whole number' if whole else 'number'} {span}, not {value!r}")
        return value if whole else float(value)


def _prompt(entry: _Entry) -> Prompt:
    """Keys that are absent or null take their default."""
    entry.refuse_other_keys([field.name for field in fields(Prompt)])
    endless = float("inf")
    readers = {
        "polarity": lambda key: entry.choice(key, get_args(Polarity)),
        "text": entry.text,
        "placement": lambda key: entry.choice(key, get_args(Placement)),
        "samples": lambda key: entry.number(key, 1, endless, whole=True),
        "temperature": lambda key: entry.number(key, 0, 100),
        "top_p": lambda key: entry.number(key, 1e-6, 1),
        "max_new_tokens": lambda key: entry.number(key, 1, endless, whole=True),
    }
    given = {key: read(key) for key, read in readers.items() if entry.content.get(key) is not None}
    return Prompt(entry.text("name"), **{"polarity": None, **given})
