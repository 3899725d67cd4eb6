"""How likely a subject finds responses: sums of log-probabilities over their tokens, in one pass over token trees.

`chosen_examples` is behind perplexity, `sample_examples` behind the KL estimate. Both condition on the query as the
subject's template renders it, cut to its share of the length. Another policy is asked about the same examples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from neat_data.models.device import out_of_memory_as_ours
from neat_data.models.encode import EncodedQuery, encode_query
from neat_data.models.out_of_memory import halving
from neat_data.models.reward_models.transformers import ACCELERATOR_BUDGET, CPU_BUDGET
from neat_data.models.sampler import Sample, Sampling
from neat_data.models.templates import ChatTemplate
from neat_data.prompts.sets import Prompt
from neat_data.record import Record, Response, response_id
from neat_data.scoring.workers import Advance
from neat_train.data import batches
from neat_train.data.batches import PackingMode
from neat_train.data.examples import Encoder, Example, TrainedResponse
from neat_train.evaluation.queries import EvalQuery
from neat_train.evaluation.subject import Subject, asked
from neat_train.policy.logprobs import logps

Key = tuple[tuple[int, ...], tuple[int, ...]]  # query, response: equal ones have equal log-probabilities


@dataclass(frozen=True, slots=True)
class ResponseLikelihood:
    """Of one response: the sum of its tokens' log-probabilities in nats, and how many tokens these are."""

    logp: float
    tokens: int


def chosen_examples(subject: Subject, queries: Sequence[EvalQuery]) -> tuple[list[Example], dict[str, int]]:
    """The chosen responses as the subject reads them, the end of turn behind each.

    A query gets half of the subject's `max_length`, and its response the other half.

    Returns:
        Examples of one response, without queries that have none or do not fit; and what was cut or left out, as
        `Encoder.counts`.
    """
    encoder = Encoder(
        subject.template,
        subject.stops,
        subject.template.tokenizer,
        subject.tokenizer_id,
        subject.max_length,
        subject.max_length // 2,
    )
    made = [encoder.example(_record(query, query.chosen)) for query in queries if query.chosen is not None]
    return [example for example in made if example is not None], dict(+encoder.counts)


def _record(query: EvalQuery, text: str) -> Record:
    return Record(query.query_id, query.messages, (Response(response_id(query.query_id, text), text, reward=0.0),))


def sample_examples(
    template: ChatTemplate,
    max_length: int,
    queries: Sequence[EvalQuery],
    samples: Sequence[Sample],
    prompt: Prompt,
    max_new_tokens: int,
) -> list[Example | None]:
    """Samples as they were drawn, token by token, behind what of the query they were drawn after.

    Args:
        template: of the subject that drew them.
        max_length: its window, on which it depends how much of a query it saw.
        samples: of `queries`, under `prompt`.

    Returns:
        In the order of `queries`; None where there is no sample.
    """
    asks = asked(queries, prompt, Sampling(max_new_tokens=max_new_tokens), 0)
    return [
        _sampled(encode_query(ask, template, max_length), query, sample)
        for ask, query, sample in zip(asks, queries, samples, strict=True)
    ]


def _sampled(asked: EncodedQuery, query: EvalQuery, sample: Sample) -> Example | None:
    if sample.refused or not sample.tokens:
        return None
    return Example(query.query_id, tuple(asked.ids), (TrainedResponse("", tuple(sample.tokens), 0.0),))


def likelihoods(
    model: PreTrainedModel, path: PackingMode, examples: Sequence[Example], advance: Advance
) -> dict[Key, ResponseLikelihood]:
    """How likely a policy finds every response of the examples.

    Responses behind the same query run in one tree.

    Args:
        model: as `prepare` left it, which chose the path.
        advance: hears of the tokens that were run.

    Raises:
        RunError: out of memory even with a small budget.
    """
    default = CPU_BUDGET if model.device.type == "cpu" else ACCELERATOR_BUDGET

    def run(budget: int | None) -> dict[Key, ResponseLikelihood]:
        by_key: dict[Key, ResponseLikelihood] = {}
        for batch in batches.micro_batches(_together(examples), budget or default, path):
            with torch.no_grad(), out_of_memory_as_ours(model.device, budget or default):
                by_key.update(_summed(logps(model, batch.to(model.device)).cpu(), batch))
            advance(0, batch.tokens)
        return by_key

    return halving(run, default)[0] if examples else {}


def _together(examples: Sequence[Example]) -> list[Example]:
    by_query: dict[tuple[int, ...], list[TrainedResponse]] = {}
    for example in examples:
        by_query.setdefault(example.query, []).extend(example.answers)
    return [Example("", query, tuple(answers)) for query, answers in by_query.items()]


def _summed(logps: torch.Tensor, batch: batches.MicroBatch) -> Iterator[tuple[Key, ResponseLikelihood]]:
    """Sums over each response, in float64."""
    keys = [(group.query, ids) for group in batch.groups for ids in group.answers]
    sums = torch.zeros(len(keys), dtype=torch.float64).index_add_(0, batch.layout.response, logps.double())
    for key, value in zip(keys, sums.tolist(), strict=True):
        yield key, ResponseLikelihood(value, len(key[1]))


def key_of(example: Example) -> Key:
    """The key of an example's first response in what `likelihoods` gives."""
    return example.query, example.answers[0].ids
