"""The steps of an evaluation that need a model, each as a part of its folder: answers, log-probabilities, rewards.

One model is in memory at a time: the subject, then the policy that it began from, then one reward model after another.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa

from neat_data.errors import InputError
from neat_data.models.load import load_reward_model
from neat_data.models.out_of_memory import score_tasks
from neat_data.models.reward_model import RewardModel, Task
from neat_data.models.sampler import Sample
from neat_data.progress import Watcher
from neat_data.prompts.sets import Prompt
from neat_data.store.documents import Settings
from neat_train.data.examples import Example
from neat_train.evaluation.folder import EvalFolder, Made
from neat_train.evaluation.likelihood import (
    Key,
    ResponseLikelihood,
    chosen_examples,
    key_of,
    likelihoods,
    sample_examples,
)
from neat_train.evaluation.queries import EvalQuery
from neat_train.evaluation.reward_models import NamedReward
from neat_train.evaluation.subject import Subject, answers

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
CHOSEN = "chosen"


@dataclass(frozen=True, slots=True)
class Decoding:
    """One way of answering: under which prompt, at which temperature."""

    name: str
    prompt: Prompt
    temperature: float


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
class EvaluationParts:
    """Makes the parts of one evaluation, or takes them up where they were made before."""

    folder: EvalFolder
    queries: Sequence[EvalQuery]
    seed: int
    max_new_tokens: int
    watch: Watcher

    def samples(self, subject: Subject, decoding: Decoding) -> list[Sample]:
        """The answers of a decoding, in the order of the queries."""

        def make() -> Made:
            self.watch.phase(f"answering, {decoding.name}", len(self.queries))
            samples = answers(
                subject,
                self.queries,
                prompt=decoding.prompt,
                temperature=decoding.temperature,
                seed=self.seed,
                max_new_tokens=self.max_new_tokens,
                watch=self.watch,
            )
            return pa.Table.from_pylist([asdict(sample) for sample in samples], schema=_SAMPLE), {}

        rows = self.folder.part(f"answers-{decoding.name}", make)[0].to_pylist()
        return [Sample(**{**row, "tokens": None if row["tokens"] is None else tuple(row["tokens"])}) for row in rows]

    def chosen_and(
        self, subject: Subject, decoding: Decoding, samples: Sequence[Sample]
    ) -> tuple[list[ResponseLikelihood | None], list[ResponseLikelihood | None], dict[str, int]]:
        """How likely the chosen responses and the samples of a decoding are, in the order of the queries.

        One pass for both, as they share their queries; the third is what had to be cut or left out of the chosen.
        """

        def make() -> Made:
            chosen, counts = chosen_examples(subject, self.queries)
            drawn = self._drawn(subject, decoding, samples)
            given = [*chosen, *(example for example in drawn if example is not None)]
            self.watch.phase("log-probabilities", len(given))
            by_key = likelihoods(subject, given, self.watch)
            by_query = {example.query_id: by_key[key_of(example)] for example in chosen}
            return _table([by_query.get(query.query_id) for query in self.queries], _of(drawn, by_key)), {
                "counts": counts
            }

        table, metadata = self.folder.part("likelihood", make)
        return _numbers(_column(table, 0), subject), _numbers(_column(table, 1), subject), metadata["counts"]

    def likelihood(
        self, subject: Subject, drawn_by: Subject, decoding: Decoding, samples: Sequence[Sample]
    ) -> list[ResponseLikelihood | None]:
        """How likely a subject finds what another one drew, after the same tokens, in the order of the queries."""

        def make() -> Made:
            drawn = self._drawn(drawn_by, decoding, samples)
            given = [example for example in drawn if example is not None]
            self.watch.phase("log-probabilities at the start", len(given))
            return _table(_of(drawn, likelihoods(subject, given, self.watch))), {}

        return _numbers(_column(self.folder.part("likelihood-start", make)[0], 0), subject)

    def _drawn(self, subject: Subject, decoding: Decoding, samples: Sequence[Sample]) -> list[Example | None]:
        return sample_examples(subject, self.queries, samples, decoding.prompt, self.max_new_tokens)

    def check(self, reward: NamedReward) -> None:
        """Load a reward model that has not scored yet, and free it again: its faults show before hours of sampling."""
        if not self.folder.has(_part(reward)):
            model = self._loaded(reward)
            model.close()
            for line in reward.strange(model.settings):
                self.watch.say(line)

    def rewards(self, reward: NamedReward, texts: Sequence[dict[str, str]]) -> Rewarded:
        """Rewards of every text, against the plain query.

        Args:
            texts: by the name of a decoding, or `chosen`; the same number as queries.
        """

        def make() -> Made:
            model = self._loaded(reward)
            try:
                with reward.in_errors():
                    by_text, refused = self._scored(model, texts)
            finally:
                model.close()
            rows = [{"rewards": list(scored.items())} for scored in by_text]
            return pa.Table.from_pylist(rows, schema=_REWARDS), {"settings": model.settings, "refused": refused}

        table, metadata = self.folder.part(_part(reward), make)
        return Rewarded([dict(row) for row in table["rewards"].to_pylist()], metadata["settings"], metadata["refused"])

    def _loaded(self, reward: NamedReward) -> RewardModel:
        self.watch.phase("loading the reward model", None)
        with reward.in_errors():
            return load_reward_model(reward.spec)

    def _scored(
        self, model: RewardModel, texts: Sequence[dict[str, str]]
    ) -> tuple[list[dict[str, float | None]], dict[str, dict[str, int]]]:
        """Texts that are the same are scored once: they are the branches of one tree."""
        self.watch.phase("scoring", len(texts))
        tasks = [
            Task(query.messages, tuple(dict.fromkeys(named.values())))
            for query, named in zip(self.queries, texts, strict=True)
        ]
        numbers = [number for number, task in enumerate(tasks) if task.texts]
        scored, _ = score_tasks([tasks[number] for number in numbers], model, self.watch.advance)
        judged = {
            (number, text): (reward, reason)
            for number, answer in zip(numbers, scored, strict=True)
            for text, reward, reason in zip(tasks[number].texts, answer.rewards, answer.refused, strict=True)
        }
        reasons: dict[str, Counter[str]] = {}
        for number, named in enumerate(texts):
            for name, text in named.items():
                if reason := judged[number, text][1]:
                    reasons.setdefault(name, Counter())[reason] += 1
        rewards = [
            {name: judged[number, text][0] for name, text in named.items()} for number, named in enumerate(texts)
        ]
        return rewards, {name: dict(counts) for name, counts in reasons.items()}


def _part(reward: NamedReward) -> str:
    return f"rewards-{reward.key}"


def _numbers(likelihoods: list[ResponseLikelihood | None], subject: Subject) -> list[ResponseLikelihood | None]:
    """Raise InputError where a policy gives log-probabilities that are none."""
    if any(likelihood is not None and not math.isfinite(likelihood.logp) for likelihood in likelihoods):
        raise InputError(
            f"{subject.spec}: its log-probabilities are no numbers, so the run that made it diverged, or its weights "
            "are damaged\nevaluate an earlier checkpoint"
        )
    return likelihoods


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
