"""Five ways of scoring the same dialogues with the same classifier, for `score.py`.

Each way loads what it needs when it is made, and is then called with tasks: what is timed goes from chat
messages to scores. `vllm` runs in an environment of its own.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from neat_data.models.load import load_reward_model
from neat_data.models.reward_model import RewardModelSpec, Task


class Way(Protocol):
    """One way to score.

    Attributes:
        tokens_run: tokens that went through the model in the last call, padding included.
    """

    tokens_run: int

    @abstractmethod
    def score(self, tasks: Sequence[Task]) -> list[float]:
        """Scores of all responses, task by task."""


class Trees:
    """This project: token trees packed to a token budget."""

    def __init__(self, folder: str, dtype: str, budget: int) -> None:
        self.model = load_reward_model(
            RewardModelSpec(folder, device="cpu", dtype=dtype, token_budget=budget, path="trees", max_response=1_536)
        )
        self.tokens_run = 0

    def score(self, tasks: Sequence[Task]) -> list[float]:
        scored = self.model.score(tasks)
        self.tokens_run = sum(one.tokens_run for one in scored)
        return [reward for one in scored for reward in one.rewards if reward is not None]


class Pipeline:
    """`pipeline("text-classification")` over one dialogue at a time, as Online-RLHF annotates."""

    def __init__(self, folder: str, dtype: str, budget: int) -> None:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=getattr(torch, dtype))
        self.tokenizer = tokenizer
        self.pipeline = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
        self.tokens_run = 0

    def score(self, tasks: Sequence[Task]) -> list[float]:
        texts = [self.tokenizer.apply_chat_template(chat, tokenize=False) for chat in _chats(tasks)]
        answers = self.pipeline(texts, batch_size=1, function_to_apply="none")
        self.tokens_run = sum(len(ids) for ids in _token_ids(self.tokenizer, tasks))
        return [one["score"] for one in answers]


class Padded(ABC):
    """Batches padded to their longest row, through the model's own forward pass."""

    def __init__(self, folder: str, dtype: str, budget: int) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
        self.budget = budget
        self.tokens_run = 0

    @abstractmethod
    def batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Which sequences go together."""

    def score(self, tasks: Sequence[Task]) -> list[float]:
        sequences = _token_ids(self.tokenizer, tasks)
        scores = [0.0] * len(sequences)
        self.tokens_run = 0
        for batch in self.batches([len(ids) for ids in sequences]):
            rows = self.tokenizer.pad({"input_ids": [sequences[i] for i in batch]}, return_tensors="pt")
            with torch.inference_mode():
                logits = self.model(**rows, use_cache=False).logits[:, 0].float()
            self.tokens_run += rows["input_ids"].numel()
            for index, value in zip(batch, logits.tolist(), strict=True):
                scores[index] = value
        return scores


class FileOrder(Padded):
    """Fixed batches of 32 in file order, as RRHF and RewardBench score."""

    def batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        for start in range(0, len(lengths), 32):
            yield list(range(start, min(start + 32, len(lengths))))


class Sorted(Padded):
    """Length-sorted batches whose padded area stays within the token budget, as open-instruct packs them."""

    def batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        batch: list[int] = []
        for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
            if batch and lengths[batch[0]] * (len(batch) + 1) > self.budget:
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch


class Alone(Padded):
    """The reference: one dialogue at a time through the model's own forward pass, nothing shared, nothing padded."""

    def batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        yield from ([index] for index in range(len(lengths)))


class Vllm:
    """vLLM's pooling runner, which shares the tokens of a query through its prefix cache."""

    def __init__(self, folder: str, dtype: str, budget: int) -> None:
        os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_LOGGING_LEVEL="ERROR", VLLM_NO_USAGE_STATS="1")
        from vllm import LLM, PoolingParams

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.raw = PoolingParams(use_activation=False)
        self.engine = LLM(
            model=folder,
            runner="pooling",
            dtype=dtype,
            max_model_len=4_096,
            enable_prefix_caching=True,
            enforce_eager=True,
            kv_cache_memory_bytes=1 << 30,  # its own guess fails on some memory layouts of CPUs
            disable_log_stats=True,
        )
        self.tokens_run = 0

    def score(self, tasks: Sequence[Task]) -> list[float]:
        self.engine.reset_prefix_cache()  # nothing of an earlier call helps
        prompts = [{"prompt_token_ids": ids} for ids in _token_ids(self.tokenizer, tasks)]
        outputs = self.engine.classify(prompts, pooling_params=self.raw, use_tqdm=False)
        self.tokens_run = sum(len(one.prompt_token_ids) - one.num_cached_tokens for one in outputs)
        return [float(one.outputs.probs[0]) for one in outputs]


WAYS: dict[str, type] = {
    "trees": Trees,
    "pipeline": Pipeline,
    "file_order": FileOrder,
    "sorted": Sorted,
    "vllm": Vllm,
}


def _chats(tasks: Sequence[Task]) -> list[list[dict[str, str]]]:
    return [
        [*({"role": m.role, "content": m.content} for m in task.messages), {"role": "assistant", "content": text}]
        for task in tasks
        for text in task.texts
    ]


def _token_ids(tokenizer, tasks: Sequence[Task]) -> list[list[int]]:
    return tokenizer.apply_chat_template(_chats(tasks))["input_ids"]
