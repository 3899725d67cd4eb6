"""DPO and SFT by TRL's trainers: the ids, the reference, the loss and the steps, each against plain arithmetic."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback, TrainingArguments

from neat_data.errors import InputError
from neat_data.formats.preferences import Skipped
from neat_data.progress import Silent
from neat_data.record import Label, Message, Record, Response, query_id, response_id, to_table
from neat_data.store.folder import DatasetFolder
from neat_train.baselines.rows import IGNORED, row_of, rows_of
from neat_train.baselines.trl import make_trainer, train_baseline
from neat_train.config.settings import DPOSettings, FitSettings, HeldOutSettings, LoraSettings, SFTSettings
from neat_train.data.examples import Encoder
from neat_train.data.records import Records
from neat_train.data.selection import pair_of, target_of
from neat_train.distributed import Ranks
from neat_train.policy import logprobs
from neat_train.policy.policy import Policy, PolicySpec, load_policy_to_train
from neat_train.training.held_out import HeldOut
from neat_train.training.launch import launch
from neat_train.training.metrics_file import MetricsFile

MODEL = Path(__file__).resolve().parents[4] / "data" / "models" / "tiny-policy"
RECORDS = 7


def record(number: int, **rewards: float) -> Record:
    """A query with four answers: two that people compared, and two that were sampled later."""
    messages = (Message("user", f"What should I cook on day {number}?"),)
    query = query_id(messages)
    texts = {
        "chosen": "Soup " * (1 + number) + "with bread.",
        "rejected": "I do not know.",
        "good": f"Let me suggest rice number {number}.",
        "vile": "Go away!",
    }
    order = {"chosen": 1.0, "rejected": 0.0, "good": 2.0, "vile": -1.0} | rewards
    responses = tuple(
        Response(response_id(query, text), text, order[name], "sampled" if name in ("good", "vile") else "source")
        for name, text in texts.items()
    )
    label = Label("a.jsonl", None, "train", number, (responses[0].response_id, responses[1].response_id))
    return Record(query, messages, responses, (label,)).ranked()


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Records:
    folder = tmp_path_factory.mktemp("data") / "made"
    with DatasetFolder.open(folder, {"reward_model": {"model": "tiny", "dtype": "float32"}}, versions={}) as dataset:
        made = [record(number) for number in range(RECORDS)]
        dataset.record(0, dataset.commit(0, 0, to_table(made), [], {"source_rows": RECORDS}))
        dataset.finish(0, {"source_rows": RECORDS, "queries_cut": 0})
    return Records.open(str(folder))


def load(model: Path | str = MODEL, *, full: bool = False, seed: int = 0, **lora) -> Policy:
    base = str(MODEL) if (Path(model) / "adapter_config.json").is_file() else None
    spec = PolicySpec(str(model), full, LoraSettings(**lora), base=base, device="cpu", keep_reference=full, seed=seed)
    return load_policy_to_train(spec)


def encoder_of(policy: Policy) -> Encoder:
    return Encoder(policy.template, policy.stops, policy.tokenizer, policy.tokenizer_id, 64, 32)


def settings_of(method: str, **fields) -> FitSettings:
    usual = {"records_per_step": 3, "token_budget": 10_000, "max_length": 64, "max_response": 32}
    return FitSettings(method=method, **{**usual, "training": {"seed": 0}, **fields})


def arguments(out: Path, **changes) -> dict:
    usual = {
        "output_dir": str(out),
        "use_cpu": True,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "remove_unused_columns": False,
        "disable_tqdm": True,
        "seed": 0,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "max_steps": 4,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
    }
    return {**usual, **changes}


def run(
    policy: Policy,
    records: Records,
    settings: FitSettings,
    out: Path,
    *callbacks,
    held_out=None,
    checkpoint=None,
    **changes,
):
    return train_baseline(
        *(settings, records, policy, encoder_of(policy), held_out, Ranks(), arguments(out, **changes), callbacks),
        *(Silent(), checkpoint),
    )


def losses(trainer) -> list[float]:
    return [log["loss"] for log in trainer.state.log_history if "loss" in log]


def summed(model, prompt: list[int], answer: list[int]) -> torch.Tensor:
    """Log-probability of an answer behind a prompt, by a plain forward pass over that row alone."""
    logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    return F.log_softmax(logits.float(), -1).gather(1, torch.tensor(answer)[:, None]).sum()


# Which response, and its ids


def test_pairs_and_targets_are_people_s_or_the_rewards_of_all_rounds():
    made = record(1)
    texts = {
        "pairs": [[r.text for r in pair_of(made, choice)] for choice in ("chosen", "best-worst")],
        "targets": [target_of(made, choice).text for choice in ("chosen", "best")],
    }
    assert texts == {
        "pairs": [["Soup Soup with bread.", "I do not know."], ["Let me suggest rice number 1.", "Go away!"]],
        "targets": ["Soup Soup with bread.", "Let me suggest rice number 1."],
    }


def test_records_that_say_nothing_are_counted(records):
    policy = load()
    unlabelled = replace(record(1), labels=())
    for choose in (pair_of, target_of):
        with pytest.raises(Skipped, match="no_label"):
            choose(unlabelled, "chosen")
    with pytest.raises(Skipped, match="tie"):
        pair_of(record(1, chosen=0, rejected=0, good=0, vile=0), "best-worst")
    long = replace(record(1), messages=(Message("user", "word " * 400),))
    with pytest.raises(Skipped, match="no_room"):
        row_of(long, settings_of("sft-trl"), encoder_of(policy))
    rows = rows_of(records, settings_of("dpo-trl"), encoder_of(policy), Silent())
    assert (len(rows.ids), rows.skipped.total()) == (RECORDS, 0)


@pytest.mark.parametrize("method", ["dpo-trl", "sft-trl"])
def test_the_ids_are_those_that_neat_is_trained_on_and_those_of_the_whole_dialogue(method):
    policy, made = load(), record(2)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    encoder = encoder_of(policy)
    row = row_of(made, settings_of(method), encoder)
    example = encoder.example(made)
    ids = {answer.response_id: list(answer.ids) for answer in example.answers}
    chosen, rejected = (ids[identifier] for identifier in made.labels[0].order)
    if method == "dpo-trl":
        assert row == {"prompt_ids": list(example.query), "chosen_ids": chosen, "rejected_ids": rejected}
        whole = row["prompt_ids"] + row["chosen_ids"]
    else:
        assert row["labels"] == [IGNORED] * len(example.query) + chosen
        whole = row["input_ids"]
    turns = [{"role": "user", "content": made.messages[0].content}]
    turns.append({"role": "assistant", "content": made.response(made.labels[0].order[0]).text})
    assert whole == tokenizer.apply_chat_template(turns, return_dict=False)


# The reference of DPO


@pytest.fixture(scope="module")
def earlier(records, tmp_path_factory) -> Path:
    """What a run of SFT left behind."""
    folder = tmp_path_factory.mktemp("sft")
    policy = load()
    run(policy, records, settings_of("sft-trl"), folder, max_steps=2)
    policy.save(folder)
    return folder


@pytest.mark.parametrize("start", ["base", "run", "full"])
def test_dpo_begins_at_log_2_with_the_start_as_its_reference(start, records, earlier, tmp_path):
    policy = load(earlier if start == "run" else MODEL, full=start == "full")
    before = AutoPeftModelForCausalLM if start == "run" else AutoModelForCausalLM
    before = before.from_pretrained(earlier if start == "run" else MODEL, dtype=torch.float32)
    settings = settings_of("dpo-trl")
    trainer = run(policy, records, settings, tmp_path, learning_rate=1e-3)
    logged = [log for log in trainer.state.log_history if "loss" in log]
    assert logged[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert logged[0]["rewards/margins"] == 0
    assert logged[3]["loss"] != pytest.approx(math.log(2), abs=1e-3)
    rows = rows_of(records, settings, encoder_of(policy), Silent()).table
    reference = trainer.ref_model if start == "full" else trainer.model
    theirs = trainer.compute_ref_log_probs(reference, trainer.data_collator([rows[0], rows[1]]))
    with torch.no_grad():
        plain = [
            [summed(before, row["prompt_ids"], row[f"{side}_ids"]) for row in (rows[0], rows[1])]
            for side in ("chosen", "rejected")
        ]
        ours = [summed(policy.model, rows[0]["prompt_ids"], rows[0]["chosen_ids"])]
    assert torch.allclose(torch.stack(theirs), torch.tensor(plain), atol=1e-4)
    assert abs(float(ours[0]) - float(plain[0][0])) > 1e-2, "the policy itself has moved"
    with policy.reference() as module:
        assert float(summed(module, rows[0]["prompt_ids"], rows[0]["chosen_ids"])) == pytest.approx(
            float(plain[0][0]), abs=1e-4
        )


# The losses, and that the size of a micro-batch does not matter


def by_hand(policy: Policy, rows, numbers: list[int], method: str, beta: float = 0.1) -> float:
    """The step's loss over these rows, one at a time."""
    chosen = [rows[number] for number in numbers]
    with torch.no_grad():
        if method == "sft-trl":
            nll = tokens = 0.0
            for row in chosen:
                answer = [label for label in row["labels"] if label != IGNORED]
                nll -= float(summed(policy.model, row["input_ids"][: -len(answer)], answer))
                tokens += len(answer)
            return nll / tokens
        total = 0.0
        for row in chosen:
            sides = [row["chosen_ids"], row["rejected_ids"]]
            now = [summed(policy.model, row["prompt_ids"], side) for side in sides]
            with policy.reference() as start:
                then = [summed(start, row["prompt_ids"], side) for side in sides]
            total -= float(F.logsigmoid(beta * ((now[0] - then[0]) - (now[1] - then[1]))))
        return total / len(chosen)


