r"""A response's thought apart from its answer.

Models that think write their thought first, between two marks, and the answer behind it. Where the header that asked
for the answer has opened the thought already (DeepSeek-R1), samplers put the mark back in front, so that a text tells
by itself what is thought and what is answer. gpt-oss writes both into channels; a sample's text has its thought between
the first pair of marks instead, as servers give it. Everything here is a function of the text alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# What opens and closes a thought: DeepSeek, Qwen3, SmolLM3, GLM and most others; Seed-OSS; Magistral; Kimi.
MARKS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
)
# What chat templates call the argument that asks for a thought: Qwen3, SmolLM3, GLM, Gemma; DeepSeek V3.1, Granite.
SWITCHES = ("enable_thinking", "thinking")
# gpt-oss: `<|channel|>analysis<|message|>` thought `<|end|><|start|>assistant<|channel|>final<|message|>` answer.
CHANNEL, MESSAGE, END = "<|channel|>", "<|message|>", "<|end|>"
CHANNEL_MARKS = ("<|start|>", CHANNEL, MESSAGE, END)
# A text without any of these has no thought.
MARKED = "|".join(re.escape(mark) for mark in (CHANNEL, *(mark for marks in MARKS for mark in marks)))


@dataclass(frozen=True, slots=True)
class Thought:
    """A thought and what follows it; both stripped.

    Attributes:
        text: what stands between the marks.
        ended: whether the mark that closes it was written.
        answer: what stands behind it; "" where it never ended.
    """

    text: str
    ended: bool
    answer: str


def thought_of(text: str) -> Thought | None:
    r"""The thought that a response begins with; None where it has none.

    A text that closes a thought without having opened one goes on where a header opened it. The first mark that closes
    ends the thought, as the parsers of inference servers have it (vLLM's `deepseek_r1`).

    >>> thought_of("<think>\nTwo and two.\n</think>\n\nFour.")
    Thought(text='Two and two.', ended=True, answer='Four.')
    >>> thought_of("Two and two.\n</think>\n\nFour.").answer
    'Four.'
    >>> thought_of("<think>\nTwo and").ended
    False
    >>> thought_of("Four.") is None
    True
    """
    text = without_channels(text)
    for opens, closes in MARKS:
        before, closed, behind = text.partition(closes)
        opened = before.lstrip().startswith(opens)
        if opened or (closed and opens not in before):
            inside = before.lstrip().removeprefix(opens).strip()
            return Thought(inside, bool(closed), behind.strip())
    return None


def answer_of(text: str) -> str | None:
    """What a response says: all of it where it has no thought, None where the thought never ends or nothing follows."""
    thought = thought_of(text)
    return without_channels(text) if thought is None else thought.answer or None


def without_channels(text: str) -> str:
    r"""A response that begins in a channel, with its thought between marks; any other text as it is.

    Whatever stands before the final channel is thought (analysis, and commentary between its parts).

    >>> without_channels("<|channel|>analysis<|message|>So.<|end|><|start|>assistant<|channel|>final<|message|>Yes.")
    '<think>\nSo.\n</think>\n\nYes.'
    >>> without_channels("<|channel|>final<|message|>Yes.<|return|>")
    'Yes.'
    """
    if not text.lstrip().startswith(CHANNEL):
        return text
    parts = [part.partition(MESSAGE)[::2] for part in text.split(CHANNEL)[1:]]
    answers = [_body(part) for name, part in parts if name.startswith("final")]
    thoughts = [_body(part) for name, part in parts if not name.startswith("final")]
    answer = "\n\n".join(answers)
    return (
        in_marks("\n\n".join(filter(None, thoughts)), answer if answers or END in text else None)
        if thoughts
        else answer
    )


def _body(part: str) -> str:
    """What is said in a channel, without what ends it."""
    return part.partition(END)[0].partition("<|return|>")[0].strip()


def in_marks(thought: str, answer: str | None) -> str:
    """A response whose parts are known, as one text; without an answer (None) its thought does not end."""
    opens, closes = MARKS[0]
    behind = "" if answer is None else f"\n{closes}" + (f"\n\n{answer}" if answer else "")
    return f"{opens}\n{thought}{behind}"
