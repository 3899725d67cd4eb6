"""Checkpoints that count only when they are whole, and resuming from the newest of them.

A checkpoint is the folder that transformers writes (weights, optimiser, scheduler, random states, trainer state); when
all of it is on the disk, `complete.json` with size and sha256 of every file is put beside it. What has no such mark,
or not the files it names, was left by a run that was killed: it is never read, and removed; so is one whose bytes are
others than those that were written, which is told. Older checkpoints go only once a newer one is whole.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from torch import nn

from neat_data.errors import InputError, RunError
from neat_data.store.atomic import full_disk_explained, write_atomically
from neat_data.store.shard import file_sha256
from neat_train.distributed import Ranks

if TYPE_CHECKING:
    from transformers import Trainer

    _Base = Trainer
else:
    _Base = object

MARK = "complete.json"
CHECKPOINT_STAYS = "The last whole checkpoint stays"


class Saved(Protocol):
    """What is trained, as far as checkpoints go."""

    def save(self, folder: Path) -> None:
        """Write the weights, and what loads them elsewhere."""
        ...

    def restore(self, folder: Path) -> None:
        """Put the weights that `save` wrote back, bit for bit."""
        ...


class WholeCheckpoints(_Base):
    """For a `transformers.Trainer`: a checkpoint counts only when it is whole. The mixin stands in front of it.

    Attributes:
        policy: writes and reads the weights in the place of transformers, which loads adapters into float32 whatever
            they were trained in, and saves the frozen one beside the trained one.
    """

    policy: Saved

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        ranks = Ranks.here()
        run = Path(self._get_output_dir(trial))
        folder = _folder(run, self.state.global_step)
        limit, self.args.save_total_limit = self.args.save_total_limit, None  # transformers' turn would come too early
        try:
            with full_disk_explained(folder, CHECKPOINT_STAYS), _torn_removed(folder):
                super()._save_checkpoint(model, trial)
                ranks.barrier()
                if ranks.main:
                    seal(folder)
        finally:
            self.args.save_total_limit = limit
        ranks.barrier()
        if ranks.main:
            rotate(run, limit, self.state.best_model_checkpoint)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if state_dict is not None:  # gathered from the shards of FSDP
            super()._save(output_dir, state_dict)
        elif self.args.should_save:
            assert output_dir is not None
            self.policy.save(Path(output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            self.policy.restore(Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        assert self.state.best_model_checkpoint is not None
        # By its name: the path is what the state of a resumed run says, and that may come from anybody.
        best = Path(self._get_output_dir(None)) / Path(self.state.best_model_checkpoint).name
        self.state.best_model_checkpoint = str(best)
        if (name := changed_file(best)) is not None:
            raise RunError(
                f"{best / name}: damaged: it is not what was written, and is the best checkpoint of this run."
            )
        if self.is_fsdp_enabled:
            super()._load_best_model()
        else:
            self.policy.restore(best)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with _pickles_refused(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with _pickles_refused(checkpoint):
            super()._load_rng_state(checkpoint)


def newest_whole(run: Path, say: Callable[[str], None] = lambda _: None) -> Path | None:
    """The newest checkpoint of a run that is whole; those that are not, and newer ones, are removed on the way.

    Args:
        say: told of one that was whole and is no more.
    """
    whole = []
    for folder in _all(run):
        if is_whole(folder):
            whole.append(folder)
        else:
            if (folder / MARK).exists():  # which goes first when a checkpoint is removed
                say(f"{folder}: damaged: not all of it is there any more; this checkpoint is removed")
            shutil.rmtree(folder)
    while whole and (name := changed_file(whole[-1])) is not None:
        say(f"{whole[-1] / name}: damaged: it is not what was written; this checkpoint is removed")
        shutil.rmtree(whole.pop())
    return whole[-1] if whole else None


def is_whole(folder: Path) -> bool:
    """Whether a checkpoint was finished and still has every file, of its size."""
    try:
        sizes = json.loads((folder / MARK).read_bytes())["sizes"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def changed_file(folder: Path) -> str | None:
    """A file of a whole checkpoint whose bytes are not those that were written; earlier versions wrote no hashes."""
    mark = json.loads((folder / MARK).read_bytes())
    hashes = mark.get("sha256")
    if not isinstance(hashes, dict):
        return None
    return next((name for name in mark["sizes"] if file_sha256(folder / name) != hashes.get(name)), None)


def refuse_pickles(folder: Path) -> None:
    """Raise InputError for a checkpoint in shards (of FSDP, of DeepSpeed), whose libraries read pickles from it."""
    shards = (path for pattern in (".metadata", "*_states.pt") for path in folder.rglob(pattern))
    if (pickled := next(shards, None)) is not None:
        raise InputError(
            f"{pickled}: is a pickle, which can run code; checkpoints in shards are not gone on from\n"
            "remove this checkpoint, and have whole ones written (fsdp_state_dict_type FULL_STATE_DICT)"
        )


def seal(folder: Path) -> None:
    """Flush every file of a checkpoint to the disk, then mark it as whole."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in [*files, folder]:
        _flush(path)
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in files}
    content = {"sizes": sizes, "sha256": {name: file_sha256(folder / name) for name in sizes}}
    write_atomically(folder / MARK, lambda file: file.write(json.dumps(content).encode()))


def rotate(run: Path, limit: int | None, best: str | None) -> None:
    """Remove the oldest whole checkpoints until `limit` are left; the newest and the best one stay."""
    whole = [folder for folder in _all(run) if is_whole(folder)]
    kept = {whole[-1], *([Path(best)] if best else [])} if whole else set()
    spare = [folder for folder in whole if folder not in kept]
    if limit is not None:
        for folder in spare[: max(0, len(whole) - max(limit, len(kept)))]:
            (folder / MARK).unlink()
            shutil.rmtree(folder)


def step_of(folder: Path) -> int:
    """How many optimiser steps were taken when the checkpoint was.

    >>> step_of(Path("run/checkpoint-12"))
    12
    """
    return int(folder.name.rpartition("-")[2])


@contextmanager
def _pickles_refused(checkpoint: str | None) -> Iterator[None]:
    """torch reads nothing but numbers and plain values (weights_only), and says so at length."""
    try:
        yield
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{checkpoint}: its optimiser, schedule or random state holds more than numbers, so it was not made by "
            "this program or is damaged\nremove this checkpoint: the same command goes on from the one before"
        ) from error


@contextmanager
def _torn_removed(folder: Path) -> Iterator[None]:
    """What an error leaves of a checkpoint goes at once: where the disk is full, its space is wanted."""
    try:
        yield
    except Exception:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _folder(run: Path, step: int) -> Path:
    return run / f"checkpoint-{step}"


def _all(run: Path) -> list[Path]:
    """Every checkpoint's folder, the oldest first."""
    checkpoints = [path for path in run.glob("checkpoint-*") if path.name.rpartition("-")[2].isdecimal()]
    return sorted(checkpoints, key=step_of)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
