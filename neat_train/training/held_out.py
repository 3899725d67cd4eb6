"""What a policy is worth on queries that it is never trained on: perplexity, and the rewards of fresh answers to them.

`HeldOut.measure` looks at a policy without leaving a trace in it, and `Measures` makes a transformers Trainer evaluate
in this way, so that the best model and early stopping work. Which queries these are, `neat_train.data.split` says.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from transformers import Trainer

from neat_data.labels import chosen_or_best
from neat_data.models.out_of_memory import halving, score_tasks
from neat_data.models.reward_model import RewardModel, Task
from neat_data.models.sampler import NO_ROUND, Ask, Sample, Sampler, Sampling, sample_seed
from neat_data.progress import Silent, Watcher
from neat_data.prompts.sets import load_prompts
from neat_data.record import Record
from neat_data.report.escape import one_line
from neat_data.report.tables import number
from neat_train.config.settings import HeldOutSettings
from neat_train.data import batches
from neat_train.data.examples import Encoder, Example
from neat_train.distributed import Ranks
from neat_train.policy.logprobs import logps
from neat_train.policy.undisturbed import undisturbed
from neat_train.statistics import bootstrap, perplexity_of
from neat_train.training.json_lines import append

_QUERY, _ANSWER = 48, 96  # characters of a line
SAMPLES = "samples.jsonl"
FORGETTING = 1.5  # times the lowest perplexity so far


@dataclass(frozen=True, slots=True)
class Answered:
    """A fresh answer to a query (its last turn); `reward` is None where the reward model refused it."""

    query_id: str
    reward: float | None
    query: str
    answer: str
    tokens: int
    finished: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, for samples.jsonl."""
        return asdict(self)

    @property
    def line(self) -> str:
        """Reward, query and answer on one line, cut short, with nothing in it that a terminal would obey."""
        cut = "" if self.finished else " (not finished)"
        return f"{number(self.reward):>8}  {shortened(self.query, _QUERY)} → {shortened(self.answer, _ANSWER)}{cut}"


def shortened(text: str, width: int) -> str:
    """At most `width` visible characters on one line.

    >>> shortened("How do I\\n bake a cake?", 12)
    'How do I ba…'
    """
    line = one_line(" ".join(text.split()))
    return line if len(line) <= width else line[: width - 1] + "…"


def figures(answers: Sequence[Answered]) -> dict[str, float]:
    """Of the answers with a reward: `reward` and the ends of its interval over queries, `length` in tokens, the share
    `finished`, and `answers`, their number; without what is not defined.
    """
    scored = [answer for answer in answers if answer.reward is not None]
    if not scored:
        return {}
    rewards = np.array([answer.reward for answer in scored], dtype=np.float64)
    interval = bootstrap(rewards)
    return {
        "reward": float(rewards.mean()),
        **({} if interval is None else {"reward_low": interval[0], "reward_high": interval[1]}),
        "length": float(np.mean([answer.tokens for answer in scored])),
        "finished": float(np.mean([answer.finished for answer in scored])),
        "answers": float(len(scored)),
    }


def in_words(measured: dict[str, float]) -> str:
    """The figures of an evaluation on one line.

    >>> in_words({"perplexity": 2.5, "reward": -1.5, "length": 30.2, "finished": 0.5})
    'reward -1.50, perplexity 2.50, 30 tokens, 50 % finished'
    """
    parts = []
    if "reward" in measured:
        parts.append(f"reward {with_interval(measured)}")
    if "perplexity" in measured:
        parts.append(f"perplexity {number(measured['perplexity'])}")
    if "length" in measured:
        parts.append(f"{measured['length']:.0f} tokens, {100 * measured['finished']:.0f} % finished")
    return ", ".join(parts)


def with_interval(measured: dict[str, float]) -> str:
    """A mean reward, with its interval where there is one.

    >>> with_interval({"reward": 1.0, "reward_low": 0.5, "reward_high": 1.5})
    '1.00 (0.500 to 1.50)'
    """
    if "reward_low" not in measured:
        return number(measured["reward"])
    return f"{number(measured['reward'])} ({number(measured['reward_low'])} to {number(measured['reward_high'])})"


