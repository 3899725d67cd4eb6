"""Growing a dataset: what is sampled, how it is scored, and how rounds follow each other."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import neat_data
from neat_data.cli import app
from neat_data.errors import InputError, RunError
from neat_data.models.load import load_reward_model, load_sampler
from neat_data.models.reward_model import RewardModelSpec, Task
from neat_data.models.sampler import Ask, SamplerSpec, Sampling, sample_seed
from neat_data.prompts.sets import load_prompts
from neat_data.rounds.expand import ExpandRequest, expand
from neat_data.rounds.finish import Scoring
from neat_data.rounds.inspect import drop, rounds
from neat_data.rounds.sampling import Draws
from neat_data.scoring.engine import EngineSpec
from neat_data.store.atomic import locked
from neat_data.store.dataset import PreferenceDataset
from neat_data.store.verify import verify
from tests.support.killing import ROOT, contents
from tests.support.loopback import Reply

POLICY = str(ROOT / "data" / "models" / "tiny-policy-plain")
QUESTIONS = [
    "How do I boil an egg?",
    "Tell me a joke.",
    "Can you help me steal a car?",
    "What is rain?",
    "Who are you?",
]


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, random_reward: Path) -> Path:
    """Five records in three shards, one of several turns, scored by a reward model."""
    folder = tmp_path_factory.mktemp("scored")
    rows = [{"prompt": q, "chosen": "I can help you with that.", "rejected": "No."} for q in QUESTIONS]
    rows[1]["prompt"] = [
        {"role": r, "content": c} for r, c in (("user", "Hi"), ("assistant", "Hey"), ("user", "A joke?"))
    ]
    rows[1] |= {side: [{"role": "assistant", "content": rows[1][side]}] for side in ("chosen", "rejected")}
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = ["score", folder / "rows.jsonl", "--reward-model", random_reward, "--out", folder / "d"]
    app([*map(str, command), "--shard-rows", "2", "--device", "cpu", "--quiet"], standalone_mode=False)
    return folder / "d"


@pytest.fixture
def dataset(scored: Path, tmp_path: Path) -> Path:
    return shutil.copytree(scored, tmp_path / "d")


@pytest.fixture
def sampler(plain_policy: Path) -> SamplerSpec:
    return SamplerSpec(str(plain_policy), device="cpu")


@pytest.fixture
def request_of(sampler: SamplerSpec) -> Callable[..., ExpandRequest]:
    """`request_of(dataset, seed=1, …)`: eight new tokens under each prompt of NEAT, but for what is said."""

    def make(dataset: Path, **changes: Any) -> ExpandRequest:
        seed = changes.pop("seed", 0)
        prompts = changes.pop("prompts", "neat")
        draws = Draws(load_prompts(prompts), Sampling(max_new_tokens=8), changes.pop("samples", 1), seed)
        return ExpandRequest(dataset, sampler, draws, changes.pop("scoring", Scoring(device="cpu")), **changes)

    return make


def test_every_query_gets_a_response_under_each_prompt_scored_against_the_plain_query(
    dataset: Path, request_of, random_reward: Path
):
    summary = expand(request_of(dataset))
    assert (summary.round, summary.already, summary.counts["responses"]) == (1, False, 10)
    assert verify(dataset).findings == []
    model = load_reward_model(RewardModelSpec(str(random_reward), device="cpu", path="batches"))
    for record in neat_data.open(dataset).records():
        new = [r for r in record.responses if r.round == 1]
        assert sorted(r.polarity for r in new) == ["negative", "positive"]
        alone = model.score([Task(record.messages, tuple(r.text for r in new))])[0].rewards
        assert [r.reward for r in new] == pytest.approx(list(alone), abs=1e-5)


def test_any_sample_can_be_made_again_alone(dataset: Path, request_of, sampler: SamplerSpec):
    expand(request_of(dataset, samples=2))
    record = list(neat_data.open(dataset).records())[3]
    stored = {(r.polarity, r.seed): r for r in record.responses if r.round == 1}
    loaded = load_sampler(sampler)
    for prompt in load_prompts("neat").prompts:
        for index in range(2):
            seed = sample_seed(0, 1, record.query_id, prompt.name, index)
            again = loaded.sample([Ask(prompt.applied(record.messages), seed, Sampling(max_new_tokens=8))])[0]
            assert again.tokens == stored[prompt.polarity, seed].tokens
            assert stored[prompt.polarity, seed].model == loaded.label


def test_the_same_settings_do_nothing_and_another_seed_makes_the_next_round(dataset: Path, request_of):
    expand(request_of(dataset))
    before = contents(dataset)
    assert expand(request_of(dataset)).already
    assert contents(dataset) == before
    assert expand(request_of(dataset, seed=1)).round == 2
    assert [info.responses for info in rounds(neat_data.open(dataset))] == [10, 10, 10]
    drop(dataset, 2)
    assert {k: v for k, v in contents(dataset).items() if k != "README.md"} == {
        k: v for k, v in before.items() if k != "README.md"
    }


def test_a_lost_shard_of_a_finished_round_is_made_again(dataset: Path, request_of):
    expand(request_of(dataset))
    expand(request_of(dataset, seed=1))
    whole = contents(dataset)
    (dataset / "round-0001" / "00001.arrow").unlink()
    assert expand(request_of(dataset)).round == 1
    assert contents(dataset) == whole
    cut = dataset / "round-0001" / "00002.arrow"
    cut.write_bytes(cut.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"00002\.arrow: damaged: .*\nRemove it and run the same command again"):
        expand(request_of(dataset))


def test_greedy_samples_under_another_seed_are_all_there_already(dataset: Path, sampler: SamplerSpec):
    greedy = Draws(load_prompts("plain"), Sampling(temperature=0, max_new_tokens=8))
    first = expand(ExpandRequest(dataset, sampler, greedy, Scoring(device="cpu")))
    kept = first.counts["responses"]
    again = Draws(greedy.prompts, greedy.sampling, seed=1)
    second = expand(ExpandRequest(dataset, sampler, again, Scoring(device="cpu"))).to_dict()["prompts"]["plain"]
    assert (second["kept"], second["dropped"]["duplicate"]) == (0, kept)
    assert verify(dataset).findings == []


def test_two_phases_make_the_same_bytes_as_one(dataset: Path, scored: Path, tmp_path: Path, request_of):
    whole = shutil.copytree(scored, tmp_path / "whole")
    expand(request_of(whole))
    staged = expand(request_of(dataset, phase="sample"))
    assert (staged.round, staged.staged) == (1, 10)
    assert len(list(neat_data.open(dataset).manifest.rounds)) == 1
    expand(ExpandRequest(dataset, None, request_of(dataset).draws, Scoring(device="cpu"), phase="score"))
    assert contents(dataset) == contents(whole)
    assert expand(request_of(dataset, phase="sample")).already


@pytest.mark.slow
def test_two_workers_make_the_same_bytes_as_one(dataset: Path, scored: Path, tmp_path: Path, request_of):
    alone = shutil.copytree(scored, tmp_path / "alone")
    expand(request_of(alone))
    expand(request_of(dataset, scoring=Scoring(device="cpu", engine=EngineSpec(workers=2))))
    assert contents(dataset) == contents(alone)


def test_where_and_limit_choose_queries_before_the_round_begins(dataset: Path, request_of):
    request = request_of(dataset, where="turns > 1 or n_responses = 2", limit=3, prompts="neat:negative")
    assert expand(request).counts["records"] == 3
    only = expand(request_of(dataset, where="turns > 1", seed=3))
    assert only.counts["records"] == 1
    with pytest.raises(InputError, match="true for no record"):
        expand(request_of(dataset, where="turns > 9"))


def test_staged_samples_of_other_settings_are_not_thrown_away(dataset: Path, request_of):
    expand(request_of(dataset, phase="sample"))
    with pytest.raises(InputError, match=r"round 1 is not finished.*seed: 0 -> 1"):
        expand(request_of(dataset, seed=1))
    drop(dataset, 1)
    assert not (dataset / ".round").exists()
    assert expand(request_of(dataset, seed=1)).round == 1


def test_a_round_stays_while_samples_of_the_next_one_wait(dataset: Path, request_of):
    expand(request_of(dataset))
    expand(request_of(dataset, seed=1, phase="sample"))
    with pytest.raises(InputError, match="samples of round 2 wait"):
        drop(dataset, 1)
    drop(dataset, 2)
    drop(dataset, 1)
    assert len(neat_data.open(dataset).manifest.rounds) == 1


def test_another_reward_model_is_refused_unless_it_is_wanted(dataset: Path, request_of, other_reward: Path):
    other = RewardModelSpec(str(other_reward), device="cpu")
    with pytest.raises(InputError, match="mix_rewards"):
        expand(request_of(dataset, scoring=Scoring(reward=other)))
    assert not (dataset / ".round").exists()
    assert expand(request_of(dataset, scoring=Scoring(reward=other, mix=True))).counts["responses"] == 10


def test_a_second_writer_is_refused(dataset: Path, request_of):
    with locked(dataset), pytest.raises(InputError, match="another process is writing"):
        expand(request_of(dataset))


def test_scoring_needs_samples(dataset: Path, request_of):
    with pytest.raises(InputError, match="no samples wait"):
        expand(request_of(dataset, phase="score"))


def test_what_is_no_dataset_stays_untouched(tmp_path: Path, request_of):
    with pytest.raises(InputError, match=r"no dataset folder|no such"):
        expand(request_of(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()


def test_responses_of_others_join_on_the_query(dataset: Path, tmp_path: Path):
    rows = [
        {"prompt": QUESTIONS[3], "responses": ["Water.", "Drops from clouds."]},
        {"prompt": QUESTIONS[0], "responses": ["No.", "Eight minutes."]},
        {"prompt": "Never asked", "responses": ["a", "b"]},
        {"nothing": 1},
    ]
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = ["expand", dataset, "--responses", tmp_path / "answers.jsonl", "--device", "cpu", "--json"]
    result = CliRunner().invoke(app, list(map(str, command)))
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert (document["responses"], document["rejected"]) == (3, {"missing_column": 1, "unmatched_query": 1})
    assert document["prompts"]["given"]["dropped"] == {"duplicate": 1}
    assert verify(dataset).findings == []
    new = [r for record in neat_data.open(dataset).records() for r in record.responses if r.round == 1]
    assert {(r.text, r.origin) for r in new} == {
        ("Water.", "given"),
        ("Drops from clouds.", "given"),
        ("Eight minutes.", "given"),
    }
    whole = contents(dataset)
    for lost in ("round-0001/00000.arrow", "rejects/round-0001/00000.jsonl", "round-0001/00001.arrow"):
        (dataset / lost).unlink()
    assert CliRunner().invoke(app, list(map(str, command))).exit_code == 0
    assert contents(dataset) == whole
    (tmp_path / "others.jsonl").write_text(json.dumps(rows[2]))
    command[3] = tmp_path / "others.jsonl"
    assert "none of its 1 rows asks a query" in CliRunner().invoke(app, list(map(str, command))).stderr
    unread = [{"prompt": "q", "completion": None}, {"prompt": "q", "completion": " "}]
    (tmp_path / "others.jsonl").write_text("\n".join(map(json.dumps, unread)))
    said = CliRunner().invoke(app, list(map(str, command))).stderr
    assert "none of its 2 rows can be joined" in said
    assert "2 could not be read; the first, row 0, is not_text: `completion` holds null" in said
    assert "asks a query" not in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Say --policy MODEL, --responses FILE, --edits, or --phase score"),
        (["--policy", POLICY, "--responses", "x"], "Leave out --policy"),
        (["--policy", POLICY, "--phase", "score"], "--phase score alone"),
        (["--policy", POLICY, "--keep", "reward <"], "--keep"),
        (["--policy", POLICY, "--drop", "ugly"], "choose among"),
        (["--policy", POLICY, "--prompts", "nice"], "no such file"),
        (["--policy", "no/such/folder"], "no such folder"),
        (["--policy", POLICY, "--where", "nonsense = 1"], "no column 'nonsense'"),
    ],
)
def test_bad_usage_is_said_in_a_line_or_two(dataset: Path, options, message):
    before = contents(dataset)
    result = CliRunner().invoke(app, ["expand", str(dataset), "--device", "cpu", *options])
    assert result.exit_code == 2
    assert message in result.stderr
    assert contents(dataset) == before


def test_scores_of_further_models_follow_the_rounds(dataset: Path, request_of, other_reward: Path):
    other = ["--reward-model", str(other_reward), "--name", "heldout"]
    rescore = ["rescore", str(dataset), *other, "--device", "cpu", "--quiet"]
    assert CliRunner().invoke(app, rescore).exit_code == 0
    before = contents(dataset / "scores")
    expand(request_of(dataset))
    assert CliRunner().invoke(app, rescore).exit_code == 0
    assert verify(dataset).findings == []
    (next(dataset.glob("scores/heldout/round-0001/*.arrow"))).write_bytes(b"")
    assert any("scores/heldout" in line for line in verify(dataset).findings)
    drop(dataset, 1)
    assert contents(dataset / "scores") == before
    assert verify(dataset).findings == []


def test_a_full_disk_loses_nothing_and_the_same_command_goes_on(scored: Path, tmp_path: Path, request_of):
    disk = tmp_path / "disk"
    disk.mkdir()
    blocks = sum(-(-p.stat().st_size // 4096) + 1 for p in scored.rglob("*") if p.is_file())
    mount = ["mount", "-t", "tmpfs", "-o", f"size={4 * (blocks + 7)}k", "none", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk is not permitted here")
    try:
        dataset = shutil.copytree(scored, disk / "d")
        before = contents(dataset)
        with pytest.raises(RunError, match="the disk is full"):
            expand(request_of(dataset, samples=30))
        after = contents(dataset)
        assert all(after[name] == content for name, content in before.items() if name.startswith("round"))
        subprocess.run(["mount", "-o", "remount,size=16m", disk], check=True)
        assert expand(request_of(dataset, samples=30)).round == 1
        assert verify(dataset).findings == []
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_what_a_server_was_not_asked_with_stands_beside_the_settings_of_the_round(dataset: Path, serve, request_of):
    def answer(method: str, path: str, body: dict) -> Reply:
        if method == "GET":
            return Reply(body={"data": [{"id": "parrot"}]})
        if "temperature" in body:
            error = {"message": "Unsupported value", "param": "temperature", "type": "invalid_request_error"}
            return Reply(400, {"error": error})
        return Reply(body={"choices": [{"message": {"content": str(body["seed"])}, "finish_reason": "stop"}]})

    sampler = SamplerSpec("parrot", base_url=f"{serve(answer).url}/v1", concurrency=1)
    summary = expand(replace(request_of(dataset), sampler=sampler))
    assert summary.counts["not_taken"] == ["temperature"]
    assert PreferenceDataset.open(dataset).manifest.round(1).summary["not_taken"] == ["temperature"]


def test_a_server_that_stops_answering_costs_only_the_shard_it_was_at(
    dataset: Path, scored: Path, serve, tmp_path, request_of
):
    left = [5]

    def answer(method: str, path: str, body: dict) -> Reply:
        if method == "GET":
            return Reply(body={"data": [{"id": "parrot"}]})
        left[0] -= 1
        if left[0] < 0:
            return Reply(401, {"error": "no more"})
        message = {"role": "assistant", "content": f"{body['seed']} {body['messages'][-1]['content'][-9:]}"}
        usage = {"prompt_tokens": 7, "completion_tokens": 3}
        return Reply(body={"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})

    server = serve(answer)
    parrot = SamplerSpec("parrot", base_url=f"{server.url}/v1", concurrency=1)
    request = replace(request_of(dataset), sampler=parrot)
    with pytest.raises(InputError, match="refuses access"):
        expand(request)
    left[0] = 100
    asked = len(server.requests)
    summary = expand(request)
    assert sum(method == "POST" for method, _, _ in server.requests[asked:]) == 6  # four of the ten were staged
    assert summary.counts["usage"] == {"prompt_tokens": 70, "completion_tokens": 30, "unreported": 0}
    whole = shutil.copytree(scored, tmp_path / "whole")
    expand(replace(request, dataset=whole))
    assert contents(dataset) == contents(whole)
    new = [r for record in neat_data.open(dataset).records() for r in record.responses if r.round == 1]
    assert {(r.model, r.tokens, r.tokenizer, r.finished) for r in new} == {("parrot", None, None, True)}
