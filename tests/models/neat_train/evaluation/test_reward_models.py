"""What loads the reward models of an evaluation, and what their names and options come to."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from neat_data.errors import InputError, RunError
from neat_data.models import places
from neat_data.models.load import load_reward_model
from neat_data.models.reward_model import RewardModelSpec
from neat_data.models.templates import HH
from neat_train.evaluation.reward_models import Before, NamedReward, RewardOptions, named_rewards, scored_before

HASH = hashlib.sha256(HH.read_bytes()).hexdigest()


def named(*models: Any, before=(), **options: Any) -> dict[str, NamedReward]:
    return named_rewards([str(model) for model in models], RewardOptions(device="cpu", **options), before)


def scored(reward: Path, **settings: Any) -> Before:
    identity = named(reward)[reward.name].identity
    return Before("the queries", {"backend": "transformers", "model": "x", **identity, **settings})


def test_a_model_is_called_as_its_folder_is_unless_it_is_given_a_name(tiny_reward, tmp_path):
    twin = shutil.copytree(tiny_reward, tmp_path / tiny_reward.name)
    with pytest.raises(InputError, match=f"say NAME={twin}"):
        named(tiny_reward, twin)
    models = named(tiny_reward, f"twin={twin}")
    assert list(models) == ["tiny-reward", "twin"]
    assert models["twin"].spec.model == str(twin)
    assert models["twin"].identity == models["tiny-reward"].identity
    assert models["twin"].key != models["tiny-reward"].key
    for text in ("=model", "name="):
        with pytest.raises(InputError, match="NAME=MODEL"):
            named(text)


def test_an_address_with_an_equals_sign_is_no_name():
    models = named("http://127.0.0.1:1/score?version=2", "rm=http://127.0.0.1:1/other?version=2")
    assert list(models) == ["127.0.0.1:1/score", "rm"]
    assert models["rm"].spec.model == "http://127.0.0.1:1/other?version=2"


def test_a_function_that_was_given_a_name_is_known_by_its_own_still(tmp_path):
    (tmp_path / "f.py").write_text("")
    one, other = (named(f"f={tmp_path / 'f.py'}:{function}")["f"] for function in ("a", "b"))
    assert one.identity != other.identity


def test_a_function_is_known_again_by_its_file_and_its_name(tmp_path):
    file = tmp_path / "f.py"
    file.write_text("def a(items): return [0.0] * len(items)\n\ndef b(items): return [1.0] * len(items)\n")
    before = Before("the queries", load_reward_model(RewardModelSpec(f"{file}:a")).settings)
    assert named(f"{file}:a", before=[before])["f.py:a"].before == (before,)
    assert named(f"mine={file}:a", before=[before])["mine"].before == (before,)
    assert named(f"{file}:b", before=[before])["f.py:b"].before == ()
    file.write_text("def a(items): return [2.0] * len(items)\n")
    assert named(f"{file}:a", before=[before])["f.py:a"].before == ()


def test_options_are_for_all_models_or_for_one(tiny_reward):
    options = {"templates": ("hh", "b=auto"), "args": ("x=1", "b=y=2", "b=x=3")}
    models = named(f"a={tiny_reward}", f"b={tiny_reward}", **options)
    assert [models[name].spec.chat_template for name in "ab"] == ["hh", "auto"]
    assert [models[name].spec.model_args for name in "ab"] == [{"x": 1}, {"x": 3, "y": 2}]
    with pytest.raises(InputError, match=r"reward_arg .*: takes KEY=VALUE"):
        named(tiny_reward, args=("x",))


def test_what_nobody_said_anything_of_has_the_identity_that_it_always_had(tiny_reward, tmp_path):
    assert named(tiny_reward)["tiny-reward"].identity.keys() == {"weights", "config"}
    before = scored(tiny_reward, template="of its own", max_length=2048, model_args={})
    assert named(tiny_reward, before=[before])["tiny-reward"].identity.keys() == {"weights", "config"}


def test_what_was_said_enters_the_identity_without_a_path_or_an_address(tiny_reward, tmp_path):
    for name in ("one.jinja", "two.jinja"):
        (tmp_path / name).write_text("{{ messages }}")
    one, two = (
        named(tiny_reward, templates=(str(tmp_path / name),))["tiny-reward"] for name in ("one.jinja", "two.jinja")
    )
    assert one.identity == two.identity
    assert str(tmp_path) not in json.dumps(one.identity)
    (tmp_path / "rubric.yaml").write_text("x")
    args = ("base_url=http://127.0.0.1:1", f"rubric={tmp_path / 'rubric.yaml'}", "max_tokens=4")
    judge = named("judge:m", args=args)["judge:m"]
    assert judge.identity["model_args"] == {"max_tokens": 4, "rubric": hashlib.sha256(_digest(b"x")).hexdigest()}


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def test_a_model_that_scored_before_is_loaded_as_it_was(tiny_reward, tmp_path):
    before = scored(tiny_reward, template=HASH, dtype="bfloat16", max_length=99, max_response=9)
    model = named(tiny_reward, before=[before])["tiny-reward"]
    spec = RewardModelSpec(str(tiny_reward), device="cpu", dtype="bfloat16", max_length=99, max_response=9)
    assert (model.spec.chat_template, model.identity["template"]) == ("hh", "hh")
    for name in ("model", "dtype", "max_length", "max_response", "device"):
        assert getattr(model.spec, name) == getattr(spec, name)
    assert model.key != named(tiny_reward, templates=("hh",))["tiny-reward"].key
    by_file = scored(tiny_reward, template="of the file")
    key = {name: by_file.settings[name] for name in ("weights", "template")}
    places.note("reward model", key, {"model": str(tiny_reward), "chat_template": str(tmp_path / "t.jinja")})
    (tmp_path / "t.jinja").write_text("{{ messages }}")
    noted = named(tiny_reward, before=[by_file])["tiny-reward"]
    assert noted.spec.chat_template == str(tmp_path / "t.jinja")
    said = named(tiny_reward, before=[before], templates=("auto",))["tiny-reward"]
    assert said.spec.chat_template == "auto"
    assert len(said.strange({**before.settings, "template": "another"})) == 1
    assert said.strange(before.settings) == []


def test_another_model_is_loaded_as_it_is(tiny_reward, other_reward):
    before = scored(other_reward, template=HASH, max_length=99)
    model = named(tiny_reward, before=[before])["tiny-reward"]
    assert (model.spec.chat_template, model.spec.max_length, model.before) == ("auto", None, ())


def test_a_run_and_a_dataset_tell_what_scored_them(tmp_path, stored):
    (tmp_path / "settings.json").write_text(json.dumps({"content": {"reward_model": {"model": "m", "weights": "w"}}}))
    before = scored_before(tmp_path, str(stored([("How?", {"a": 1.0})])))
    assert [(one.what, one.settings["model"]) for one in before] == [
        ("the run's dataset", "m"),
        ("the queries", "given"),
    ]
    (tmp_path / "settings.json").write_text(json.dumps({"content": {"reward_model": None}}))
    assert scored_before(tmp_path, "rows.jsonl") == []


def test_errors_name_the_model_and_the_options_that_help(tiny_reward):
    reward = named(f"rm={tiny_reward}")["rm"]
    with pytest.raises(RunError, match=r"^reward_model rm: no template\nsay reward_template hh$"), reward.in_errors():
        raise RunError("no template", advice="say {chat_template} hh")
    with pytest.raises(RunError, match=r"^reward_model rm: reward_arg form: unknown$"), reward.in_errors():
        raise RunError("unknown", field="model_args", value="form")
    with pytest.raises(InputError, match=r"^reward_model x: is none\nreward_arg y$"), reward.in_errors():
        raise InputError("is none", field="reward_model", value="x", advice="{model_args} y")
