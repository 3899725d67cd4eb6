"""`fit`: a dataset and a policy in, a trained policy with its metrics, curves and card out.

It glues together what the other modules do: records, policy, encoder, source of records, held-out measurements, and the
trainer. The same call again goes on from the newest whole checkpoint; a finished run is left as it is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainingArguments

from neat_data.errors import InputError
from neat_data.formats.strategies import Keep, keep, pairs_of
from neat_data.models.adapter import adapter_hash
from neat_data.models.reward_model import RewardModel
from neat_data.models.trees.attention_choice import asked_attention
from neat_data.models.trees.exactness import PathChoice
from neat_data.models.weights import ModelSource, identity_of, silence
from neat_data.progress import Silent, Watcher, say
from neat_data.prompts.sets import Prompt, load_prompts
from neat_data.record import Record
from neat_data.store.claim import readable
from neat_train.config.contradictions import refuse_contradictions
from neat_train.config.ranking import PolicyGradient
from neat_train.config.settings import BASELINES, OWN, REWARD, FitSettings
from neat_train.config.trainer_arguments import keywords, training_arguments
from neat_train.data.examples import Encoder
from neat_train.data.order import steps_an_epoch
from neat_train.data.record_source import Offline, RecordSource
from neat_train.data.records import Records
from neat_train.data.selection import require_some, selection
from neat_train.data.split import held_out_split
from neat_train.distributed import Ranks
from neat_train.losses.own import Own
from neat_train.policy import logprobs
from neat_train.policy.policy import Policy, PolicySpec, load_policy_to_train
from neat_train.policy.start import remember
from neat_train.reports.card import write_card
from neat_train.reports.curves import draw
from neat_train.reports.reliability import draw_reliability
from neat_train.reports.summary import FitResult, figures
from neat_train.reward_model import run as reward_run
from neat_train.reward_model.model import TrainedReward
from neat_train.rounds.live_sampler import live_sampler
from neat_train.rounds.online import online_rounds
from neat_train.run_folder import Identity, RunFolder
from neat_train.training.checkpoints import full_disk_explained, newest_whole, refuse_pickles, step_of
from neat_train.training.held_out import HeldOut
from neat_train.training.metrics_file import MetricsFile
from neat_train.training.placement import check_memory, load_reward
from neat_train.training.progress import TrainingProgress
from neat_train.training.stored_reference import StoredReference
from neat_train.training.trainer import NeatTrainer, Packing, Work


@dataclass(frozen=True, slots=True)
class FitRequest:
    """What `neat-train fit` was asked for.

    Attributes:
        dataset: its folder.
        policy: a folder, a hub id, or the folder of an earlier run.
        out: the run folder.
        base: the model of an adapter that is gone on from, where that says no more of it than a folder.
        own: the user's loss, where the settings' method is that.
    """

    dataset: str
    policy: str
    out: Path
    settings: FitSettings
    trust_remote_code: bool = False
    base: str | None = None
    own: Own | None = None


@dataclass(frozen=True, slots=True)
class FitSummary:
    """What came of it. `already`: the run was finished before."""

    run: Path
    already: bool
    result: FitResult

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"run": str(self.run), "already": self.already, **self.result.to_dict()}

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return self.result._repr_html_()


def fit(request: FitRequest, watch: Watcher | None = None, callbacks: Sequence[TrainerCallback] = ()) -> FitSummary:
    """Train a policy; every rank of a distributed run calls it.

    Args:
        watch: where progress goes; a `TrainingProgress` also shows the steps.
        callbacks: of transformers, beside those that write metrics.

    Raises:
        InputError: bad data, models or settings; a folder that holds something else.
        RunError: the run diverges, runs out of memory or of disk.
    """
    refuse_contradictions(request.settings)
    if request.settings.method == OWN and request.own is None:
        raise InputError("method own: its function is not here", advice="name it, {method} FILE.py:FUNCTION")
    args = training_arguments(request.settings, request.out)
    ranks = Ranks.here()
    watch = watch if watch is not None and ranks.main else Silent()
    budget = request.settings.token_budget or default_budget(args.device.type)
    settings = request.settings.model_copy(update={"token_budget": budget})
    with silence(), RunFolder.claim(request.out, ranks) as folder:
        data = _data(request, settings, folder)
        if dropped := data.train.dataset.dropped_count:
            watch.say(f"{request.dataset}: {dropped:,} responses that reviewers dropped are left out")
        known = Identity.of(settings, **data.content)
        folder.require(known)
        if folder.finished:
            _require_same_start(folder, request.policy, known)
            return FitSummary(request.out, True, FitResult.from_dict(folder.result()))
        every = [MetricsFile(folder.path), *callbacks]
        if settings.method == REWARD:
            return FitSummary(
                request.out, False, _fit_reward_model(request, settings, args, data, folder, watch, every)
            )
        run = _prepared(request, settings, args, data, folder, watch)
        began = _train(run, every)
        return FitSummary(request.out, False, _left_behind(run.policy, run.data, run.folder, run.watch, began))


def default_budget(device: str) -> int:
    """Tokens of a micro-batch: on a CPU as many as its caches hold, on an accelerator enough to keep it busy."""
    return 2_048 if device == "cpu" else 16_384


@dataclass(frozen=True, slots=True)
class _Data:
    """Records to train on, records held out, and what identifies both."""

    train: Records
    held_out: list[Record]
    content: dict[str, Any]


def _data(request: FitRequest, settings: FitSettings, folder: RunFolder) -> _Data:
    held = settings.held_out
    records, other = _opened(request, settings, folder)
    content = {
        "dataset": records.identity(),
        "held_out": other and other.identity(),
        "prompts": _said_by(settings.rounds.prompts),
        "held_out_prompt": _said_by(held.prompt),
    }
    _require_what_is_learned(request, settings, records)
    if other is not None:
        return _Data(
            _kept(_with_something(records.without(other.ids), settings), settings),
            [other[query] for query in other.ids],
            content,
        )
    train, kept = held_out_split(records.ids, held.share)
    if not kept and _measures(settings):
        raise InputError(f"{request.dataset}: of one record none can be held out", advice="say eval_strategy=no")
    return _Data(
        _kept(_with_something(records.only(train), settings), settings), [records[query] for query in kept], content
    )


def _opened(request: FitRequest, settings: FitSettings, folder: RunFolder) -> tuple[Records, Records | None]:
    """The records of the dataset, and those of the one that is held out, if there is one."""
    ranks, held = folder.ranks, settings.held_out
    grown = folder.begun_with("dataset") if settings.rounds.into == "dataset" else None
    for turn in (True, False):  # what has to be cached is cached by one rank
        if ranks.main is turn:
            records = Records.open(
                request.dataset,
                rank_by=settings.rank_by,
                reviewed=settings.labels == "reviews",
                drop_by=settings.drop_by,
                where=settings.where,
                limit=settings.limit,
                rounds=grown and grown["rounds"],
            )
            other = Records.open(held.data, rank_by=settings.rank_by) if held.data else None
        ranks.barrier()
    return records, other


def _require_what_is_learned(request: FitRequest, settings: FitSettings, records: Records) -> None:
    """Raises InputError where the method learns nothing from these records."""
    if settings.method == REWARD:
        reward_run.require_rewards(request.dataset, settings, records)
    if not records.contrasts and _compares(settings):
        raise InputError(
            f"{request.dataset}: no record has two responses with different rewards, so nothing can be compared.\n"
            f"method {settings.method} learns from such records; `neat-data expand` adds responses, sft needs one each."
        )
    if settings.method not in (*BASELINES, REWARD) and not settings.loss.active_ranking.needs_contrast:
        _require_two_rewards(request.dataset, settings, records)
    _require_something_to_penalise(request.dataset, settings, records)


def _compares(settings: FitSettings) -> bool:
    """Whether the method learns nothing from a record without two different rewards."""
    if settings.method in ("sft", "sft-trl", REWARD):
        return False
    if settings.method == "dpo-trl":
        return settings.dpo.pairs != "chosen"
    ranking = settings.loss.active_ranking
    if settings.online and isinstance(ranking, PolicyGradient):
        return False
    return ranking.needs_contrast and ranking.chosen_pairs != "chosen"


def _with_something(records: Records, settings: FitSettings) -> Records:
    """Those of which the method has something to learn."""
    return records.only(require_some(records.ids, records.__getitem__, settings))


def _kept(records: Records, settings: FitSettings) -> Records:
    """Those whose pairs `keep_pairs` takes; held-out queries are those of every strategy."""
    if settings.keep_pairs is None:
        return records
    pairs = pairs_of((records[query] for query in records.ids), settings.speaking_pair)
    return records.only(keep(records.dataset, Keep.parse(settings.keep_pairs), pairs, settings.rank_by))


def _require_two_rewards(path: str, settings: FitSettings, records: Records) -> None:
    rewards = ([response.reward for response in records[query].responses] for query in records.ids)
    if not settings.online and not any(len(each) - each.count(None) > 1 for each in rewards):
        raise InputError(
            f"{path}: no record has two responses with a reward, which method {settings.method} compares.\n"
            "`neat-data expand` adds responses, `neat-data rescore` scores them."
        )


def _require_something_to_penalise(path: str, settings: FitSettings, records: Records) -> None:
    if settings.loss.penalised != "negative_prompt" or settings.online or settings.method in BASELINES:
        return
    if not records.negative:
        raise InputError(
            f"{path}: loss.penalty.target negative_prompt, and no response was sampled under a negative prompt.\n"
            "`neat-data expand --prompts neat:negative` samples them; or say loss.penalty.target=worst."
        )


def _said_by(prompts: str | None) -> list[dict[str, Any]]:
    return [] if prompts is None else [prompt.to_dict() for prompt in load_prompts(prompts).prompts]


def _require_same_start(folder: RunFolder, policy: str, known: Identity) -> None:
    """Of a finished run: whether the policy it began with is still the one that is named."""
    begun = folder.begun_with("policy")
    if (Path(policy) / "adapter_config.json").is_file():
        now = {"adapter": adapter_hash(policy, "policy")}
    else:
        source = ModelSource.parse(policy, "policy", "causal language model")
        now = identity_of(source) if source.local or source.revision else {}
    folder.require(Identity(known.settings, {**known.content, "policy": {**begun, **now}}))


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """Everything that is loaded."""

    settings: FitSettings
    args: TrainingArguments
    folder: RunFolder
    data: _Data
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


def _prepared(
    request: FitRequest, settings: FitSettings, args: TrainingArguments, data: _Data, folder: RunFolder, watch: Watcher
) -> _Run:
    """Load what the run needs, and write down what it is."""
    spec = _policy_spec(request, settings, args)
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
    return _Run(
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


def _fit_reward_model(
    request: FitRequest,
    settings: FitSettings,
    args: TrainingArguments,
    data: _Data,
    folder: RunFolder,
    watch: Watcher,
    callbacks: list[TrainerCallback],
) -> FitResult:
    """`fit` of method reward: no policy, nothing sampled, and no reward model asked."""
    reward = reward_run.load(_policy_spec(request, settings, args), settings, args, watch)
    identity = Identity.of(settings, **data.content, policy=reward.settings)
    folder.require(identity)
    folder.write(settings, identity, {"path": reward.choice.path, "attention": reward.choice.attention})
    if folder.ranks.main:
        remember(reward.settings, request.policy, reward.source)
    run = reward_run.RewardRun(settings, args, folder, reward, data.train, data.held_out, watch)
    checkpoint = _newest(folder, watch)
    began = 0 if checkpoint is None else step_of(checkpoint)
    if checkpoint is not None and (last := _at_the_end(checkpoint)):
        reward.restore(last)
        return _left_behind(reward, data, folder, watch, None)
    if isinstance(watch, TrainingProgress):
        callbacks = [*callbacks, watch]
    run.trainer(callbacks).train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return _left_behind(reward, data, folder, watch, began)


def _newest(folder: RunFolder, watch: Watcher) -> Path | None:
    """The checkpoint that training goes on from."""
    checkpoint = folder.ranks.gather(newest_whole(folder.path, watch.say) if folder.ranks.main else None)[0]
    if checkpoint is not None:
        refuse_pickles(checkpoint)
        watch.say(f"going on from {checkpoint}")
    return checkpoint


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


def _policy_spec(request: FitRequest, settings: FitSettings, args: TrainingArguments) -> PolicySpec:
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


def _reward(settings: FitSettings, data: _Data, args: TrainingArguments, watch: Watcher) -> RewardModel | None:
    """What scores samples and held-out answers. An offline run does without where the dataset's own is gone."""
    if not settings.online and not _measures(settings):
        return None
    try:
        return load_reward(settings, data.train.dataset, args.device, watch)
    except InputError as error:
        if settings.online or settings.rounds.reward_model is not None:
            raise
        watch.say(f"held-out answers are not scored: {error}")
        return None


