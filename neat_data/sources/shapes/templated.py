"""Prompts that a chat template has rendered already -> their turns.

A text is taken apart where all of it is heads, contents and ends of one template, so that rendering the turns again
gives the text; where a template's tokens stand in it otherwise, the row is refused, since rendering it once more would
show a model a dialogue inside a dialogue.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from neat_data.record import Message, Messages
from neat_data.sources.row import Unusable
from neat_data.sources.shapes import chat

_ENDS = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "</s>")
_SYSTEM = re.compile(r"\s*<<SYS>>\s*(.*?)\s*<</SYS>>\s*", re.DOTALL)
_ALPACA = re.compile(
    r"Below is an instruction that describes a task(, paired with an input that provides further context)?\. "
    r"Write a response that appropriately completes the request\.\s+"
)


@dataclass(frozen=True, slots=True)
class Template:
    """A family of templates.

    Attributes:
        head: what begins a turn, its role in group 1.
        bos: what a text may begin with.
        marks: whether a text was rendered by it; `head` anywhere does that where this is None.
    """

    name: str
    head: re.Pattern[str]
    bos: str = ""
    marks: re.Pattern[str] | None = None

    def rendered(self, text: str) -> bool:
        """Whether `text` looks like this template's output."""
        return (self.marks or self.head).search(text) is not None


# A stranger adds a family by one entry.
TEMPLATES = (
    Template("ChatML", re.compile(r"<\|im_start\|>(system|user|assistant)\n")),
    Template(
        "LLaMA-3",
        re.compile(r"<\|start_header_id\|>(system|user|assistant)<\|end_header_id\|>\n\n"),
        "<|begin_of_text|>",
    ),
    Template("Gemma", re.compile(r"<start_of_turn>(user|model)\n"), "<bos>"),
    Template("OpenAssistant, Zephyr, Phi", re.compile(r"<\|(system|user|prompter|assistant)\|>\n?")),
    Template(
        "LLaMA-2, Mistral",
        re.compile(r"(?:<s>\s*)?(\[/?INST\])"),
        marks=re.compile(r"\A\s*(?:<s>)?\s*\[INST\]|\[/INST\]\s*\Z"),
    ),
    Template("Alpaca", re.compile(r"### (Instruction|Input|Response):\n?"), marks=re.compile(r"### Response:\s*\Z")),
)
_ROLES = {"[INST]": "user", "[/INST]": "assistant", "Instruction": "user", "Input": "user", "Response": "assistant"}


def template_of(text: str) -> Template | None:
    """The template that `text` was rendered by, None for plain text."""
    # Asked of every text: each mark by itself is found many times as fast as one pattern of them all.
    if not ("<|" in text or "INST]" in text or "<start_of_turn>" in text or "### Response:" in text):
        return None
    return next((template for template in TEMPLATES if template.rendered(text)), None)


def turns(text: str, template: Template, column: str) -> Messages:
    """The turns of a rendered text, a last one that only opens included; Unusable where it is not all turns."""
    body = _ALPACA.sub("", text.lstrip().removeprefix(template.bos).lstrip())
    pieces = template.head.split(body)
    made: list[Message] = []
    for head, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        _add(made, head, without_end(piece))
    spoken = [turn.role for turn in made if turn.role != "system"]
    alternate = all(role == ("user", "assistant")[number % 2] for number, role in enumerate(spoken))
    if pieces[0].strip() or not spoken or not alternate or any(end in turn.content for end in _ENDS for turn in made):
        raise Unusable("templated", f"`{column}` is partly rendered by a template ({template.name}); give its turns")
    return tuple(turn for turn in made if turn.content or turn.role != "system")


def without_end(text: str) -> str:
    """A turn's text without the end of turn that a template puts behind it."""
    stripped = text.strip()
    return next((stripped.removesuffix(end).strip() for end in _ENDS if stripped.endswith(end)), stripped)


def _add(made: list[Message], head: str, text: str) -> None:
    """Append a turn: Alpaca's input goes below its instruction, LLaMA-2's system text before its user turn."""
    role = _ROLES.get(head) or str(chat.role_of(head))
    if head == "Input" and made:
        made[-1] = Message("user", f"{made[-1].content}\n{text}")
    elif head == "[INST]" and (system := _SYSTEM.match(text)):
        made += [Message("system", system[1]), Message(role, text[system.end() :])]
    else:
        made.append(Message(role, text))
