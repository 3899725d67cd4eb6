"""What a policy learned as a reward: log-ratios of separate, plain forward passes, and a dataset rescored by them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import neat_data
from neat_data.errors import InputError
from neat_data.models.load import load_reward_model
from neat_data.models.reward_model import RewardModelSpec, Task
from neat_data.record import Message
from tests.support.random_models import random_model

TASKS = [
    Task((Message("user", "What is a mask?"),), ("It hides a face.", "No.", "Some words that nobody needs here")),
    Task((Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "And now?")), ("Then we go.",)),
]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEAT_ALIGN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def base() -> Path:
    return random_model("tiny-policy")


@pytest.fixture
def run(base: Path, tmp_path: Path) -> Path:
    """An adapter with random weights, as peft saves it."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    wrapped = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=4))
    for weight in wrapped.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.1)
    wrapped.save_pretrained(tmp_path / "run")
    return tmp_path / "run"


def log_probability(model, tokenizer, messages, text: str) -> float:
    """Of a response behind its query, in a pass of its own."""
    turns = [{"role": turn.role, "content": turn.content} for turn in messages]
    asked = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template([*turns, {"role": "assistant", "content": text}], tokenize=False)
    ids = torch.tensor([tokenizer(whole, add_special_tokens=False)["input_ids"]])
    start = len(tokenizer(asked, add_special_tokens=False)["input_ids"])
    with torch.no_grad():
        logps = torch.log_softmax(model(input_ids=ids).logits[0].double(), dim=-1)
    return float(sum(logps[place - 1, ids[0, place]] for place in range(start, ids.shape[1])))


def by_hand(base: Path, run: Path) -> list[list[float]]:
    tokenizer = AutoTokenizer.from_pretrained(base)
    start = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    before = [[log_probability(start, tokenizer, task.messages, text) for text in task.texts] for task in TASKS]
    policy = PeftModel.from_pretrained(start, run).eval()
    after = [[log_probability(policy, tokenizer, task.messages, text) for text in task.texts] for task in TASKS]
    return [[a - b for a, b in zip(one, two, strict=True)] for one, two in zip(after, before, strict=True)]


def spec(run: Path, **options) -> RewardModelSpec:
    return RewardModelSpec(f"implicit:{run}", device="cpu", dtype="float32", **options)


@pytest.mark.parametrize("token_budget", [64, 4096])
def test_rewards_are_log_ratios_whatever_the_batch(base, run, token_budget):
    model = load_reward_model(spec(run, base=str(base), token_budget=token_budget))
    for scored, expected in zip(model.score(TASKS), by_hand(base, run), strict=True):
        assert scored.rewards == pytest.approx(expected, abs=1e-4)
    assert model.settings["adapter"] != model.settings["weights"]


def test_a_whole_model_is_held_against_the_one_that_is_named(base, run, tmp_path):
    policy = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), run)
    policy.merge_and_unload().save_pretrained(tmp_path / "whole")
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "whole")
    with pytest.raises(InputError, match="what it began from is not known"):
        load_reward_model(spec(tmp_path / "whole"))
    model = load_reward_model(spec(tmp_path / "whole", base=str(base)))
    for scored, expected in zip(model.score(TASKS), by_hand(base, run), strict=True):
        assert scored.rewards == pytest.approx(expected, abs=1e-4)


def test_a_dataset_is_rescored_by_a_run_and_its_gaps_choose_pairs(base, run, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(
            f'{{"prompt": "Question {n}?", "chosen": "Yes, {n}.", "rejected": "No, never.", '
            '"score_chosen": 1.0, "score_rejected": 0.0}\n'
            for n in range(6)
        )
    )
    neat_data.score(rows, out=tmp_path / "data", rewards="given", progress=False)
    neat_data.rescore(
        tmp_path / "data", reward_model=f"implicit:{run}", base=base, name="implicit", device="cpu", progress=False
    )
    dataset = neat_data.open(tmp_path / "data")
    gaps = {
        record.query_id: abs(record.responses[0].reward - record.responses[1].reward)
        for record in dataset.records(rank_by="implicit")
    }
    out = tmp_path / "kept.jsonl"
    kept = neat_data.export(
        tmp_path / "data", to="trl-dpo", out=out, pairs="labels", keep_pairs="small-gap@implicit:2", progress=False
    )
    assert kept.rows == 2
    assert {query for query in gaps if query in out.read_text()} == set(sorted(gaps, key=gaps.__getitem__)[:2])
