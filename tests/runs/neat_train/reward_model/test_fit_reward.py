"""`fit --method reward`: the loss is TRL's, the folder scores elsewhere as it does here, and runs go on."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, TrainerCallback

import neat_data as nd
import neat_train as nt
from neat_data.errors import InputError
from neat_data.models.load import load_reward_model
from neat_data.models.reward_model import RewardModelSpec, Task
from neat_train.config.reward import RewardSettings
from neat_train.config.settings import LoraSettings
from neat_train.data.selection import labelled
from neat_train.losses.reward_model import loss_of
from neat_train.policy.logprobs import training_attention
from neat_train.policy.policy import PolicySpec
from neat_train.reward_model.examples import RewardEncoder, filler, reward_batch, reward_batches
from neat_train.reward_model.model import TrainedReward, load_reward_to_train, scores

WORDS = ["red", "green", "blue", "cold", "warm", "fast", "slow", "kind", "mild", "rough"]


def said(draws: random.Random, most: int = 9) -> str:
    return " ".join(draws.choices(WORDS, k=draws.randint(2, most)))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty pairs whose better answer says yes, with scores that do not know it."""
    folder, draws = tmp_path_factory.mktemp("labels"), random.Random(0)
    rows = [
        {
            "prompt": f"{number} {said(draws)}?",
            "chosen": f"yes {said(draws)}",
            "rejected": f"no {said(draws)}",
            "score_chosen": draws.random(),
            "score_rejected": draws.random(),
        }
        for number in range(30)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    nd.score(folder / "rows.jsonl", out=folder / "data", rewards="given", progress=False)
    return folder / "data"


def fit(data: Path, policy: Path, out: Path, **settings: Any) -> nt.FitSummary:
    asked: dict[str, Any] = {"max_steps": 4, "records_per_step": 8, "learning_rate": 0.01, "device": "cpu"}
    asked |= {"held_out": {"share": 0.3}, "max_length": 256, "max_response": 64}
    return nt.fit(data, policy=policy, out=out, method="reward", progress=False, **{**asked, **settings})


def loaded(policy: Path, full: bool = True, path: str = "auto") -> TrainedReward:
    spec = PolicySpec(str(policy), full=full, lora=LoraSettings(), device="cpu", dtype="float32")
    return load_reward_to_train(spec, path, 256, None)


def gradients(reward: TrainedReward, batches: list[Any], settings: RewardSettings) -> tuple[float, dict[str, Any]]:
    """The loss over all labels of the batches, and what it gives the weights."""
    reward.model.train()
    reward.model.zero_grad()
    labels = sum(batch.labels.count for batch in batches)
    total = 0.0
    for batch in batches:
        with training_attention(reward.body, "trees" if batch.trees else "batches"):
            loss = loss_of(scores(reward.model, batch), batch.labels, settings) / labels
            loss.backward()
        total += loss.item()
    return total, {
        name: weight.grad.clone() for name, weight in reward.model.named_parameters() if weight.requires_grad
    }


def examples(reward: TrainedReward, data: Path, count: int = 6) -> list[Any]:
    encoder = RewardEncoder(reward.template, 256, 64)
    found = (encoder.example(labelled(record)) for record in list(nd.open(data).records())[:count])
    return [example for example in found if example is not None]


def test_of_a_response_that_thinks_the_answer_is_learned_as_it_is_scored(random_policy: Path, tmp_path: Path) -> None:
    def encoded(name: str, *texts: str) -> tuple[list[Any], dict[str, int]]:
        row = {"prompt": "red?", "responses": list(texts), "scores": [float(-place) for place in range(len(texts))]}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
        nd.score(tmp_path / f"{name}.jsonl", out=tmp_path / name, rewards="given", progress=False)
        encoder = RewardEncoder(loaded(random_policy).template, 256, 64)
        made = [encoder.example(labelled(record)) for record in nd.open(tmp_path / name).records()]
        return [example.sequences for example in made if example is not None], dict(+encoder.counts)

    plain, _ = encoded("plain", "yes", "no")
    assert encoded("thinks", "<think>\nHm.\n</think>\n\nyes", "no") == (plain, {})
    assert encoded("open", "<think>\nHm.\n</think>\n\nyes", "no", "<think>\nHm") == (plain, {"no_answer": 1})
    assert encoded("none", "<think>\nHm", "<think>\nWell") == ([], {"no_answer": 2, "no_responses": 1})


@pytest.mark.parametrize("centre", [0.0, 0.1])
@pytest.mark.parametrize("margin", [0.0, 1.5])
def test_loss_and_gradient_equal_trl(
    data: Path, random_policy: Path, tmp_path: Path, centre: float, margin: float
) -> None:
    from trl import RewardConfig, RewardTrainer

    reward = loaded(random_policy)
    made = examples(reward, data)
    settings = RewardSettings(centre=centre, margin=margin)
    loss, gradient = gradients(reward, [reward_batch(made, reward.choice.path)], settings)
    rows = []
    for example in made:
        ((better, worse),) = example.orders
        apart = margin * max(0.0, example.given[better] - example.given[worse])
        rows.append(
            {"chosen_ids": example.sequences[better], "rejected_ids": example.sequences[worse], "margin": apart}
        )
    args = RewardConfig(
        output_dir=str(tmp_path),
        center_rewards_coefficient=centre or None,
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
    )
    reward.save(tmp_path / "start")
    other = AutoModelForSequenceClassification.from_pretrained(tmp_path / "start", dtype=torch.float32)
    trainer = RewardTrainer(other, args, processing_class=reward.tokenizer, train_dataset=Dataset.from_list(rows))
    batch = trainer.data_collator(rows)
    other.train()
    theirs = trainer.compute_loss(other, batch)
    theirs.backward()
    assert loss == pytest.approx(theirs.item(), abs=1e-5)
    for name, weight in other.named_parameters():
        assert torch.allclose(gradient[name], weight.grad, atol=1e-4), name


def test_neither_budget_nor_path_changes_the_gradient(data: Path, random_policy: Path) -> None:
    reward, settings = loaded(random_policy), RewardSettings()
    made = examples(reward, data)
    ways = [
        [reward_batch(made, "trees")],
        reward_batches(made, 64, "trees"),
        [*reward_batches(made, 200, "batches"), filler("batches")],
    ]
    assert len(ways[1]) > 1
    (loss, gradient), *others = [gradients(reward, way, settings) for way in ways]
    for other_loss, other in others:
        assert other_loss == pytest.approx(loss, abs=1e-6)
        assert all(torch.allclose(gradient[name], other[name], atol=1e-6) for name in gradient)


def test_responses_of_a_record_share_its_query(data: Path, random_policy: Path) -> None:
    reward = loaded(random_policy)
    (example,) = examples(reward, data, 1)
    assert reward_batch([example], "trees").tokens < sum(map(len, example.sequences))


def elsewhere(run: Path, policy: Path) -> Any:
    """The run's model by transformers and peft alone."""
    if not (run / "adapter_config.json").is_file():
        return AutoModelForSequenceClassification.from_pretrained(run, dtype=torch.float32).eval()
    base = AutoModelForSequenceClassification.from_pretrained(policy, num_labels=1, dtype=torch.float32)
    return PeftModel.from_pretrained(base, run).eval()


@pytest.mark.parametrize("full", [False, True])
def test_a_run_scores_as_it_does_elsewhere(data: Path, random_policy: Path, tmp_path: Path, full: bool) -> None:
    result = fit(data, random_policy, tmp_path / "run", full=full).result
    assert result.held_out.end["accuracy"] >= result.held_out.start["accuracy"]
    assert result.held_out.end["loss"] < result.held_out.start["loss"]
    found: Any = load_reward_model(RewardModelSpec(str(tmp_path / "run"), device="cpu", dtype="float32"))
    records = list(nd.open(data).records())[:5]
    tasks = [Task(record.messages, tuple(response.text for response in record.responses)) for record in records]
    model = elsewhere(tmp_path / "run", random_policy)
    ours = [reward for one in found.score(tasks) for reward in one.rewards]
    rows = [ids for task in tasks for ids in found._encode(task).sequences]
    with torch.no_grad():
        alone = [model(input_ids=torch.tensor([ids])).logits.item() for ids in rows]
    assert ours == pytest.approx(alone, abs=1e-5)
    assert {"README.md", "curves.png", "reliability.png"} <= {path.name for path in (tmp_path / "run").iterdir()}


def test_padding_does_not_move_the_place_that_is_scored_elsewhere(
    data: Path, random_policy: Path, tmp_path: Path
) -> None:
    reward = loaded(random_policy)
    reward.save(tmp_path / "model")
    rows = [ids for example in examples(reward, data) for ids in example.sequences]
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", dtype=torch.float32).eval()
    width, pad = max(map(len, rows)), model.config.pad_token_id
    padded = torch.tensor([[*ids, *[pad] * (width - len(ids))] for ids in rows])
    mask = torch.arange(width) < torch.tensor([[len(ids)] for ids in rows])
    with torch.no_grad():
        together = model(input_ids=padded, attention_mask=mask.long()).logits[:, 0].tolist()
        alone = [model(input_ids=torch.tensor([ids])).logits.item() for ids in rows]
    assert together == pytest.approx(alone, abs=1e-5)


def test_lists_and_verdicts_are_learnt_from(random_policy: Path, tmp_path: Path) -> None:
    draws = random.Random(1)
    lists = [
        {"prompt": f"{n}?", "responses": [f"{said(draws)} {k}" for k in range(4)], "scores": [4.0, 3.0, 2.0, 1.0]}
        for n in range(12)
    ]
    verdicts = [{"prompt": f"verdict {n}?", "completion": said(draws), "label": n % 2 == 0} for n in range(12)]
    for name, rows in (("lists", lists), ("verdicts", verdicts)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        nd.score(
            tmp_path / f"{name}.jsonl", out=tmp_path / name, reward_model="data/models/tiny-reward", progress=False
        )
    listed = fit(tmp_path / "lists", random_policy, tmp_path / "list-run", max_steps=2).result.held_out.end
    assert listed["pairs"] % 6 == 0
    judged = fit(tmp_path / "verdicts", random_policy, tmp_path / "verdict-run", max_steps=2).result.held_out.end
    assert judged["verdicts"] > 0
    assert "accuracy" not in judged


class StopAt(TrainerCallback):
    """Raises in the middle of a run."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


def weights(run: Path) -> Iterator[bytes]:
    return (path.read_bytes() for path in sorted(run.glob("*.safetensors")))


def test_a_stopped_run_goes_on_to_the_same_bytes(data: Path, random_policy: Path, tmp_path: Path) -> None:
    options = {"save_steps": 2, "save_strategy": "steps"}
    fit(data, random_policy, tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        fit(data, random_policy, tmp_path / "stopped", callbacks=[StopAt(3)], **options)
    fit(data, random_policy, tmp_path / "stopped", **options)
    assert list(weights(tmp_path / "whole")) == list(weights(tmp_path / "stopped"))
    assert fit(data, random_policy, tmp_path / "stopped", **options).already


def test_a_dataset_without_labels_is_refused(random_policy: Path, tmp_path: Path) -> None:
    rows = [
        {"prompt": f"{n}?", "chosen": "yes", "rejected": "no", "score_chosen": 1, "score_rejected": 1} for n in range(4)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    nd.score(tmp_path / "rows.jsonl", out=tmp_path / "data", rewards="given", progress=False)
    with pytest.raises(InputError, match=r"method reward: no record has what it learns from \(no_label \d\)\n.*labels"):
        fit(tmp_path / "data", random_policy, tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"loss": {"beta": 0.1}}, "loss.beta has no meaning for method reward"),
        ({"rounds": {"prompts": "neat"}}, "rounds.prompts neat and method reward"),
        ({"reward_model": "data/models/tiny-reward"}, "rounds.reward_model .* and method reward"),
        ({"reward": {"soft": 0.5}}, "say reward.lists=bradley-terry"),
        ({"load_in_4bit": True}, "load_in_4bit and method reward"),
    ],
)
def test_settings_of_other_methods_are_refused(
    data: Path, random_policy: Path, tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        fit(data, random_policy, tmp_path / "run", **settings)


def test_reward_settings_of_another_method_are_refused(data: Path, random_policy: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"reward\.margin has no meaning for method rrhf"):
        nt.fit(data, policy=random_policy, out=tmp_path / "run", method="rrhf", reward={"margin": 1.0}, progress=False)


def test_an_adapter_is_to_be_merged_first(data: Path, random_policy: Path, tmp_path: Path) -> None:
    fit(data, random_policy, tmp_path / "first", max_steps=1)
    with pytest.raises(InputError, match="merge it first"):
        fit(data, tmp_path / "first", tmp_path / "second")


@pytest.mark.slow
def test_a_reward_model_goes_on_from_its_own_head(data: Path, random_policy: Path, tmp_path: Path) -> None:
    first = fit(data, random_policy, tmp_path / "first", full=True).result.held_out
    second = fit(data, tmp_path / "first", tmp_path / "second", full=True).result.held_out
    assert second.start["loss"] == pytest.approx(first.end["loss"], abs=1e-6)


@pytest.mark.slow
def test_two_ranks_train_as_one_does(data: Path, random_policy: Path, tmp_path: Path) -> None:
    """Steps of seven records: a rank has one more than the other, and their labels count together."""
    sets = "optim=sgd learning_rate=0.1 max_steps=3 records_per_step=7 eval_strategy=no max_length=256 max_response=64"
    flags = ["--method", "reward", "--full", "--device", "cpu", "--quiet"]
    for setting in (*sets.split(), "token_budget=200"):
        flags += ["--set", setting]
    trained, logged = [], []
    for ranks in ("1", "2"):
        out = tmp_path / ranks
        command = ["fit", str(data), "--policy", str(random_policy), "--out", str(out), "--nproc", ranks, *flags]
        subprocess.run([sys.executable, "-m", "neat_train", *command], check=True, timeout=300)
        trained.append(load_file(out / "model.safetensors"))
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        logged.append([(row["loss"], row["labels"], row["records"]) for row in rows if "labels" in row])
    assert logged[1] == [pytest.approx(row, abs=1e-5) for row in logged[0]]
    for name, weight in trained[0].items():
        torch.testing.assert_close(trained[1][name], weight, atol=1e-6, rtol=1e-5)
