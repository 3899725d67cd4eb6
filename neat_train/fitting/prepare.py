"""Everything that a run of a policy needs, loaded, and written down as what the run is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from neat_data.errors import InputError
from neat_data.models.adapter import adapter_hash
from neat_data.models.reward_model import RewardModel
from neat_data.models.trees.attention_choice import asked_attention
from neat_data.models.trees.exactness import PathChoice
from neat_data.models.weights import ModelSource, identity_of
from neat_data.progress import Watcher, say
from neat_data.prompts.sets import Prompt, load_prompts
from neat_train.config.settings import FitSettings
from neat_train.data.examples import Encoder
from neat_train.data.order import steps_an_epoch
from neat_train.fitting.data import FitData, measures
from neat_train.fitting.request import FitRequest
from neat_train.losses.own import Own
from neat_train.policy import logprobs
from neat_train.policy.policy import Policy, PolicySpec, load_policy_to_train
from neat_train.policy.start import remember
from neat_train.rounds.live_sampler import live_sampler
from neat_train.run_folder import Identity, RunFolder
from neat_train.training.held_out import HeldOut
from neat_train.training.placement import check_memory, load_reward
from neat_train.training.trainer import Packing


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Everything that is loaded."""

    settings: FitSettings
    args: TrainingArguments
    folder: RunFolder
    data: FitData
    policy: Policy
    encoder: Encoder
    packing: Packing
    reward: RewardModel | None
    held_out: HeldOut | None
    fingerprint: str
    watch: Watcher
    own: Own | None

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        if self.args.max_steps > 0:
            return self.args.max_steps
        an_epoch = steps_an_epoch(len(self.data.train), self.settings.records_per_step)
        return math.ceil(self.args.num_train_epochs * an_epoch)


def default_budget(device: str) -> int:
    """Tokens of a micro-batch: on a CPU as many as its caches hold, on an accelerator enough to keep it busy."""
    return 2_048 if device == "cpu" else 16_384


def require_same_start(folder: RunFolder, policy: str, known: Identity) -> None:
    """Of a finished run: whether the policy it began with is still the one that is named."""
    begun = folder.begun_with("policy")
    if (Path(policy) / "adapter_config.json").is_file():
        now = {"adapter": adapter_hash(policy, "policy")}
    else:
        source = ModelSource.parse(policy, "policy", "causal language model")
        now = identity_of(source) if source.local or source.revision else {}
    folder.require(Identity(known.settings, {**known.content, "policy": {**begun, **now}}))


def prepared(
    request: FitRequest,
    settings: FitSettings,
    args: TrainingArguments,
    data: FitData,
    folder: RunFolder,
    watch: Watcher,
) -> Run:
    """Load what the run needs, and write down what it is."""
    spec = policy_spec(request, settings, args)
    check_memory(settings, spec, data.train.dataset, folder.ranks, watch)
    watch.phase("loading the policy", None)
    policy = load_policy_to_train(spec)
    say(watch, policy.notes)
    choice = _path(policy, settings, args, watch)
    reward = _reward(settings, data, args, watch)
    models = {"policy": policy.settings, "reward_model": reward and reward.settings}
    identity = Identity.of(settings, **data.content, **models)
    folder.require(identity)
    folder.write(settings, identity, _computing(policy, choice))
    if folder.ranks.main:
        remember(policy.settings, request.policy, policy.source)
    assert settings.token_budget is not None
    packing = Packing(choice.path, settings.token_budget)
    return Run(
        settings=settings,
        args=args,
        folder=folder,
        data=data,
        policy=policy,
        encoder=_encoder(policy, settings),
        packing=packing,
        reward=reward,
        held_out=_held_out(settings, data, policy, packing, reward, folder, watch),
        fingerprint=identity.fingerprint,
        watch=watch,
        own=request.own,
    )


def _path(policy: Policy, settings: FitSettings, args: TrainingArguments, watch: Watcher) -> PathChoice:
    """How the policy's log-probabilities are computed, the same way for the copy of its start."""
    half = {torch.bfloat16: args.bf16, torch.float16: args.fp16}
    dtype = next((dtype for dtype, computed in half.items() if computed), None)
    attention = asked_attention(settings.model_args)
    choice = logprobs.prepare(policy.body, settings.path, attention=attention, dtype=dtype)
    if policy.frozen is not None:
        logprobs.share_choice(policy.body, policy.frozen)
    say(watch, choice.note.splitlines())
    return choice


def _computing(policy: Policy, choice: PathChoice) -> dict[str, Any]:
    own = policy.body.config._attn_implementation
    return {"path": choice.path, "attention": logprobs.tree_attention(policy.body) if choice.path == "trees" else own}


def policy_spec(request: FitRequest, settings: FitSettings, args: TrainingArguments) -> PolicySpec:
    """What loads the model that is trained."""
    return PolicySpec(
        model=request.policy,
        full=settings.full,
        lora=settings.lora,
        load_in_4bit=settings.load_in_4bit,
        device=str(args.device),
        dtype=settings.dtype,
        chat_template=settings.chat_template,
        thinking=settings.thinking,
        template_args=settings.template_args,
        model_args=settings.model_args,
        gradient_checkpointing=args.gradient_checkpointing,
        trust_remote_code=request.trust_remote_code,
        keep_reference=settings.method == "dpo-trl" or (settings.method != "sft-trl" and settings.loss.needs_reference),
        seed=settings.seed,
        base=request.base,
    )


def _encoder(policy: Policy, settings: FitSettings) -> Encoder:
    return Encoder(
        policy.template,
        policy.stops,
        policy.tokenizer,
        policy.tokenizer_id,
        settings.max_length,
        settings.max_response,
        _contexts(settings),
    )


def _contexts(settings: FitSettings) -> dict[str, Prompt] | None:
    """The prompts that a response to penalise is conditioned on, by polarity; None where that is the plain query."""
    if not settings.loss.penalised_in_context:
        return None
    prompts = load_prompts(settings.rounds.prompts or "neat").prompts
    return {prompt.polarity: prompt for prompt in prompts if prompt.polarity is not None}


def _reward(settings: FitSettings, data: FitData, args: TrainingArguments, watch: Watcher) -> RewardModel | None:
    """What scores samples and held-out answers. An offline run does without where the dataset's own is gone."""
    if not settings.online and not measures(settings):
        return None
    try:
        return load_reward(settings, data.train.dataset, args.device, watch)
    except InputError as error:
        if settings.online or settings.rounds.reward_model is not None:
            raise
        watch.say(f"held-out answers are not scored: {error}")
        return None


def _held_out(
    settings: FitSettings,
    data: FitData,
    policy: Policy,
    packing: Packing,
    reward: RewardModel | None,
    folder: RunFolder,
    watch: Watcher,
) -> HeldOut | None:
    if not measures(settings):
        return None
    return HeldOut(
        data.held_out,
        _encoder(policy, settings),
        settings.held_out,
        cache(lambda: live_sampler(policy, settings)),
        None if reward is None else lambda: reward,
        folder.ranks,
        run=folder.path,
        path=packing.path,
        token_budget=packing.token_budget,
        max_new_tokens=settings.max_response,
        watch=watch,
    )
