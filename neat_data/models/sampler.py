"""What a sampler is to the rest of the project; `neat_data.models.load` opens one.

A back end takes queries to which a prompt was already applied and gives one response each. It knows nothing of records,
rounds or rewards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from neat_data.errors import InputError
from neat_data.options.groups import SamplerLoading
from neat_data.options.words import SamplerBackend
from neat_data.record import Messages, canonical_json
from neat_data.store.documents import Arguments, Settings

NO_ROUND = -1  # what `sample_seed` is given for answers that no round keeps: those that measure a policy


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one response is drawn. Temperature 0 is greedy.

    Raises:
        InputError: a negative temperature, a `top_p` outside (0, 1], fewer than one new token.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 128

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature {self.temperature}: must be 0 (greedy) or above")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p {self.top_p}: must be above 0 and at most 1")
        if self.max_new_tokens < 1:
            raise InputError(f"max_new_tokens {self.max_new_tokens}: must be at least 1")


@dataclass(frozen=True, slots=True)
class Ask:
    """One response wanted.

    Attributes:
        messages: the query with its prompt applied.
        seed: in [0, 2**63).
        lead: what the first user turn begins with and keeps beginning with when older turns are cut; "" for a prompt
            that stands elsewhere (`Prompt.lead`).
    """

    messages: Messages
    seed: int
    sampling: Sampling
    lead: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """The answer to an `Ask`.

    Attributes:
        text: decoded, stripped, without the end of turn, cut before a stop string; a thought that the header had opened
            begins with its mark.
        tokens: the sampled ids, the end-of-turn token included where it was sampled; None where the back end does not
            tell.
        finished: the last sampled token is a stop token, or a stop string was reached.
        cut: text behind a stop string was cut off.
        turns_cut: whole oldest turns that the query lost so as to fit the window; a system turn and the prompt stay.
        refused: a reason code instead of a sample: `query_too_long`, `template_refused`, `server_refused`.
        logps: log-probability of each of `tokens` in nats, before temperature and top-p; None where nobody asked.
    """

    text: str
    tokens: tuple[int, ...] | None
    finished: bool
    cut: bool = False
    turns_cut: int = 0
    refused: str | None = None
    logps: tuple[float, ...] | None = field(default=None, compare=False)  # rounding of the batch is in them


@dataclass(frozen=True)
class SamplerSpec(SamplerLoading):
    """What loads a policy that answers; picklable, so that a worker process can load the same one.

    Attributes:
        model: folder, hub id (`ID@REV`), or the model's name at the server.
        backend: `auto` is `openai` where a `base_url` is given, else `transformers`.
        adapter: a folder with a PEFT adapter of that model.
        template_args, model_args: handed to the chat template, and to the back end.
    """

    model: str
    backend: SamplerBackend = field(default="auto", kw_only=True)
    adapter: str | None = field(default=None, kw_only=True)
    template_args: Arguments = field(default_factory=dict, kw_only=True)
    model_args: Arguments = field(default_factory=dict, kw_only=True)


class Sampler(Protocol):
    """A back end that samples.

    Attributes:
        spec: the spec with everything that was `auto` or None resolved, for loading the same model in another process.
        settings: JSON-able; every resolved setting that can change a byte of the output. No paths, no time, no machine.
        notes: lines worth printing once.
        label: for `Response.model`: id@revision, or a folder's name @ 12 hex digits of its weights' hash, with
            `+adapter:` and 12 more where there is an adapter; a server's name of the model.
        tokenizer: for `Response.tokenizer`: sha256 over the tokenizer and its end-of-turn token; None where unknown.
        usage: `prompt_tokens` and `completion_tokens` so far.
        not_taken: settings of asks that a server refused so far, so that it was asked without.
    """

    spec: SamplerSpec
    settings: Settings
    notes: list[str]
    label: str
    tokenizer: str | None
    usage: dict[str, int]

    @property
    def not_taken(self) -> tuple[str, ...]: ...

    def sample(
        self,
        asks: Sequence[Ask],
        *,
        token_budget: int | None = None,
        advance: Callable[[int, int], None] | None = None,
    ) -> list[Sample]:
        """One `Sample` an ask, in the order of `asks`.

        Args:
            asks: what is wanted of one shard.
            token_budget: overrides the spec's, when a shard is made again after running out of memory.
            advance: called with (asks done, tokens sampled) since the last call.

        Raises:
            neat_data.models.out_of_memory.OutOfMemory: a batch of this budget does not fit; a smaller budget may.
        """
        ...

    def close(self) -> None:
        """Frees the model's memory; the sampler is of no use afterwards."""
        ...


def sample_seed(run_seed: int, round: int, query_id: str, prompt: str, index: int) -> int:
    """The seed of one sample, in [0, 2**63): any sample can be made again from these five alone.

    >>> sample_seed(0, 1, "557f6d9586f57ae72d24a7d34f47ed21", "negative", 0)
    3292572491655514082
    """
    digest = hashlib.sha256(canonical_json([run_seed, round, query_id, prompt, index]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
