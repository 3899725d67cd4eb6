"""A reward model's tokenizer, template and lengths without its weights, for back ends that run them elsewhere.

vLLM and a vLLM server get token ids made here, by the same functions as the transformers back end's: the same template,
one BOS, the query cut by whole turns. So a reward can differ in rounding alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from neat_data.models.encode import Encoded, encode
from neat_data.models.own_class import refuse_own_class
from neat_data.models.reward_adapter import is_adapter
from neat_data.models.reward_model import RewardModelSpec, Scored, Task
from neat_data.models.reward_models.transformers import with_lengths
from neat_data.models.templates import ChatTemplate
from neat_data.models.weights import ModelSource, check_head, explained, refuse_kernels, resolved


class Tokenized:
    """Attributes: `template`, and `spec` with its lengths filled in."""

    def __init__(self, spec: RewardModelSpec, tokenizer: PreTrainedTokenizerBase, window: int | None) -> None:
        """`window` is the longest sequence that the model takes, in tokens.

        Raises:
            InputError: no chat template, a length beyond the window.
        """
        self.template = ChatTemplate(tokenizer, spec.chat_template, spec.template_args)
        self.spec = replace(with_lengths(spec, window, torch.device("cpu")), token_budget=spec.token_budget)

    def encode(self, tasks: Sequence[Task]) -> list[Encoded]:
        """Token ids of every response; see `encode.encode`."""
        assert self.spec.max_length is not None
        assert self.spec.max_response is not None
        return [encode(task, self.template, self.spec.max_length, self.spec.max_response) for task in tasks]


def load_tokenizer(source: ModelSource, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """Raises InputError where there is none."""
    with explained(source):
        return AutoTokenizer.from_pretrained(source.path, revision=source.revision, trust_remote_code=trust_remote_code)


def load_shape(spec: RewardModelSpec) -> tuple[ModelSource, PreTrainedModel]:
    """Where the model comes from, a hub id resolved to its commit, and the model without any weights.

    Raises:
        InputError: no such model, or not a classifier with one output.
    """
    source = ModelSource.parse(spec.model)
    if is_adapter(source.path):
        raise source.wrong("is an adapter, and vLLM scores whole models", "say {backend} transformers")
    with explained(source), torch.device("meta"):
        refuse_own_class(source.path, source.revision, spec.trust_remote_code)
        config = AutoConfig.from_pretrained(
            source.path, revision=source.revision, trust_remote_code=spec.trust_remote_code
        )
        if not spec.trust_remote_code:
            refuse_kernels(config, source)
        check_head(config, source.path)
        source = resolved(source, config)
        model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=spec.trust_remote_code)
    return source, model


def sequences(encoded: Sequence[Encoded]) -> list[list[int]]:
    """The token ids of every response that was not refused, task by task."""
    return [ids for item in encoded for ids in item.sequences if ids is not None]


def scored(encoded: Sequence[Encoded], rewards: Sequence[float], cached: Sequence[int] = ()) -> list[Scored]:
    """One `Scored` a task.

    Args:
        encoded: the tasks' token ids.
        rewards: one for each of `sequences(encoded)`, in that order.
        cached: tokens of each of them that were not run again, where the back end says so.
    """
    rest, saved = iter(rewards), iter(cached)
    results = []
    for item in encoded:
        lengths = [len(ids) for ids in item.sequences if ids is not None]
        own = tuple(None if ids is None else next(rest) for ids in item.sequences)
        run = sum(length - next(saved, 0) for length in lengths)
        results.append(Scored(own, item.refused, item.turns_cut, sum(lengths), run, item.details))
    return results