def _measures(settings: FitSettings) -> bool:
    return settings.training["eval_strategy"] != "no"


def _held_out(
    settings: FitSettings,
    data: _Data,
    policy: Policy,
    packing: Packing,
    reward: RewardModel | None,
    folder: RunFolder,
    watch: Watcher,
) -> HeldOut | None:
    if not _measures(settings):
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


def _train(run: _Run, callbacks: list[TrainerCallback]) -> int | None:
    """Train until the last step, from the newest whole checkpoint if there is one.

    Returns:
        The step that training began with; None where none was left.
    """
    checkpoint = _newest(run.folder, run.watch)
    if isinstance(run.watch, TrainingProgress):
        callbacks = [*callbacks, run.watch]
    source = None if run.settings.method in BASELINES else _source(run)
    if source is not None and checkpoint is not None:
        source.saved(step_of(checkpoint))  # a run that was killed between the two
    if checkpoint is not None and (last := _at_the_end(checkpoint)):
        run.policy.restore(last)
        return None
    if source is None:
        _baseline(run, callbacks, checkpoint)
    else:
        _neat(run, source, callbacks, checkpoint)
    return 0 if checkpoint is None else step_of(checkpoint)


def _baseline(run: _Run, callbacks: list[TrainerCallback], checkpoint: Path | None) -> None:
    from neat_train.baselines.trl import train_baseline  # TRL takes seconds to import

    train_baseline(
        run.settings,
        run.data.train,
        run.policy,
        run.encoder,
        run.held_out,
        run.folder.ranks,
        keywords(run.settings, run.folder.path),
        callbacks,
        run.watch,
        checkpoint,
    )


