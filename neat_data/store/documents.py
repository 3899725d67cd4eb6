"""The JSON objects that a dataset is made of, by the names of their keys: settings, metadata, rejects.

They are written as they are and read back; a key that is not there was not known to the version that wrote it.
"""

from __future__ import annotations

from typing import Any, TypedDict

Settings = dict[str, Any]
"""What a dataset, a round or a model is made with: names and JSON values, compared as a whole (`fingerprint_of`)."""

Arguments = dict[str, Any]
"""What a back end is handed by name, in its own words: `--model-arg`, `--judge-arg`."""

Metadata = dict[str, Any]
"""What an Arrow file says of itself beside its rows, in the keys of who writes it; a dataset's in `ShardMetadata`."""


class RowPlace(TypedDict):
    """Where a source row stands, as a label says it."""

    name: str
    subset: str | None
    split: str | None
    row: int


class RejectLine(RowPlace, total=False):
    """One source row that could not be used: a line of `rejects/*.jsonl`.

    Attributes:
        reason, detail: a code, and what is wrong in this row.
        raw: the row as it stood.
        raw_base64: in the place of `raw` where its bytes are no text.
    """

    reason: str
    detail: str
    raw: str
    raw_base64: str


class ShardMetadata(TypedDict, total=False):
    """What a shard says of itself, beside its rows.

    Attributes:
        kind, fingerprint, settings: of its round.
        source_rows, queries_cut: that it was made of.
        token_budget: where a smaller one than asked for was taken.
        usage, not_taken: of the sampler: tokens, and what a server was not asked with.
        reward_not_taken: what the reward model's server was not asked with.
        thoughts: how many of the source's responses think.
        prompts: `Tally`s by prompt.
        format_version, round, number: where it belongs.
        labels, rejected, rejects_sha256: counts that `verify` compares, and the hash of its rejects.
    """

    kind: str
    fingerprint: str
    settings: Settings
    source_rows: int
    queries_cut: int
    token_budget: int
    usage: dict[str, int]
    not_taken: list[str]
    reward_not_taken: list[str]
    prompts: dict[str, Any]
    thoughts: dict[str, int]
    format_version: int
    round: int
    number: int
    labels: int
    rejected: dict[str, int]
    rejects_sha256: str | None


class Thoughts(TypedDict, total=False):
    """How many responses of a source think, how many of them without an end, and which part was `scored`."""

    responses: int
    unended: int
    scored: str


class RoundSummary(TypedDict, total=False):
    """What a finished round holds, as the manifest says it.

    Attributes:
        records, responses, labels: that were stored.
        rejected: source rows that were not, by reason.
        source_rows, repeated_rows, queries_cut: of a dataset's first round.
        folded, folded_rounds, dropped_responses: of one that `compact` made.
        thoughts: of a dataset's first round, where there are any.
        reward_not_taken: what a judge's server was not asked with, where it refused some setting.
        asked, prompts, usage, not_taken: of a round of candidates: how many, `Tally`s by prompt, the sampler's tokens,
            what its server was not asked with.
    """

    records: int
    responses: int
    labels: int
    rejected: dict[str, int]
    source_rows: int
    repeated_rows: int
    queries_cut: int
    folded: bool
    folded_rounds: int
    dropped_responses: int
    asked: int
    prompts: dict[str, Metadata]
    usage: dict[str, int]
    not_taken: list[str]
    reward_not_taken: list[str]
    thoughts: Thoughts


class RoundIdentity(TypedDict):
    """What every shard of a round says in the same words."""

    kind: str
    fingerprint: str
    settings: Settings


class MeanReward(TypedDict):
    """The mean reward of what was scored, None where nothing was."""

    reward: float | None
    reward_low: float | None
    reward_high: float | None


class ShareBelow(TypedDict):
    """The share of the compared below what people rejected, None where nothing was compared."""

    below_rejected: float | None
    below_low: float | None
    below_high: float | None


class ThoughtFigures(TypedDict, total=False):
    """Shares of responses with a thought and of thoughts without an end, and means; not there where none thinks."""

    thought_share: float | None
    unended_share: float
    thought_characters: float
    reward_with_thought: float | None
    reward_without_thought: float | None


class PromptFigures(MeanReward, ShareBelow, ThoughtFigures):
    """What became of the candidates of one prompt, for people: counts, shares and means with 95 % intervals."""

    polarity: str | None
    asked: int
    scored: int
    kept: int
    tokens: int
    dropped: dict[str, int]
    unfinished: int
    cut: int
    queries_cut: int
    refusals: int
    compared: int
    refusal_share: float | None
    chosen: float | None
    rejected: float | None
