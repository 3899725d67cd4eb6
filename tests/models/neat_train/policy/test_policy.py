"""The policy that is trained: its adapter, its reference, and what is left of it for other programs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from neat_data.errors import InputError
from neat_data.models.adapter import adapter_hash
from neat_data.models.templates import ChatTemplate
from neat_data.record import Message
from neat_train.config.settings import LoraSettings
from neat_train.policy.policy import Policy, PolicySpec, load_policy_to_train

MODELS = Path(__file__).resolve().parents[4] / "data" / "models"
QUESTION = (Message("user", "How do I bake bread?"),)
IDS = torch.tensor([[1, 5, 8, 200, 300, 17]])


def load(model: Path | str = MODELS / "tiny-policy", *, full: bool = False, **fields) -> Policy:
    lora = fields.pop("lora", LoraSettings())
    if (Path(model) / "adapter_config.json").exists():
        fields.setdefault("base", str(MODELS / "tiny-policy"))
    return load_policy_to_train(PolicySpec(str(model), full, lora, device="cpu", **fields))


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def train(policy: Policy, steps: int = 2, rate: float = 1e-2) -> None:
    """A few steps towards repeating some tokens."""
    trained = [weight for weight in policy.model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=rate)
    policy.model.train()
    for _ in range(steps):
        policy.model(IDS, labels=IDS).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    policy.model.eval()


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Path:
    """A run's folder: an adapter that was trained for two steps."""
    policy = load(seed=1)
    train(policy)
    folder = tmp_path_factory.mktemp("run")
    policy.save(folder)
    torch.save(logits(policy.model), folder / "logits.pt")
    return folder


def changed_copy(folder: Path, model: str = "tiny-policy", **files) -> Path:
    """A copy of a tiny model with these keys changed in its JSON files; None removes one."""
    shutil.copytree(MODELS / model, folder)
    for name, changes in files.items():
        path = folder / f"{name}.json"
        content = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return folder


def test_a_fresh_adapter_changes_nothing_and_depends_on_its_seed_alone():
    torch.manual_seed(5)
    policy = load(seed=3)
    drawn = torch.rand(1)
    torch.manual_seed(77)
    again, other = load(seed=3), load(seed=4)
    assert policy.trained_hash() == again.trained_hash() != other.trained_hash()
    assert torch.equal(
        logits(policy.model), logits(AutoModelForCausalLM.from_pretrained(MODELS / "tiny-policy").float())
    )
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1)), "loading a policy draws from nobody else's random numbers"


def test_only_the_adapter_is_trained_and_the_hash_follows_it():
    policy = load()
    before, started = policy.trained_hash(), logits(policy.model)
    frozen = {name: w.clone() for name, w in policy.model.named_parameters() if not w.requires_grad}
    train(policy)
    assert all("lora_" in name for name in policy.trained)
    assert policy.trained_hash() != before
    weights = dict(policy.model.named_parameters())
    assert all(torch.equal(weights[name].view(torch.uint8), old.view(torch.uint8)) for name, old in frozen.items())
    with policy.reference() as start:
        assert torch.equal(logits(start), started)
    assert not torch.equal(logits(policy.model), started)
    assert all(weights[name].requires_grad for name in policy.trained)


