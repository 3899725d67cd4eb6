"""Where a response ends: the tokens and strings that a chat template writes behind an assistant's turn.

A template ends the last turn with a special token, or the next turn begins with one; a plain one like `hh` has neither,
and the words that open the next turn end the response. The tokenizer's end of text always ends it. Where earlier turns
end with another token (gpt-oss writes `<|end|>` there, and `<|return|>` behind the last), that one ends a part of an
answer, and does not stop it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neat_data.models.sampler import Sample
from neat_data.models.template_probes import ANSWER, FINISHED
from neat_data.models.templates import ChatTemplate, TemplateRefused
from neat_data.record import Message
from neat_data.thought import CHANNEL, CHANNEL_MARKS, MARKS, without_channels

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NEXT = "Nobodyelse"
_PROBE = (*FINISHED, Message("user", _NEXT))


@dataclass(frozen=True, slots=True)
class Stops:
    """What ends a response.

    Attributes:
        ids: stop tokens, the template's end of turn first.
        string: text that ends a response and does not belong to it, where the template has no token for that.
        note: one line where the end of turn is not the tokenizer's end of text.
    """

    ids: tuple[int, ...]
    string: str | None = None
    note: str | None = None


def end_of_turn(template: ChatTemplate, tokenizer: PreTrainedTokenizerBase) -> Stops:
    """What ends a response under this template."""
    end = tokenizer.eos_token_id
    ends = () if end is None else (end,)
    between = _between_turns(template)
    part = _first_mark(between, tokenizer)
    turn = _first_mark(template.text(FINISHED).rpartition(ANSWER)[2], tokenizer)
    turn = part if turn is None else turn
    if turn is None:
        words = between.rstrip(" ") if between.strip() else None
        note = f"the chat template has no end-of-turn token: a response ends at the next {words!r}" if words else None
        return Stops(ends, words, note)
    return Stops((turn, *(other for other in ends if other != turn)), None, _note(turn, part, tokenizer))


def _note(turn: int, part: int | None, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """What is odd about the token that ends a turn."""
    notes = []
    if turn != tokenizer.eos_token_id:
        end = tokenizer.eos_token
        also = f"its tokenizer's end of text is {end}" if end else "its tokenizer names no end of text"
        notes.append(f"the policy's chat template ends a turn with {tokenizer.convert_ids_to_tokens(turn)}, {also}")
    if part not in (None, turn):
        notes.append(f"{tokenizer.convert_ids_to_tokens(part)} ends a part of an answer and does not stop it")
    return "; ".join(notes) or None


def _first_mark(text: str, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The first token of a text that is more than text."""
    marks = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    return next((number for number in tokenizer(text, add_special_tokens=False)["input_ids"] if number in marks), None)


def _between_turns(template: ChatTemplate) -> str:
    """What the template writes between an answer and the next question."""
    try:
        text = template.text(_PROBE)
    except TemplateRefused:
        return ""
    return text.partition(ANSWER)[2].partition(_NEXT)[0]


def tokenizer_id(template: ChatTemplate, stops: Stops) -> str:
    """For `Response.tokenizer`: sha256 over the tokenizer's hash, its end of turn, and what the header thinks.

    Behind a header that opens a thought, or has closed it, other tokens make the same response.
    """
    turn = stops.ids[0] if stops.ids else None
    thinks = f" {template.thought_header}" if template.thought_header else ""
    return hashlib.sha256(f"{template.fingerprint['tokenizer']} {turn}{thinks}".encode()).hexdigest()


def sampled(
    ids: Sequence[int], stops: Stops, tokenizer: PreTrainedTokenizerBase, turns_cut: int = 0, opened: str = ""
) -> Sample:
    """The sample that these ids make; whether it is finished is read off the last one, or a stop string in the text.

    Args:
        opened: the mark of a thought that the header has opened; the text begins with it, the ids do not.
    """
    ended = bool(ids) and ids[-1] in stops.ids
    text = without_channels(decoded(ids[:-1] if ended else ids, tokenizer))
    end = -1 if stops.string is None else text.find(stops.string)
    if end >= 0:
        text = text[:end]
    text = text.strip()
    if opened and text and not text.startswith(opened):
        text = f"{opened}\n{text}"
    return Sample(text, tuple(ids), ended or end >= 0, end >= 0, turns_cut)


def reaches_stop_string(ids: Sequence[int], stops: Stops, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the stop string stands at the end of these ids, looked for after every token of a plain template.

    A token has a character at least, but for those of one byte: four make a character at most.
    """
    return stops.string is not None and stops.string in decoded(ids[-4 * len(stops.string) :], tokenizer)


def decoded(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of token ids; special tokens are left out, but for marks of thoughts and channels; spaces stay."""
    marks = _special_marks(tokenizer)
    text, start = "", 0
    for end in [*(place for place, number in enumerate(ids) if number in marks), len(ids)]:
        part = tokenizer.decode(list(ids[start:end]), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert isinstance(part, str)
        text += part + (marks[ids[end]] if end < len(ids) else "")
        start = end + 1
    return text


def _special_marks(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """The marks that the tokenizer counts among its special tokens, by their ids: Magistral's, gpt-oss's channels."""
    special = {number: token.content for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    marks = {mark for pair in MARKS for mark in pair}
    if CHANNEL in special.values():
        marks |= set(CHANNEL_MARKS)
    return {number: content for number, content in special.items() if content in marks}
