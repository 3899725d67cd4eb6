"""Nothing that lies in a dataset is run, loaded from a path, or trusted for what a back end may do."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from neat_data.cli import app
from neat_data.errors import InputError
from neat_data.models.adapter import adapted
from neat_data.models.load import load_reward_model
from neat_data.models.reward_model import RewardModelSpec
from neat_data.models.reward_models.tokenized import load_shape, load_tokenizer
from neat_data.models.templates import ChatTemplate
from neat_data.models.weights import ModelSource, load_classifier_source
from neat_data.scoring.compact import compact
from neat_data.scoring.dataset_reward import spec_of
from neat_data.store import recorded
from tests.support.loopback import Reply
from tests.support.planting import Planted, change_json
from tests.support.random_models import random_model


def neat_data(*words: Any) -> str:
    """What a command prints; its exit status stands in front."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    return f"{result.exit_code} {result.stderr}"


def expand(dataset: Path, *more: Any) -> str:
    fixed = ("--limit", "1", "--max-new-tokens", "2", "--device", "cpu", "--quiet")
    return neat_data("expand", dataset, "--policy", random_model("tiny-policy-plain"), *fixed, *more)


def score(folder: Path, reward: Any, *more: Any) -> Path:
    rows = [{"prompt": "How do I boil an egg?", "chosen": "In water.", "rejected": "No."}]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ("--reward-model", reward, "--out", folder / "d", "--device", "cpu", "--quiet", *more)
    assert neat_data("score", folder / "rows.jsonl", *words).startswith("0")
    return folder / "d"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEAT_ALIGN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """One record, scored by a reward model."""
    return score(tmp_path, random_model("tiny-reward"))


@pytest.fixture
def planted(dataset: Path, tmp_path: Path) -> Planted:
    return Planted(dataset / "rm.py", tmp_path / "ran")


def record(dataset: Path, **settings: Any) -> None:
    """Have the manifest say of the reward model what its author likes."""
    change_json(dataset / "dataset.json", lambda manifest: manifest["settings"].update(reward_model=settings))


def plant_hint(dataset: Path, model: Any) -> None:
    """The file that said where the reward model lay before anybody asked who wrote it."""
    (dataset / ".reward-model.json").write_text(json.dumps({"model": str(model), "chat_template": "auto"}))


@pytest.mark.parametrize("sha256", ["right", "wrong"])
def test_a_function_that_a_dataset_names_is_not_run(dataset: Path, planted: Planted, sha256: str):
    right = hashlib.sha256(planted.file.read_bytes()).hexdigest()
    record(dataset, backend="callable", model="rm.py:rate", sha256=right if sha256 == "right" else "0")
    plant_hint(dataset, f"{planted.file}:rate")
    said = expand(dataset)
    assert not planted.ran
    assert said.startswith("2")
    assert "--reward-model FILE.py:FUNCTION" in said
    assert expand(dataset, "--reward-model", f"{planted.file}:rate").startswith("0" if sha256 == "right" else "2")
    assert planted.ran is (sha256 == "right"), "its hash is checked before it runs"


@pytest.mark.parametrize("backend", ["transformers", "vllm"])
def test_a_function_in_the_place_of_a_model_of_the_hub_is_not_run(dataset: Path, planted: Planted, backend: str):
    record(dataset, backend=backend, model=f"{planted.file}:rate", revision="main")
    said = expand(dataset)
    assert not planted.ran
    assert said.startswith("2")
    assert "Say where it is: --reward-model MODEL" in said


def test_texts_go_to_no_server_that_a_dataset_names(dataset: Path, serve):
    server = serve(lambda *_: Reply(body=[0.0]))
    record(dataset, backend="transformers", model=server.url, revision="main")
    assert "no path is followed on a dataset's word" in expand(dataset)
    record(dataset, backend="vllm", model="judge:x", revision="main", model_args={"base_url": server.url})
    assert expand(dataset).startswith("2")
    assert server.requests == []


