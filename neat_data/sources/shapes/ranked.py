"""Lists of responses to one query -> answers, and the order that the source gives them.

Responses are texts, messages, or objects with a text and perhaps a score, a rank and a model. A bad response is left
out, with a note of it, as long as two good ones remain.

UltraFeedback's fine-grained score (the mean of four ratings) is the reward where every completion has one, else the
overall score: some overall scores of 1 were published as 10, and no list mixes the two scales.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from neat_data.record import Message, Messages
from neat_data.sources.row import Columns, SourceAnswer, Understood, Unusable
from neat_data.sources.shapes import asked, chat, literals, sides, unpaired, verdicts
from neat_data.sources.shapes.columns import Parts
from neat_data.sources.shapes.values import index, number

_PRO_ROLES = {"<|prompter|>": "user", "<|assistant|>": "assistant"}
# Inside an object that holds one response; of the scores, the first that every response has.
_TEXTS = ("response", "text", "answer", "completion", "output", "generation", "content")
_SCORES = ("fine-grained_score", "overall_score", "score", "rating", "reward")
_RANKS = ("rank", "ranking")

Levels = Sequence[float | None]
MOST_RESPONSES = 1_000
"""Of one row: an order of m responses states m (m - 1) / 2 pairs, and figures look at each of them."""


def understand(
    query: Messages,
    items: Any,
    column: str,
    read: Callable[[int, Any], SourceAnswer],
    meta: Columns,
    levels: Levels | None = None,
) -> Understood:
    """Read each of `items` by `read(index, item)`, which raises `Unusable` where one cannot be used.

    Args:
        levels: how good each item is, where something else than its score says that; None for one of which nothing is
            said.
    """
    if not isinstance(items, list):
        raise Unusable("too_few_responses", f"`{column}` holds {chat.kind(items)}, not a list")
    if len(items) > MOST_RESPONSES:
        raise Unusable("too_many_responses", f"`{column}` has {len(items):,}; {MOST_RESPONSES:,} are read at most")
    chat.check_query(query, column)
    answers, left_out = _read_all(items, read)
    if len(answers) < 2:
        reason = left_out[0]["reason"] if left_out else "too_few_responses"
        raise Unusable(reason, f"`{column}` has {len(items)} responses, {len(answers)} of them usable")
    good = [answer.reward if levels is None else levels[position] for position, answer in answers.items()]
    meta = {**meta, "left_out": left_out} if left_out else meta
    return Understood(query, tuple(answers.values()), verdicts.order(good), meta=meta)


def _read_all(
    items: list[Any], read: Callable[[int, Any], SourceAnswer]
) -> tuple[dict[int, SourceAnswer], list[Columns]]:
    """The usable answers by their position, and a note of every other."""
    answers: dict[int, SourceAnswer] = {}
    left_out: list[Columns] = []
    seen: set[str] = set()
    for position, item in enumerate(items):
        try:
            answer = _new(read(position, item), seen)
        except Unusable as problem:
            left_out.append({"index": position, "reason": problem.reason, "text": _text(item)})
        else:
            seen.add(answer.text)
            answers[position] = answer
    return answers, left_out


def _text(item: Any) -> Any:
    """The response's text as it stood; whatever stands there where that is no text."""
    return item.get(_text_key(item) or "response") if isinstance(item, dict) else item


def _new(answer: SourceAnswer, seen: set[str]) -> SourceAnswer:
    if not answer.text:
        raise Unusable("empty_response")
    if answer.text in seen:
        raise Unusable("identical_responses")
    return answer


def listed(parts: Parts) -> Understood:
    """`prompt` and `responses`; `scores`, `ranks`, `order`, `ranking` or `best` say which is better, or each's own."""
    items = literals.parsed(parts.get("responses"))
    if parts.given("scores"):
        length = len(items) if isinstance(items, list) else -1
        verdicts.numbers(parts.get("scores"), parts.place("scores"), length)
    if not isinstance(items, list):
        raise Unusable("too_few_responses", f"`{parts.place('responses')}` holds {chat.kind(items)}, not a list")
    return from_items(parts, items, parts.place("responses"), _levels(parts, items))


