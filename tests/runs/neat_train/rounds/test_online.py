"""Online rounds: what is sampled, what training sees, and what the dataset holds afterwards."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from typer.testing import CliRunner

import neat_data
from neat_data.cli import app
from neat_data.errors import InputError, RunError
from neat_data.models.reward_model import Task
from neat_data.rounds.inspect import rounds
from neat_data.store.verify import verify
from neat_train.distributed import Ranks
from neat_train.rounds.block_files import BlockFiles
from tests.support.forking import Forks
from tests.support.growing import drop
from tests.support.killing import contents
from tests.support.online import Run, policy_folder, put, scored_dataset, trained


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scored_dataset(tmp_path_factory.mktemp("scored"))


@pytest.fixture
def dataset(scored: Path, tmp_path: Path) -> Path:
    return shutil.copytree(scored, tmp_path / "d")


def sampled(path: Path) -> dict[int, set[tuple[str, str]]]:
    """(query, text) of everything that rounds added, by round."""
    by_round: dict[int, set[tuple[str, str]]] = {}
    for record in neat_data.open(path).records():
        for response in record.responses:
            if response.round:
                by_round.setdefault(response.round, set()).add((record.query_id, response.text))
    return by_round


def test_the_first_block_is_what_expand_would_sample(dataset: Path, scored: Path, tmp_path: Path):
    run = Run.of(dataset, tmp_path / "run", rounds={"queries": "epoch"})
    source = run.train(3, 3)
    expanded = shutil.copytree(scored, tmp_path / "expanded")
    sampling = ("--max-new-tokens", "6", "--max-length", "256", "--device", "cpu")
    command = ["expand", expanded, "--policy", policy_folder(), *sampling]
    app([*map(str, command), "--quiet"], standalone_mode=False)
    shown = [
        {
            record.query_id: {(r.text, r.seed, r.polarity, r.tokens, r.tokenizer, r.round) for r in record.responses}
            for record in neat_data.open(path).records([1])
        }
        for path in (expanded, run.folder / "dataset")
    ]
    assert shown[0] == shown[1]
    ours, theirs = (neat_data.open(p).manifest.round(1).summary for p in (run.folder / "dataset", expanded))
    assert {k: v for k, v in ours.items() if k != "prompts"} == {k: v for k, v in theirs.items() if k != "prompts"}
    assert ours["prompts"].keys() == theirs["prompts"].keys()
    assert source.metrics()["round/responses"] == ours["responses"]


def test_training_sees_all_responses_and_the_dataset_keeps_them(dataset: Path, tmp_path: Path):
    before = contents(dataset)
    run = Run.of(dataset, tmp_path / "run")
    run.train(6, 3)
    for records in run.seen.values():
        for record in records:
            new = [r for r in record.responses if r.round]
            assert sorted(str(r.polarity) for r in new) == ["negative", "positive"]
            assert len([r for r in record.responses if not r.round]) == 2
            assert record == record.ranked()
            scores = run.reward.score([Task(record.messages, tuple(r.text for r in new))])[0].rewards
            assert [r.reward for r in new] == pytest.approx(list(scores), abs=1e-5)
            assert {r.model.partition("+live:")[0] for r in new} == {run.policy.label}
    assert contents(dataset) == before
    view = run.folder / "dataset"
    assert verify(view).findings == []
    grown = neat_data.open(view)
    assert [(info.kind, info.complete) for info in rounds(grown)] == [
        ("score", True),
        ("online", True),
        ("online", True),
    ]
    trained_on = {(rec.query_id, r.text) for records in run.seen.values() for rec in records for r in rec.responses}
    assert set.union(*sampled(view).values()) <= trained_on
    info = grown.manifest.round(1)
    assert [number for number, _ in info.settings["blocks"]] == [0, 1, 2]
    assert len({policy for _, policy in info.settings["blocks"]}) == 3
    assert info.settings["run"] == "f" * 64
    assert sum(tally["asked"] for tally in info.summary["prompts"].values()) == info.summary["asked"] == 10


def test_a_query_met_again_keeps_its_newest_samples_and_the_others_stay_in_the_dataset(dataset: Path, tmp_path: Path):
    seen = {}
    for keep in ("newest", "all"):
        run = Run.of(dataset, tmp_path / keep, rounds={"keep": keep, "prompts": "neat:negative"}, records_per_step=5)
        source = run.train(3, 2)  # the third epoch is behind a fold, the second before it
        seen[keep] = [{r.query_id: [x for x in r.responses if x.round] for r in run.seen[step]} for step in range(3)]
        assert source.metrics()["round/tokens"] > 0
    assert [{len(new) for new in epoch.values()} for epoch in seen["newest"]] == [{1}, {1}, {1}]
    assert [{len(new) for new in epoch.values()} for epoch in seen["all"]] == [{1}, {2}, {3}]
    for query, (newest,) in seen["newest"][1].items():
        assert newest.model not in {r.model for r in seen["newest"][0][query]}
        assert newest.round == 1
    assert all(newest.round == 2 for (newest,) in seen["newest"][2].values())


def test_the_base_weights_stay_bit_for_bit(dataset: Path, tmp_path: Path):
    run = Run.of(dataset, tmp_path / "run")
    base = {n: w.clone() for n, w in run.policy.model.named_parameters() if not w.requires_grad}
    adapter = {n: w.clone() for n, w in trained(run.policy).items()}
    run.train(3, 3)
    assert all(torch.equal(w, base[n]) for n, w in run.policy.model.named_parameters() if n in base)
    assert not any(torch.equal(w, adapter[n]) for n, w in trained(run.policy).items())


def test_greedy_samples_that_are_there_already_are_dropped_and_counted(dataset: Path, tmp_path: Path):
    run = Run.of(
        dataset, tmp_path / "run", rounds={"temperature": 0, "samples": 2, "queries": "epoch", "prompts": "plain"}
    )
    run.train(1, 1)
    prompts = neat_data.open(run.folder / "dataset").manifest.round(1).summary["prompts"]
    assert {name: (t["asked"], t["kept"], t["dropped"]) for name, t in prompts.items()} == {
        "plain": (10, 5, {"duplicate": 5})
    }


def test_what_reviewers_dropped_does_not_come_again(dataset: Path, tmp_path: Path):
    first = Run.of(dataset, tmp_path / "first", rounds={"temperature": 0, "queries": "epoch", "into": "dataset"})
    first.train(1, 1)
    texts = {r.response_id for record in neat_data.open(dataset).records([1]) for r in record.responses}
    drop(dataset, sorted(texts))
    again = Run.of(dataset, tmp_path / "again", rounds={"temperature": 0, "queries": "epoch"})
    again.train(1, 1)
    assert all(not r.round for record in again.seen[0] for r in record.responses)


def test_the_view_shares_the_shards_and_every_verb_takes_it(dataset: Path, tmp_path: Path):
    run = Run.of(dataset, tmp_path / "run")
    run.train(2, 2)
    view = run.folder / "dataset"
    for name in ("round-0000/00000.arrow", "round-0000/00002.arrow"):
        assert os.path.samefile(dataset / name, view / name)
    assert not os.path.samefile(dataset / "dataset.json", view / "dataset.json")
    command = ["expand", view, "--policy", policy_folder(), "--max-new-tokens", "4", "--device", "cpu", "--quiet"]
    app([*map(str, command)], standalone_mode=False)
    assert CliRunner().invoke(app, ["stats", str(view), "--json"]).exit_code == 0
    assert CliRunner().invoke(app, ["show", str(view)]).exit_code == 0
    assert [entry.kind for entry in neat_data.open(view).manifest.rounds[1:]] == ["online", "expand"]
    assert verify(view).findings == []
    assert verify(dataset).findings == []


def test_samples_may_go_into_the_dataset_itself(dataset: Path, tmp_path: Path):
    run = Run.of(dataset, tmp_path / "run", rounds={"into": "dataset"})
    run.train(2, 1)
    assert not (run.folder / "dataset").exists()
    assert sorted(sampled(dataset)) == [1, 2]
    assert verify(dataset).findings == []


def test_going_on_in_a_dataset_that_grew_is_as_if_it_had_not_stopped(dataset: Path, scored: Path, tmp_path: Path):
    whole = Run.of(shutil.copytree(scored, tmp_path / "other"), tmp_path / "whole", rounds={"into": "dataset"})
    whole.train(4, 2)
    run = Run.of(dataset, tmp_path / "run", rounds={"into": "dataset"})
    run.train(2, 2)
    run.train(4, 2)
    assert run.seen == whole.seen
    assert contents(dataset) == contents(tmp_path / "other")


def test_a_block_that_was_folded_already_is_only_removed(dataset: Path, tmp_path: Path):
    run = Run.of(dataset, tmp_path / "run", rounds={"queries": 1})
    source = run.train(1, 9)
    files = sorted((run.folder / "online").glob("*.arrow"))
    assert len(files) == 2
    kept = files[1].read_bytes()
    source.saved(1)
    expected = contents(run.folder)
    files[1].write_bytes(kept)
    run.source().saved(1)
    assert contents(run.folder) == expected


def test_rounds_begin_behind_those_of_the_dataset(dataset: Path, tmp_path: Path):
    command = ["expand", dataset, "--policy", policy_folder(), "--max-new-tokens", "4", "--device", "cpu", "--quiet"]
    app([*map(str, command)], standalone_mode=False)
    run = Run.of(dataset, tmp_path / "run")
    run.train(3, 3)
    assert sorted(sampled(run.folder / "dataset")) == [1, 2]
    for records in run.seen.values():
        assert all(r.round == 2 for record in records for r in record.responses if r.round)


def test_a_block_of_another_policy_is_made_again_with_a_message(dataset: Path, tmp_path: Path):
    run = Run.of(dataset, tmp_path / "run", rounds={"queries": 4})
    run.train(1, 9)
    files = BlockFiles(run.folder / "online")
    with torch.no_grad():
        for weight in trained(run.policy).values():
            weight.add_(0.01)
    again = replace(run, seen={})
    again.watch.lines.clear()
    again.train(1, 9)
    assert [line for line in again.watch.lines if "block 0" in line] == [
        "block 0 was sampled by another policy or with other settings, and is made again"
    ]
    assert files.block(0)[1]["policy"] != ""
    assert {r.model for rec in run.seen[0] for r in rec.responses if r.round}.isdisjoint(
        r.model for rec in again.seen[0] for r in rec.responses if r.round
    )


def test_a_block_of_this_policy_is_taken_as_it_is(dataset: Path, tmp_path: Path):
    run = Run.of(dataset, tmp_path / "run", rounds={"queries": 4})
    weights = {name: weight.detach().clone() for name, weight in trained(run.policy).items()}
    run.train(1, 9)
    (path,) = (run.folder / "online").glob("*.arrow")
    written = path.stat().st_mtime_ns
    put(run.policy, weights)
    again = replace(run, seen={})
    assert again.train(1, 9).metrics().keys().isdisjoint({"round/sampling_seconds"})
    assert path.stat().st_mtime_ns == written
    assert again.seen == run.seen


def test_rounds_behind_a_checkpoint_that_is_gone_are_made_again(dataset: Path, tmp_path: Path):
    run = Run.of(dataset, tmp_path / "run")
    run.train(4, 2)
    expected = contents(run.folder)
    (run.folder / "checkpoint-0004.safetensors").unlink()
    run.watch.lines.clear()
    run.train(4, 2)
    assert "made again: round 2" in " ".join(run.watch.lines)
    assert contents(run.folder) == expected


def test_samples_that_are_gone_are_missed(dataset: Path, tmp_path: Path):
    run = Run.of(dataset, tmp_path / "run")
    run.train(2, 2)
    shutil.rmtree(run.folder / "dataset")
    with pytest.raises(RunError, match="samples of block 0 are gone"):
        run.train(4, 2)


def test_sifting_rules_apply(dataset: Path, tmp_path: Path):
    run = Run.of(dataset, tmp_path / "run", rounds={"keep_where": "reward < worst", "queries": "epoch"})
    source = run.train(1, 1)
    figures = source.metrics()
    summary = neat_data.open(run.folder / "dataset").manifest.round(1).summary
    assert figures["round/responses"] == summary["responses"] < 10
    assert figures["round/dropped/not_kept"] == 10 - summary["responses"]
    assert figures["round/below_worst"] == pytest.approx(summary["responses"] / 10)
    for record in run.seen[0]:
        worst = min(r.reward for r in record.responses if not r.round)
        assert all(r.reward < worst for r in record.responses if r.round)


def test_samples_that_did_not_end_are_not_trained_on_and_few_that_did_are_told(dataset: Path, tmp_path: Path):
    run = Run.of(dataset, tmp_path / "run", rounds={"drop": ["unfinished"], "queries": "epoch"})
    figures = run.train(1, 1).metrics()
    assert 0 < figures["round/dropped/unfinished"] == 10 * (1 - figures["round/finished"])
    assert all(r.finished for record in run.seen[0] for r in record.responses if r.round)
    (line_of_few,) = [line for line in run.watch.lines if "ended within their tokens" in line]
    assert line_of_few.startswith(f"only {100 * figures['round/finished']:.0f} % of the samples")


def test_a_dataset_elsewhere_is_not_grown(dataset: Path, tmp_path: Path):
    run = Run.of(dataset, tmp_path / "run")
    with pytest.raises(InputError, match="local dataset"):
        replace(run, dataset=tmp_path / "nowhere", begun=dataset).source()


def in_one_of_two(dataset: str, folder: str) -> None:
    """What each of two processes runs."""
    run = Run.of(Path(dataset), Path(folder), rounds={"queries": 4})
    dist.init_process_group("gloo")
    run.ranks = Ranks.here()
    run.train(4, 4)
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_sample_what_one_does(dataset: Path, tmp_path: Path, forks: Forks):
    assert forks.run(__file__, "in_one_of_two", dataset, tmp_path / "two", world=2) == [0, 0]
    alone = Run.of(dataset, tmp_path / "one", rounds={"queries": 4})
    alone.train(4, 4)
    assert verify(tmp_path / "two" / "dataset").findings == []
    one, two = (neat_data.open(tmp_path / name / "dataset") for name in ("one", "two"))
    blocks = [[number for number, _ in d.manifest.round(1).settings["blocks"]] for d in (one, two)]
    assert blocks[0] == blocks[1] == [0, 1]
    assert one.manifest.round(1).settings["blocks"][0] == two.manifest.round(1).settings["blocks"][0]
    samples = [
        {(rec.query_id, r.text, r.seed) for rec in d.records([1]) for r in rec.responses if r.model.endswith(start)}
        for d in (one, two)
        for start in [d.manifest.round(1).settings["blocks"][0][1][:12]]
    ]
    assert samples[0] == samples[1]
    assert len(samples[0]) == 8
