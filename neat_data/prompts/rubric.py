"""Rubrics: what a judging model is asked about a response, and how its answer is read.

A rubric is a YAML file with `name`, `min`, `max` (the scale, whole numbers), `template` and, where wanted, `system`.
`{query}` and `{response}` in the template are replaced in one go, so that braces in a dataset's text are text.
The answer is to be `Score: N`; `answers` reads it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from neat_data.errors import InputError
from neat_data.prompts import answers
from neat_data.record import Messages, canonical_json

DEFAULT = Path(__file__).parent / "rubrics" / "helpful_harmless.yaml"
_SAID = "Score: "
_PLACES = re.compile(r"\{(query|response)\}")


@dataclass(frozen=True, slots=True)
class Rubric:
    """A question with a scale from `min` to `max`, both included."""

    name: str
    min: int
    max: int
    template: str
    system: str = ""

    @property
    def sha256(self) -> str:
        """Of what it says, wherever the file stands and however it is laid out."""
        return hashlib.sha256(canonical_json(asdict(self)).encode()).hexdigest()

    def question(self, messages: Messages, response: str) -> list[dict[str, str]]:
        """The chat messages that ask about one response to the query `messages`.

        >>> from neat_data.record import Message
        >>> Rubric("short", 0, 1, "{query} / {response}").question((Message("user", "{response}?"),), "Yes")
        [{'role': 'user', 'content': 'User: {response}? / Yes'}]
        """
        query = "\n\n".join(f"{message.role.capitalize()}: {message.content}" for message in messages)
        filled = {"query": query, "response": response}
        text = _PLACES.sub(lambda place: filled[place[1]], self.template)
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": text}]

    def read(self, answer: str) -> int | None:
        """The score that `answer` states, None where it states none on the scale.

        >>> rubric = Rubric("ten", 1, 10, "")
        >>> [rubric.read(said) for said in ("Score: 10", "Score: 11", "Score: 7 or 8", "I'd say 7")]
        [10, None, None, None]
        """
        return answers.score(answer, self.min, self.max)


def load_rubric(path: Path) -> Rubric:
    """Read and check a rubric.

    Raises:
        InputError: no such file, no YAML, a key that is unknown, missing or of another type, a template without its
            places or without the form of the answer; names the file and the key.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"rubric {path}: cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise InputError(f"rubric {path}: must hold name, min, max, template and perhaps system")
    _check_keys(path, content)
    rubric = Rubric(**content)
    if rubric.min >= rubric.max:
        raise InputError(f"rubric {path}: min {rubric.min} must be below max {rubric.max}")
    if missing := {"query", "response"} - set(_PLACES.findall(rubric.template)):
        raise InputError(f"rubric {path}: template has no place {{{min(missing)}}}")
    if _SAID not in rubric.system + rubric.template:
        raise InputError(f"rubric {path}: template does not say that the answer must be {_SAID + 'N'!r}")
    return rubric


def _check_keys(path: Path, content: dict[Any, Any]) -> None:
    kinds = {field.name: int if field.name in ("min", "max") else str for field in fields(Rubric)}
    if unknown := [key for key in content if key not in kinds]:
        raise InputError(f"rubric {path}: unknown key {unknown[0]!r}; there are {', '.join(kinds)}")
    for key, kind in kinds.items():
        if key not in content and key != "system":
            raise InputError(f"rubric {path}: {key} is missing")
        value = content.get(key, "")
        if key in content and type(value) is not kind:
            wanted = "a whole number" if kind is int else "a text"
            raise InputError(f"rubric {path}: {key} must be {wanted}, not {value!r}")
