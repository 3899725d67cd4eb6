"""Scoring a dataset once more: what is missing and nothing else, whatever stops it in between."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest

from neat_data.errors import InputError, RunError
from neat_data.models.reward_model import RewardModelSpec
from neat_data.scoring.engine import EngineSpec
from neat_data.scoring.numbers import Numbers
from neat_data.scoring.rescore import RescoreRequest, rescore
from neat_data.store.atomic import locked
from neat_data.store.dataset import PreferenceDataset
from neat_data.store.scores.format import faults
from tests.support.growing import add_round
from tests.support.killing import OUT, Killer, contents
from tests.support.random_models import random_model


@pytest.fixture
def dataset(made_dataset, record_of) -> Path:
    """Five queries in three shards, one of several turns; a round 1 for two of them."""
    records = [record_of(f"q{n}", {f"yes {n}": 1.0, f"no, {n} is wrong": 0.0}, [(f"yes {n}",)]) for n in range(4)]
    records.append(record_of(["hello", "hi", "and?"], {"so": 2.0, "well then": 2.0}, [("so",)]))
    path = Path(made_dataset(records, shard=2).path)
    add_round(path, {"q1": {"sampled one": -1.0}, "and?": {"sampled and": -1.0, "more": -2.0}})
    return path


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A function that counts characters, those of the query a thousandfold, and notes how many it was asked for."""
    file = tmp_path / "count.py"
    file.write_text(
        "from pathlib import Path\n"
        f"LOG = Path({str(tmp_path / 'asked')!r})\n"
        "def count(dialogues):\n"
        "    with LOG.open('a') as log:\n"
        "        log.write(f'{len(dialogues)}\\n')\n"
        "    return [sum(1000 * len(t['content']) for t in d[:-1]) + len(d[-1]['content']) for d in dialogues]\n"
    )
    return f"{file}:count"


def _asked(model: str) -> int:
    log = Path(model).with_name("asked")
    total = sum(map(int, log.read_text().split())) if log.exists() else 0
    log.unlink(missing_ok=True)
    return total


def _rescore(dataset: Path, model: str, **options):
    return rescore(RescoreRequest(dataset, "count", RewardModelSpec(model), **options))


def test_every_response_is_scored_against_its_whole_query(dataset: Path, model: str):
    before = contents(dataset)
    summary = _rescore(dataset, model)
    assert (summary.responses, summary.scored_now, summary.refused) == (13, 13, {})
    opened = PreferenceDataset.open(dataset)
    for record in opened.records(rank_by="count"):
        query = sum(1000 * len(message.content) for message in record.messages)
        assert [a.reward for a in record.responses] == [query + len(a.text) for a in record.responses]
    assert list(faults(dataset)) == []
    after = contents(dataset)
    assert {name: after[name] for name in before} == before  # nothing else changed
    assert {name.split("/")[0] for name in after.keys() - before.keys()} == {"scores"}


def test_only_what_is_new_is_scored(dataset: Path, model: str):
    _rescore(dataset, model)
    assert _asked(model) == 13
    assert _rescore(dataset, model).scored_now == 0
    assert _asked(model) == 0
    add_round(dataset, {"q0": {"newest": 3.0}}, seed=1)
    assert _rescore(dataset, model).scored_now == 1
    assert _asked(model) == 1
    shutil.rmtree(dataset / "scores" / "count" / "round-0001")
    assert _rescore(dataset, model).scored_now == 3
    assert list(faults(dataset)) == []


def test_what_the_model_refuses_is_stored_without_a_score(dataset: Path):
    spec = RewardModelSpec(str(random_model("tiny-reward")), device="cpu", max_response=4)
    summary = rescore(RescoreRequest(dataset, "tiny", spec))
    refused = summary.refused["response_too_long"]
    assert 0 < refused < summary.responses == 13
    kept = [a for record in PreferenceDataset.open(dataset).records(rank_by="tiny") for a in record.responses]
    assert len(kept) == 13 - refused
    assert PreferenceDataset.open(dataset).left_out("tiny") == refused


def test_the_same_model_gives_the_rewards_of_score(tmp_path: Path):
    from neat_data.scoring.score import ScoreRequest, score

    rows = [{"prompt": f"question {n}", "chosen": f"yes {n}", "rejected": "no " * n} for n in range(1, 9)]
    source = tmp_path / "rows.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)))
    spec = RewardModelSpec(str(random_model("tiny-reward")), device="cpu")
    score(ScoreRequest(str(source), tmp_path / "d", spec, shard_rows=5))
    rescore(RescoreRequest(tmp_path / "d", "again", spec))
    opened = PreferenceDataset.open(tmp_path / "d")
    own = {a.response_id: a.reward for record in opened.records() for a in record.responses}
    again = {a.response_id: a.reward for record in opened.records(rank_by="again") for a in record.responses}
    assert again == pytest.approx(own, abs=1e-5)  # packed in another order: rounding differs


