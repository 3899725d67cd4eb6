"""Lists of responses to one query -> answers, and the order that the source gives them.

`instruction`/`output[]`, `prompt`/`responses[]` with or without scores, PRO's prefixes and suffixes, PKU-SafeRLHF's
pairs, UltraFeedback's completions. A bad response is left out, with a note of it, as long as two good ones remain.

UltraFeedback's fine-grained score (the mean of four ratings) is the reward where every completion has one, else the
overall score: some overall scores of 1 were published as 10, and no list mixes the two scales.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from neat_data.record import Message, Messages
from neat_data.sources.row import SourceAnswer, Understood, Unusable
from neat_data.sources.shapes import chat, sides
from neat_data.sources.shapes.values import index, number

_SCORES = ("rewards", "scores")
_PRO_ROLES = {"<|prompter|>": "user", "<|assistant|>": "assistant"}
_ULTRAFEEDBACK_SCORES = ("fine-grained_score", "overall_score")


def understand(
    query: Messages,
    items: Any,
    column: str,
    read: Callable[[int, Any], SourceAnswer],
    meta: dict[str, Any],
    best_first: bool = False,
) -> Understood:
    """Read each of `items` by `read(index, item)`, which raises `Unusable` where one cannot be used.

    Scores order the answers where there are any; else, with `best_first`, their places do.
    """
    if not isinstance(items, list):
        raise Unusable("too_few_responses", f"`{column}` holds {chat.kind(items)}, not a list")
    chat.check_query(query, column)
    answers, left_out = _read_all(items, read)
    if len(answers) < 2:
        reason = left_out[0]["reason"] if left_out else "too_few_responses"
        raise Unusable(reason, f"`{column}` has {len(items)} responses, {len(answers)} of them usable")
    order = _by_score(answers) if answers[0].reward is not None else tuple(range(len(answers))) if best_first else ()
    return Understood(query, tuple(answers), order, meta={**meta, "left_out": left_out} if left_out else meta)


def _read_all(
    items: list[Any], read: Callable[[int, Any], SourceAnswer]
) -> tuple[list[SourceAnswer], list[dict[str, Any]]]:
    answers: list[SourceAnswer] = []
    left_out: list[dict[str, Any]] = []
    seen: set[str] = set()
    for position, item in enumerate(items):
        try:
            answer = _new(read(position, item), seen)
        except Unusable as problem:
            left_out.append({"index": position, "reason": problem.reason, "text": _text(item)})
        else:
            seen.add(answer.text)
            answers.append(answer)
    return answers, left_out


def _text(item: Any) -> Any:
    """The response's text as it stood; whatever stands there where that is no text."""
    return item.get("response") if isinstance(item, dict) else item


def _new(answer: SourceAnswer, seen: set[str]) -> SourceAnswer:
    if not answer.text:
        raise Unusable("empty_response")
    if answer.text in seen:
        raise Unusable("identical_responses")
    return answer


def _by_score(answers: Sequence[SourceAnswer]) -> tuple[int, ...]:
    """One answer for each score, best first, so that a tie never becomes a verdict; () where all tie."""
    first: dict[float, int] = {}
    for position, answer in enumerate(answers):
        assert answer.reward is not None  # the whole list has scores or none of it has
        first.setdefault(answer.reward, position)
    order = tuple(first[score] for score in sorted(first, reverse=True))
    return order if len(order) > 1 else ()


def pku(row: dict[str, Any]) -> Understood:
    """`prompt`, `response_0`, `response_1`, `better_response_id`."""
    query = sides.query(row["prompt"])
    chat.check_query(query, "prompt")
    texts = [chat.text(row[column], column).strip() for column in ("response_0", "response_1")]
    for position, text in enumerate(texts):
        if not text:
            raise Unusable("empty_response", f"`response_{position}`")
    if texts[0] == texts[1]:
        raise Unusable("identical_responses")
    better = index(row["better_response_id"], "better_response_id", 2)
    used = {"prompt", "response_0", "response_1", "better_response_id"}
    meta = {key: value for key, value in row.items() if key not in used}
    return Understood(query, (SourceAnswer(texts[0]), SourceAnswer(texts[1])), (better, 1 - better), meta=meta)


def instruction(row: dict[str, Any]) -> Understood:
    """`instruction`, `input`, `history` and `output`, a list whose first response is the best."""
    used = {"instruction", "input", "history", "system", "output"}
    meta = {key: value for key, value in row.items() if key not in used}

    def read(index: int, item: Any) -> SourceAnswer:
        return SourceAnswer(chat.text(item, f"output[{index}]").strip())

    return understand(instruction_query(row), row["output"], "output", read, meta, best_first=True)


def instruction_query(row: dict[str, Any]) -> Messages:
    """`instruction` with `input` below it, behind `system` and `history` where there are any."""
    system = _optional_text(row, "system").strip()
    asked, context = chat.text(row["instruction"], "instruction"), _optional_text(row, "input")
    last = Message("user", (f"{asked}\n{context}" if context else asked).strip())
    return (*([Message("system", system)] if system else []), *_history(row.get("history")), last)