def test_what_is_saved_loads_elsewhere_bit_for_bit(first, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loaded = AutoPeftModelForCausalLM.from_pretrained(first, dtype=torch.float32)
    assert torch.equal(logits(loaded), torch.load(first / "logits.pt"))
    with safe_open(first / "adapter_model.safetensors", framework="pt") as file:
        assert all(name.endswith(("lora_A.weight", "lora_B.weight")) for name in file.keys())  # noqa: SIM118
    assert not (first / "README.md").exists(), "the card of the run is written elsewhere"


def test_a_relative_path_to_the_base_is_saved_as_an_absolute_one(tmp_path, monkeypatch):
    changed_copy(tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    load("base").save(tmp_path / "run")
    saved = json.loads((tmp_path / "run" / "adapter_config.json").read_text())
    assert saved["base_model_name_or_path"] == str(tmp_path / "base")


def test_going_on_from_a_run_starts_where_it_ended_and_keeps_that_as_reference(first, tmp_path):
    ended = torch.load(first / "logits.pt")
    policy = load(first, seed=9)
    assert torch.equal(logits(policy.model), ended)
    assert policy.label.endswith(f"+adapter:{adapter_hash(str(first))[:12]}")
    trained = set(policy.trained)
    train(policy)
    assert not torch.equal(logits(policy.model), ended)
    with policy.reference() as start:
        assert torch.equal(logits(start), ended), "the earlier run, not the bare base model"
    active = {name for name, weight in policy.model.named_parameters() if weight.requires_grad}
    assert active == trained
    policy.save(tmp_path)
    assert torch.equal(
        logits(AutoPeftModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)), logits(policy.model)
    )
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == []


def test_a_run_goes_on_from_a_relative_folder_with_its_own_tokenizer_and_template(first, monkeypatch):
    monkeypatch.chdir(first.parent)
    policy, start = load(first.name), load()
    assert policy.tokenizer_id == start.tokenizer_id, "ids sampled in the first run may be trained on in the second"
    assert policy.stops == start.stops


def test_the_reference_is_without_dropout_and_leaves_the_modes_alone(first):
    settings = json.loads((first / "adapter_config.json").read_text())
    folder = first.parent / "with dropout"
    shutil.copytree(first, folder)
    (folder / "adapter_config.json").write_text(json.dumps({**settings, "lora_dropout": 0.5}))
    policy = load(folder)
    policy.model.train()
    modes = [module.training for module in policy.model.modules()]
    with policy.reference() as start:
        assert torch.equal(logits(start), torch.load(first / "logits.pt"))
        assert not start(IDS).logits.requires_grad
    assert [module.training for module in policy.model.modules()] == modes


@pytest.mark.parametrize("dtype", ["float32", "model"])
def test_adapters_over_bfloat16_are_kept_in_the_type_asked_for_and_restored_in_it(dtype, tmp_path):
    lora = LoraSettings(dtype=dtype)
    policy = load(dtype="bfloat16", lora=lora)
    wanted = torch.float32 if dtype == "float32" else torch.bfloat16
    train(policy)
    assert {w.dtype for w in policy.model.parameters() if w.requires_grad} == {wanted}
    assert policy.body.dtype == torch.bfloat16
    policy.save(tmp_path)
    again = load(dtype="bfloat16", lora=lora, seed=8)
    again.restore(tmp_path)
    assert again.trained_hash() == policy.trained_hash()
    assert torch.equal(logits(again.model), logits(policy.model))


def test_full_training_is_in_float32_and_its_reference_is_a_copy(tmp_path):
    policy = load(full=True, keep_reference=True)
    started = logits(policy.model)
    assert {w.dtype for w in policy.model.parameters()} == {torch.float32}
    train(policy, rate=1e-3)
    with policy.reference() as start:
        assert torch.equal(logits(start), started)
    policy.save(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(logits(loaded), logits(policy.model))
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert "lm_head.weight" not in file.keys(), "tied weights are written once"  # noqa: SIM118
    again = load(full=True)
    again.restore(tmp_path)
    assert again.trained_hash() == policy.trained_hash()
    assert torch.equal(logits(load(tmp_path, full=True).model), logits(policy.model)), "a full run is a model"
    with pytest.raises(RuntimeError, match="without a reference"), again.reference():
        pass


def test_checkpointed_layers_give_every_adapter_the_same_gradient():
    gradients = []
    for checkpointing in (False, True):
        policy = load(gradient_checkpointing=checkpointing, seed=2)
        train(policy, 1)
        policy.model.train()
        loss = policy.model(IDS, labels=IDS).loss
        loss.backward()
        gradients.append([w.grad for n, w in policy.model.named_parameters() if "lora_B" in n] + [loss.detach()])
    assert all(float(gradient.norm()) > 0 for gradient in gradients[1])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


@pytest.mark.parametrize("full", [False, True])
def test_a_run_stops_by_itself_with_plain_transformers(full, tmp_path):
    """The base model does not know its end of turn: its files name the padding token as the end of text."""
    base = changed_copy(
        tmp_path / "base",
        config={"eos_token_id": 0},
        generation_config={"eos_token_id": 0},
        tokenizer_config={"eos_token": "<|pad|>"},
    )
    policy = load(base, full=full)
    assert policy.stops.ids == (2, 0)
    assert any("<|end|>" in note for note in policy.notes)
    run = tmp_path / "run"
    policy.save(run)
    tokenizer = AutoTokenizer.from_pretrained(run)
    model = (AutoModelForCausalLM if full else AutoPeftModelForCausalLM).from_pretrained(run)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    settings = {} if full else {"generation_config": GenerationConfig.from_pretrained(run)}
    made = model.generate(**asked, **settings, max_new_tokens=200, do_sample=False)[0]
    assert made[-1] == 2
    assert len(made) < asked["input_ids"].shape[1] + 200


@pytest.mark.parametrize(("choice", "own"), [("auto", True), ("hh", True), ("auto", False)])
def test_the_saved_template_makes_the_ids_that_were_trained_on(choice, own, tmp_path):
    base = changed_copy(tmp_path / "base")
    if not own:
        (base / "chat_template.jinja").unlink()
    if choice == "hh" or not own:  # a tokenizer that puts its BOS in front of any text, as LLaMA's does
        content = json.loads((base / "tokenizer.json").read_text())
        content["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<|bos|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<|bos|>": {"id": "<|bos|>", "ids": [1], "tokens": ["<|bos|>"]}},
        }
        (base / "tokenizer.json").write_text(json.dumps(content))
    policy = load(base, chat_template=choice)
    policy.save(tmp_path / "run")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run")
    turns = [{"role": m.role, "content": m.content} for m in QUESTION]
    ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    assert ids == policy.template.query_ids(QUESTION)
    assert ids[0] == 1
    assert ids[1] != 1
    assert ChatTemplate(tokenizer).query_ids(QUESTION) == ids, "and going on from the run makes them again"
    again = load(tmp_path / "run")
    assert again.tokenizer_id == policy.tokenizer_id
    assert again.stops.ids == policy.stops.ids


def test_a_policy_that_cannot_learn_to_stop_is_refused(tmp_path):
    base = changed_copy(tmp_path / "base", tokenizer_config={"eos_token": None})
    with pytest.raises(InputError, match="no end-of-turn token"):
        load(base, chat_template="hh")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"lora": LoraSettings(r=8)}, "lora.r 8: the policy .* has 16"),
        ({"lora": LoraSettings(target_modules=["q_proj"])}, r"lora.target_modules \['q_proj'\]"),
        ({"full": True}, "--merge --out MERGED"),
    ],
)
def test_settings_that_contradict_the_adapter_are_refused(first, fields, words):
    with pytest.raises(InputError, match=words):
        load(first, **fields)
    load(first, lora=LoraSettings(r=16, target_modules="all-linear"))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"load_in_4bit": True}, "pip install bitsandbytes"),
        ({"lora": LoraSettings(target_modules=["nowhere"])}, "lora.target_modules"),
    ],
)
def test_settings_that_cannot_be_are_refused(fields, words):
    with pytest.raises(InputError, match=words):
        load(**fields)


def test_what_is_not_there_any_more_is_named(first, tmp_path):
    lost = tmp_path / "lost"
    shutil.copytree(first, lost)
    config = json.loads((lost / "adapter_config.json").read_text())
    (lost / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(tmp_path / "gone")}))
    with pytest.raises(InputError, match=r"base model is the folder .*gone.*\n.*: base FOLDER"):
        load(lost, base=None)
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(InputError, match="is a run that has not finished"):
        load(tmp_path)
