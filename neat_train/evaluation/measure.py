"""What an evaluation is made of: answers, log-probabilities and rewards, each a part of the folder for each shard.

A shard is some of the queries. It is the unit of work and of retry, as in `score`: whoever sees the folder makes its
parts, with one model after another, and a part that lies there is not made again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import pyarrow as pa

from neat_data.errors import InputError
from neat_data.models.out_of_memory import score_tasks
from neat_data.models.reward_model import RewardModel, Task
from neat_data.models.sampler import Sample
from neat_data.prompts.sets import Prompt
from neat_data.scoring.workers import Advance
from neat_data.store.documents import Settings
from neat_train.data.examples import Example
from neat_train.evaluation.folder import Made, Parts
from neat_train.evaluation.likelihood import (
    Key,
    ResponseLikelihood,
    chosen_examples,
    key_of,
    likelihoods,
    sample_examples,
)
from neat_train.evaluation.policy import Policy
from neat_train.evaluation.queries import EvalQuery
from neat_train.evaluation.reward_models import NamedReward
from neat_train.evaluation.subject import answers

_SAMPLE = pa.schema(
    [
        ("text", pa.string()),
        ("tokens", pa.list_(pa.int32())),
        ("finished", pa.bool_()),
        ("cut", pa.bool_()),
        ("turns_cut", pa.int32()),
        ("refused", pa.string()),
    ]
)
_LIKELIHOOD = pa.struct([("logp", pa.float64()), ("tokens", pa.int64())])
_REWARDS = pa.schema([("rewards", pa.map_(pa.string(), pa.float64()))])
CHOSEN, SAMPLED = "chosen", "sampled"
LIKELIHOOD, AT_START = "likelihood", "likelihood-start"  # kinds of parts


@dataclass(frozen=True, slots=True)
class Decoding:
    """One way of answering: under which prompt, at which temperature."""

    name: str
    prompt: Prompt
    temperature: float

    @property
    def part(self) -> str:
        """The kind of its parts."""
        return f"answers-{self.name}"


@dataclass(frozen=True, slots=True)
class SubjectLikelihood:
    """How likely the subject finds responses, query by query.

    Attributes:
        chosen: people's; None where there is none, or it does not fit.
        samples: its own; None where there is none.
        cut: what had to be cut or left out of the chosen, and how often.
        notes: how it was computed.
    """

    chosen: list[ResponseLikelihood | None]
    samples: list[ResponseLikelihood | None]
    cut: dict[str, int]
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Rewarded:
    """What a reward model made of the texts.

    Attributes:
        rewards: by the name of a text, query by query; None where it was refused.
        settings: what the model says of itself.
        refused: how many, by the name of a text and the reason.
    """

    rewards: list[dict[str, float | None]]
    settings: Settings
    refused: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class QueryShard:
    """Queries that follow each other, and the parts that are made of them; picklable.

    Attributes:
        name: the first and the last one's number, `256-511`; empty where these are all queries.
    """

    parts: Parts
    name: str
    queries: Sequence[EvalQuery]
    decodings: Sequence[Decoding]
    seed: int
    max_new_tokens: int

    def cut(self, rows: int) -> list[QueryShard]:
        """Shards of so many queries each."""
        if len(self.queries) <= rows:
            return [self]
        cuts = [self.queries[first : first + rows] for first in range(0, len(self.queries), rows)]
        return [
            replace(self, name=f"{number * rows}-{number * rows + len(queries) - 1}", queries=queries)
            for number, queries in enumerate(cuts)
        ]

    def has(self, kinds: Sequence[str]) -> bool:
        """Whether parts of all these kinds were made."""
        return all(self.parts.has(self._part(kind)) for kind in kinds)

    def answer(self, policy: Policy, advance: Advance) -> None:
        """Make the subject's answers, and its log-probabilities of them and of the chosen responses."""
        for decoding in self.decodings:
            self._make(decoding.part, advance, partial(self._answers, policy, decoding, advance))
        self._make(LIKELIHOOD, advance, lambda: self._likelihood(policy, advance))

    def compare(self, start: Policy, advance: Advance, *, max_length: int) -> None:
        """Make the log-probabilities of the samples under the policy that the subject began from.

        Args:
            max_length: the subject's window, on which it depends what the samples were drawn after.
        """
        self._make(AT_START, advance, lambda: self._at_start(start, max_length, advance))

    def score(self, model: RewardModel, advance: Advance, *, reward: NamedReward) -> None:
        """Make rewards of the answers and of the chosen responses, against the plain query."""
        with reward.in_errors():
            self._make(reward.part, advance, lambda: self._rewards(model, advance))

    def samples(self, decoding: Decoding) -> list[Sample]:
        """The answers of a decoding; `refused` says why there is none."""
        rows = self._read(decoding.part)[0].to_pylist()
        return [Sample(**{**row, "tokens": None if row["tokens"] is None else tuple(row["tokens"])}) for row in rows]

    def likelihood(self) -> SubjectLikelihood:
        """What `answer` made."""
        table, metadata = self._read(LIKELIHOOD)
        return SubjectLikelihood(
            _column(table, 0), _column(table, 1), metadata["counts"], list(metadata.get("notes", ()))
        )

    def at_start(self) -> list[ResponseLikelihood | None]:
        """What `compare` made."""
        return _column(self._read(AT_START)[0], 0)

    def rewarded(self, reward: NamedReward) -> Rewarded:
        """What `score` made."""
        table, metadata = self._read(reward.part)
        return Rewarded([dict(row) for row in table["rewards"].to_pylist()], metadata["settings"], metadata["refused"])

    def _part(self, kind: str) -> str:
        return f"{kind}-{self.name}" if self.name else kind

    def _read(self, kind: str) -> Made:
        return self.parts.read(self._part(kind))

    def _make(self, kind: str, advance: Advance, make: Callable[[], Made]) -> None:
        if self.has([kind]):
            advance(len(self.queries), 0)
        else:
            self.parts.put(self._part(kind), make())

    def _answers(self, policy: Policy, decoding: Decoding, advance: Advance) -> Made:
        samples = answers(
            policy.spec.subject,
            self.queries,
            prompt=decoding.prompt,
            temperature=decoding.temperature,
            seed=self.seed,
            max_new_tokens=self.max_new_tokens,
            advance=advance,
        )
        return pa.Table.from_pylist([asdict(sample) for sample in samples], schema=_SAMPLE), {}

    def _likelihood(self, policy: Policy, advance: Advance) -> Made:
        """Chosen responses and samples in one pass, as they share their queries."""
        subject = policy.spec.subject
        chosen, counts = chosen_examples(subject, self.queries)
        drawn = self._drawn(policy, subject.max_length)
        by_key = self._likelihoods(policy, [*chosen, *drawn], advance)
        by_query = {example.query_id: by_key[key_of(example)] for example in chosen}
        table = _table([by_query.get(query.query_id) for query in self.queries], _of(drawn, by_key))
        return table, {"counts": counts, "notes": policy.path.note.splitlines()}

    def _at_start(self, start: Policy, max_length: int, advance: Advance) -> Made:
        drawn = self._drawn(start, max_length)
        return _table(_of(drawn, self._likelihoods(start, drawn, advance))), {}

    def _drawn(self, policy: Policy, max_length: int) -> list[Example | None]:
        sampled = next(decoding for decoding in self.decodings if decoding.name == SAMPLED)
        template = policy.spec.subject.template  # the start's is the subject's
        return sample_examples(
            template, max_length, self.queries, self.samples(sampled), sampled.prompt, self.max_new_tokens
        )

    def _likelihoods(
        self, policy: Policy, examples: Sequence[Example | None], advance: Advance
    ) -> dict[Key, ResponseLikelihood]:
        """Raises InputError where a policy gives log-probabilities that are none."""
        given = [example for example in examples if example is not None]
        by_key = likelihoods(policy.spec.subject.decoder.model, policy.path.path, given, advance)
        if not all(math.isfinite(likelihood.logp) for likelihood in by_key.values()):
            raise InputError(
                f"{policy.spec.name}: its log-probabilities are no numbers, so the run that made it diverged, or its "
                "weights are damaged\nevaluate an earlier checkpoint"
            )
        advance(len(self.queries), 0)
        return by_key

    def _texts(self) -> list[dict[str, str]]:
        """By the name of a decoding, or `chosen`."""
        samples = {decoding.name: self.samples(decoding) for decoding in self.decodings}
        return [
            {
                **{name: each[index].text for name, each in samples.items() if each[index].refused is None},
                **({} if query.chosen is None else {CHOSEN: query.chosen}),
            }
            for index, query in enumerate(self.queries)
        ]

    def _rewards(self, model: RewardModel, advance: Advance) -> Made:
        """Texts that are the same are scored once: they are the branches of one tree."""
        texts = self._texts()
        tasks = [
            Task(query.messages, tuple(dict.fromkeys(named.values())))
            for query, named in zip(self.queries, texts, strict=True)
        ]
        numbers = [number for number, task in enumerate(tasks) if task.texts]
        scored, _ = score_tasks([tasks[number] for number in numbers], model, advance)
        advance(len(tasks) - len(numbers), 0)
        judged = {
            (number, text): (reward, reason)
            for number, answer in zip(numbers, scored, strict=True)
            for text, reward, reason in zip(tasks[number].texts, answer.rewards, answer.refused, strict=True)
        }
        refused: dict[str, Counter[str]] = {}
        for number, named in enumerate(texts):
            for name, text in named.items():
                if reason := judged[number, text][1]:
                    refused.setdefault(name, Counter())[reason] += 1
        rows = [
            {"rewards": [(name, judged[number, text][0]) for name, text in named.items()]}
            for number, named in enumerate(texts)
        ]
        return pa.Table.from_pylist(rows, schema=_REWARDS), {"settings": model.settings, "refused": refused}


