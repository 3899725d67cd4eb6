"""An evaluation in shards of its queries: the same files from one process, several, and the actors of a Ray."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from neat_data.scoring.engine import EngineSpec
from neat_train.comparison.compare import compare
from neat_train.evaluation.evaluate import EvalRequest, evaluate, read_answers
from neat_train.evaluation.policy import PolicySpec
from tests.support.clusters import accidents
from tests.support.killing import ROOT, contents

PROMPTS = [*(f"How is {number}?" for number in range(8)), "accident: {accident}", "Why?", "Why? " * 100]


def request_of(folder: Path, policy: Path, accident: str = "none") -> EvalRequest:
    """Eleven queries in shards of four, the last one too long to be answered, scored by a function with an accident."""
    rows = [{"prompt": prompt.format(accident=accident), "chosen": "So.", "rejected": "No."} for prompt in PROMPTS]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return EvalRequest(
        str(policy),
        str(folder / "rows.jsonl"),
        (accidents(folder / "reward"),),
        out=folder / "made",
        start=str(policy),
        max_new_tokens=6,
        max_length=128,
        device="cpu",
        shard_rows=4,
    )


def undisturbed(request: EvalRequest) -> dict[str, bytes]:
    """The files of a run in this process, without any accident."""
    assert request.out is not None
    marks = [request.out.parent / "reward" / f"{name}.happened" for name in ("worker", "driver")]
    for mark in marks:
        mark.touch()
    alone = replace(request, out=request.out.with_name("alone"))
    evaluate(alone)
    for mark in marks:
        mark.unlink()
    return contents(alone.out)


def test_shards_give_the_figures_of_the_whole(random_policy, tmp_path):
    request = request_of(tmp_path, random_policy)
    cut = evaluate(request)
    whole = evaluate(replace(request, shard_rows=256, out=tmp_path / "whole"))
    one, other = (read_answers(summary.out).drop("kl") for summary in (cut, whole))
    assert one.equals(other)
    mine, theirs = cut.result, whole.result
    assert mine.left_out == theirs.left_out
    assert mine.left_out.answers["greedy"] == {"query_too_long": 1}
    assert mine.perplexity.value == pytest.approx(theirs.perplexity.value)
    assert mine.perplexity.tokens == theirs.perplexity.tokens
    assert (mine.settings["shard_rows"], "shard_rows" in theirs.settings) == (4, False)


def test_evaluations_in_other_shards_are_compared(random_policy, tmp_path):
    request = replace(request_of(tmp_path, random_policy), rewards=())
    evaluate(request)
    evaluate(replace(request, shard_rows=256, out=tmp_path / "whole"))
    comparison = compare({"cut": [tmp_path / "made"], "whole": [tmp_path / "whole"]})
    assert any("shard_rows" in note for note in comparison.notes)


def test_shards_that_are_there_are_not_made_again(random_policy, tmp_path, monkeypatch):
    from neat_train.evaluation import measure

    request = replace(request_of(tmp_path, random_policy), rewards=(), start=None)
    expected, asked = undisturbed(request), []

    def answers(subject, queries, *, prompt, **options):
        asked.append((prompt.name, queries[0].messages[0].content))
        if len(asked) == 5:
            raise ZeroDivisionError
        return original(subject, queries, prompt=prompt, **options)

    original = measure.answers
    monkeypatch.setattr(measure, "answers", answers)
    with pytest.raises(ZeroDivisionError):
        evaluate(request)
    evaluate(request)
    assert len(asked) == 9 + 1  # three decodings of three shards, and the one that broke off
    assert asked[4] == asked[5]
    assert contents(request.out) == expected


def test_a_policy_is_opened_where_its_spec_is_sent_to(random_policy):
    spec = PolicySpec(str(random_policy), EvalRequest(str(random_policy), "q", device="cpu"), "cpu")
    here = spec.subject
    there = pickle.loads(pickle.dumps(spec))
    assert "subject" not in vars(there)
    assert there.subject.settings == here.settings


@pytest.mark.slow
def test_two_processes_make_the_files_of_one(random_policy, tmp_path):
    request = request_of(tmp_path, random_policy)
    expected = undisturbed(request)
    (tmp_path / "reward" / "worker.happened").touch()
    evaluate(replace(request, engine=EngineSpec(workers=2)))
    assert contents(request.out) == expected


@pytest.mark.slow
def test_an_actor_and_then_the_command_killed_and_run_again_make_the_files_of_one_process(random_policy, tmp_path):
    request = request_of(tmp_path, random_policy, "worker, accident: driver")
    expected = undisturbed(request)
    options = ["--queries", request.queries, "--reward-model", *request.rewards, "--out", str(request.out)]
    options += ["--start", str(random_policy), "--max-new-tokens", "6", "--max-length", "128", "--shard-rows", "4"]
    options += ["--device", "cpu", "--engine", "ray", "--workers", "2"]
    command = [sys.executable, "-m", "neat_train", "eval", str(random_policy), *options]
    driver = subprocess.Popen([*command, "--quiet"], cwd=ROOT)
    (tmp_path / "reward" / "driver.pid").write_text(str(driver.pid))
    assert driver.wait() == -9
    assert (tmp_path / "reward" / "worker.happened").exists()  # the shard was tried again before the command died
    assert not (tmp_path / "made" / "eval.json").exists()
    again = subprocess.run([*command, "--json"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(again.stdout)["cluster"]["tried_again"] == []
    assert contents(request.out) == expected
