"""The table of shapes: which columns tell a layout, what each of them is, and who reads it.

A layout that nobody knows yet is one entry more: a name, a reader, and where the words of `columns.WORDS` stand. The
readers are `pairs.pair`, `ranked.listed`, those of `duels` and `unpaired`. The first entry whose columns are all there
is taken: those that need more come before those that need less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from neat_data.errors import InputError
from neat_data.sources.row import Columns, RawRow, Understood
from neat_data.sources.shapes import context, duels, nearest, pairs, queries, ranked, trees, unpaired
from neat_data.sources.shapes.columns import Parts, given, holds, take_apart

Reader = Callable[[Parts], Understood]


@dataclass(frozen=True, slots=True)
class Shape:
    """One layout of rows.

    Attributes:
        read: makes of a row's parts what they mean; raises `Unusable`.
        columns: where each word stands without which a row cannot be read.
        optional: where further words stand, if they do; of several places the first that holds something.
        marks: places that tell the shape and stay in `meta`.
        gather: makes a file's rows of others, where one row says too little.
        unfold: makes several rows of one.
        ignored: columns that stay in `meta` although they change what is asked.
    """

    name: str
    read: Reader
    columns: Mapping[str, str]
    optional: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    marks: tuple[str, ...] = ()
    gather: Callable[[Iterable[RawRow]], Iterator[RawRow]] | None = None
    unfold: Callable[[Columns], Iterator[Columns]] | None = None
    ignored: frozenset[str] = frozenset()

    @property
    def needs(self) -> tuple[str, ...]:
        """The places that tell a file of this shape."""
        return self.marks if self.gather else (*self.columns.values(), *self.marks)

    def understand(self, row: Columns) -> Understood:
        """Read one row, refusing it where a needed column is missing or one that is not read changes what is asked."""
        places = {**self.columns, **_first_places(row, self.optional)}
        parts = take_apart(row, {**places, **context.places(row, places, self.ignored)}, tuple(self.columns))
        context.refuse(parts, self.ignored)
        made = self.read(parts)
        messages = context.before(parts, made.messages)
        return made if messages is made.messages else replace(made, messages=messages)


def _first_places(row: Columns, optional: Mapping[str, str | tuple[str, ...]]) -> dict[str, str]:
    wanted = {word: (place,) if isinstance(place, str) else place for word, place in optional.items()}
    first = {word: next((place for place in places if given(row, place)), None) for word, places in wanted.items()}
    return {word: place for word, place in first.items() if place is not None}


def _same(*words: str) -> dict[str, str]:
    """Words that stand in columns of their own name."""
    return {word: word for word in words}


def _pair(name: str, prompt: str, chosen: str = "chosen", rejected: str = "rejected", **optional: str) -> Shape:
    return Shape(name, pairs.pair, {"prompt": prompt, "chosen": chosen, "rejected": rejected}, optional)


def _duel(name: str, read: Reader, prompt: str, first: str, second: str, better: str, **optional: str) -> Shape:
    columns = {"prompt": prompt, "response_a": first, "response_b": second, "better": better}
    return Shape(name, read, columns, optional)


_ORDERED: dict[str, str | tuple[str, ...]] = {
    "scores": ("rewards", "scores", "ratings"),
    "ranks": ("ranks", "rank"),
    "ranking": "ranking",
    "best": ("chosen", "best"),
    "models": "models",
}

SHAPES = (
    _duel("pku", duels.indexed, "prompt", "response_0", "response_1", "better_response_id"),
    Shape("ultrafeedback", ranked.listed, {"prompt": "instruction", "responses": "completions"}),
    Shape("messages", pairs.pair, {"chosen": "chosen_messages", "rejected": "rejected_messages"}),
    _pair("openai", "input.messages", "preferred_output", "non_preferred_output"),  # and Azure's
    Shape("step-dpo", pairs.pair, {**_same("prompt", "chosen", "rejected"), "input": "initial_reason_steps"}),
    _pair("prompted", "prompt"),
    _pair("sharegpt", "conversations"),
    _pair("trajectory", "trajectory"),  # UltraInteract
    _pair("messages-prompt", "messages"),
    _pair("context-messages", "context_messages"),  # OpenRLHF
    _pair("context", "context"),
    _pair("alpaca-pairs", "instruction", input="input"),  # LLaMA-Factory
    _pair("question-pairs", "question"),  # orca_dpo_pairs
    _pair("query-pairs", "query"),
    _pair("input-pairs", "input"),  # distilabel's orca pairs
    Shape("hh", pairs.pair, _same("chosen", "rejected")),
    _pair("argilla-pairs", "instruction", "chosen_response", "rejected_response", input="input"),
    _pair("prompt-responses", "prompt", "chosen_response", "rejected_response"),
    _pair("accepted", "input", "accepted"),
    _pair("cvalues", "prompt", "pos_resp", "neg_resp"),
    _pair("stack-exchange", "question", "response_j", "response_k"),
    _pair("winner-loser", "prompt", "response_w", "response_l"),
    _pair("ms-swift-query", "query", "response", "rejected_response"),
    Shape("ms-swift-messages", pairs.pair, {"chosen": "messages", "rejected": "rejected_messages"}),
    Shape("ms-swift", pairs.answered_messages, {"prompt": "messages", "rejected": "rejected_response"}),
    Shape("responses", ranked.listed, _same("prompt", "responses"), _ORDERED),
    Shape("rrhf", ranked.listed, {"prompt": "query", "responses": "responses"}, _ORDERED),
    Shape("pro", ranked.pro, _same("prefix", "suffix"), _same("reward")),
    Shape("nectar", ranked.listed, {"prompt": "prompt", "responses": "answers"}),
    Shape("completions", ranked.listed, {"prompt": "prompt", "responses": "completions"}),
    Shape("nemo-rl", ranked.listed, {"prompt": "context", "responses": "completions"}),
    Shape("vertex", ranked.listed, {"prompt": "contents", "responses": "completions"}, {"system": "systemInstruction"}),
    Shape("bedrock", ranked.candidates, {"prompt": "messages"}, marks=("schemaVersion",)),
    Shape(
        "distilabel",
        ranked.listed,
        {"prompt": "instruction", "responses": "generations", "scores": "ratings"},
        {"models": "generation_models", "input": "input"},
    ),
    _duel("alpaca-farm", duels.named, "instruction", "output_1", "output_2", "preference", input="input"),
    _duel("helpsteer2", duels.strength, "prompt", "response_1", "response_2", "preference_strength"),
    _duel("helpsteer3", duels.strength, "context", "response1", "response2", "overall_preference"),
    _duel(
        "shp",
        duels.first_is_one,
        "history",
        "human_ref_A",
        "human_ref_B",
        "labels",
        score_a="score_A",
        score_b="score_B",
    ),
    _duel("summaries", duels.indexed, "info.post", "summaries.0.text", "summaries.1.text", "choice"),
    _duel("articles", duels.indexed, "info.article", "summaries.0.text", "summaries.1.text", "choice"),
    Shape(
        "webgpt",
        duels.scored,
        {
            "prompt": "question.full_text",
            "response_a": "answer_0",
            "response_b": "answer_1",
            "score_a": "score_0",
            "score_b": "score_1",
        },
    ),
    Shape(
        "arena",
        duels.arena,
        {
            "prompt": "prompt",
            "response_a": "response_a",
            "response_b": "response_b",
            "winner_a": "winner_model_a",
            "winner_b": "winner_model_b",
            "tie": "winner_tie",
        },
    ),
    Shape(
        "arena-conversations",
        duels.named,
        {"response_a": "conversation_a", "response_b": "conversation_b", "better": "winner"},
    ),
    _duel("label-studio", duels.annotated, "data.prompt", "data.answer1", "data.answer2", "annotations"),
    _duel("label-studio-flat", duels.named, "prompt", "answer1", "answer2", "comparison"),
    _duel("argilla", duels.named, "fields.prompt", "fields.response1", "fields.response2", "responses.preference"),
    _duel(
        "argilla-instruction",
        duels.named,
        "fields.instruction",
        "fields.response1",
        "fields.response2",
        "responses.preference",
    ),
    _duel("argilla-responses", duels.named, "prompt", "response1", "response2", "preference.responses"),
    _duel(
        "argilla-responses-instruction", duels.named, "instruction", "response1", "response2", "preference.responses"
    ),
    _duel("argilla-feedback", duels.named, "prompt", "response1", "response2", "preference"),
    _duel("two-responses", duels.named, "prompt", "response_a", "response_b", "preference"),
    Shape(
        "oasst-trees",
        ranked.listed,
        _same("prompt"),
        _same("responses", "ranks"),
        marks=("message_tree_id",),
        unfold=trees.replies,
    ),
    Shape(
        "oasst-messages",
        ranked.listed,
        _same("prompt"),
        _same("responses", "ranks"),
        marks=("message_id", "parent_id", "text", "role"),
        gather=trees.grown,
        unfold=trees.replies,
    ),
    Shape(
        "alpaca-kto",
        unpaired.judged,
        {"prompt": "instruction", "completion": "output", "label": "kto_tag"},
        {"input": "input"},
    ),
    Shape(
        "instruction",
        ranked.best_first,
        {"prompt": "instruction", "responses": "output"},
        {"input": "input"},
    ),
    Shape("beavertails", unpaired.judged, {"prompt": "prompt", "completion": "response", "label": "is_safe"}),
    Shape("unpaired", unpaired.judged, _same("prompt", "completion", "label")),
    Shape("unpaired-response", unpaired.judged, {"prompt": "prompt", "completion": "response", "label": "label"}),
    Shape("labelled-messages", unpaired.judged, {"completion": "messages", "label": "label"}),
    Shape("labelled-sharegpt", unpaired.judged, {"completion": "conversations", "label": "label"}),
    Shape("tagged-messages", unpaired.judged, {"completion": "messages", "label": "kto_tag"}),
    Shape("tagged-sharegpt", unpaired.judged, {"completion": "conversations", "label": "kto_tag"}),
    Shape("helpsteer", unpaired.scored, {"prompt": "prompt", "completion": "response", "score": "helpfulness"}),
    Shape("scored", unpaired.scored, _same("prompt", "completion", "score")),
    Shape("scored-response", unpaired.scored, {"prompt": "prompt", "completion": "response", "score": "score"}),
)
NAMES = tuple(shape.name for shape in SHAPES)

# Where answers are all that is wanted, one a row: these before the others, as `output` may be text or a list.
RESPONSE_SHAPES = (
    *(shape for shape in SHAPES if shape.name != "instruction"),
    Shape(
        "instruction",
        ranked.or_answer,
        {"prompt": "instruction", "responses": "output"},
        {"input": "input", "model": "generator"},
    ),
    Shape("prompt-completion", unpaired.answered, _same("prompt", "completion"), _same("model")),
    Shape("prompt-response", unpaired.answered, {"prompt": "prompt", "completion": "response"}, _same("model")),
    Shape("prompt-output", unpaired.answered, {"prompt": "prompt", "completion": "output"}, _same("model")),
    Shape("question-answer", unpaired.answered, {"prompt": "question", "completion": "answer"}, _same("model")),
    Shape("query-response", unpaired.answered, {"prompt": "query", "completion": "response"}, _same("model")),
    Shape("answered-messages", unpaired.answered, {"completion": "messages"}, _same("model")),
    Shape("answered-sharegpt", unpaired.answered, {"completion": "conversations"}, _same("model")),
)

# Columns that benchmarks have as well, with reference answers in them.
_ANSWERS_MAY_BE_REFERENCES = {
    "instruction", "nectar", "completions", "nemo-rl", "beavertails", "unpaired-response", "helpsteer", "scored",
    "scored-response",
}  # fmt: skip
# Where queries are all that is wanted, these too: a file of preferences is still read as one.
QUERY_SHAPES = (
    *(shape for shape in SHAPES if shape.name not in _ANSWERS_MAY_BE_REFERENCES),
    Shape("instruction", queries.instruction, {"prompt": "instruction"}, {"input": "input", "responses": "output"}),
    Shape("prompt", queries.prompt, _same("prompt")),
    Shape("turns", queries.turns, {"prompt": "turns"}),
    Shape("question", queries.text, {"prompt": "question"}),
    Shape("query", queries.alone, {"prompt": "query"}),
    Shape("goal", queries.text, {"prompt": "goal"}),
    Shape("titled-goal", queries.text, {"prompt": "Goal"}),
    Shape("behavior", queries.behavior, {"prompt": "Behavior"}, {"input": "ContextString"}),
    Shape("query-messages", queries.alone, {"prompt": "messages"}),
)

# What a mapping of columns means, by the words that it names; the first that are all there decide.
_MAPPED: tuple[tuple[tuple[str, ...], Reader], ...] = (
    (("chosen", "rejected"), pairs.pair),
    (("responses",), ranked.listed),
    (("response_a", "response_b", "better"), duels.named),
    (("completion", "label"), unpaired.judged),
    (("completion", "score"), unpaired.scored),
    (("completion",), unpaired.answered),
    (("prompt",), queries.prompt),
)
_PREFERENCES = 5  # the kinds of `_MAPPED` above that say who is preferred, or may


def mapped(places: Mapping[str, str], *, answers: bool = False, alone: bool = False) -> Shape:
    """The shape that a user's mapping of columns describes.

    Args:
        answers: one answer a row is enough.
        alone: a query is enough.

    Raises:
        InputError: the words name no kind of row.
    """
    kinds = _MAPPED if alone else _MAPPED[: _PREFERENCES + 1] if answers else _MAPPED[:_PREFERENCES]
    for words, read in kinds:
        if set(words) <= set(places):
            return Shape("columns", read, dict(places))
    wanted = "; ".join(" and ".join(words) for words, _ in kinds)
    raise InputError(f"names {', '.join(places)}; give the places of {wanted}", field="columns")


def named(name: str, shapes: Sequence[Shape] = SHAPES) -> Shape:
    """The shape called `name`; InputError lists them."""
    for shape in shapes:
        if shape.name == name:
            return shape
    known = ", ".join(shape.name for shape in shapes)
    raise InputError(f"no such format; known are auto, {known}", field="format", value=name)


def recognise(rows: Sequence[Columns], where: str, shapes: Sequence[Shape] = SHAPES) -> Shape:
    """The first of `shapes` whose places occur in `rows`; InputError gives the mapping that comes nearest."""
    for shape in shapes:
        if all(any(holds(row, place) for row in rows) for place in shape.needs):
            return shape
    advice = (
        "Say what they hold, say {columns} " + nearest.mapping(rows) + "; or name one of the layouts with {format}."
    )
    raise InputError(_unknown(rows, where), advice=advice)


def _unknown(rows: Sequence[Columns], where: str) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    shown = ", ".join(column[:40] for column in columns[:20]) or "none"
    return f"{where}: unknown shape. Columns found: {shown}."
