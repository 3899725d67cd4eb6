"""Rows on the disk, under their name only when they are whole: JSON Lines, Parquet, or a folder of `datasets`.

Rows come in batches and are written as they come; nothing holds all of them.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from neat_data.errors import InputError
from neat_data.formats.formats import Container
from neat_data.formats.preferences import Row
from neat_data.store.atomic import TEMPORARY, full_disk_explained, write_atomically
from neat_data.store.inside import refuse_inside_dataset
from neat_data.store.shard import file_sha256

Batches = Iterable[list[Row]]
EXPORTED = re.compile(r"dataset_info\.json|state\.json|data-\d{5,}-of-\d{5,}\.arrow|README\.md")


def check_place(out: Path, container: Container, overwrite: bool) -> None:
    """Raise InputError where `out` lies in a dataset, or exists and must not, or cannot, be replaced."""
    refuse_inside_dataset(out)
    if not os.path.lexists(out):
        return
    if not overwrite:
        raise InputError(f"{out}: exists already.", advice="Choose another {out}, or say {overwrite}.")
    if out.is_dir() != (container == "folder"):
        raise InputError(
            f"{out}: is a {'folder' if out.is_dir() else 'file'}, which is not replaced by the other kind."
        )
    if out.is_dir() and (others := _not_exported(out)):
        raise InputError(
            f"{out}: holds what no export wrote ({', '.join(others[:3])}), so it is not overwritten.",
            advice="Move that elsewhere, or choose another {out}.",
        )


def _not_exported(folder: Path) -> list[str]:
    """What lies in a folder that `_write_folder` does not write there."""
    return sorted(path.name for path in folder.iterdir() if path.is_symlink() or not EXPORTED.fullmatch(path.name))


def write(
    out: Path, container: Container, schema: pa.Schema, batches: Batches, card: Callable[[], bytes] | None = None
) -> None:
    """Write the rows; an exception on the way leaves `out` as it was.

    Args:
        out: a file or a folder, by `container`; folders above it are made.
        container: `lines`, `parquet` or `folder`.
        schema: of the rows.
        batches: lists of rows.
        card: called when the rows are through; the README.md of a folder.

    Raises:
        InputError: `out` cannot be written to.
        RunError: the disk is full.
    """
    try:
        with full_disk_explained(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            if container == "folder":
                _write_folder(out, schema, batches, card)
            else:
                into = _write_lines if container == "lines" else _write_parquet
                write_atomically(out, lambda file: into(file, schema, batches))
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise InputError(f"{out}: cannot be written to ({error.strerror}).") from error


def _write_lines(file: BinaryIO, schema: pa.Schema, batches: Batches) -> None:
    for rows in batches:
        lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
        file.write("".join(lines).encode())


def _write_parquet(file: BinaryIO, schema: pa.Schema, batches: Batches) -> None:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for rows in batches:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def _write_folder(out: Path, schema: pa.Schema, batches: Batches, card: Callable[[], bytes] | None) -> None:
    beside = out.with_name(f".{out.name}.{secrets.token_hex(4)}{TEMPORARY}")
    beside.mkdir()
    try:
        rows, folder = beside / "rows.arrow", beside / "dataset"
        with pa.OSFile(str(rows), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            for batch in batches:
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))
        _save(rows, folder)
        if card is not None:
            (folder / "README.md").write_bytes(card())
        _flush(folder)
        if out.exists():  # a kill between these two renames leaves what was there in the hidden folder beside
            out.rename(beside / "replaced")
        folder.rename(out)
    except BaseException:
        if (beside / "replaced").exists() and not out.exists():
            (beside / "replaced").rename(out)
        raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _save(rows: Path, folder: Path) -> None:
    """A stream of rows as a folder that `datasets.load_from_disk` opens; the same rows give the same files."""
    import datasets

    table = datasets.table.MemoryMappedTable.from_file(str(rows))
    with quiet_datasets():
        datasets.Dataset(table, fingerprint=file_sha256(rows)[:16]).save_to_disk(folder)


@contextmanager
def quiet_datasets() -> Iterator[None]:
    """Keep the bars and remarks of `datasets` off the terminal."""
    import datasets

    shown, level = datasets.is_progress_bar_enabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        if shown:
            datasets.enable_progress_bars()


def _flush(folder: Path) -> None:
    """Put the files' content on the disk before the folder gets its name."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
