"""An export below the URL of an object store: made in a temporary folder, then put there.

A file has its name when it is whole. Of a folder, what makes it one that `datasets` opens comes last.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neat_data.errors import InputError
from neat_data.formats.write import EXPORTED
from neat_data.store.location import writable
from neat_data.store.objects import Objects

_README, _LAST = "README.md", ("dataset_info.json", "state.json")


@contextmanager
def uploaded(url: str, overwrite: bool) -> Iterator[Path]:
    """A path on this disk: the file or folder that is made there for the length of a block is put at `url`.

    Raises:
        InputError: the place is taken, by what no export wrote or without `overwrite`.
        RunError: the store does not answer.
    """
    above, _, name = url.rpartition("/")
    folder, place = _objects(url), _objects(above)
    there = folder.names() or (name in place.files(""))
    if there and not overwrite:
        raise InputError(f"{url}: exists already.", advice="Choose another {out}, or say {overwrite}.")
    if others := [each for each in folder.names() if not EXPORTED.fullmatch(each)]:
        raise InputError(
            f"{url}: holds what no export wrote ({', '.join(others[:3])}), so it is not overwritten.",
            advice="Move that elsewhere, or choose another {out}.",
        )
    with tempfile.TemporaryDirectory(prefix="neat-align-") as scratch:
        out = Path(scratch) / name
        if (readme := folder.read(_README)) is not None:  # what the user wrote there stays
            out.mkdir()
            (out / _README).write_bytes(readme)
        yield out
        _put(out, folder, place)


def _objects(url: str) -> Objects:
    place = writable(url)
    assert isinstance(place, Objects)
    return place


def _put(out: Path, folder: Objects, place: Objects) -> None:
    if out.is_file():
        place.upload(out.name, out)
        return
    names = sorted((path.name for path in out.iterdir()), key=lambda name: (name in _LAST, name))
    for name in [*reversed(_LAST), *set(folder.names()).difference(names)]:
        folder.remove(name)
    for name in names:
        folder.upload(name, out / name)
