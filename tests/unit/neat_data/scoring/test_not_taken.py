"""What a judge's server turned out not to take stands beside the settings that say what was wished for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neat_data.cli import app
from neat_data.store.dataset import PreferenceDataset
from neat_data.store.shard import shard_metadata
from tests.support.loopback import Reply

REFUSED = ("temperature", "seed", "max_tokens")


def choosy(method: str, path: str, body: dict) -> Reply:
    """A judge as models that think are served: it names what it does not take."""
    if method == "GET":
        return Reply(body={"data": [{"id": "wise"}]})
    for name in REFUSED:
        if name in body:
            return Reply(400, {"error": {"message": f"Unsupported parameter: '{name}'", "param": name}})
    choice = {"message": {"role": "assistant", "content": "Score: 7"}, "finish_reason": "stop"}
    return Reply(body={"choices": [choice]})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"question {n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_what_a_judge_does_not_take_is_recorded_and_told(serve, source: Path, tmp_path: Path) -> None:
    server, out = serve(choosy), tmp_path / "out"
    judge = ["--reward-model", "judge:wise", "--model-arg", f"base_url={server.url}/v1"]
    said = run("score", source, *judge, "--out", out, "--shard-rows", 2)
    assert "the judge's server takes no seed, temperature: it was asked without" in said
    dataset = PreferenceDataset.open(out)
    assert dataset.manifest.round(0).summary["reward_not_taken"] == ["seed", "temperature"]
    shards = [shard_metadata(path) for path in sorted(out.glob("round-0000/*.arrow"))]
    assert [shard["reward_not_taken"] for shard in shards] == [["seed", "temperature"]] * 2
    run("rescore", out, "--name", "again", *judge)
    scores = [shard_metadata(path) for path in sorted(out.glob("scores/again/**/*.arrow"))]
    assert [shard["reward_not_taken"] for shard in scores] == [["seed", "temperature"]] * 2
    run("verify", out)


def test_what_the_user_says_is_not_taken_is_a_setting_and_never_sent(serve, source: Path, tmp_path: Path) -> None:
    server, out = serve(choosy), tmp_path / "out"
    said = [f"base_url={server.url}/v1", *(f"{name}=null" for name in REFUSED)]
    told = [word for argument in said for word in ("--model-arg", argument)]
    run("score", source, "--reward-model", "judge:wise", *told, "--out", out)
    dataset = PreferenceDataset.open(out)
    assert "reward_not_taken" not in dataset.manifest.round(0).summary
    assert [sorted(ask) for ask in dataset.manifest.settings["reward_model"]["attempts"]] == [["max_tokens"]] * 2
    asked = [body for method, _, body in server.requests if method == "POST"]
    assert len(asked) == 8
    assert not any(name in body for body in asked for name in REFUSED)
