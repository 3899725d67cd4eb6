"""What a judge compares: a run or a model that answers the queries, or what people chose or rejected of a dataset.

A judge sees what a reward model scores, the answer alone: a thought in front of it is left out, and a response whose
thought never ends says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from neat_data.errors import InputError
from neat_data.progress import Watcher
from neat_data.store.documents import Settings
from neat_data.thought import answer_of
from neat_train.evaluation.queries import EvalQuery, name_of, read_queries, sha256_of
from neat_train.evaluation.result import EvaluatedPolicy
from neat_train.evaluation.subject import Subject, answers, named_prompt, open_subject
from neat_train.judging.result import PeoplesTexts

Choice = Literal["chosen", "rejected"]


@dataclass(frozen=True, slots=True)
class Answering:
    """How a run or a model is asked.

    Attributes:
        prompt: `none`, `positive`, `negative` or one prompt of a set.
        temperature: 0 is greedy.
        loading: the other options of `open_subject`.
    """

    prompt: str = "none"
    temperature: float = 0.0
    seed: int = 0
    max_new_tokens: int = 128
    loading: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SideText:
    """What one side says to a query.

    Attributes:
        text: None where it says nothing.
        cut: it was ended by `max_new_tokens`.
    """

    text: str | None
    cut: bool = False


@dataclass(frozen=True, slots=True)
class People:
    """One side of the comparison: what people chose, or rejected.

    Attributes:
        spec: as the user gave it.
        dataset: whose responses; None: those of the queries' own source.
        known: the texts of `dataset` by their query ids.
    """

    spec: str
    choice: Choice
    dataset: str | None
    known: dict[str, str]

    @property
    def label(self) -> str:
        """For people."""
        return self.choice if self.dataset is None else f"{name_of(self.dataset)}:{self.choice}"

    @property
    def settings(self) -> Settings:
        """What decides the texts, beside the queries and what their own source has of them; no names."""
        texts = {} if self.dataset is None else {"texts_sha256": sha256_of(sorted(self.known.items()))}
        return {"choice": self.choice, **texts}

    @property
    def name(self) -> PeoplesTexts:
        """For judge.json."""
        return PeoplesTexts(self.spec, self.label)

    def may_answer(self, query: EvalQuery) -> bool:
        """Whether this side has something to say to it."""
        return self._text(query) is not None

    def texts(self, queries: Sequence[EvalQuery], watch: Watcher) -> list[SideText]:
        """One answer a query, in their order."""
        return [SideText(self._text(query)) for query in queries]

    def _text(self, query: EvalQuery) -> str | None:
        text = _of(query, self.choice) if self.dataset is None else self.known.get(query.query_id)
        return None if text is None else answer_of(text)


@dataclass(frozen=True, slots=True)
class Model:
    """One side of the comparison: a run or a model that answers now. Methods as those of `People`."""

    subject: Subject
    answering: Answering

    @property
    def spec(self) -> str:
        return self.subject.spec

    @property
    def label(self) -> str:
        return self.subject.label

    @property
    def dataset(self) -> None:
        """It names no dataset."""

    @property
    def settings(self) -> Settings:
        asked = self.answering
        how = {"prompt": asked.prompt, "temperature": asked.temperature, "seed": asked.seed}
        return {**how, "max_new_tokens": asked.max_new_tokens, **self.subject.settings}

    @property
    def name(self) -> EvaluatedPolicy:
        return self.subject.name

    def may_answer(self, query: EvalQuery) -> bool:
        return True

    def texts(self, queries: Sequence[EvalQuery], watch: Watcher) -> list[SideText]:
        """One answer a query, in their order; no text where it was refused, as one too long for the window is, or where
        a thought has no end."""
        asked = self.answering
        watch.phase(f"answers of {self.label}", len(queries))
        try:
            samples = answers(
                self.subject,
                queries,
                prompt=named_prompt(asked.prompt),
                temperature=asked.temperature,
                seed=asked.seed,
                max_new_tokens=asked.max_new_tokens,
                advance=watch.advance,
            )
        finally:
            self.subject.close()
        return [
            SideText(None) if sample.refused else SideText(answer_of(sample.text), not sample.finished)
            for sample in samples
        ]


Contender = People | Model


def open_contender(spec: str, answering: Answering, split: str | None = None) -> Contender:
    """`chosen`, `rejected`, `DATASET:chosen`, `DATASET:rejected`; anything else is a run or a model.

    Args:
        split: of DATASET, as `open_queries` takes it.

    Raises:
        InputError: there is no such dataset, run or model.
    """
    dataset, _, word = spec.rpartition(":")
    choice: Choice
    for choice in get_args(Choice):
        if word == choice and not Path(spec).is_dir():
            return People(spec, choice, dataset or None, _texts(dataset, choice, split) if dataset else {})
    return Model(open_subject(spec, **answering.loading), answering)


def _texts(dataset: str, choice: Choice, split: str | None) -> dict[str, str]:
    try:
        queries = read_queries(dataset, split=split)
    except InputError as error:
        raise error.renamed({"queries": None}) from error
    return {query.query_id: text for query in queries if (text := _of(query, choice)) is not None}


def _of(query: EvalQuery, choice: Choice) -> str | None:
    return query.chosen if choice == "chosen" else query.rejected
