"""Shards of one plan made by jobs that know nothing of each other, and the dataset completed from them."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from neat_data.errors import InputError
from neat_data.report.terminal import print_score_summary
from neat_data.scoring.numbers import Numbers
from neat_data.scoring.request import Part, ScoreRequest, ScoreSummary
from neat_data.scoring.score import score
from neat_data.store.atomic import locked
from tests.support.killing import contents

Change = Callable[..., ScoreRequest]


@pytest.fixture
def request_of(tmp_path: Path) -> Change:
    rows = [
        {"prompt": f"q {n % 9}", "chosen": f"a {n}", "rejected": "b", "score_chosen": n, "score_rejected": 0.5}
        for n in range(1, 12)
    ]
    source = tmp_path / "rows.jsonl"
    source.write_text("\n".join(["{broken", *map(json.dumps, rows)]))

    def request(**changes: object) -> ScoreRequest:
        given = ScoreRequest(str(source), tmp_path / "jobs", None, shard_rows=3)
        return replace(given, **changes)  # type: ignore[arg-type]

    return request


def shards(text: str) -> dict[str, Numbers]:
    return {"shards": Numbers.read(text)}


def test_jobs_and_finish_make_the_bytes_of_one_run(request_of: Change, tmp_path: Path) -> None:
    score(request_of(out=tmp_path / "alone"))
    part = score(request_of(phase="plan")).part
    assert part is not None
    assert (part.source_rows, part.shards) == (12, 4)
    for numbers in ("2-99", "0", "0-1"):
        score(request_of(**shards(numbers)))
    summary = score(request_of(phase="finish"))
    assert summary.counts["rejected"] == {"not_json": 1}
    assert contents(tmp_path / "jobs") == contents(tmp_path / "alone")
    assert score(request_of(phase="finish")).already
    assert score(request_of(**shards("0-3"))).already


def test_a_plain_run_takes_up_what_jobs_made(request_of: Change, tmp_path: Path) -> None:
    score(request_of(out=tmp_path / "alone"))
    score(request_of(phase="plan"))
    score(request_of(**shards("1,3")))
    score(request_of())
    assert contents(tmp_path / "jobs") == contents(tmp_path / "alone")


def test_shards_are_cut_as_they_were_begun_unless_it_is_said_otherwise(request_of: Change, tmp_path: Path) -> None:
    score(request_of(out=tmp_path / "alone"))
    score(request_of(phase="plan"))
    part = score(request_of(shard_rows=None, **shards("1"))).part
    assert part is not None
    assert part.shards == 4
    shutil.rmtree(request_of().out / ".plan")
    assert not score(request_of(shard_rows=None)).already
    assert contents(tmp_path / "jobs") == contents(tmp_path / "alone")
    assert score(request_of(shard_rows=None)).already
    with pytest.raises(InputError, match="shard_rows"):
        score(request_of(shard_rows=4))


def test_a_job_says_what_it_made_and_what_was_there(request_of: Change) -> None:
    score(request_of(phase="plan"))
    score(request_of(**shards("1")))
    part = score(request_of(**shards("0-2"))).part
    assert part is not None
    assert (part.made, part.before) == (2, 1)


@pytest.mark.parametrize("changes", [shards("0-3"), {"phase": "finish"}])
def test_without_a_plan_nothing_is_made(request_of: Change, changes: dict[str, object]) -> None:
    with pytest.raises(InputError, match="holds no plan"):
        score(request_of(**changes))
    assert not request_of().out.exists()


def test_finish_names_the_shards_that_are_missing(request_of: Change) -> None:
    score(request_of(phase="plan"))
    score(request_of(**shards("1")))
    with pytest.raises(InputError, match=r"3 of 4 shards are missing \(0,2-3\)"):
        score(request_of(phase="finish"))


def test_a_plan_of_another_version_is_refused(request_of: Change) -> None:
    score(request_of(phase="plan"))
    file = request_of().out / ".plan" / "plan.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "version": "0.0.1"}))
    with pytest.raises(InputError, match=r"another version of neat-align \(0\.0\.1; this is"):
        score(request_of(**shards("0")))


def test_a_job_for_other_rows_is_refused(request_of: Change) -> None:
    score(request_of(phase="plan"))
    with pytest.raises(InputError, match="planned for other rows"):
        score(request_of(**shards("0"), limit=5))


def test_a_job_with_other_settings_is_refused(request_of: Change) -> None:
    score(request_of(phase="plan"))
    score(request_of(**shards("0")))
    with pytest.raises(InputError, match="begun with other settings"):
        score(request_of(**shards("1"), compression="zstd"))


def test_jobs_share_the_folder_and_keep_a_writer_of_the_whole_out(request_of: Change) -> None:
    score(request_of(phase="plan"))
    with locked(request_of().out, shared=True):
        score(request_of(**shards("0-3")))
        with pytest.raises(InputError, match="another process is writing"):
            score(request_of(phase="finish"))
    with locked(request_of().out), pytest.raises(InputError, match="another process is writing"):
        score(request_of(**shards("0")))
    score(request_of(phase="finish"))


def test_what_comes_behind_a_plan() -> None:
    said = {}
    for out in (Path("made"), "s3://bucket/made"):
        console = Console(file=io.StringIO(), width=200)
        print_score_summary(ScoreSummary(out, False, {}, part=Part(12, 4)), console)
        said[str(out)] = console.file.getvalue().splitlines()[-1]  # type: ignore[attr-defined]
    assert said["made"] == "next: the same command with --shards 0-3, or parts of that"
    assert said["s3://bucket/made"] == "next: the same command without --phase"


@pytest.mark.parametrize("text", ["", "a", "3-1", "1,,2", "-1", "1-2-3"])
def test_what_is_no_range_of_shards(text: str) -> None:
    with pytest.raises(InputError, match="numbers such as 0-99"):
        Numbers.read(text)


def test_the_command_line_takes_one_part_at_a_time(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "neat_data", "score", "rows.jsonl", "--out", str(tmp_path / "d")]
    both = subprocess.run([*command, "--phase", "finish", "--shards", "0"], capture_output=True, text=True)
    assert both.returncode == 2
    assert "Leave --phase or --shards out." in both.stderr
