"""What `neat-train eval` is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neat_data.options.words import Thinking
from neat_data.rounds.candidates import REFUSAL
from neat_data.scoring.engine import HERE, EngineSpec
from neat_train.evaluation.subject import Subject, open_subject

SHARD_ROWS = 256


@dataclass(frozen=True)
class EvalRequest:
    """What `neat-train eval` was asked for.

    Attributes:
        subject: a run, one of its checkpoints, a model's or an adapter's folder, or a hub id.
        queries, where, limit, subset, split, format: as `open_queries` takes them.
        rewards: the reward models, that which trained first; each as `MODEL` or `NAME=MODEL`.
        reward_templates, reward_args: as `RewardOptions` takes them.
        out: the folder to write; None: `eval/NAME` in the run, NAME being that of the queries, or
            `eval/checkpoint-N/NAME` for one of its checkpoints, which a run may remove.
        prompt, negative: as `named_prompt` takes them: what answers are given under, and what the negative ones are.
        start: the policy that KL is measured from; None: the one that the run began from.
        refusal: a regular expression; an answer in whose first 200 characters it is found counts as a refusal.
        device, dtype, chat_template, thinking, template_args, max_length, token_budget, model_args, base: as
            `open_subject` takes them.
        shard_rows: queries that are answered and scored at a time, the unit of work and of retry.
        engine: where that is done.
        trust_remote_code: whether code that comes with a model is run: with one that the user named, or its base.
    """

    subject: str
    queries: str
    rewards: tuple[str, ...] = ()
    out: Path | None = None
    prompt: str = "none"
    negative: str = "negative"
    start: str | None = None
    seed: int = 0
    where: str | None = None
    limit: int | None = None
    subset: str | None = None
    split: str | None = None
    format: str = "auto"
    max_new_tokens: int = 128
    refusal: str = REFUSAL
    device: str = "auto"
    dtype: str = "auto"
    chat_template: str = "auto"
    thinking: Thinking | None = None
    template_args: Mapping[str, Any] | None = None
    max_length: int | None = None
    token_budget: int | None = None
    model_args: Mapping[str, Any] | None = None
    trust_remote_code: bool = False
    base: str | None = None
    reward_templates: tuple[str, ...] = ()
    reward_args: tuple[str, ...] = ()
    shard_rows: int = SHARD_ROWS
    engine: EngineSpec = HERE

    def open(self, spec: str, *, trusted: bool = True) -> Subject:
        """A subject with the options of this request; one that the user did not name brings no code."""
        return open_subject(
            spec,
            device=self.device,
            dtype=self.dtype,
            chat_template=self.chat_template,
            thinking=self.thinking,
            template_args=dict(self.template_args or {}),
            max_length=self.max_length,
            token_budget=self.token_budget,
            model_args=dict(self.model_args or {}),
            trust_remote_code=self.trust_remote_code and trusted,
            base=self.base,
        )