class Watching(TrainerCallback):
    """Works out the loss of every step by hand before it is taken."""

    def __init__(self, work_out) -> None:
        self.work_out, self.values = work_out, []

    def on_step_begin(self, args, state, control, **_):
        self.values.append(self.work_out(state.global_step))


@pytest.mark.parametrize("method", ["dpo-trl", "sft-trl"])
def test_every_step_s_loss_is_the_mean_over_its_records_whatever_the_budget(method, records, tmp_path):
    """Seven records in steps of three: the last step of an epoch has one."""
    hashes, logged = [], []
    for budget in (64, 10_000):
        policy = load()
        settings = settings_of(method, token_budget=budget)
        rows = rows_of(records, settings, encoder_of(policy), Silent())
        trainer = make_trainer(settings, rows, policy, None, Ranks(), arguments(tmp_path, optim="sgd"), [], Silent())
        watching = Watching(lambda step, t=trainer, p=policy, r=rows: by_hand(p, r.table, t.steps.rows(step), method))
        trainer.add_callback(watching)
        trainer.train()
        assert losses(trainer) == pytest.approx(watching.values, abs=2e-5)
        assert [log["records"] for log in trainer.state.log_history if "loss" in log] == [3, 3, 1, 3]
        weights = dict(policy.model.named_parameters())
        hashes.append([weights[name].detach().clone() for name in policy.trained])
        logged.append(losses(trainer))
    assert all(torch.allclose(one, two, atol=1e-6) for one, two in zip(*hashes, strict=True))
    assert logged[0] == pytest.approx(logged[1], abs=1e-5)


