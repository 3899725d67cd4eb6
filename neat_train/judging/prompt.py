"""What a judge is asked about two answers, and how its answer is read.

A prompt is a YAML file with `name`, `template`, perhaps `system`, and the three last lines that an answer may have:
`says_first`, `says_second`, `says_tie`. `{query}`, `{first}` and `{second}` in the template are replaced in one go, so
that braces in a text are text. `neat_data.prompts.answers` reads what comes, and what cannot be read is no verdict.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import yaml

from neat_data.errors import InputError
from neat_data.prompts.answers import plain, stated
from neat_data.record import Messages, canonical_json

Preference = Literal["first", "second", "tie"]
DEFAULT = Path(__file__).with_name("pairwise.yaml")
_SAYS: dict[str, Preference] = {"says_first": "first", "says_second": "second", "says_tie": "tie"}
_PLACES = re.compile(r"\{(query|first|second)\}")


@dataclass(frozen=True, slots=True)
class JudgePrompt:
    """A question about two answers to a query; `name` is for people alone."""

    name: str
    says_first: str
    says_second: str
    says_tie: str
    template: str
    system: str = ""

    @property
    def sha256(self) -> str:
        """Of what it says, whatever it is called, wherever the file stands and however it is laid out."""
        said = {key: text for key, text in asdict(self).items() if key != "name"}
        return hashlib.sha256(canonical_json(said).encode()).hexdigest()

    @property
    def verdicts(self) -> dict[str, Preference]:
        """What each last line means."""
        return {plain(getattr(self, key)): preference for key, preference in _SAYS.items()}

    def question(self, messages: Messages, first: str, second: str) -> list[dict[str, str]]:
        """The chat messages that ask about two answers to the query `messages`.

        >>> from neat_data.record import Message
        >>> prompt = JudgePrompt("short", "1", "2", "=", "{query} / {first} / {second}")
        >>> prompt.question((Message("user", "{first}?"),), "Yes", "No")
        [{'role': 'user', 'content': 'User: {first}? / Yes / No'}]
        """
        query = "\n\n".join(f"{message.role.capitalize()}: {message.content}" for message in messages)
        filled = {"query": query, "first": first, "second": second}
        text = _PLACES.sub(lambda place: filled[place[1]], self.template)
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": text}]

    def read(self, answer: str) -> Preference | None:
        """What the last line of `answer` says; None where it is no verdict, or where another line is another verdict.

        Thoughts, case, space, emphasis and a full stop do not count.

        >>> prompt = JudgePrompt("short", "Verdict: win", "Verdict: lose", "Verdict: tie", "")
        >>> said = ["1 is better.\\n**Verdict: win**", "Verdict: win or tie", "Verdict: win\\nNo.\\nVerdict: lose", ""]
        >>> [prompt.read(answer) for answer in said]
        ['first', None, None, None]
        """
        return stated(answer, self.verdicts.get)


def load_judge_prompt(path: Path = DEFAULT) -> JudgePrompt:
    """Read and check a prompt.

    Raises:
        InputError: no such file, no YAML, a key that is unknown, missing or no text, a template without its places or
            without the three last lines, two of these that are the same, one that `read` would not find again; names
            the file and the key.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"cannot be read ({' '.join(str(error).split())})", field="prompt_file", value=path) from error
    keys = [field.name for field in fields(JudgePrompt)]
    if not isinstance(content, dict):
        raise InputError(f"must hold {', '.join(keys)}", field="prompt_file", value=path)
    _check_keys(path, content)
    # YAML's blocks end in a line break.
    prompt = JudgePrompt(**{key: text.strip() if key in _SAYS else text for key, text in content.items()})
    if missing := {"query", "first", "second"} - set(_PLACES.findall(prompt.template)):
        raise InputError(f"template has no place {{{min(missing)}}}", field="prompt_file", value=path)
    _check_verdicts(path, prompt)
    return prompt


def _check_keys(path: Path, content: dict[Any, Any]) -> None:
    known = {field.name: field.default is MISSING for field in fields(JudgePrompt)}
    if unknown := [key for key in content if key not in known]:
        raise InputError(f"unknown key {unknown[0]!r}; there are {', '.join(known)}", field="prompt_file", value=path)
    for key, required in known.items():
        if (required and key not in content) or not isinstance(content.get(key, ""), str):
            raise InputError(f"{key} must be a text", field="prompt_file", value=path)


def _check_verdicts(path: Path, prompt: JudgePrompt) -> None:
    if len(prompt.verdicts) < 3 or "" in prompt.verdicts:
        raise InputError(
            "says_first, says_second and says_tie must be three different lines", field="prompt_file", value=path
        )
    for key, preference in _SAYS.items():
        if prompt.read(line := getattr(prompt, key)) != preference:
            raise InputError(f"{key}, {line!r}, must be one line", field="prompt_file", value=path)
        if line not in prompt.system + prompt.template:
            raise InputError(f"template does not tell the judge of {key}, {line!r}", field="prompt_file", value=path)
