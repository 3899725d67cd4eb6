"""Whatever stands in the files beside a dataset's records, what reads them reads it or says what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from neat_data.cli import app
from neat_data.errors import NeatError
from neat_data.store.dataset import PreferenceDataset
from neat_data.store.reviews import Event
from neat_data.store.shard import file_sha256, read_shard, shard_bytes, shard_metadata
from tests.support.damage import damaged
from tests.support.examples import a_quarter
from tests.support.growing import add_round, add_scores
from tests.support.reviewing import say

REJECTS, SHARD = "rejects/00000.jsonl", "round-0000/00000.arrow"
FILES = [REJECTS, "scores/m/scores.json", "reviews/ann.jsonl"]


@pytest.fixture
def whole(made_dataset: Any, record_of: Any) -> Path:
    """Two shards with a reject, a round, scores of a second model, and a review."""
    records = [record_of(q, {f"{q}1": 1.0, f"{q}2": 0.0}, [(f"{q}1", f"{q}2")]) for q in ("a", "b")]
    path = Path(made_dataset(records, shard=1, rejected=["not_json"]).path)
    add_round(path, {"b": {"new": 3.0}})
    add_scores(path, "m", {"a1": 1.0, "a2": 2.0, "b1": 0.5, "b2": 4.0, "new": 0.5})
    say(path, "ann", Event("e", records[0].responses[1].response_id, verdict="drop"))
    return path


@contextmanager
def put_back(path: Path) -> Iterator[bytes]:
    good = path.read_bytes()
    try:
        yield good
    finally:
        path.write_bytes(good)


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code in (0, 1, 2)
    return done.output


def damaged_like(good: bytes, name: str) -> st.SearchStrategy[bytes]:
    """A damaged line behind good ones, or a damaged file."""
    lines = good.splitlines(keepends=True)
    if name.endswith(".jsonl"):
        return damaged(json.loads(lines[-1])).map(lambda line: b"".join(lines) + line + b"\n")
    return damaged(json.loads(good))


def enter(dataset: Path, good: Path, rejects: bytes) -> None:
    """Rejects whose hash is entered as if they had been written so."""
    (dataset / REJECTS).write_bytes(rejects)
    metadata = shard_metadata(good / SHARD) | {"rejects_sha256": file_sha256(dataset / REJECTS)}
    (dataset / SHARD).write_bytes(shard_bytes(read_shard(good / SHARD), metadata))
    manifest = json.loads((good / "dataset.json").read_bytes())
    shard = {"bytes": (dataset / SHARD).stat().st_size, "sha256": file_sha256(dataset / SHARD)}
    manifest["rounds"][0]["shards"][0] |= shard
    (dataset / "dataset.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", FILES)
@settings(a_quarter(), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_verify_reads_is_a_finding_or_well(whole: Path, name: str, data: st.DataObject) -> None:
    with put_back(whole / name) as good:
        (whole / name).write_bytes(data.draw(damaged_like(good, name)))
        for command in ("verify", "stats"):
            assert "not expected" not in run(command, whole)


@settings(a_quarter(), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_rejects_of_any_content_are_shown_folded_and_verified_or_refused(whole: Path, data: st.DataObject) -> None:
    from neat_data.review.look.rejects import Rejects

    good = whole.with_name("good")
    if not good.exists():
        shutil.copytree(whole, good)
    enter(whole, good, data.draw(damaged_like((good / REJECTS).read_bytes(), REJECTS)))
    assert "not expected" not in run("verify", whole)
    with suppress(NeatError):
        rejects = Rejects(PreferenceDataset.open(whole))
        for reject in rejects.page(1, "")[0]:
            f"{reject.place} {reject.reason} {reject.detail} {reject.raw}".encode("utf-8", "replace")
        assert rejects.reasons
    out = whole.with_name("folded")
    shutil.rmtree(out, ignore_errors=True)
    assert "not expected" not in run("compact", whole, "--out", out)


def test_a_text_that_is_none_is_told_as_damage(whole: Path) -> None:
    """A flipped bit that leaves an Arrow file, whose hash the quick readers do not compute."""
    file = whole / SHARD
    content = bytearray(file.read_bytes())
    content[content.index(next(PreferenceDataset.open(whole).records()).responses[0].text.encode())] = 0xFF
    file.write_bytes(content)
    export = run("export", whole, "--to", "rrhf", "--out", whole.with_name("rrhf.jsonl"))
    rescored = run("rescore", whole, "--reward-model", "benchmarks/cheap_reward.py:length", "--name", "length")
    for output in (export, rescored):
        assert "not expected" not in output
        assert "neat-data verify" in output
    assert f"{SHARD}: damaged" in run("verify", whole)
