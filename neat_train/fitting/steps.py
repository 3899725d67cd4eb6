"""The steps of a policy's training, from the newest whole checkpoint to the last."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import TrainerCallback

from neat_data.progress import Watcher
from neat_data.store.claim import readable
from neat_train.config.settings import BASELINES
from neat_train.config.trainer_arguments import keywords
from neat_train.data.order import steps_an_epoch
from neat_train.data.record_source import Offline, RecordSource
from neat_train.data.selection import selection
from neat_train.fitting.prepare import Run
from neat_train.rounds.online import online_rounds
from neat_train.run_folder import RunFolder
from neat_train.training.checkpoints import newest_whole, refuse_pickles, step_of
from neat_train.training.progress import TrainingProgress
from neat_train.training.stored_reference import StoredReference
from neat_train.training.trainer import NeatTrainer, Work


def newest_checkpoint(folder: RunFolder, watch: Watcher) -> Path | None:
    """The checkpoint that training goes on from."""
    checkpoint = folder.ranks.gather(newest_whole(folder.path, watch.say) if folder.ranks.main else None)[0]
    if checkpoint is not None:
        refuse_pickles(checkpoint)
        watch.say(f"going on from {checkpoint}")
    return checkpoint


def train(run: Run, callbacks: list[TrainerCallback]) -> int | None:
    """Train until the last step, from the newest whole checkpoint if there is one.

    Returns:
        The step that training began with; None where none was left.
    """
    checkpoint = newest_checkpoint(run.folder, run.watch)
    if isinstance(run.watch, TrainingProgress):
        callbacks = [*callbacks, run.watch]
    source = None if run.settings.method in BASELINES else _source(run)
    if source is not None and checkpoint is not None:
        source.saved(step_of(checkpoint))  # a run that was killed between the two
    if checkpoint is not None and (last := at_the_end(checkpoint)):
        run.policy.restore(last)
        return None
    if source is None:
        _baseline(run, callbacks, checkpoint)
    else:
        _neat(run, source, callbacks, checkpoint)
    return 0 if checkpoint is None else step_of(checkpoint)


def _baseline(run: Run, callbacks: list[TrainerCallback], checkpoint: Path | None) -> None:
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


def _neat(run: Run, source: RecordSource, callbacks: list[TrainerCallback], checkpoint: Path | None) -> None:
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


def _stored_reference(run: Run) -> StoredReference | None:
    """Where the reference's figures are kept; None where no response is trained on twice, or none are asked for."""
    settings = run.settings
    again = not settings.online and run.steps > steps_an_epoch(len(run.data.train), settings.records_per_step)
    if not (again and settings.loss.needs_reference):
        return None
    run.watch.say("the reference is asked in the first epoch alone; RUN/reference keeps its answers")
    return StoredReference(run.folder.path, run.folder.ranks)


def _source(run: Run) -> RecordSource:
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


def at_the_end(checkpoint: Path) -> Path | None:
    """The checkpoint that holds the trained weights, where training is over: transformers would take a step more."""
    path = checkpoint / "trainer_state.json"
    with readable(path):
        state = json.loads(path.read_bytes())
        if state["global_step"] < state["max_steps"]:
            return None
        best = state["best_model_checkpoint"]
        return checkpoint if best is None else checkpoint.parent / Path(best).name