def best_first(parts: Parts) -> Understood:
    """`prompt` and `responses` of which the first is the best, and so on."""
    items = literals.parsed(parts.get("responses"))
    levels = list(range(len(items), 0, -1)) if isinstance(items, list) else None
    return from_items(parts, items, parts.place("responses"), levels)


def or_answer(parts: Parts) -> Understood:
    """The same, or one answer alone: AlpacaEval's outputs."""
    if isinstance(literals.parsed(parts.get("responses")), list):
        return best_first(parts)
    alone = {**parts.values, "completion": parts.get("responses")}
    return unpaired.answered(Parts(alone, {**parts.places, "completion": parts.place("responses")}, parts.rest))


def from_items(parts: Parts, items: Any, column: str, levels: Levels | None = None) -> Understood:
    """The responses `items` to the query of `parts`."""
    query = asked.query(parts)
    read = _Reader(parts, items, query)
    return understand(query, items, column, read, {**parts.rest, **read.meta}, levels)


def _levels(parts: Parts, items: list[Any]) -> Levels | None:
    """How good each response is by what the row says of all; None where each may have a score of its own."""
    length = len(items)
    if parts.given("ranks"):
        ranks = verdicts.numbers(parts.get("ranks"), parts.place("ranks"), length)
        return [-number(rank, parts.place("ranks")) for rank in ranks]
    if parts.given("order"):
        return _placed(verdicts.from_positions(parts.get("order"), parts.place("order"), length), length)
    if parts.given("ranking"):
        return _placed(verdicts.ranking(parts.get("ranking"), parts.place("ranking"), length), length)
    if parts.given("best"):
        best = _best(parts.get("best"), parts.place("best"), items)
        return [float(position == best) for position in range(length)]
    key = _common(items, _RANKS)
    return None if key is None or _common(items, _SCORES) else [-number(item[key], key) for item in items]


def _best(value: Any, place: str, items: list[Any]) -> int:
    """The position of the best response, which is named by its position or its text."""
    return items.index(value) if value in items else index(value, place, len(items))


def _placed(positions: tuple[int, ...], length: int) -> Levels:
    return [-float(positions.index(item)) if item in positions else None for item in range(length)]


class _Reader:
    """Reads one response of a row: `reader(position, item)`; `meta` holds what else the objects say."""

    def __init__(self, parts: Parts, items: Any, query: Messages) -> None:
        self.parts, self.query = parts, query
        self.prompt = asked.prompt(parts)
        objects = isinstance(items, list) and any(_text_key(item) for item in items)
        self.score = _common(items, _SCORES) if objects else None
        self.scores = self._column("scores", items)
        self.models = self._column("models", items)
        taken = ("model", self.score, _common(items, _RANKS))
        rest = [_rest(item, taken) for item in items] if objects else []
        self.meta = {parts.place("responses"): rest} if any(rest) else {}

    def _column(self, word: str, items: Any) -> list[Any] | None:
        if not self.parts.given(word) or not isinstance(items, list):
            return None
        return verdicts.numbers(self.parts.get(word), self.parts.place(word), len(items))

    def __call__(self, position: int, item: Any) -> SourceAnswer:
        where = f"{self.parts.place('responses')}[{position}]"
        text_key = _text_key(item)
        if isinstance(item, dict) and text_key is None and not chat.is_message(item):
            raise Unusable("bad_message", f"`{where}` has no response")
        side = item[text_key] if text_key else item
        whole_query, text = chat.split(sides.prompted(self.prompt, side, where, self.parts.place("prompt")), where)
        if whole_query != self.query:
            raise Unusable("queries_differ", f"`{where}` holds further turns")
        return SourceAnswer(text, self._reward(position, item, where), self._model(position, item))

    def _reward(self, position: int, item: Any, where: str) -> float | None:
        if self.scores is not None:
            return number(self.scores[position], f"{self.parts.place('scores')}[{position}]")
        return number(item[self.score], f"{where}.{self.score}") if self.score else None

    def _model(self, position: int, item: Any) -> str | None:
        model = item.get("model") if isinstance(item, dict) else self.models[position] if self.models else None
        return model if isinstance(model, str) else None


