"""The policy in training as a sampler: the same weights, looked at between two steps and left as they were.

Nothing is loaded or copied. A sample is drawn in evaluation mode, in inference mode, with the model's ordinary
attention, and with noise that is a function of the sample's own seed; then every module, the attention and the random
states are put back, so that training goes on bit for bit as if nothing had been sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Protocol

from transformers import PreTrainedModel

from neat_data.models.device import dtype_name
from neat_data.models.memory import budget_of
from neat_data.models.sampler import Ask, Sample, Sampler, SamplerSpec
from neat_data.models.samplers.decode_attention import use_where_faster
from neat_data.models.samplers.transformers import Decoder
from neat_data.models.trees.exactness import configured_window
from neat_data.store.documents import Settings
from neat_train.config.settings import FitSettings
from neat_train.policy.policy import Policy
from neat_train.policy.undisturbed import undisturbed


class Live(Protocol):
    """What gives a sampler of the policy as it is now.

    Attributes:
        settings: JSON-able; what can change a byte of the samples beside the policy's weights.
        notes: lines worth printing once.
    """

    settings: Settings
    notes: list[str]

    def now(self, trained: str) -> AbstractContextManager[Sampler]:
        """A sampler of the policy of this moment, for as long as the block lasts.

        Args:
            trained: `Policy.trained_hash()`.
        """
        ...


def live_sampler(policy: Policy, settings: FitSettings) -> Sampler:
    """A sampler around the model in training; its window is that of training, so that a query is cut alike.

    It samples with the weights as they are when it is asked. Its label is that of the weights when it was made: take a
    new sampler after a step where the label matters.
    """
    return LiveSampler(policy, settings)


def live_label(policy: Policy, trained: str) -> str:
    """For `Response.model`: the start's label, and what it has become.

    Args:
        trained: `Policy.trained_hash()`.
    """
    return f"{policy.label}+live:{trained[:12]}"


class LiveModel:
    """See `Live`: the model in training itself."""

    def __init__(self, policy: Policy, settings: FitSettings) -> None:
        self._policy, self._settings = policy, settings
        self.settings: Settings = live_settings(policy, live_spec(policy, settings))
        self.notes: list[str] = []

    @contextmanager
    def now(self, trained: str) -> Iterator[Sampler]:
        """See `Live.now`."""
        yield LiveSampler(self._policy, self._settings, trained, tells_logps=True)


class LiveSampler:
    """See `neat_data.models.sampler.Sampler`, and `live_sampler`."""

    not_taken: tuple[str, ...] = ()

    def __init__(
        self, policy: Policy, settings: FitSettings, trained: str | None = None, *, tells_logps: bool = False
    ) -> None:
        """`trained` is `Policy.trained_hash()`, where it is known already."""
        self._policy = policy
        self.label = live_label(policy, trained or policy.trained_hash())
        self.spec = live_spec(policy, settings)
        assert self.spec.max_length is not None
        assert self.spec.token_budget is not None
        self._decoder = Decoder(
            policy.body,
            policy.tokenizer,
            policy.template,
            policy.stops,
            self.spec.max_length,
            self.spec.token_budget,
            tells_logps=tells_logps,
        )
        self.tokenizer: str | None = policy.tokenizer_id
        self.settings = live_settings(policy, self.spec)
        self.notes: list[str] = []
        self.usage = self._decoder.usage

    def sample(
        self,
        asks: Sequence[Ask],
        *,
        token_budget: int | None = None,
        advance: Callable[[int, int], None] | None = None,
    ) -> list[Sample]:
        """See `Sampler.sample`."""
        with undisturbed(self._policy.model), _fast_attention(self._policy.body):
            return self._decoder.sample(asks, token_budget=token_budget, advance=advance)

    def close(self) -> None:
        """The model is not the sampler's: nothing is freed."""


def live_spec(policy: Policy, settings: FitSettings) -> SamplerSpec:
    """What is sampled with, everything filled in."""
    window = configured_window(policy.body.config)
    spec = SamplerSpec(
        model=policy.source.reference,
        backend="transformers",
        device=str(policy.device),
        dtype=dtype_name(policy.body.dtype),
        max_length=min(settings.max_length, window or settings.max_length),
        token_budget=None,
    )
    return replace(spec, token_budget=budget_of(spec, policy.device))


def live_settings(policy: Policy, spec: SamplerSpec) -> Settings:
    """For `Sampler.settings`: those of the start, and what is sampled with."""
    return {
        **policy.settings,
        "backend": "live",
        "max_length": spec.max_length,
        "token_budget": spec.token_budget,
        "attention": policy.body.config._attn_implementation,
    }


@contextmanager
def _fast_attention(body: PreTrainedModel) -> Iterator[None]:
    """Attention of one token over its cache, where there is a faster function than the model's."""
    own = body.config._attn_implementation
    use_where_faster(body)
    try:
        yield
    finally:
        if body.config._attn_implementation != own:
            body.set_attn_implementation(own)
