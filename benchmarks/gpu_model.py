"""What `gpu.py` measures on: a model of LLaMA-3-8B's published shape, and real dialogues with LLaMA-3's token counts.

Weights are random and made on the device. Dialogues are those of a source of pairs; each turn is tokenised with a
tokenizer of this project and stretched, by one factor for all, so that a token stands for 3.94 characters on average:
that is what LLaMA-3's tokenizer reaches on English ("The Llama 3 Herd of Models", arXiv 2407.21783). A turn gets the
five tokens of LLaMA-3's template around it, and a dialogue its one BOS. A turn's tokens are a function of its text, so
dialogues share exactly the beginnings that they shared before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaConfig

from neat_data.models.encode import Encoded
from neat_data.record import Messages
from neat_data.sources import open_source
from neat_data.sources.row import Row
from neat_train.data.examples import Example, TrainedResponse

CHARACTERS_A_TOKEN = 3.94
TOKENIZER = "data/models/tiny-policy"
LLAMA_3_8B = {
    "vocab_size": 128_256,
    "hidden_size": 4_096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
SMALL = {  # for a look on a CPU
    "vocab_size": 8_192,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
_BOS, _ROLES, _TURN = 1, {"system": 2, "user": 3, "assistant": 4}, (5, 6, 7, 8)
_FIRST = 16  # ids of text begin here


def shape_of(device: str) -> dict[str, int]:
    """LLaMA-3-8B's on a card, a small one on a CPU."""
    return LLAMA_3_8B if device == "cuda" else SMALL


def config_of(shape: dict[str, int]) -> LlamaConfig:
    """Beside its shape: LLaMA-3's rotary base, and its window of 8,192 tokens."""
    rope = {"rope_type": "default", "rope_theta": 500_000.0}
    return LlamaConfig(**shape, max_position_embeddings=8_192, rope_parameters=rope, num_labels=1, pad_token_id=0)


def random_model(kind: Any, shape: dict[str, int], device: str, dtype: torch.dtype) -> Any:
    """A model with random weights, made on the device, in evaluation mode.

    Args:
        kind: `AutoModelForCausalLM` or `AutoModelForSequenceClassification`.
    """
    torch.manual_seed(0)
    with torch.device(device):
        return kind.from_config(config_of(shape), dtype=dtype).eval().requires_grad_(False)


def matmul_parameters(model: Any) -> int:
    """Weights that every token is multiplied with, the head and adapters aside."""
    names = ("proj.weight", "proj.base_layer.weight")
    return sum(weight.numel() for name, weight in model.named_parameters() if name.endswith(names))


def dialogues(data: str, rows: int, k: int, vocabulary: int) -> list[tuple[list[int], list[list[int]]]]:
    """The first rows of a source as a query and k responses in token ids; beyond two they are those of other rows."""
    pairs = [row for row in open_source(data).rows() if isinstance(row, Row) and len(row.answers) == 2][:rows]
    texts = [[answer.text for answer in row.answers] for row in pairs]
    for index, own in enumerate([list(two) for two in texts]):
        others = (texts[(index + step * len(texts) * 2 // k) % len(texts)][:2] for step in range(1, k // 2))
        texts[index] = [*own, *(text for two in others for text in two)]
    turns = sorted({m.content for row in pairs for m in row.messages} | {text for several in texts for text in several})
    tokens = _stretched(turns, vocabulary)
    return [
        ([*_query(row.messages, tokens), *_turn("assistant", [])[:-1]], [[*tokens[text], _TURN[3]] for text in several])
        for row, several in zip(pairs, texts, strict=True)
    ]


def _stretched(texts: Sequence[str], vocabulary: int) -> dict[str, list[int]]:
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    ids = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    factor = sum(map(len, texts)) / CHARACTERS_A_TOKEN / sum(map(len, ids))
    made = {}
    for text, own in zip(texts, ids, strict=True):
        length = math.ceil(len(own) * factor)
        made[text] = [_FIRST + own[index * len(own) // length] % (vocabulary - _FIRST) for index in range(length)]
    return made


def _query(messages: Messages, tokens: dict[str, list[int]]) -> list[int]:
    return [_BOS, *(token for message in messages for token in _turn(message.role, tokens[message.content]))]


def _turn(role: str, ids: list[int]) -> list[int]:
    """<|start_header_id|> role <|end_header_id|> "\\n\\n" text <|eot_id|>"""
    return [_TURN[0], _ROLES[role], _TURN[1], _TURN[2], *ids, _TURN[3]]


def encoded(data: str, rows: int, k: int, vocabulary: int) -> list[Encoded]:
    """For scoring."""
    made = dialogues(data, rows, k, vocabulary)
    return [Encoded(tuple([*query, *ids] for ids in answers), (None,) * k) for query, answers in made]


def examples(data: str, rows: int, k: int, vocabulary: int, longest: int = 2_048) -> list[Example]:
    """For training, ranked in the order given; the few longer than `longest` are left out."""
    made = dialogues(data, rows, k, vocabulary)
    return [
        Example(
            str(number),
            tuple(query),
            tuple(TrainedResponse("", tuple(ids), -float(i)) for i, ids in enumerate(answers)),
        )
        for number, (query, answers) in enumerate(made)
        if len(query) + max(map(len, answers)) <= longest
    ]


def default_data() -> str:
    """Real HH beside the checkout where it is, else the sample that is shipped."""
    real = Path("../shared/data/hh-rlhf/harmless-base.test.jsonl.gz")
    return str(real) if real.is_file() else "data/sample/*.train.jsonl"