def _text_key(item: Any) -> str | None:
    """Where an object holds its response; None for a message, a text or an object without one."""
    if not isinstance(item, dict) or chat.is_message(item):
        return None
    return next((key for key in _TEXTS if key in item), None)


def _common(items: Any, keys: Sequence[str]) -> str | None:
    """The first of `keys` that every object has."""
    objects = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    return next((key for key in keys if objects and all(_given(item.get(key)) for item in objects)), None)


def _given(score: Any) -> bool:
    """Whether a score is there: a mean over no ratings is null, or NaN."""
    return score is not None and not (isinstance(score, float) and math.isnan(score))


def _rest(item: Any, taken: Sequence[str | None]) -> Any:
    """What an object holds beside its response, model, score and rank."""
    if not isinstance(item, dict):
        return None
    text = _text_key(item)
    return {key: value for key, value in item.items() if key != text and key not in taken}


def candidates(parts: Parts) -> Understood:
    """`messages` whose last one holds candidates, each labelled preferred or not (Bedrock)."""
    messages = literals.parsed(parts.get("prompt"))
    last = messages[-1] if isinstance(messages, list) and messages and isinstance(messages[-1], dict) else {}
    items = last.get("candidates")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise Unusable("no_response_turn", f"`{parts.place('prompt')}` does not end in candidates")
    levels = [_preferred(item.get("preferenceLabel")) for item in items]
    answers = [{"role": "assistant", "content": item.get("content")} for item in items]
    return from_items(
        Parts({**parts.values, "prompt": messages[:-1]}, parts.places, parts.rest), answers, "candidates", levels
    )


def _preferred(label: Any) -> float:
    if label not in ("preferred", "non-preferred"):
        raise verdicts.bad_label(label, "preferenceLabel")
    return float(label == "preferred")


def pro(parts: Parts) -> Understood:
    """`prefix[]`, `suffix[]`, `reward[]`: each response with its own copy of the query (PRO)."""
    prefixes, items, scores = (literals.parsed(parts.get(word)) for word in ("prefix", "suffix", "reward"))
    if not isinstance(prefixes, list) or not isinstance(items, list) or len(prefixes) != len(items):
        raise Unusable("queries_differ", "`prefix` and `suffix` differ in number")
    scores = None if scores is None else verdicts.numbers(scores, "reward", len(items))
    queried = [_pro_query(prefix) for prefix in prefixes]

    def read(index: int, item: Any) -> SourceAnswer:
        if queried[index] != queried[0]:
            raise Unusable("queries_differ", f"`prefix[{index}]`")
        text = chat.text(item, f"suffix[{index}]").strip()
        return SourceAnswer(text, None if scores is None else number(scores[index], f"reward[{index}]"))

    return understand(queried[0] if queried else (), items, "suffix", read, parts.rest)


def _pro_query(prefix: Any) -> Messages:
    """Turns behind their role tokens, the last one the response's empty turn; or one text."""
    if isinstance(prefix, str):
        return (Message("user", prefix.strip()),)
    if not isinstance(prefix, list):
        raise Unusable("not_text", f"`prefix` holds {chat.kind(prefix)}")
    turns = tuple(_pro_turn(chat.text(turn, "prefix")) for turn in prefix)
    return turns[:-1] if turns and turns[-1] == Message("assistant", "") else turns


def _pro_turn(turn: str) -> Message:
    for token, role in _PRO_ROLES.items():
        if turn.startswith(token):
            return Message(role, turn.removeprefix(token).strip())
    raise Unusable("unknown_role", f"`prefix`: {turn[:20]!r}")