def _neat(run: _Run, source: RecordSource, callbacks: list[TrainerCallback], checkpoint: Path | None) -> None:
    settings = run.settings
    work = Work(source, len(run.data.train), settings.records_per_step, run.encoder, selection(settings))
    trainer = NeatTrainer(
        run.policy,
        run.args,
        work,
        settings.loss,
        run.packing,
        run.watch,
        run.held_out,
        callbacks,
        run.own,
        _stored_reference(run),
    )
    try:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    finally:
        source.close()


def _stored_reference(run: _Run) -> StoredReference | None:
    """Where the reference's figures are kept; None where no response is trained on twice, or none are asked for."""
    settings = run.settings
    again = not settings.online and run.steps > steps_an_epoch(len(run.data.train), settings.records_per_step)
    if not (again and settings.loss.needs_reference):
        return None
    run.watch.say("the reference is asked in the first epoch alone; RUN/reference keeps its answers")
    return StoredReference(run.folder.path, run.folder.ranks)


def _source(run: _Run) -> RecordSource:
    ranks, settings = run.folder.ranks, run.settings
    if not settings.online:
        return Offline(run.data.train, settings.records_per_step, settings.seed, ranks)
    assert run.reward is not None
    return online_rounds(
        settings,
        run.data.train,
        run.policy,
        run.reward,
        ranks,
        run.folder.path,
        run.fingerprint,
        run.watch,
        run.steps,
    )


def _at_the_end(checkpoint: Path) -> Path | None:
    """The checkpoint that holds the trained weights, where training is over: transformers would take a step more."""
    path = checkpoint / "trainer_state.json"
    with readable(path):
        state = json.loads(path.read_bytes())
        if state["global_step"] < state["max_steps"]:
            return None
        best = state["best_model_checkpoint"]
        return checkpoint if best is None else checkpoint.parent / Path(best).name


def _left_behind(
    trained: Policy | TrainedReward, data: _Data, folder: RunFolder, watch: Watcher, began: int | None
) -> FitResult:
    """Write what the run folder is read for.

    Args:
        began: the step that this session's training began with.

    Returns:
        The figures, the same on every rank.
    """
    path, ranks = folder.path, folder.ranks
    result: FitResult | None = None
    if ranks.main:
        watch.phase("writing", None)
        with full_disk_explained(path):
            trained.save(path)
            draw(path)
            result = figures(path, began)
            draw_reliability(path, result.held_out.end)
            write_card(path, data.train.dataset)
            folder.finish(result.to_dict())
    result = ranks.gather(result)[0]
    assert result is not None
    return result
