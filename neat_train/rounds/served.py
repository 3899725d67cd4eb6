"""Whether a sampler serves the weights that are trained: its own log-probabilities against those of the loss.

Engines beside the training serve stale adapters silently (TRL #5312: a difference of .201 nats a token where .015 is
usual). So some samples of every block are looked at before they are kept, and a run whose sampler is too far off stops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from neat_data.errors import RunError
from neat_data.models.encode import encode_query
from neat_data.models.sampler import Ask, Sample
from neat_train.data.batches import micro_batches
from neat_train.data.examples import Example, TrainedResponse
from neat_train.policy.logprobs import logps
from neat_train.policy.policy import Policy
from neat_train.policy.undisturbed import undisturbed

SAMPLES = 32  # of a block that are looked at
Drawn = Sequence[tuple[Ask, Sample]]


class ServedCheck:
    """Compares a sampler with the policy, block after block."""

    def __init__(self, policy: Policy, max_length: int, token_budget: int, limit: float | None) -> None:
        """Args:
        max_length: tokens of query and response, as the sampler has it.
        token_budget: positions of one pass.
        limit: nats a token; None measures only.
        """
        self._policy, self._max_length, self._budget, self._limit = policy, max_length, token_budget, limit
        self._before: dict[str, Tensor] | None = None  # the adapter of the block before

    def difference(self, block: int, drawn: Drawn) -> float | None:
        """Mean distance of the log-probabilities of sampled tokens, in nats; None where there is nothing to compare.

        Args:
            block: its number, for the message.
            drawn: what was asked, and what was sampled.

        Raises:
            RunError: it is above the limit; the message says which weights the samples fit.
        """
        compared = [(ask, sample) for ask, sample in drawn if sample.tokens and sample.logps is not None][:SAMPLES]
        if not compared or any(isinstance(weight, DTensor) for weight in self._policy.model.parameters()):
            return None  # sharded weights run on all ranks together, which have other samples
        distance = self._distance(compared, self._policy.model)
        if self._limit is not None and not distance <= self._limit:
            raise RunError(
                f"block {block}: the sampler's log-probabilities are {distance:.3f} nats a token off those of the "
                f"policy in training, more than rounds.logp_limit {self._limit:g}; {self._served(compared)}\n"
                "Say rounds.sampler=transformers, which samples from the model itself; or raise the limit."
            )
        self._remember()
        return distance

    def _distance(self, compared: Drawn, module: nn.Module) -> float:
        examples = [self._example(number, *pair) for number, pair in enumerate(compared)]
        distance, tokens = 0.0, 0
        with undisturbed(self._policy.model):
            for batch in micro_batches(examples, self._budget, "batches"):
                values = logps(module, batch.to(self._policy.device)).double().cpu()
                samples = [compared[int(group.query_id)][1] for group in batch.groups]
                own = torch.tensor([value for sample in samples for value in sample.logps or ()], dtype=torch.float64)
                distance += float((values - own).abs().sum())
                tokens += len(own)
        return distance / tokens

    def _example(self, number: int, ask: Ask, sample: Sample) -> Example:
        query = encode_query(ask, self._policy.template, self._max_length).ids
        return Example(str(number), tuple(query), (TrainedResponse("", sample.tokens or (), 0.0),))

    def _served(self, compared: Drawn) -> str:
        """Which weights the samples fit, of those that are at hand."""
        distances = {}
        for name, holding in self._others():
            with holding() as module:
                distances[name] = self._distance(compared, module)
        if not distances:
            return "which weights were served is not known."
        name = min(distances, key=lambda other: distances[other])
        fits = self._limit is not None and distances[name] <= self._limit
        return (
            f"likely served: {name} (off by {distances[name]:.3f})."
            if fits
            else f"it fits no other weights known here (the nearest: {name}, off by {distances[name]:.3f})."
        )

    def _others(self) -> Iterator[tuple[str, Callable[[], AbstractContextManager[nn.Module]]]]:
        if self._before is not None:
            yield "the weights of the block before, so a stale adapter", self._block_before
        if isinstance(self._policy.model, PeftModel) or self._policy.frozen is not None:
            yield "the weights that the run began with, so no adapter of this run", self._policy.reference

    @contextmanager
    def _block_before(self) -> Iterator[nn.Module]:
        assert self._before is not None
        now = self._trained()
        self._policy.put_trained(self._before)
        try:
            yield self._policy.model
        finally:
            self._policy.put_trained(now)

    def _remember(self) -> None:
        if isinstance(self._policy.model, PeftModel):  # all of a model's weights twice would not be worth a message
            self._before = self._trained()

    def _trained(self) -> dict[str, Tensor]:
        weights = dict(self._policy.model.named_parameters())
        return {name: weights[name].detach().cpu().clone() for name in self._policy.trained}
