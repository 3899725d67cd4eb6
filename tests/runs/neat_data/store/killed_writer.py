"""A writer that is stopped at every line of the store's own code, and goes on from there; run by test_kill.py.

Usage: killed_writer.py FOLDER kill|interrupt STEP. Each attempt is a forked process that a trace function ends, by
SIGKILL or by KeyboardInterrupt, when it is about to run its n-th line of the modules that write; n grows by STEP until
an attempt comes to its end. After each, the folder is looked at and the same work run again without a stop.
Prints how many stops there were.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

from neat_data.record import Label, Message, Record, Response, query_id, response_id, to_table
from neat_data.store import atomic, folder, shard
from neat_data.store.folder import DatasetFolder
from neat_data.store.shard import read_shard

TRACED = {atomic.__file__, folder.__file__, shard.__file__}
SETTINGS = {"seed": 1}
INTERRUPTED = 7


def record(row: int) -> Record:
    query = query_id([Message("user", str(row))])
    identifier = response_id(query, "yes")
    label = Label("a", None, None, row, (identifier,), True)
    return Record(query, (Message("user", str(row)),), (Response(identifier, "yes", 1.5),), (label,))


def write(path: Path) -> None:
    """Two shards, the second with a reject; the summary and the card."""
    with DatasetFolder.open(path, SETTINGS, versions={"pyarrow": "1"}) as out:
        if out.finished:
            return
        for number in sorted({0, 1} - out.done(0)):
            rejects = [{"reason": "not_json", "raw": "{"}] * number
            entry = out.commit(0, number, to_table([record(number)]), rejects, {"source_rows": 1 + number})
            out.record(0, entry)
        out.write_card("Two records.")
        out.finish(0, {"source_rows": 3})


def write_until(stop_at: int, path: Path, how: str) -> None:
    """Run `write`, but stop before its `stop_at`-th traced line."""
    seen = 0

    def trace(frame, event, _):
        nonlocal seen
        if frame.f_code.co_filename not in TRACED:
            return None
        if event == "line":
            seen += 1
            if seen == stop_at and how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif seen == stop_at:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    write(path)


def stopped(stop_at: int, path: Path, how: str) -> bool:
    """`write_until` in a forked process; returns whether it was stopped, False where it came to its end."""
    child = os.fork()
    if not child:
        status = 1
        try:
            write_until(stop_at, path, how)
            status = 0
        except KeyboardInterrupt:
            status = INTERRUPTED
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL if how == "kill" else INTERRUPTED), status
    return status != 0


def content(path: Path) -> dict[str, bytes]:
    files = (file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def check_stopped(path: Path, whole: dict[str, bytes]) -> None:
    """What has its final name is whole; nothing else stands in a reader's way."""
    files = content(path) if path.exists() else {}
    for name, data in files.items():
        if name.endswith(".arrow"):
            assert len(read_shard(path / name)) == 1
            assert data == whole[name], name
        elif name == "dataset.json":
            assert all(entry["name"] in files for r in json.loads(data)["rounds"] for entry in r["shards"])
        else:
            assert name.endswith((atomic.TEMPORARY, atomic.LOCK)) or data == whole[name], name


def main(root: Path, how: str, step: int) -> None:
    write(root / "undisturbed")
    whole = content(root / "undisturbed")
    out = root / "out"
    stops = 0
    while stopped(1 + stops * step, out, how):
        stops += 1
        check_stopped(out, whole)
        write(out)
        assert content(out) == whole, (stops, sorted(content(out)))
        shutil.rmtree(out)
    assert content(out) == whole
    print(stops)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
