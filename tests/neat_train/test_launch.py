"""Several processes on one machine: each knows its rank, and the first that fails ends them all."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from neat_train.launch import launch

COMMAND = [sys.executable, "-c"]


def test_every_process_finds_its_rank(tmp_path):
    code = (
        "import os, pathlib\n"
        f"out = pathlib.Path({str(tmp_path)!r}, os.environ['RANK'])\n"
        "out.write_text(' '.join(os.environ[k] for k in ('LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR')))"
    )
    assert launch([*COMMAND, code], 3) == 0
    assert [(tmp_path / str(rank)).read_text() for rank in range(3)] == [f"{rank} 3 127.0.0.1" for rank in range(3)]


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
    outer = f"import sys; from neat_train.launch import launch; launch([sys.executable, '-c', {inner!r}], 2)"
    started = subprocess.Popen([*COMMAND, outer])
    while len(list(tmp_path.iterdir())) < 2:
        assert started.poll() is None
    started.terminate()
    assert started.wait() == 143
    for process in tmp_path.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(process.name), 0)


def test_a_process_that_is_killed_gives_the_status_of_its_signal():
    assert launch([*COMMAND, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"], 1) == 137