def test_workers_give_the_same_bytes(dataset: Path, model: str, tmp_path: Path):
    alone = shutil.copytree(dataset, tmp_path / "alone")
    _rescore(alone, model)
    _rescore(dataset, model, engine=EngineSpec(workers=2))
    assert contents(dataset) == contents(alone)


@pytest.mark.slow
@pytest.mark.parametrize("stride", [11, 3])
def test_killed_between_steps_on_the_disk(dataset: Path, model: str, tmp_path: Path, stride: int):
    with Killer("rescore", OUT, "--reward-model", model, "--name", "count") as killer:
        undisturbed = shutil.copytree(dataset, tmp_path / "undisturbed")
        assert killer.run(undisturbed) == 0
        expected = contents(undisturbed)
        assert "scores/count/round-0001/00002.arrow" in expected
        points = 0
        for step, folder in ((stride, tmp_path / "killed"), (4 * stride + 1, None)):
            point, status = 0, -signal.SIGKILL
            while status == -signal.SIGKILL:
                point += step
                into = folder or tmp_path / f"fresh-{point}"
                if not into.exists():
                    shutil.copytree(dataset, into)
                status = killer.run(into, point)
                points += 1
                if folder is None:  # each killed once; the other lives through all of the kills
                    assert killer.run(into) == 0
                    assert contents(into) == expected
            assert status == 0
        assert contents(tmp_path / "killed") == expected
        assert points > 3


def test_what_cannot_be_rescored_is_refused(dataset: Path, model: str, tmp_path: Path):
    with pytest.raises(InputError, match="no dataset folder"):
        _rescore(tmp_path / "nowhere", model)
    assert not (tmp_path / "nowhere").exists()
    with locked(dataset), pytest.raises(InputError, match="another process is writing"):
        _rescore(dataset, model)
    with pytest.raises(InputError, match="plain word"):
        rescore(RescoreRequest(dataset, "mean", RewardModelSpec(model)))
    manifest = json.loads((dataset / "dataset.json").read_text())
    manifest["rounds"][0]["complete"] = False
    (dataset / "dataset.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="not finished"):
        _rescore(dataset, model)


def test_a_score_that_is_no_number_stops_and_keeps_what_was_committed(dataset: Path, tmp_path: Path):
    file = tmp_path / "nan.py"
    file.write_text("def score(d):\n    return [float('nan') if t[0]['content'] == 'q2' else 1.0 for t in d]\n")
    with pytest.raises(RunError, match=r"nan for response [0-9a-f]{16}|finite|NaN"):
        _rescore(dataset, f"{file}:score")
    assert (dataset / "scores" / "count" / "00000.arrow").exists()
    assert not (dataset / "scores" / "count" / "00001.arrow").exists()


def test_jobs_and_finish_make_the_bytes_of_one_run(dataset: Path, model: str, tmp_path: Path):
    alone = shutil.copytree(dataset, tmp_path / "alone")
    _rescore(alone, model)
    _asked(model)
    part = _rescore(dataset, model, shards=Numbers.read("3-99")).part
    assert part is not None
    assert (part.shards, part.made, part.before) == (6, 3, 0)
    _rescore(dataset, model, shards=Numbers.read("0"))
    summary = _rescore(dataset, model, shards=Numbers.read("0-2"))
    assert summary.part is not None
    assert (summary.part.made, summary.part.before) == (2, 1)
    assert _asked(model) == 13
    done = _rescore(dataset, "nowhere.py:gone", phase="finish")
    assert (done.responses, done.scored_now) == (13, 13)
    assert contents(dataset) == contents(alone)
    again = _rescore(dataset, model, shards=Numbers.read("0-9"))
    assert again.part is not None
    assert (again.part.made, again.part.before, _asked(model)) == (0, 6, 0)


def test_finish_names_the_shards_that_nobody_scored_and_a_plain_run_scores_them(dataset: Path, model: str):
    with pytest.raises(InputError, match="scores/count: holds no scores"):
        _rescore(dataset, model, phase="finish")
    _rescore(dataset, model, shards=Numbers.read("1"))
    with pytest.raises(InputError, match=r"5 shards have no scores called count yet \(0,2-5\)"):
        _rescore(dataset, model, phase="finish")
    _asked(model)
    assert _rescore(dataset, model).responses == 13
    assert 0 < _asked(model) < 13


def test_jobs_share_the_dataset_and_agree_on_the_model(dataset: Path, model: str):
    with locked(dataset, shared=True):
        _rescore(dataset, model, shards=Numbers.read("0"))
        with pytest.raises(InputError, match="another process is writing"):
            _rescore(dataset, model, phase="finish")
    with locked(dataset), pytest.raises(InputError, match="another process is writing"):
        _rescore(dataset, model, shards=Numbers.read("1"))
    other = Path(model.partition(":")[0])
    other.write_text(other.read_text().replace("1000", "2000"))
    with pytest.raises(InputError, match="was made with other settings"):
        _rescore(dataset, model, shards=Numbers.read("1"))