def together(likelihoods: Iterable[SubjectLikelihood]) -> SubjectLikelihood:
    """Those of all shards."""
    each = list(likelihoods)
    return SubjectLikelihood(
        [likelihood for one in each for likelihood in one.chosen],
        [likelihood for one in each for likelihood in one.samples],
        _sums(one.cut for one in each),
        list(dict.fromkeys(note for one in each for note in one.notes)),
    )


def rewarded(shards: Iterable[Rewarded]) -> Rewarded:
    """Those of all shards, by one model."""
    each = list(shards)
    names = dict.fromkeys(name for one in each for name in one.refused)
    refused = {name: _sums(one.refused.get(name, {}) for one in each) for name in names}
    return Rewarded([rewards for one in each for rewards in one.rewards], each[0].settings, refused)


def _sums(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    return dict(sum(map(Counter, counts), Counter()))


def _of(examples: Sequence[Example | None], by_key: dict[Key, ResponseLikelihood]) -> list[ResponseLikelihood | None]:
    return [None if example is None else by_key[key_of(example)] for example in examples]


def _table(*columns: Sequence[ResponseLikelihood | None]) -> pa.Table:
    arrays = [
        pa.array([None if likelihood is None else asdict(likelihood) for likelihood in column], _LIKELIHOOD)
        for column in columns
    ]
    return pa.table({str(number): array for number, array in enumerate(arrays)})


def _column(table: pa.Table, number: int) -> list[ResponseLikelihood | None]:
    return [None if row is None else ResponseLikelihood(**row) for row in table[str(number)].to_pylist()]
