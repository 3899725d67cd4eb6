"""Teaches a policy the two prompts by practice: it answers under both, and is told which answers were worth more.

REINFORCE (Williams 1992) with the reward's sign turned under the negative prompt: what earned more than the query's
other answers becomes likelier behind the positive prompt and less likely behind the negative one, and the other way
round. The queries are ones that the reward model was not trained on. Learning from the rows' own responses, or from the
best and worst of the policy's own, left a model this small blind to the prompt; this does not.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neat_data.models.load import load_reward_model, load_sampler
from neat_data.models.reward_model import RewardModel, RewardModelSpec, Task
from neat_data.models.sampler import Ask, SamplerSpec, Sampling
from neat_data.record import Messages
from pipelines.tiny_models.contexts import in_context
from pipelines.tiny_models.rows import Pair
from pipelines.tiny_models.teach import Lesson, prompted, read_prompts, response_logps, response_loss
from pipelines.tiny_models.tokenizer import Encoder

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM

POLARITIES = ("positive", "negative")
_DEVIATION = 0.5  # of rewards of one query's answers, about: it makes advantages numbers of size 1
_LENGTH = 15  # divides log-probabilities, so that a step's size does not hang on answers' length
_CLIP = 2.5


@dataclass(frozen=True, slots=True)
class Attempt:
    """One answer: whose (number of the query), under which prompt, as a lesson, and its advantage."""

    query: int
    polarity: int
    lesson: Lesson
    advantage: float


def practise(
    model: LlamaForCausalLM,
    folders: tuple[Path, Path],
    pairs: Sequence[Pair],
    taught: Sequence[Sequence[Lesson]],
    encoder: Encoder,
    settings: dict,
    seed: int,
    log: Callable[[str], None],
) -> None:
    """Train `model` in place: a first stage without the rows, which finds what is rewarded, and others with them.

    Args:
        folders: of the policy as it is, for its sampler, and of the reward model.
        pairs: whose queries are asked.
        taught: groups of lessons from the rows; some of each go into the later steps, which brings the language back.
    """
    sampler, reward = load_sampler(SamplerSpec(str(folders[0]))), load_reward_model(RewardModelSpec(str(folders[1])))
    for number, stage in enumerate(settings["stages"]):
        log(f"stage {number + 1}")
        _practise(model, sampler, reward, pairs, taught, encoder, {**settings, **stage}, seed + number, log)


def _practise(
    model: LlamaForCausalLM,
    sampler: Any,
    reward: RewardModel,
    pairs: Sequence[Pair],
    taught: Sequence[Sequence[Lesson]],
    encoder: Encoder,
    settings: dict,
    seed: int,
    log: Callable[[str], None],
) -> None:
    """One stage: rounds of two steps."""
    import torch

    rng, asked = random.Random(seed), 0
    optimiser = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    for number in range(settings["rounds"]):
        queries = choose(pairs, settings["single"], settings["in_context"], settings["short_query"], rng)
        asks = asks_of(queries, settings["answers"], settings["new_tokens"], asked)
        asked += len(asks)
        attempts, difference = attempt(model, sampler, reward, queries, asks, encoder)
        for group in optimiser.param_groups:
            warm, decay = min(1.0, (number + 1) / 5), 0.5 * (1 + math.cos(math.pi * number / settings["decay_over"]))
            group["lr"] = settings["learning_rate"] * warm * (0.1 + 0.9 * decay)
        for half in (0, 1):
            mine = [one for one in attempts if one.query % 2 == half]
            old = [rng.sample(group, settings["taught"]) for group in taught] if settings["weight"] else []
            _step(model, optimiser, _batches(mine, settings["single"]), len(mine), old, settings["weight"], encoder)
        if number % 5 == 4:
            log(f"round {number + 1}/{settings['rounds']}: positive minus negative {difference:.3f}")


def asks_of(queries: Sequence[Messages], answers: int, new_tokens: int, first: int) -> list[Ask]:
    """`answers` asks of each query under the positive prompt, then under the negative; seeds from `first` on."""
    prompts, sampling = read_prompts(), Sampling(max_new_tokens=new_tokens)
    asked = [prompted(query, prompts[polarity]) for query in queries for polarity in POLARITIES for _ in range(answers)]
    return [Ask(messages, seed, sampling) for seed, messages in enumerate(asked, first + 1)]


def choose(pairs: Sequence[Pair], single: int, context: int, short_query: float, rng: random.Random) -> list[Messages]:
    """`single` queries as they are, then `context` ones behind further dialogues."""
    some = rng.sample(pairs, single + context)
    later = in_context(some[single:], short_query, rng)
    return [pair.query for pair in [*some[:single], *later]]


def attempt(
    model: LlamaForCausalLM,
    sampler: Any,
    reward: RewardModel,
    queries: Sequence[Messages],
    asks: Sequence[Ask],
    encoder: Encoder,
) -> tuple[list[Attempt], float]:
    """Answers to every ask, with advantages, and the mean difference of rewards between the two prompts.

    Args:
        asks: query by query, half of each query's under the positive prompt, then half under the negative.
    """
    import torch

    sampler.model.load_state_dict(model.state_dict())
    made, each = sampler.sample(asks), len(asks) // len(queries)
    tasks = [
        Task(query, tuple(sample.text or "." for sample in made[n * each : (n + 1) * each]))
        for n, query in enumerate(queries)
    ]
    rewards = torch.tensor([answer.rewards for answer in reward.score(tasks)])  # (queries, answers)
    worth = advantages(rewards)
    attempts = []
    for n, sample in enumerate(made):
        given = encoder.query(asks[n].messages)
        ids = [*given, encoder.roles["assistant"], *(sample.tokens or ())]
        query, place = divmod(n, each)
        if sample.tokens:
            attempts.append(Attempt(query, place // (each // 2), (ids, len(given) + 1), worth[query, place].item()))
    positive, negative = rewards.chunk(2, dim=1)
    return attempts, (positive.mean() - negative.mean()).item()


def advantages(rewards: torch.Tensor) -> torch.Tensor:
    """How much better for its prompt each answer was than the others.

    The mean of two comparisons: with all answers to the query, and with those under the same prompt.

    Args:
        rewards: (queries, answers), those under the positive prompt first.

    Returns:
        (queries, answers), clipped.
    """
    import torch

    own = torch.cat([part.mean(1, keepdim=True).expand_as(part) for part in rewards.chunk(2, dim=1)], dim=1)
    sign = torch.ones_like(rewards)
    sign[:, rewards.shape[1] // 2 :] = -1
    both = [((rewards - base) / _DEVIATION * sign).clamp(-_CLIP, _CLIP) for base in (rewards.mean(1, True), own)]
    return (both[0] + both[1]) / 2


def _batches(attempts: Sequence[Attempt], single: int) -> list[list[Attempt]]:
    """Attempts that begin with the same tokens: a prompt's, or a prompt's and a query's where that is long."""
    batches: dict[tuple[int, int], list[Attempt]] = {}
    for attempt in attempts:
        batches.setdefault((-1 if attempt.query < single else attempt.query, attempt.polarity), []).append(attempt)
    return list(batches.values())


def _step(
    model: LlamaForCausalLM,
    optimiser: torch.optim.Optimizer,
    batches: Sequence[Sequence[Attempt]],
    count: int,
    old: Sequence[list[Lesson]],
    weight: float,
    encoder: Encoder,
) -> None:
    """One step on `count` attempts, and on old lessons, whose loss has this weight."""
    import torch

    for batch in batches:
        with torch.autocast("cpu", torch.bfloat16):
            logps = response_logps(model, [one.lesson for one in batch], encoder.pad)
            loss = -(torch.tensor([one.advantage for one in batch]) * logps).sum() / (count * _LENGTH)
        loss.backward()
    for group in old:
        with torch.autocast("cpu", torch.bfloat16):
            loss = weight / len(old) * response_loss(model, group, encoder.pad)
        loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    optimiser.zero_grad()
