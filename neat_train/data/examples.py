"""Records to training examples: token ids of the query, and of each response by itself, with its reward.

The query is cut to its share of the length and tokenised once. A response is tokenised as `AnswerForm` writes it behind
the answer's header, whatever the query (`hh` writes a space there, which belongs to the response: it is what the model
generates first), and joined to the query's ids, so that no answer changes the tokens of its query. Sampled responses
keep the ids that were sampled. `batches` lays the examples out for a model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from neat_data.errors import InputError
from neat_data.models.encode import encode_query
from neat_data.models.sampler import Ask, Sampling
from neat_data.models.stopping import Stops
from neat_data.models.templates import ChatTemplate
from neat_data.prompts.sets import Prompt
from neat_data.record import Messages, Record, Response, ranked
from neat_train.data.answer_form import AnswerForm


@dataclass(frozen=True, slots=True)
class TrainedResponse:
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
    answers: tuple[TrainedResponse, ...]


class Encoder:
    """Makes examples of records, and counts what it had to change or leave out.

    Attributes:
        counts: `queries_cut`: lost oldest turns; `query_too_long`, `template_refused`, `no_responses`: records left
            out; `unscored`, `empty`, `thought_refused` (the template writes their thought otherwise than behind its
            header): responses left out; `responses_cut`: above `max_response`; `unfinished`: were cut
            before they came here; `sampled_ids`: kept the ids that were sampled; `retokenised`: sampled, but their
            text had to be tokenised; `prompted_too_long`: no room for the query under its prompt.
    """

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
        """Prepare for one policy.

        Args:
            template: what a dialogue goes through.
            stops: what ends a response; the first token is the end of turn to learn.
            tokenizer: the policy's.
            tokenizer_id: sampled ids are used where `Response.tokenizer` equals it.
            max_length: tokens of query and response; the query gets `max_length - max_response`.
            max_response: tokens of a response, its end of turn included.
            prompts: by polarity, the prompts under which `TrainedResponse.prompted` is wanted; None: it is not.

        Raises:
            InputError: the policy has no end-of-turn token, or the lengths leave no room for a query.
        """
        if not stops.ids:
            raise InputError(
                "its tokenizer has no end-of-turn token, which every response is to learn\n"
                "give a model whose tokenizer names one (eos_token)",
                field="policy",
            )
        if not 1 <= max_response < max_length:
            raise InputError(
                f"max_response {max_response}, max_length {max_length}: a response needs a token, a query the rest"
            )
        self.counts: Counter[str] = Counter()
        self._template, self._stops, self._tokenizer, self._id = template, stops, tokenizer, tokenizer_id
        self._max_length, self._room = max_length, Sampling(max_new_tokens=max_response)
        self._prompts = prompts
        self._form = AnswerForm(template, str(tokenizer.convert_ids_to_tokens(stops.ids[0])))
        self._header_ids = self._tokenised([self._form.header])[0]

    def example(self, record: Record) -> Example | None:
        """The record's example; None where nothing is left to train on."""
        asked = encode_query(Ask(record.messages, 0, self._room), self._template, self._max_length)
        if asked.refused:
            self.counts[asked.refused] += 1
            return None
        self.counts["queries_cut"] += bool(asked.turns_cut)
        answers = self._answers(record)
        if not answers:
            self.counts["no_responses"] += 1
            return None
        return Example(record.query_id, tuple(asked.ids), answers)

    def _answers(self, record: Record) -> tuple[TrainedResponse, ...]:
        scored = [response for response in ranked(record.responses) if response.reward is not None]
        self.counts["unscored"] += len(record.responses) - len(scored)
        contexts = self._contexts(record.messages, scored)
        answers = []
        for response, ids in zip(scored, self._learned(scored), strict=True):
            assert response.reward is not None
            if ids is None:
                self.counts["thought_refused"] += 1
            elif ids:
                prompted = contexts.get(response.polarity)
                answers.append(TrainedResponse(response.response_id, ids, response.reward, response.polarity, prompted))
            else:
                self.counts["empty"] += 1
        return tuple(answers)

    def _learned(self, responses: Sequence[Response]) -> list[tuple[int, ...] | None]:
        """The ids to learn of each response, those of texts tokenised together; None where the form refuses it."""
        kept = [self._sampled(response) for response in responses]
        written = [response for response, ids in zip(responses, kept, strict=True) if ids is None]
        tokenised = iter(self._of_texts(written))
        learned: list[tuple[int, ...] | None] = []
        for response, ids in zip(responses, kept, strict=True):
            if ids is not None:
                self.counts["sampled_ids"] += 1
                whole = ids[-1:] and ids[-1] in self._stops.ids
                learned.append(self._ended(ids[:-1] if whole else ids, bool(whole)))
            elif (own := next(tokenised)) is None:
                learned.append(None)
            else:
                self.counts["retokenised"] += response.origin == "sampled"
                learned.append(self._ended(own, _is_whole(response)))
        return learned

    def _sampled(self, response: Response) -> tuple[int, ...] | None:
        """The ids that were sampled, where they are this policy's and end as its samples end.

        Behind a stop string stand tokens that do not belong to the response: its text has lost them.
        """
        if response.tokens is None or response.tokenizer != self._id:
            return None
        ended = bool(response.tokens) and response.tokens[-1] in self._stops.ids
        return response.tokens if ended or response.finished is False else None

    def _ended(self, ids: Sequence[int], whole: bool) -> tuple[int, ...]:
        """The ids with the end of turn behind them, or cut to their share of the length without it."""
        limit = self._room.max_new_tokens
        self.counts["unfinished"] += not whole
        if len(ids) + whole > limit:
            self.counts["responses_cut"] += 1
            return tuple(ids[:limit])
        return (*ids, self._stops.ids[0]) if whole else tuple(ids)

    def _of_texts(self, responses: Sequence[Response]) -> list[list[int] | None]:
        """The ids of texts as they stand behind the answer's header; by themselves where a token would span both."""
        learned = [self._form.learned(response.text, whole=_is_whole(response)) for response in responses]
        written = [text for text in learned if text is not None]
        behind = self._tokenised([self._form.header + text for text in written])
        alone = self._tokenised(written)
        size = len(self._header_ids)
        ids = (
            whole[size:] if text and whole[:size] == self._header_ids else own
            for text, whole, own in zip(written, behind, alone, strict=True)
        )
        return [None if text is None else next(ids) for text in learned]

    def _tokenised(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        return self._tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]

    def _contexts(self, messages: Messages, responses: Sequence[Response]) -> dict[str | None, tuple[int, ...]]:
        """The query's ids under the prompt of each polarity that these responses were sampled under."""
        contexts: dict[str | None, tuple[int, ...]] = {}
        for polarity in {response.polarity for response in responses if response.polarity is not None}:
            prompt = (self._prompts or {}).get(polarity)
            if prompt is None:
                continue
            ask = Ask(prompt.applied(messages), 0, self._room, prompt.lead)
            asked = encode_query(ask, self._template, self._max_length)
            if asked.refused:
                self.counts["prompted_too_long"] += 1
            else:
                contexts[polarity] = tuple(asked.ids)
        return contexts


def _is_whole(response: Response) -> bool:
    return response.finished is not False and not response.truncated