def _optional_text(row: dict[str, Any], column: str) -> str:
    return "" if row.get(column) is None else chat.text(row[column], column)


def _history(value: Any) -> list[Message]:
    """Earlier exchanges, each a pair of the user's and the assistant's text."""
    if not isinstance(value, list | None):
        raise Unusable("bad_message", f"`history` holds {chat.kind(value)}")
    turns = []
    for turn, exchange in enumerate(value or ()):
        if not isinstance(exchange, list) or len(exchange) != 2:
            raise Unusable("bad_message", f"`history[{turn}]` is no pair of texts")
        asked, answered = (chat.text(item, f"history[{turn}]").strip() for item in exchange)
        turns += [Message("user", asked), Message("assistant", answered)]
    return turns


def responses(row: dict[str, Any]) -> Understood:
    """`prompt` and `responses`, with `rewards` or `scores` where the source has them (Online-RLHF)."""
    return _listed(row, "prompt")


def query_responses(row: dict[str, Any]) -> Understood:
    """`query` and `responses`, with `scores` (RRHF)."""
    return _listed(row, "query")


def _listed(row: dict[str, Any], prompt: str) -> Understood:
    scores_column = next((column for column in _SCORES if row.get(column) is not None), None)
    scores = row[scores_column] if scores_column else None
    _check_lengths(row["responses"], scores, scores_column)
    query = sides.query(row[prompt])
    meta = {key: value for key, value in row.items() if key not in {prompt, "responses", scores_column}}

    def read(index: int, item: Any) -> SourceAnswer:
        column = f"responses[{index}]"
        whole_query, text = chat.split(sides.prompted(row[prompt], item, column), column)
        if whole_query != query:
            raise Unusable("queries_differ", f"`{column}` holds further turns")
        return SourceAnswer(text, None if scores is None else number(scores[index], f"{scores_column}[{index}]"))

    return understand(query, row["responses"], "responses", read, meta)


def _check_lengths(items: Any, scores: Any, column: str | None) -> None:
    if scores is None:
        return
    if not isinstance(scores, list) or not isinstance(items, list) or len(scores) != len(items):
        raise Unusable("bad_score", f"`{column}` and the responses differ in number")


def pro(row: dict[str, Any]) -> Understood:
    """`prefix[]`, `suffix[]`, `reward[]`: each response with its own copy of the query (PRO)."""
    prefixes, scores = row["prefix"], row.get("reward")
    _check_lengths(row["suffix"], scores, "reward")
    if not isinstance(prefixes, list) or not isinstance(row["suffix"], list) or len(prefixes) != len(row["suffix"]):
        raise Unusable("queries_differ", "`prefix` and `suffix` differ in number")
    queries = [_pro_query(prefix) for prefix in prefixes]
    meta = {key: value for key, value in row.items() if key not in {"prefix", "suffix", "reward"}}

    def read(index: int, item: Any) -> SourceAnswer:
        if queries[index] != queries[0]:
            raise Unusable("queries_differ", f"`prefix[{index}]`")
        text = chat.text(item, f"suffix[{index}]").strip()
        return SourceAnswer(text, None if scores is None else number(scores[index], f"reward[{index}]"))

    return understand(queries[0] if queries else (), row["suffix"], "suffix", read, meta)


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


def completions(row: dict[str, Any]) -> Understood:
    """One row: the instruction as the query, its completions as answers."""
    query = (Message("user", chat.text(row["instruction"], "instruction").strip()),)
    items = row["completions"]
    score = _score_column(items)
    meta = {key: value for key, value in row.items() if key not in {"instruction", "completions"}}
    meta["completions"] = [_rest(item, score) for item in items] if isinstance(items, list) else None

    def read(index: int, item: Any) -> SourceAnswer:
        where = f"completions[{index}]"
        if not isinstance(item, dict) or "response" not in item:
            raise Unusable("bad_message", f"`{where}` has no response")
        model = item.get("model")
        return SourceAnswer(
            chat.text(item["response"], f"{where}.response").strip(),
            None if score is None else number(item[score], f"{where}.{score}"),
            model if isinstance(model, str) else None,
        )

    return understand(query, items, "completions", read, meta)


def _score_column(items: Any) -> str | None:
    """The first kind of score that every completion has."""
    rows = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    return next((name for name in _ULTRAFEEDBACK_SCORES if rows and all(_given(item.get(name)) for item in rows)), None)


def _given(score: Any) -> bool:
    """Whether a score is there: a mean over no ratings is null, or NaN."""
    return score is not None and not (isinstance(score, float) and math.isnan(score))


def _rest(item: Any, score: str | None) -> Any:
    """What a completion holds beside the response, its model and the score that was taken."""
    if not isinstance(item, dict):
        return None
    return {key: value for key, value in item.items() if key not in {"response", "model", score}}
