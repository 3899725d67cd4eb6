"""Records to training examples: token ids of the query, and of each response by itself, with its reward.

The query is cut to its share of the length and tokenised once; a response is tokenised by itself and joined to it, so
that no answer changes the tokens of its query. `batches` lays the examples out for a model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from neat_data.models.stopping import Stops
from neat_data.models.templates import ChatTemplate
from neat_data.prompts import Prompt
from neat_data.record import Record


@dataclass(frozen=True, slots=True)
class Answer:
    """A response to learn from.

    Attributes:
        response_id: of the record's response.
        ids: the tokens to learn; the last is the end of turn, unless the response was cut. Never empty.
        reward: the higher, the better.
        polarity: what the prompt it was sampled under asked for.
        prompted: token ids of the query under that prompt, only where they were asked for.
    """

    response_id: str
    ids: tuple[int, ...]
    reward: float
    polarity: str | None = None
    prompted: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """A record as token ids: `query` ends in the header of the answer; `answers` are best first, one at least."""

    query_id: str
    query: tuple[int, ...]
    answers: tuple[Answer, ...]


class Encoder:
    """Makes examples of records, and counts what it had to change or leave out."""

    def __init__(
        self,
        template: ChatTemplate,
        stops: Stops,
        tokenizer: PreTrainedTokenizerBase,
        tokenizer_id: str,
        max_length: int,
        max_response: int,
        prompts: Mapping[str, Prompt] | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()

    def example(self, record: Record) -> Example | None:
        """The record's example; None where nothing is left to train on."""
        raise NotImplementedError
