r"""Chat messages to token ids, through the model's own chat template.

What comes out begins with exactly one BOS wherever the template or the tokenizer puts one, and never ends in the header
of a turn that nobody has written: some templates append one to a finished dialogue. A model without a template
is refused unless `--chat-template` names one (`hh` is the plain ``\n\nHuman:`` / ``\n\nAssistant:`` form).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neat_data.errors import InputError
from neat_data.models import template_probes as probes
from neat_data.models.template_arguments import resolved_arguments, with_defaults
from neat_data.models.template_bounds import require_bounded
from neat_data.record import Message, Messages
from neat_data.thought import CHANNEL, MARKS, thought_of, without_channels

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HH = Path(__file__).with_name("hh.jinja")
# Templates that write today's date would score differently tomorrow: this is the default of those that have one.
DATE = "26 Jul 2024"
_FIXED_CLOCK = "{%- macro strftime_now(format) -%}" + DATE + "{%- endmacro -%}"
# Where a turn has its thought, in templates that want it apart: Qwen3.8, gpt-oss.
_THOUGHT_FIELDS = ("reasoning_content", "thinking")
_ANOTHER = "give another one: {chat_template} hh|FILE"


class TemplateRefused(Exception):
    """The template raised on this dialogue, for example because two user turns follow each other."""


class ChatTemplate:
    """A tokenizer with the template that its dialogues go through.

    Attributes:
        name: `auto`, `hh`, or `file`.
        source: the template's Jinja text, for saving it beside a model; its clock stands still, as it does here, and
            its arguments are set.
        fingerprint: sha256 of the template's text and of the tokenizer, and its arguments, for settings.
        unasked_header: what the template appends to every finished dialogue; stripped from all of them.
        thought_header: what the header that asks for an answer says of its thought: opened (`<think>`), closed at once
            (`<think></think>`), or nothing.
        opened: the mark that opens a thought, where that header ends in one.
        channels: whether thought and answer stand in channels, as gpt-oss has them.
        scoring_notes: lines worth printing once where finished dialogues are scored: what the template leaves out.
        thought_notes: the same where their thoughts are scored with them.
        asking_notes: the same where answers are asked for or learned.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        choice: str = "auto",
        arguments: Mapping[str, Any] | None = None,
        thinking: str | None = None,
    ) -> None:
        """Raises InputError where there is no template, or the one chosen fails or loses words on a few plain turns.

        Args:
            arguments: of the template, beside its messages.
            thinking: `on` or `off`, by the argument that the template has for that.
        """
        self.tokenizer = tokenizer
        self.name = choice if choice in ("auto", "hh") else "file"
        source = _read(tokenizer, choice)
        arguments = resolved_arguments(source, arguments or {}, thinking, tokenizer)
        source = with_defaults(source, arguments)
        self.fingerprint: dict[str, Any] = {"template": _sha256(source), "tokenizer": _tokenizer_hash(tokenizer)}
        if arguments:
            self.fingerprint["template_args"] = arguments
        self.source = _FIXED_CLOCK + source if "strftime_now" in source else source
        self.unasked_header, self._in_parts, self._thought_field = "", False, ""
        if choice != "hh":
            require_bounded(source, tokenizer.special_tokens_map)
        if problem := self._fault():
            self._in_parts = True  # those of models that see pictures often take text so, and so alone
            if self._fault():
                raise InputError(f"the chat template ({choice}) {problem}", advice=_ANOTHER)
        self._thought_field = next((name for name in _THOUGHT_FIELDS if name in source and self._wants(name)), "")
        self.channels = CHANNEL in self.text(probes.FINISHED)
        self.thought_header = probes.thought_header(self.text)
        self.opened = next((opens for opens, _ in MARKS if self.thought_header.rstrip() == opens), "")
        self.scoring_notes = self._scoring_notes()
        self.thought_notes = self._thought_notes()
        self.asking_notes = self._asking_notes()
        self._lead, self._trail = self._special_ids()

    def text(self, messages: Messages, *, ask: bool = False) -> str:
        """The rendered dialogue; with `ask`, followed by the header of the assistant's next turn.

        Raises:
            TemplateRefused: the template does not accept this dialogue.
        """
        turns = [self._turn(message) for message in messages]
        options: dict[str, Any] = {"chat_template": self.source, "date_string": DATE}
        try:
            text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=ask, **options)
        except Exception as error:  # a template raises whatever Python does
            raise TemplateRefused(str(error) or type(error).__name__) from error
        assert isinstance(text, str)
        return text if ask else text.removesuffix(self.unasked_header)

    def _turn(self, message: Message) -> dict[str, Any]:
        said = without_channels(message.content) if message.role == "assistant" else message.content
        thought = thought_of(said) if self._thought_field and message.role == "assistant" else None
        if thought is None or not thought.ended:
            return {"role": message.role, "content": self._content(said)}
        return {"role": message.role, "content": self._content(thought.answer), self._thought_field: thought.text}

    def _wants(self, field: str) -> bool:
        """Whether a thought must stand in this field of its turn, as Qwen3.8's template has it: it writes an empty one
        in front of one that stands in the answer's text."""
        try:
            together = self.text(probes.THINKING)
            self._thought_field = field
            return not probes.writes_a_thought(together) and probes.writes_a_thought(self.text(probes.THINKING))
        except TemplateRefused:
            return False
        finally:
            self._thought_field = ""

    def _content(self, text: str) -> Any:
        return [{"type": "text", "text": text}] if self._in_parts else text

    def _fault(self) -> str | None:
        """What is wrong with a plain question and answer as they are given now; finds the header to strip."""
        self.unasked_header = ""
        try:
            self.unasked_header = self._unasked_header()
            lost = probes.lost_roles(self.text, TemplateRefused)
        except TemplateRefused as error:
            return f"fails on a plain question and answer: {error}"
        return f"leaves out the words of the {' and the '.join(lost)}" if lost else None

    def ids(self, messages: Messages, *, ask: bool = False) -> list[int]:
        """The dialogue's token ids, special tokens included. Arguments and errors as `text`."""
        return self.encode_texts([self.text(messages, ask=ask)])[0]

    def notes_of(self, part: str) -> list[str]:
        """Lines worth printing once where this part (`answer`, `whole`) of responses is scored."""
        return [*self.scoring_notes, *(self.thought_notes if part == "whole" else [])]

    def query_ids(self, messages: Messages) -> list[int]:
        """What a generator continues: the ids with the answer's header, without what a tokenizer puts behind a text."""
        ids = self.ids(messages, ask=True)
        return ids[: len(ids) - len(self._trail)]

    def encode_texts(self, texts: list[str]) -> list[list[int]]:
        """Token ids of rendered dialogues, with the special tokens that belong around them."""
        # verbose=False: a dialogue longer than the model's window is not worth a warning, it will be cut or refused.
        encoded = self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
        return [self._with_special_ids(ids) for ids in encoded["input_ids"]]

    def _with_special_ids(self, ids: list[int]) -> list[int]:
        lead = self._lead
        if lead or (ids and ids[0] == self.tokenizer.bos_token_id):
            start = 0
            mark = lead[0] if lead else ids[0]
            while start < len(ids) and ids[start] == mark:
                start += 1
            ids = [*(lead or [mark]), *ids[start:]]
        return ids if ids[-len(self._trail) :] == self._trail else [*ids, *self._trail]

    def _special_ids(self) -> tuple[list[int], list[int]]:
        """What the tokenizer puts before and after a text.

        A model's own template places its special tokens itself and lacks a BOS at most. `hh` is plain text, which gets
        all that the tokenizer puts around plain text (an encoder's [CLS] and [SEP]).
        """
        plain = self.tokenizer("x", add_special_tokens=False)["input_ids"]
        dressed = self.tokenizer("x")["input_ids"]
        start = next((i for i in range(len(dressed)) if dressed[i : i + len(plain)] == plain), 0)
        lead, trail = dressed[:start], dressed[start + len(plain) :]
        return (lead, trail) if self.name == "hh" else (lead, [])

    def _unasked_header(self) -> str:
        """The header to strip, where the ids of what is left are the template's own but for the header's."""
        whole = self.text(probes.FINISHED)
        header = probes.unasked_header(self.text, [str(token) for token in self.tokenizer.all_special_tokens])
        left, own, behind = (self._plain_ids(text) for text in (whole.removesuffix(header), whole, header))
        return header if [*left, *behind] == own else ""

    def _plain_ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _scoring_notes(self) -> list[str]:
        notes = []
        if self.unasked_header:
            notes.append("the chat template opens a new turn behind a finished dialogue; that header is left out")
        if probes.loses_system(self.text, TemplateRefused, ask=False):
            notes.append("the chat template leaves the system turn out of finished dialogues: it is not scored")
        return notes

    def _thought_notes(self) -> list[str]:
        if not probes.loses_thought(self.text, TemplateRefused):
            return []
        return [
            "the chat template leaves an answer's thought (<think>…</think>) out: responses that differ only "
            "there get the same reward"
        ]

    def _asking_notes(self) -> list[str]:
        if probes.loses_system(self.text, TemplateRefused, ask=True):
            return ["the chat template leaves the system turn out: the policy does not see it"]
        return []


