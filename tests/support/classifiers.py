"""Tiny classifiers of several architectures with random weights, and a tokenizer trained here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from neat_data.models.reward_model import Task
from neat_data.record import Message

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerFast

SPECIALS = ["<|bos|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
WORDS = [
    "How do I bake bread without a stove? Well, you could try a pan on a fire.",
    "I don't know. Why would anybody ask me that, when the sun is shining?",
    "The quick brown fox jumps over the lazy dog, again and again and again.",
]


def train_tokenizer(**options: object) -> PreTrainedTokenizerFast:
    """A byte-level BPE of 400 entries with the special tokens and template above; `options` override."""
    from transformers import PreTrainedTokenizerFast  # here, as most tests beside this conftest do without

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(WORDS, trainer)
    names = {"bos_token": "<|bos|>", "eos_token": "<|end|>", "pad_token": "<|pad|>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **{**names, **options})
    fast.add_special_tokens({"additional_special_tokens": SPECIALS[2:5]})
    fast.chat_template = TEMPLATE
    return fast


SIZES = {
    "vocab_size": 512,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "num_labels": 1,
}
POLICY_SIZES = {key: value for key, value in SIZES.items() if key != "num_labels"}


def save_classifier(
    folder: Path, config_class: type, tokenizer: PreTrainedTokenizerFast, *, seed: int = 0, **options: object
) -> Path:
    """A random classifier with weights large enough that every token moves its logit, saved with its tokenizer."""
    from transformers import AutoModelForSequenceClassification

    options = {**SIZES, "pad_token_id": tokenizer.pad_token_id, **options}
    return _save(folder, AutoModelForSequenceClassification, config_class(**options), tokenizer, seed)


def _save(folder: Path, kind: Any, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerFast, seed: int) -> Path:
    import torch  # here, as the tests that want a tokenizer alone do without

    torch.manual_seed(seed)
    model = kind.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[..., PreTrainedTokenizerFast]:
    """`make_tokenizer(pad_token=...)`: see `train_tokenizer`."""
    return train_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer()


@pytest.fixture(scope="session")
def make_classifier(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`make_classifier(LlamaConfig, tokenizer, **config)` -> folder."""

    def make(config_class: type, tokenizer: PreTrainedTokenizerFast, **options: object) -> Path:
        return save_classifier(tmp_path_factory.mktemp("classifier"), config_class, tokenizer, **options)

    return make


@pytest.fixture(scope="session")
def tasks() -> list[Task]:
    """Queries of one to five turns with one to four responses: one the beginning of another, one repeated."""
    turns = [Message("assistant" if i % 2 else "user", WORDS[i % 3] * (i + 1)) for i in range(5)]
    return [
        Task(tuple(turns[:1]), ("Yes.", "Yes. And no.")),
        Task(tuple(turns[:5]), (WORDS[0], WORDS[1], WORDS[2], "No.")),
        Task(tuple(turns[2:3]), ("Only one",)),
        Task((Message("system", "Be brief."), *turns[:3]), ("Same", "Same", WORDS[1] * 3)),
        Task(tuple(turns[:3]), (WORDS[2] * 2, "x")),
    ]


@pytest.fixture(scope="session")
def make_policy(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Callable[..., Path]:
    """`make_policy(LlamaConfig, **config)` -> folder of a random causal language model that is sure of nothing."""

    def make(config_class: type, own: PreTrainedTokenizerFast = tokenizer, **options: object) -> Path:
        from transformers import AutoModelForCausalLM

        config = config_class(**{**POLICY_SIZES, **options})
        return _save(tmp_path_factory.mktemp("policy"), AutoModelForCausalLM, config, own, 0)

    return make
