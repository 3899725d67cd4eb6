"""One call of `fit`, from the claim on its folder to the card in it.

It glues together what the other modules do: records, policy, encoder, source of records, held-out measurements, and the
trainer. The same call again goes on from the newest whole checkpoint; a finished run is left as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from transformers import TrainerCallback, TrainingArguments

from neat_data.errors import InputError
from neat_data.models.weights import silence
from neat_data.progress import Silent, Watcher
from neat_data.store.atomic import full_disk_explained
from neat_train.config.contradictions import refuse_contradictions
from neat_train.config.settings import OWN, REWARD, FitSettings
from neat_train.config.trainer_arguments import training_arguments
from neat_train.distributed import Ranks
from neat_train.fitting.data import FitData, open_data
from neat_train.fitting.prepare import default_budget, policy_spec, prepared, require_same_start
from neat_train.fitting.request import FitRequest, FitSummary
from neat_train.fitting.steps import at_the_end, newest_checkpoint, train
from neat_train.policy.policy import Policy
from neat_train.policy.start import remember
from neat_train.reports.card import write_card
from neat_train.reports.curves import draw
from neat_train.reports.reliability import draw_reliability
from neat_train.reports.summary import FitResult, figures
from neat_train.reward_model import run as reward_run
from neat_train.reward_model.model import TrainedReward
from neat_train.run_folder import Identity, RunFolder
from neat_train.training.checkpoints import CHECKPOINT_STAYS, step_of
from neat_train.training.metrics_file import MetricsFile
from neat_train.training.progress import TrainingProgress


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
        data = open_data(request, settings, folder)
        if dropped := data.train.dataset.dropped_count:
            watch.say(f"{request.dataset}: {dropped:,} responses that reviewers dropped are left out")
        known = Identity.of(settings, **data.content)
        folder.require(known)
        if folder.finished:
            require_same_start(folder, request.policy, known)
            return FitSummary(request.out, True, FitResult.from_dict(folder.result()))
        every = [MetricsFile(folder.path), *callbacks]
        if settings.method == REWARD:
            return FitSummary(
                request.out, False, _fit_reward_model(request, settings, args, data, folder, watch, every)
            )
        run = prepared(request, settings, args, data, folder, watch)
        began = train(run, every)
        return FitSummary(request.out, False, left_behind(run.policy, run.data, run.folder, run.watch, began))


def _fit_reward_model(
    request: FitRequest,
    settings: FitSettings,
    args: TrainingArguments,
    data: FitData,
    folder: RunFolder,
    watch: Watcher,
    callbacks: list[TrainerCallback],
) -> FitResult:
    """`fit` of method reward: no policy, nothing sampled, and no reward model asked."""
    reward = reward_run.load(policy_spec(request, settings, args), settings, args, watch)
    identity = Identity.of(settings, **data.content, policy=reward.settings)
    folder.require(identity)
    folder.write(settings, identity, {"path": reward.choice.path, "attention": reward.choice.attention})
    if folder.ranks.main:
        remember(reward.settings, request.policy, reward.source)
    run = reward_run.RewardRun(settings, args, folder, reward, data.train, data.held_out, watch)
    checkpoint = newest_checkpoint(folder, watch)
    began = 0 if checkpoint is None else step_of(checkpoint)
    if checkpoint is not None and (last := at_the_end(checkpoint)):
        reward.restore(last)
        return left_behind(reward, data, folder, watch, None)
    if isinstance(watch, TrainingProgress):
        callbacks = [*callbacks, watch]
    run.trainer(callbacks).train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return left_behind(reward, data, folder, watch, began)


def left_behind(
    trained: Policy | TrainedReward, data: FitData, folder: RunFolder, watch: Watcher, began: int | None
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
        with full_disk_explained(path, CHECKPOINT_STAYS):
            trained.save(path)
            draw(path)
            result = figures(path, began)
            draw_reliability(path, result.held_out.end)
            write_card(path, data.train.dataset)
            folder.finish(result.to_dict())
    result = ranks.gather(result)[0]
    assert result is not None
    return result
