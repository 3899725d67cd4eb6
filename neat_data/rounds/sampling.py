"""Records and prompts -> candidates, through a sampler."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

from neat_data.models.out_of_memory import halving
from neat_data.models.sampler import Ask, Sample, Sampler, Sampling, sample_seed
from neat_data.prompts.sets import Prompt, PromptSet
from neat_data.record import Record, Response, response_id
from neat_data.rounds.candidates import Candidate


@dataclass(frozen=True)
class Draws:
    """What is sampled for every query: `samples` responses under each prompt, where the prompt says nothing else."""

    prompts: PromptSet
    sampling: Sampling = field(default_factory=Sampling)
    samples: int = 1
    seed: int = 0

    @property
    def a_query(self) -> int:
        """Responses asked for a query, all prompts together."""
        return sum(self._samples(prompt) for prompt in self.prompts.prompts)

    def of(self, record: Record, round: int) -> Iterator[tuple[Prompt, Ask]]:
        """Everything that is asked about one record in `round`."""
        seeds = iter(self.seeds(record.query_id, round))
        for prompt in self.prompts.prompts:
            messages = prompt.applied(record.messages)
            for _ in range(self._samples(prompt)):
                yield prompt, Ask(messages, next(seeds), self._sampling(prompt), prompt.lead)

    def seeds(self, query: str, round: int) -> list[int]:
        """The seed of everything that is asked about a query in `round`, in its order."""
        asked = ((prompt.name, index) for prompt in self.prompts.prompts for index in range(self._samples(prompt)))
        return [sample_seed(self.seed, round, query, name, index) for name, index in asked]

    def to_dict(self) -> dict:
        """JSON-able; for settings."""
        prompts = {"name": self.prompts.name, "prompts": [prompt.to_dict() for prompt in self.prompts.prompts]}
        return {"prompts": prompts, "sampling": asdict(self.sampling), "samples": self.samples, "seed": self.seed}

    def _samples(self, prompt: Prompt) -> int:
        return self.samples if prompt.samples is None else prompt.samples

    def _sampling(self, prompt: Prompt) -> Sampling:
        own = {name: getattr(prompt, name) for name in ("temperature", "top_p", "max_new_tokens")}
        return Sampling(
            **{**asdict(self.sampling), **{name: value for name, value in own.items() if value is not None}}
        )


@dataclass(frozen=True, slots=True)
class Drawing:
    """One `Ask` and what it is asked about."""

    query_id: str
    prompt: Prompt
    ask: Ask


def drawings(records: Sequence[Record], draws: Draws, round: int) -> list[Drawing]:
    """Every drawing of a shard's records, query by query."""
    return [Drawing(record.query_id, prompt, ask) for record in records for prompt, ask in draws.of(record, round)]


def sampled(
    wanted: Sequence[Drawing],
    sampler: Sampler,
    round: int,
    advance: Callable[[int, int], None],
    look: Callable[[list[tuple[Ask, Sample]]], None] = lambda drawn: None,
) -> tuple[list[Candidate], int | None]:
    """Draw them all, with half the token budget whenever memory runs out.

    Args:
        round: that the responses will say they are of.
        advance: called with (samples done, tokens).
        look: called once with what was asked and what came of it.

    Returns:
        What came of each drawing, and the token budget that it took where that is not the sampler's own.

    Raises:
        RunError: out of memory even with a small budget.
    """
    asks = [drawing.ask for drawing in wanted]
    samples, budget = halving(
        lambda smaller: sampler.sample(asks, token_budget=smaller, advance=advance), sampler.spec.token_budget
    )
    look(list(zip(asks, samples, strict=True)))
    return [_candidate(*pair, sampler, round) for pair in zip(wanted, samples, strict=True)], budget


def _candidate(drawing: Drawing, sample: Sample, sampler: Sampler, round: int) -> Candidate:
    response = Response(
        response_id(drawing.query_id, sample.text),
        sample.text,
        origin="sampled",
        polarity=drawing.prompt.polarity,
        model=sampler.label,
        round=round,
        seed=drawing.ask.seed,
        tokens=sample.tokens,
        tokenizer=None if sample.tokens is None else sampler.tokenizer,
        finished=sample.finished,
    )
    return Candidate(drawing.query_id, drawing.prompt.name, response, sample.cut, sample.turns_cut, sample.refused)