def test_the_settings_reach_the_trainer(records, tmp_path):
    policy = load()
    settings = settings_of("dpo-trl", dpo=DPOSettings(beta=0.7, pairs="best-worst"))
    rows = rows_of(records, settings, encoder_of(policy), Silent())
    trainer = make_trainer(settings, rows, policy, None, Ranks(), arguments(tmp_path), [], Silent())
    assert (trainer.beta, trainer.args.bf16, trainer.args.gradient_checkpointing) == (0.7, False, False)
    assert policy.tokenizer.decode(rows.table[0]["rejected_ids"]).startswith("Go away!")
    best = rows_of(records, settings_of("sft-trl", sft=SFTSettings(target="best")), encoder_of(policy), Silent())
    assert "suggest rice" in policy.tokenizer.decode(best.table[0]["input_ids"])


RANKS = """
import importlib.util, sys
from neat_train.training.launch import leaving_for_good
spec = importlib.util.spec_from_file_location("shared", sys.argv[1])
shared = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shared)
with leaving_for_good():
    shared.train_in_ranks(*sys.argv[2:])
    sys.exit()
"""


def train_in_ranks(data: str, out: str) -> None:
    """DPO with small micro-batches on one of several ranks; the main one leaves what it trained."""
    changes = {"optim": "sgd", "ddp_find_unused_parameters": False, "ddp_broadcast_buffers": False}
    named = arguments(Path(out), **changes, gradient_checkpointing=True)
    TrainingArguments(**named)  # makes the process group
    policy, settings = load(), settings_of("dpo-trl", records_per_step=4, token_budget=120)
    rows = rows_of(Records.open(data), settings, encoder_of(policy), Silent())
    trainer = make_trainer(settings, rows, policy, None, Ranks.here(), named, [], Silent())
    trainer.train()
    if Ranks.here().main:
        weights = {name: w.detach() for name, w in policy.model.named_parameters() if name in policy.trained}
        torch.save({"weights": weights, "losses": losses(trainer)}, Path(out) / "trained.pt")
    Ranks.here().leave()


