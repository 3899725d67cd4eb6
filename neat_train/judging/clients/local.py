"""A causal language model of transformers as a judge: a folder, a run or a hub id behind `--judge`.

The system text of a question goes in front of the user's turn: not every chat template knows a system turn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from neat_data.models.encode import encode_query
from neat_data.models.out_of_memory import halving
from neat_data.models.sampler import Ask, Sample, Sampling
from neat_data.record import Message, Messages, canonical_json
from neat_data.store.documents import Settings
from neat_train.evaluation.subject import open_subject
from neat_train.judging.clients.client import CUT, JudgeSpec, Question, Reply, Tell


class LocalJudge:
    """See `neat_train.judging.clients.client.Judge`."""

    def __init__(self, spec: JudgeSpec) -> None:
        self._sampling = Sampling(temperature=spec.temperature, max_new_tokens=spec.max_tokens)
        self._at_once = spec.concurrency
        self._subject = open_subject(
            spec.name,
            device=spec.device,
            dtype=spec.dtype,
            model_args={name: value for name, value in spec.extra.items() if value is not None},
            trust_remote_code=spec.trust_remote_code,
            base=spec.base,
        )

    @property
    def settings(self) -> Settings:
        """See `Judge.settings`."""
        return self._subject.settings

    @property
    def not_taken(self) -> tuple[str, ...]:
        """See `Judge.not_taken`."""
        return ()

    def check(self) -> None:
        """See `Judge.check`: the model was found when it was opened."""

    def ask(self, questions: Sequence[Question], tell: Tell) -> None:
        """See `Judge.ask`; a few at a time, so that a kill loses no more than these."""
        for start in range(0, len(questions), self._at_once):
            for place, reply in enumerate(self._some(questions[start : start + self._at_once])):
                tell(start + place, reply)

    def close(self) -> None:
        """See `Judge.close`."""
        self._subject.close()

    def _some(self, questions: Sequence[Question]) -> list[Reply]:
        asks = [Ask(_turn(question), _seed(question), self._sampling) for question in questions]
        decoder = self._subject.decoder
        samples, _ = halving(lambda smaller: decoder.sample(asks, token_budget=smaller), decoder.token_budget)
        return [self._reply(ask, sample) for ask, sample in zip(asks, samples, strict=True)]

    def _reply(self, ask: Ask, sample: Sample) -> Reply:
        if sample.refused:
            return Reply(None, refused=sample.refused)
        read = encode_query(ask, self._subject.template, self._subject.max_length).ids
        return Reply(sample.text, None if sample.finished else CUT, None, len(read), len(sample.tokens or ()))


def _seed(question: Question) -> int:
    """By its content: other questions have other luck, and a question has the same whenever it is asked."""
    return int.from_bytes(hashlib.sha256(canonical_json(question).encode()).digest()[:8], "big") >> 1


def _turn(question: Question) -> Messages:
    return (Message("user", "\n\n".join(turn["content"] for turn in question)),)