def test_a_folder_that_a_dataset_names_is_not_loaded(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shutil.rmtree(tmp_path / "cache")
    own = json.loads((dataset / "dataset.json").read_text())["settings"]["reward_model"]
    copy = shutil.copytree(random_model("tiny-reward"), dataset / "model")
    plant_hint(dataset, copy)
    said = expand(dataset)
    assert said.startswith("2")
    assert ".reward-model.json in a dataset is not read any more" in said
    assert "Say where it is: --reward-model MODEL" in said
    monkeypatch.chdir(tmp_path)
    record(dataset, **own | {"model": "d/model", "revision": "main"})
    assert "d/model, which is no model of the hub" in expand(dataset)
    record(dataset, **own)
    assert expand(dataset, "--reward-model", copy).startswith("0"), "named, it is the same model by its hashes"
    assert expand(dataset, "--seed", "1").startswith("0"), "and now it is the user's own"


def test_the_users_own_model_is_found_without_a_word_wherever_the_dataset_goes(dataset: Path, tmp_path: Path):
    assert [path.name for path in dataset.iterdir() if path.name.startswith(".")] == []
    moved = shutil.move(dataset, tmp_path / "moved")
    assert expand(moved).startswith("0")
    compact(moved, tmp_path / "folded")
    assert expand(tmp_path / "folded", "--seed", "1").startswith("0")


def test_an_own_model_that_changed_is_refused_before_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = shutil.copytree(random_model("tiny-reward"), tmp_path / "model")
    dataset = score(tmp_path, model)
    shutil.copy(random_model("tiny-reward-heldout") / "model.safetensors", model)
    monkeypatch.setattr("neat_data.rounds.finish.load_reward_model", lambda spec: pytest.fail("was loaded"))
    for more in ((), ("--mix-rewards",)):
        said = expand(dataset, *more)
        assert said.startswith("2")
        assert "another reward model (weights:" in said


@pytest.mark.parametrize(
    "arguments",
    [
        {"trust_remote_code": True},
        {"hf_overrides": {"architectures": ["Evil"]}},
        {"worker_cls": "evil.Worker"},
        {"load_format": "pt"},
        {"tokenizer": "/elsewhere"},
        {"attn_implementation": "evil/kernel"},
        {"allow_all_kernels": True},
        {"tensor_parallel_size": "2"},
        ["trust_remote_code"],
    ],
)
@pytest.mark.parametrize("backend", ["transformers", "vllm"])
def test_what_a_back_end_may_do_is_not_for_a_dataset_to_say(tmp_path: Path, backend: str, arguments: Any):
    own = {"backend": backend, "model": "org/name@3f2a", "revision": "3f2a"}
    with pytest.raises(InputError, match=r"(?s)recorded.*(reward_model MODEL|make no sense)"):
        spec_of(tmp_path, {**own, "model_args": arguments}, "cpu")
    harmless = {"attn_implementation": "eager", "tensor_parallel_size": 2, "gpu_memory_utilization": 0.5}
    spec = spec_of(tmp_path, {**own, "model_args": harmless}, "cpu")
    assert (spec.model, spec.model_args, spec.trust_remote_code) == ("org/name@3f2a", harmless, False)


def test_a_vllm_of_a_dataset_is_refused_before_it_starts(dataset: Path):
    own = {"backend": "vllm", "model": "org/name@3f2a", "revision": "3f2a", "model_args": {"trust_remote_code": True}}
    record(dataset, **own)
    said = expand(dataset)
    assert said.startswith("2")
    assert "trust_remote_code=True, which is not done on a file's word" in said


@pytest.mark.parametrize("settings", [{"max_length": "9"}, {"dtype": "evil"}, {"max_response": True}])
def test_recorded_settings_that_make_no_sense_are_refused(tmp_path: Path, settings: dict[str, Any]):
    with pytest.raises(InputError, match="makes no sense"):
        spec_of(tmp_path, {"backend": "transformers", "model": "org/name@1", "revision": "1", **settings}, "cpu")


def test_a_name_on_the_hub_is_none_where_a_folder_here_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert recorded.is_hub_id("org/name@3f2a")
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert not recorded.is_hub_id("org/name@3f2a")
    assert not any(map(recorded.is_hub_id, ("org/..", "../x", "hf://x/y", "a/b/c", "a/b:c", "a/b\n", "", 3)))


def test_kernels_that_a_configuration_asks_for_are_code(tmp_path: Path):
    folder = shutil.copytree(random_model("tiny-reward"), tmp_path / "model")
    change_json(folder / "config.json", lambda config: config.update(attn_implementation="evil/kernel"))
    for load in (load_classifier_source, load_shape, load_reward_model):
        with pytest.raises(InputError, match=r"code of evil/kernel\n.*trust_remote_code"):
            load(RewardModelSpec(str(folder), device="cpu"))


def test_a_chat_template_can_reach_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    tokenizer = load_tokenizer(ModelSource.parse(str(random_model("tiny-reward"))), trust_remote_code=False)
    file = tmp_path / "template.jinja"
    file.write_text(
        "{{ cycler.__init__.__globals__.os.system('touch ran') }}{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    with pytest.raises(InputError, match="fails on a plain question"):
        ChatTemplate(tokenizer, str(file))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("config", [{"peft_type": "XLORA"}, {"peft_type": "LORA", "megatron_config": {"a": 1}}])
def test_an_adapter_is_weights_and_nothing_more(tmp_path: Path, config: dict[str, Any]):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"megatron_core": "rm", **config}))
    with pytest.raises(InputError, match="beside its own weights"):
        adapted(None, str(tmp_path))  # type: ignore[arg-type]  # refused before the model is looked at


def test_a_tokenizer_that_a_server_names_brings_no_code(serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def load(source: ModelSource, trust: bool) -> Any:
        asked.append((source.path, trust))
        raise InputError("enough")

    monkeypatch.setattr("neat_data.models.reward_models.tokenized.load_tokenizer", load)
    card = {"id": "rm", "owned_by": "vllm", "root": str(tmp_path), "max_model_len": 9}
    server = serve(lambda *_: Reply(body={"data": [card]}))
    for args in ({}, {"tokenizer": str(random_model("tiny-reward"))}):
        with pytest.raises(InputError, match="enough"):
            load_reward_model(RewardModelSpec(server.url, trust_remote_code=True, model_args=args))
    assert asked == [(str(tmp_path), False), (str(random_model("tiny-reward")), True)]
