"""The reference's log-probabilities, computed once for each response and stored with the run.

The reference is the policy as it was when training began, so what it gives a response never changes. The first epoch
computes it beside the policy's own; from the second on it is read here, which saves one of a step's four passes
(forward, reference, and a backward that costs two). A value is kept by what it depends on, the token ids of query and
response, at 4 bytes a response token. Every rank writes what it computed, before the checkpoint that was trained with
it is whole: a resumed run reads the same values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from neat_data.errors import InputError
from neat_data.store.atomic import write_atomically
from neat_train.data.batches import MicroBatch
from neat_train.distributed import Ranks

FOLDER = "reference"
_KEY, _LOGPS = pa.binary(16), pa.list_(pa.float32())
_SCHEMA = pa.schema([("response", _KEY), ("logps", _LOGPS)])


class StoredReference:
    """What the reference gave each response of a run so far."""

    def __init__(self, run: Path, ranks: Ranks) -> None:
        """Read what earlier sessions stored in `run`, the run's folder."""
        self._folder, self._ranks = run / FOLDER, ranks
        self._known: dict[bytes, np.ndarray] = {}
        self._unwritten: list[bytes] = []
        self._read: set[str] = set()
        self._read_parts()

    def get(self, batch: MicroBatch) -> Tensor | None:
        """The log-probabilities of the batch's tokens, (tokens,) float32; None unless all of them are known."""
        known = [self._known[key] for key in _keys(batch) if key in self._known]
        if [len(logps) for logps in known] != _lengths(batch):
            return None
        return torch.from_numpy(np.concatenate(known))

    def add(self, batch: MicroBatch, values: Tensor) -> None:
        """Keep what the reference gave a batch's tokens: (tokens,)"""
        parts = values.float().cpu().split(_lengths(batch))
        for key, part in zip(_keys(batch), parts, strict=True):
            if key not in self._known:
                self._known[key] = part.numpy()
                self._unwritten.append(key)

    def write(self, step: int) -> None:
        """Put on the disk what was added since the last time; `step` names the file.

        Raises:
            RunError: the disk is full.
        """
        if not self._unwritten:
            return
        self._folder.mkdir(exist_ok=True)
        path = self._folder / f"{step:08d}-{self._ranks.rank}.arrow"
        columns = [pa.array(self._unwritten, _KEY), pa.array([self._known[key] for key in self._unwritten], _LOGPS)]
        write_atomically(path, lambda file: _write(file, pa.record_batch(columns, schema=_SCHEMA)))
        self._unwritten = []
        self._read.add(path.name)

    def share(self, step: int) -> None:
        """Let every rank know what the others computed; all of them call it before the same step."""
        self.write(step)
        self._ranks.barrier()
        self._read_parts()

    def _read_parts(self) -> None:
        for path in sorted(self._folder.glob("*.arrow")):
            if path.name not in self._read:
                self._read.add(path.name)
                for key, logps in _parts(path):
                    self._known.setdefault(key, logps)


def _write(file: BinaryIO, batch: pa.RecordBatch) -> None:
    with pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)


def _parts(path: Path) -> Iterator[tuple[bytes, np.ndarray]]:
    """What `_write` wrote, mapped.

    Raises:
        InputError: the file is no such thing.
    """
    try:
        with pa.memory_map(str(path)) as file:
            batches = pa.ipc.open_file(file)
            if batches.schema != _SCHEMA:
                raise pa.ArrowInvalid("other columns")
            table = batches.read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(
            f"{path}: not what a run stores there ({error}); remove it to have it computed anew"
        ) from error
    for batch in table.to_batches():
        yield from zip(batch["response"].to_pylist(), (each.values.to_numpy() for each in batch["logps"]), strict=True)


def _keys(batch: MicroBatch) -> list[bytes]:
    """What each response's values depend on, in the order of the layout's responses."""
    return [_key(group.query, ids) for group in batch.groups for ids in group.answers]


def _key(query: Sequence[int], answer: Sequence[int]) -> bytes:
    ids = np.array([len(query), *query, *answer], dtype=np.int64)
    return hashlib.blake2b(ids.tobytes(), digest_size=16).digest()


def _lengths(batch: MicroBatch) -> list[int]:
    return [len(ids) for group in batch.groups for ids in group.answers]