def hash_fraction(id: str) -> float:
    """A hash of the id, in [0, 1)."""
    return int.from_bytes(hashlib.sha256(f"held out {id}".encode()).digest()[:6], "big") / 2**48


class HeldOut:
    """The held-out queries, and what it takes to measure a policy on them; every rank has all of them."""

    def __init__(
        self,
        records: Sequence[Record],
        encoder: Encoder,
        settings: HeldOutSettings,
        sampler_factory: Callable[[], Sampler],
        reward: Callable[[], RewardModel] | None,
        ranks: Ranks,
        *,
        run: Path,
        path: batches.PackingMode = "batches",
        token_budget: int = 4_096,
        max_new_tokens: int = 128,
        seed: int = 0,
        watch: Watcher | None = None,
    ) -> None:
        """
        Args:
            records: the held-out records, the same on every rank.
            encoder: of the policy; best one of its own, since it counts what it meets.
            sampler_factory: gives the policy as it is now; what it gives is not closed.
            reward: gives the loaded reward model; None measures perplexity alone.
            run: the folder that samples.jsonl is written to.
            path, token_budget: how responses are run through the policy.
            max_new_tokens: of an answer.
            seed: of the answers. They are the same at every step, and best in every run, so that curves compare.

        Raises:
            InputError: `settings.prompt` does not name one prompt.
        """
        self.records = sorted(records, key=lambda record: hash_fraction(record.query_id))[: settings.queries]
        self.settings, self.ranks, self.run = settings, ranks, run
        self.sampler_factory, self.reward = sampler_factory, reward
        self.path, self.token_budget, self.watch = path, token_budget, watch or Silent()
        self.prompt = load_prompts(settings.prompt).only("held_out.prompt", settings.prompt)
        self.sampling = Sampling(temperature=settings.temperature, max_new_tokens=max_new_tokens)
        self.seed = seed
        self.own = self.records[ranks.rank :: ranks.world]
        self._examples = _examples(self.own, encoder)
        self._lowest, self._warned = math.inf, False
        if reward is None:
            self.watch.say("no reward model: perplexity alone is measured on held-out queries")

    def measure(self, module: nn.Module, step: int) -> dict[str, float]:
        """Figures over the queries of all ranks, the same on every rank; collective.

        Args:
            module: the policy, not wrapped for data parallelism: ranks run different numbers of batches.
            step: optimiser steps so far, for samples.jsonl.

        Returns:
            `perplexity` of the chosen responses: exp(total NLL / total tokens), end of turn included. Of fresh answers,
            scored against the plain query: their mean `reward`, with `reward_low` and `reward_high` the ends of a 95 %
            interval over queries; `length`, the mean number of tokens; `finished`, a share; `answers`, how many were
            scored. What is not defined (no reward model, fewer than two answers) is left out.
        """
        with undisturbed(module):
            measured = self._perplexity(module)
            if self.reward is not None:
                answers = self._answers()
                measured |= figures(answers)
                self._show(answers[: self.settings.samples_shown], measured, step)
        self._warn_of_forgetting(measured)
        return measured

    def _warn_of_forgetting(self, measured: dict[str, float]) -> None:
        """Say once that the policy has moved far from people's responses, which a rising reward does not show."""
        now = measured.get("perplexity", 0.0)
        self._lowest = min(self._lowest, now or self._lowest)
        if self.ranks.main and not self._warned and now > FORGETTING * self._lowest:
            self._warned = True
            self.watch.say(
                f"held-out perplexity rose from {self._lowest:.3g} to {now:.3g}: the policy forgets its language, "
                f"whatever its reward. Look at {SAMPLES}; a smaller learning_rate slows it."
            )

    def _perplexity(self, module: nn.Module) -> dict[str, float]:
        self.watch.phase("held out: perplexity", len(self._examples))
        device = next(module.parameters()).device
        sums, tokens = [], 0
        for batch in batches.micro_batches(self._examples, self.token_budget, self.path):
            sums.append(float(logps(module, batch.to(device)).double().sum()))
            tokens += len(batch.targets)
            self.watch.advance(batch.answers, batch.tokens)
        parts = self.ranks.gather((math.fsum(sums), tokens))
        total = sum(part[1] for part in parts)
        if not total:
            return {}
        return {"perplexity": perplexity_of(-math.fsum(part[0] for part in parts) / total)}

    def _answers(self) -> list[Answered]:
        """Fresh answers of all ranks, in the order of the records."""
        samples = self._sampled()
        rewards = self._scored(samples)
        own = [
            Answered(
                record.query_id, reward, record.messages[-1].content, sample.text, _length(sample), sample.finished
            )
            for record, sample, reward in zip(self.own, samples, rewards, strict=True)
        ]
        shares = self.ranks.gather(own)
        return [shares[index % self.ranks.world][index // self.ranks.world] for index in range(len(self.records))]

    def _sampled(self) -> list[Sample]:
        self.watch.phase("held out: sampling", len(self.own))
        sampler = self.sampler_factory()
        asks = [self._ask(record) for record in self.own]
        return halving(
            lambda smaller: sampler.sample(asks, token_budget=smaller, advance=self.watch.advance),
            sampler.spec.token_budget,
        )[0]

    def _ask(self, record: Record) -> Ask:
        seed = sample_seed(self.seed, NO_ROUND, record.query_id, self.prompt.name, 0)
        return Ask(self.prompt.applied(record.messages), seed, self.sampling, self.prompt.lead)

    def _scored(self, samples: Sequence[Sample]) -> list[float | None]:
        """Rewards against the plain queries; None where a query was not answered or an answer not scored."""
        self.watch.phase("held out: scoring", len(self.own))
        assert self.reward is not None
        model = self.reward()
        places = [place for place, sample in enumerate(samples) if sample.refused is None]
        tasks = [Task(self.own[place].messages, (samples[place].text,)) for place in places]
        scored, _ = score_tasks(tasks, model, self.watch.advance)
        rewards = {place: answer.rewards[0] for place, answer in zip(places, scored, strict=True)}
        return [rewards.get(place) for place in range(len(samples))]

    def _show(self, shown: Sequence[Answered], measured: dict[str, float], step: int) -> None:
        """Write some answers to samples.jsonl, and print them."""
        if not self.ranks.main:
            return
        self.watch.say(f"held out at step {step}: {in_words(measured)}")
        for answer in shown:
            append(self.run / SAMPLES, {"step": step, **answer.to_dict()})
            self.watch.say(answer.line)


def _examples(records: Sequence[Record], encoder: Encoder) -> list[Example]:
    """Every record with its chosen response alone; without those of which people only rejected something."""
    chosen = [(record, chosen_or_best(record)) for record in records]
    examples = [encoder.example(replace(record, responses=(response,))) for record, response in chosen if response]
    return [example for example in examples if example is not None]


def _length(sample: Sample) -> int:
    return len(sample.text.split()) if sample.tokens is None else len(sample.tokens)


class Measures(Trainer):
    """To inherit from in front of another Trainer: `evaluate` measures `self.held_out`.

    Trainer wants some `eval_dataset` where there is an `eval_strategy`; nothing is read from it.
    """

    held_out: HeldOut | None = None

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """What `HeldOut.measure` finds, each name behind `metric_key_prefix`, logged and shown to the callbacks."""
        assert self.model is not None
        assert self.held_out is not None
        measured = self.held_out.measure(self.model, self.state.global_step)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in measured.items()}
        with undisturbed(self.model):  # in evaluation mode TRL's trainers keep their training figures out of this log
            self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _evaluate(
        self, trial: Any, ignore_keys_for_eval: list[str] | None, skip_scheduler: bool = False
    ) -> dict[str, float]:
        if skip_scheduler and self.state.global_step:  # eval_on_start, of a run that goes on: it was measured there
            return {}
        return super()._evaluate(trial, ignore_keys_for_eval, skip_scheduler)
