"""One byte-level BPE tokenizer for all tiny models, trained on the rows that they are trained on.

The chat template writes the only BOS. Nothing is added when plain text is tokenised, so a rendered template that is
tokenised again does not get a second one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from neat_data.record import Messages
from pipelines.tiny_models.rows import Pair

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = ("<|pad|>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "<|bos|>{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocabulary: int, window: int) -> PreTrainedTokenizerFast:
    """A tokenizer with `vocabulary` entries, the special tokens and all 256 bytes among them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<|bos|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        chat_template=TEMPLATE,
        model_max_length=window,
        clean_up_tokenization_spaces=False,
        additional_special_tokens=["<|system|>", "<|user|>", "<|assistant|>"],
    )


class Encoder:
    """Chat messages to token ids, by the rules of the chat template and without its cost."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        vocabulary: dict[str, int] = tokenizer.get_vocab()
        self.pad, self.bos, self.end, *roles = (vocabulary[name] for name in SPECIAL)
        self.roles = dict(zip(("system", "user", "assistant"), roles, strict=True))

    def text(self, text: str) -> list[int]:
        """Ids of a text in which special tokens' names are ordinary text."""
        return self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)

    def turn(self, role: str, content: str) -> list[int]:
        return [self.roles[role], *self.text(content), self.end]

    def query(self, messages: Messages) -> list[int]:
        """BOS and the turns of the query, without a generation header."""
        return [self.bos, *(i for m in messages for i in self.turn(m.role, m.content))]

    def response(self, text: str) -> list[int]:
        """The assistant's turn, header and end-of-turn token included."""
        return self.turn("assistant", text)


def texts_of(pairs: Sequence[Pair]) -> list[str]:
    """Every text in `pairs`, in a fixed order."""
    return [text for p in pairs for text in (*(m.content for m in p.query), p.chosen, p.rejected)]