def policy_template(
    tokenizer: PreTrainedTokenizerBase,
    choice: str,
    arguments: Mapping[str, Any] | None = None,
    thinking: str | None = None,
) -> ChatTemplate:
    """The template of a policy: a base model, which has none of its own, gets the plain one."""
    choice = "hh" if choice == "auto" and not _own(tokenizer) else choice
    return ChatTemplate(tokenizer, choice, arguments, thinking)


def _read(tokenizer: PreTrainedTokenizerBase, choice: str) -> str:
    if choice == "auto":
        return _own_template(tokenizer)
    path = HH if choice == "hh" else Path(choice)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot be read ({error}); choose auto, hh or a Jinja file", field="chat_template", value=choice
        ) from error


def _own_template(tokenizer: PreTrainedTokenizerBase) -> str:
    own = _own(tokenizer)
    if not own:
        raise InputError(
            "the model's tokenizer has no chat template: which words did its training put around a turn?",
            advice="give them: {chat_template} hh (\\n\\nHuman: / \\n\\nAssistant:), or FILE.jinja",
        )
    return own


def _own(tokenizer: PreTrainedTokenizerBase) -> str | None:
    own = tokenizer.chat_template
    if isinstance(own, dict):  # several named templates; transformers calls the ordinary one so
        return own.get("default")
    return own


def _tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))
    return _sha256(vocabulary + repr(sorted(tokenizer.special_tokens_map.items())))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
