"""The soak's own machinery: one call fails, the clock jumps, and a lap with every fault ends as one without."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak.faults import FAULTS, OF_THE_DISK, OF_THE_SHIM
from tests.soak.machine import ROOT, compiled

WRITING = """
import os, sys, time
before = time.time()
for number in range(3):
    try:
        file = os.open(sys.argv[1] + f"/{number}", os.O_CREAT | os.O_WRONLY)
        os.write(file, b"x")
    except OSError as error:
        print(number, error.errno)
print(round((time.time() - before) / 86_400))
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = compiled(tmp_path_factory.mktemp("shim"))
    return library or pytest.skip("no C compiler was found")


def said(shim: Path, folder: Path, **told: object) -> list[str]:
    environment = {f"SOAK_{name}": str(value) for name, value in told.items()}
    environment |= {"SOAK_TOKEN": str(folder / "token"), "SOAK_PREFIX": str(folder / "below"), "LD_PRELOAD": str(shim)}
    (folder / "below").mkdir(exist_ok=True)
    command = [sys.executable, "-I", "-S", "-c", WRITING, str(folder / "below")]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True).stdout.splitlines()


def test_the_shim_makes_one_call_fail(shim: Path, tmp_path: Path):
    full = {"CALL": 4, "ERRNO": errno.ENOSPC}  # an open and a write a file
    assert said(shim, tmp_path, **full) == [f"1 {errno.ENOSPC}", "0"]
    assert (tmp_path / "token").exists()
    assert said(shim, tmp_path, **full) == ["0"]  # it has happened
    assert said(shim, tmp_path, CALL=0, COUNT=tmp_path / "count") == ["0"]
    assert (tmp_path / "count").read_text() == "6"


def test_the_shim_sets_the_clock_back(shim: Path, tmp_path: Path):
    assert said(shim, tmp_path, CALL=3, ERRNO=0, BACK=3 * 86_400) == ["-3"]


@pytest.mark.slow  # every fault once, on every command that has a part in it
def test_a_lap_with_every_fault_ends_as_one_without(tmp_path: Path):
    out = tmp_path / "soak.json"
    command = [sys.executable, "-m", "tests.soak", "--minutes", "0", "--least", "1", "--json", str(out)]
    done = subprocess.run([*command, "--keep", str(tmp_path / "kept")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(out.read_text())
    assert (report["equal"], report["wrong"], report["total"]["rows_lost"]) == (True, [], 0)
    assert report["faults"].keys() | report["skipped"].keys() == FAULTS.keys()
    assert report["skipped"].keys() <= {*OF_THE_SHIM, *OF_THE_DISK}
    for kind, counts in report["faults"].items():
        assert counts["injected"] == counts["recovered"] > 0, kind
        assert counts["injected"] == counts["detected"] + counts["died"] + counts["unharmed"], kind
