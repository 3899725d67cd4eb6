"""How a chat template writes an answer behind its header: the text that a policy is to learn of a response.

That text is what the template itself writes between the header of the answer and the end of its turn, so templates
that write a thought (`<think>`), or take one apart, have their way. Where the header opens a thought that the finished
dialogue does not have (DeepSeek-R1's template drops it), a response that brings its thought goes on with it, and a
plain one closes it. Where neither fits, the response is refused.
"""

from __future__ import annotations

from neat_data.errors import InputError
from neat_data.models.template_probes import ANSWER, FINISHED, LONGER, QUERY
from neat_data.models.templates import ChatTemplate, TemplateRefused
from neat_data.record import Message, Messages
from neat_data.thought import CHANNEL, MESSAGE, thought_of

_OPEN, _CLOSE = "<think>", "</think>"


class AnswerForm:
    """Attributes:
    header: a query that asks for an answer, up to where the answer begins.
    """

    def __init__(self, template: ChatTemplate, end: str) -> None:
        """Args:
            end: the mark that ends a turn.

        Raises:
            InputError: an answer does not begin behind the header that asks for it.
        """
        self._template = template
        self.header = template.text(QUERY, ask=True)
        self._tail = template.text(FINISHED).rpartition(ANSWER)[2]
        self._before_end = self._tail.partition(end)[0] if end in self._tail else ""
        # The header as far as an opened thought, where it ends in one.
        self._opened = self.header.rstrip() if self.header.rstrip().endswith(_OPEN) else None
        if self.learned(ANSWER) is None or not self._fits_later_turns():
            raise InputError(
                "the chat template asks for an answer in another way than it writes one, so that none can be learned",
                advice="give another one with {chat_template} hh|FILE",
            )

    def learned(self, text: str, *, whole: bool = True) -> str | None:
        r"""What stands behind the header where `text` is answered, without the end of turn; None: it is refused.

        Args:
            whole: the end of turn follows, and with it what the template writes in front of it (Llama 2's a space,
                DeepSeek Coder's a line end).
        """
        written = self._written(text)
        return written + self._before_end if written and whole else written

    def _written(self, text: str) -> str | None:
        if not text:
            return ""
        thought = thought_of(text)
        if thought is not None and not thought.ended:
            return self._unended(text, thought.text)
        try:
            rendered = self._rendered(QUERY, text)
        except TemplateRefused:
            return None
        if rendered.startswith(self.header) and not self._closes_twice(rendered, text):
            return rendered.removeprefix(self.header)
        return None if self._opened is None else self._behind_opened(rendered, text, self._opened)

    def _rendered(self, query: Messages, text: str) -> str:
        return self._template.text((*query, Message("assistant", text))).removesuffix(self._tail)

    def _closes_twice(self, rendered: str, text: str) -> bool:
        """Whether the template writes a thought of its own beside the one that the text brings."""
        written = self._template.thought_header + rendered.removeprefix(self.header)
        return _CLOSE in text and written.count(_CLOSE) > text.count(_CLOSE)

    def _behind_opened(self, rendered: str, text: str, opened: str) -> str:
        if _CLOSE in text or text.startswith(_OPEN):
            return text.removeprefix(_OPEN).lstrip("\n")
        if rendered.startswith(opened):
            return rendered.removeprefix(opened)
        return f"{_CLOSE}\n\n{text}"

    def _unended(self, text: str, thought: str) -> str | None:
        """A thought that never ends, as it was written: templates would take it for an answer behind an empty one."""
        if self._template.channels:
            return f"{CHANNEL}analysis{MESSAGE}{thought}"
        if self._template.opened:
            return text.removeprefix(self._template.opened).lstrip("\n")
        return None if self._template.thought_header else text

    def _fits_later_turns(self) -> bool:
        """Whether an answer is written alike when turns came before it."""
        try:
            asked, rendered = self._template.text(LONGER[:3], ask=True), self._rendered(LONGER[:3], ANSWER)
        except TemplateRefused:
            return True  # only dialogues of one turn are taken
        return self._opened is not None or rendered == asked + (self._written(ANSWER) or "")