@pytest.mark.slow
def test_two_ranks_train_as_one_does(records, tmp_path):
    """Seven records in steps of four: a rank has a record more than the other, and one a step to itself."""
    trained = []
    for name, ranks in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        arguments = [str(records.dataset.path), str(tmp_path / name)]
        if ranks == 1:
            train_in_ranks(*arguments)
        else:
            assert launch([sys.executable, "-c", RANKS, __file__, *arguments], ranks, patience=60) == 0
        trained.append(torch.load(tmp_path / name / "trained.pt"))
    one, two = trained
    assert one["losses"] == pytest.approx(two["losses"], abs=1e-5)
    assert all(torch.allclose(one["weights"][name], two["weights"][name], atol=1e-6) for name in one["weights"])
    assert max(float(w.abs().max()) for name, w in one["weights"].items() if "lora_B" in name) > 1e-3


# What is left, and going on


class StopAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.step:
            control.should_training_stop = True


@pytest.mark.parametrize("method", ["sft-trl", pytest.param("dpo-trl", marks=pytest.mark.slow)])
def test_a_run_that_goes_on_ends_as_an_undisturbed_one_bit_for_bit(method, records, earlier, tmp_path):
    settings = settings_of(method)
    saving = {"save_strategy": "steps", "save_steps": 2, "lr_scheduler_type": "cosine"}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    undisturbed = load(earlier)
    one = run(undisturbed, records, settings, whole, MetricsFile(whole), **saving)
    run(load(earlier), records, settings, parts, MetricsFile(parts), StopAt(2), **saving)
    resumed = load(earlier)
    two = run(resumed, records, settings, parts, MetricsFile(parts), checkpoint=parts / "checkpoint-2", **saving)
    assert undisturbed.trained_hash() == resumed.trained_hash() != load(earlier).trained_hash()
    assert losses(one) == losses(two)
    with resumed.reference() as start, torch.no_grad():
        ids = torch.tensor([[1, 2, 3]])
        before = AutoPeftModelForCausalLM.from_pretrained(earlier, dtype=torch.float32)
        assert torch.equal(start(ids).logits, before(ids).logits), "the reference is the start's, not the checkpoint's"
    files = [sorted(path.name for path in (folder / "checkpoint-4").iterdir()) for folder in (whole, parts)]
    assert files[0] == files[1]
    assert {"adapter_model.safetensors", "chat_template.jinja", "generation_config.json"} <= set(files[0])
    assert not {"README.md", "ref", "reference"} & set(files[0])
    assert not (whole / "README.md").exists()
    lines = [
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] for folder in (whole, parts)
    ]
    curves = [[(line["step"], line["loss"]) for line in lines_of if "loss" in line] for lines_of in lines]
    assert curves[0] == curves[1]
    assert [step for step, _ in curves[0]] == [1, 2, 3, 4]


def test_tokenizer_and_stops_are_as_they_were_and_the_base_is_untouched(records, tmp_path):
    policy = load()
    frozen = {name: w.clone() for name, w in policy.model.named_parameters() if not w.requires_grad}
    known, config = policy.tokenizer_id, policy.body.generation_config.to_dict()
    run(policy, records, settings_of("dpo-trl"), tmp_path)
    assert policy.body.generation_config.to_dict() == config
    weights = dict(policy.model.named_parameters())
    assert all(torch.equal(weights[name], old) for name, old in frozen.items())
    assert {name for name, w in weights.items() if w.requires_grad} == set(policy.trained)
    policy.save(tmp_path)
    assert load(tmp_path).tokenizer_id == known


def test_held_out_queries_are_measured_as_for_every_method(records, tmp_path):
    policy = load()
    encoder = encoder_of(policy)
    choice = logprobs.prepare(policy.body, "auto")
    held = HeldOut(
        *([record(90), record(91)], encoder, HeldOutSettings(), lambda: None, None, Ranks()),
        run=tmp_path,
        path=choice.path,
    )
    trainer = run(
        *(policy, records, settings_of("dpo-trl"), tmp_path),
        held_out=held,
        eval_strategy="steps",
        eval_steps=2,
        eval_on_start=True,
    )
    measured = [log for log in trainer.state.log_history if "eval_perplexity" in log]
    assert [log["step"] for log in measured] == [0, 2, 4]
    rows = [row_of(record(number), settings_of("sft-trl"), encoder) for number in (90, 91)]
    nll = by_hand(policy, rows, [0, 1], "sft-trl")
    assert measured[-1]["eval_perplexity"] == pytest.approx(math.exp(nll), rel=1e-5)
    assert not any(name.startswith("eval_rewards") for name in measured[0])


@pytest.mark.parametrize(
    ("lora", "words"),
    [({"target_modules": ["lm_head"]}, "lm_head"), ({"dropout": 0.1}, "without dropout")],
)
def test_what_trl_cannot_train_is_refused(lora, words, records, tmp_path):
    policy = load(**lora)
    with pytest.raises(InputError, match=words):
        run(policy, records, settings_of("dpo-trl", lora=LoraSettings(**lora)), tmp_path)
