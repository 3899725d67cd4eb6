"""Several processes on one machine: each knows its rank, the first that fails ends them all, and none is waited for
without an end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest

from neat_train.training.launch import launch, leaving_for_good, reserved_port

COMMAND = [sys.executable, "-c"]


def test_every_process_finds_its_rank(tmp_path):
    code = (
        "import os, pathlib\n"
        f"out = pathlib.Path({str(tmp_path)!r}, os.environ['RANK'])\n"
        "out.write_text(' '.join(os.environ[k] for k in ('LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR')))"
    )
    assert launch([*COMMAND, code], 3) == 0
    assert [(tmp_path / str(rank)).read_text() for rank in range(3)] == [f"{rank} 3 127.0.0.1" for rank in range(3)]


def test_the_port_they_meet_at_is_for_who_names_it_and_for_nobody_who_takes_any():
    address = ("127.0.0.1", reserved_port())
    with socket.socket() as any_other, pytest.raises(OSError, match="in use"):
        any_other.bind(address)
    socket.create_server(address).close()  # binds as torch's store does, with SO_REUSEADDR


def test_the_first_to_fail_ends_the_others_and_is_heard(capfd):
    code = "import os, sys, time\nif os.environ['RANK'] == '1': sys.exit('rank one is out of luck')\ntime.sleep(600)"
    assert launch([*COMMAND, code], 3) == 1
    assert "rank one is out of luck" in capfd.readouterr().err


def test_the_main_process_speaks_for_itself_and_once(capfd):
    code = "import os, sys, time\ntime.sleep(0 if os.environ['RANK'] == '0' else 600)\nsys.exit(2)"
    assert launch([*COMMAND, code], 2) == 2
    assert capfd.readouterr().err == ""


def test_a_mistake_that_all_of_them_find_is_told_once(capfd):
    code = "import sys\nprint('a mistake', file=sys.stderr)\nsys.exit(2)"
    assert launch([*COMMAND, code], 2) == 2
    assert capfd.readouterr().err == "a mistake\n"


def test_who_ends_the_launcher_ends_its_processes(tmp_path):
    inner = f"import os, pathlib, time; pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch(); time.sleep(600)"
    outer = f"import sys; from neat_train.training.launch import launch; launch([sys.executable, '-c', {inner!r}], 2)"
    started = subprocess.Popen([*COMMAND, outer])
    latest = time.monotonic() + 600  # of a machine that is busy
    while len(list(tmp_path.iterdir())) < 2:
        assert started.poll() is None
        assert time.monotonic() < latest
    started.terminate()
    assert started.wait(timeout=600) == 143
    for process in tmp_path.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(process.name), 0)


def test_a_process_that_is_killed_gives_the_status_of_its_signal():
    assert launch([*COMMAND, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"], 1) == 137


@pytest.mark.parametrize("stuck", ["0", "1"])
def test_a_process_that_does_not_end_with_the_others_is_ended_and_named(stuck, capfd):
    code = f"import os, time\nif os.environ['RANK'] == {stuck!r}: time.sleep(600)"
    assert launch([*COMMAND, code], 2, patience=0.1) == 1
    assert f"rank {stuck} had not ended 0.1 s after" in capfd.readouterr().err


LEAVING = """
import atexit, os, sys, threading
from neat_train.training.launch import leaving_for_good

class Stuck:
    def __del__(self):  # runs when the interpreter is taken apart
        os.write(1, b"taken apart ")
        threading.Event().wait(600)

kept = Stuck()
atexit.register(print, "the hook ", end="")
with leaving_for_good():
    threading.Thread(target=lambda: print("the thread ", end="")).start()
    print("the work ", end="")
    sys.exit({code!r})
"""


@pytest.mark.parametrize(
    ("code", "status", "said"), [(None, 0, ""), (0, 0, ""), (3, 3, ""), ("no luck", 1, "no luck\n")]
)
def test_one_of_several_ends_in_order_and_is_gone(code, status, said):
    environment = {**os.environ, "LOCAL_RANK": "0"}
    command = [*COMMAND, LEAVING.format(code=code)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert (ended.returncode, ended.stderr) == (status, said)
    assert sorted(ended.stdout.split()) == ["hook", "the", "the", "the", "thread", "work"]


def test_one_process_alone_ends_as_any_other():
    with pytest.raises(SystemExit), leaving_for_good():
        sys.exit(0)
