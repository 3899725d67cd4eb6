"""Held-out queries: which they are, what is measured on them, and that a model in training does not notice."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import EarlyStoppingCallback

from neat_data.errors import InputError
from neat_data.models.load import load_reward_model
from neat_data.models.reward_model import RewardModel, RewardModelSpec
from neat_data.record import Label, Message, Record, Response, query_id, response_id
from neat_train.config.reading import read_settings
from neat_train.config.settings import FitSettings, HeldOutSettings
from neat_train.config.trainer_arguments import training_arguments
from neat_train.data.examples import Encoder
from neat_train.data.split import held_out_split
from neat_train.distributed import Ranks
from neat_train.policy import logprobs
from neat_train.policy.policy import Policy, PolicySpec, load_policy_to_train
from neat_train.policy.undisturbed import undisturbed
from neat_train.rounds.live_sampler import live_sampler
from neat_train.statistics import bootstrap
from neat_train.training.held_out import HeldOut
from neat_train.training.json_lines import read_rows
from neat_train.training.metrics_file import MetricsFile
from neat_train.training.progress import TrainingProgress
from neat_train.training.trainer import NeatTrainer, Packing, Work

LONGEST, NEW = 256, 12
PATH: Literal["trees"] = "trees"
IDS = st.lists(st.text("0123456789abcdef", min_size=8, max_size=8), unique=True, min_size=2, max_size=30)


@given(IDS, st.floats(0.01, 0.99), st.randoms())
def test_a_query_is_held_out_for_its_own_sake_alone(ids, share, random):
    train, held = held_out_split(ids, share)
    assert (sorted(train + held), bool(train), bool(held)) == (sorted(ids), True, True)
    shuffled = random.sample(ids, len(ids))
    assert set(held_out_split(shuffled, share)[1]) == set(held)
    assert held_out_split(shuffled, share)[1] == [id for id in shuffled if id in held]
    below = {id for id in ids if _fraction(id) < share}
    assert set(held) == below or len(below) in (0, len(ids))


def _fraction(id: str) -> float:
    return int(hashlib.sha256(f"held out {id}".encode()).hexdigest()[:12], 16) / 16**12


def test_about_the_share_is_held_out_and_one_at_least():
    ids = [hashlib.sha256(bytes([n % 256, n // 256])).hexdigest()[:32] for n in range(10_000)]
    assert 160 < len(held_out_split(ids, 0.02)[1]) < 240
    assert len(held_out_split(ids[:5], 1e-9)[1]) == 1
    assert len(held_out_split(ids[:5], 0.999999)[0]) == 1
    assert held_out_split(ids[:1], 0.5) == (ids[:1], [])
    assert held_out_split(ids, 0) == (ids, [])


@pytest.mark.parametrize("kind", [np.random.default_rng(1).normal, np.random.default_rng(2).exponential])
def test_the_interval_is_that_of_scipy(kind):
    values = kind(size=60)
    theirs = scipy.stats.bootstrap((values,), np.mean, method="percentile", rng=7, n_resamples=20_000)
    expected = theirs.confidence_interval
    width = expected.high - expected.low
    assert bootstrap(values) == pytest.approx((expected.low, expected.high), abs=0.05 * width)
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap(values[:1]) is None


def record(query: str, rewards: dict[str, float], order: tuple[str, ...] = (), verdict: bool | None = None) -> Record:
    messages = (Message("user", query),)
    ids = {text: response_id(query_id(messages), text) for text in rewards}
    labels = (Label("a", None, None, 0, tuple(ids[text] for text in order), verdict),) if order else ()
    responses = tuple(Response(ids[text], text, reward) for text, reward in rewards.items())
    return Record(query_id(messages), messages, responses, labels).ranked()


def dish(n: int) -> Record:
    """Of every second record people chose what has the lower reward."""
    long = f"Boil it {'well ' * n}."
    return record(
        f"{'Please tell me ' * (n % 3)}how do I cook dish number {n}?",
        {long: 1.0, "No.": 0.0},
        ("No.", long) if n % 2 else (long, "No."),
    )


RECORDS = [dish(n) for n in range(9)]


@pytest.fixture(scope="module")
def policy(tiny_policy) -> Policy:
    return made_policy(tiny_policy)


def made_policy(folder: Path, dropout: float = 0.0) -> Policy:
    lora = FitSettings().lora.model_copy(update={"dropout": dropout})
    policy = load_policy_to_train(PolicySpec(str(folder), False, lora, device="cpu", dtype="float32"))
    logprobs.prepare(policy.body, PATH)
    return policy


@pytest.fixture(scope="module")
def reward(tmp_path_factory) -> RewardModel:
    """The number of letters a in an answer, less the number of words in the query."""
    code = (
        "def reward(items):\n    return [c[-1]['content'].count('a') - len(c[0]['content'].split()) for c in items]\n"
    )
    file = tmp_path_factory.mktemp("reward") / "letters.py"
    file.write_text(code)
    return load_reward_model(RewardModelSpec(f"{file}:reward"))


class Said:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def phase(self, name: str, total: int | None) -> None: ...

    def advance(self, rows: int, tokens: int = 0) -> None: ...

    def say(self, line: str) -> None:
        self.lines.append(line)


def encoder_of(policy: Policy) -> Encoder:
    return Encoder(policy.template, policy.stops, policy.tokenizer, policy.tokenizer_id, LONGEST, 64)


def measuring(policy: Policy, reward: RewardModel | None, run: Path, records=RECORDS, ranks=None, **options) -> HeldOut:
    settings = options.pop("settings", HeldOutSettings(samples_shown=3))
    return HeldOut(
        records,
        encoder_of(policy),
        settings,
        lambda: live_sampler(policy, FitSettings(max_length=LONGEST)),
        None if reward is None else lambda: reward,
        ranks or Ranks(),
        run=run,
        path=PATH,
        max_new_tokens=NEW,
        **options,
    )


def test_perplexity_is_that_of_a_plain_forward_pass_over_the_whole_corpus(policy, tmp_path):
    """End of turn included, long responses weighing more than short ones."""
    total, tokens = 0.0, 0
    for record in RECORDS:
        query = policy.template.query_ids(record.messages)
        answer = policy.tokenizer(_chosen(record), add_special_tokens=False)["input_ids"] + [policy.stops.ids[0]]
        with undisturbed(policy.model):
            logits = policy.model(input_ids=torch.tensor([query + answer])).logits[0].double()
        logps = logits.log_softmax(-1)[len(query) - 1 : -1].gather(-1, torch.tensor(answer)[:, None])
        total, tokens = total - float(logps.sum()), tokens + len(answer)
    measured = measuring(policy, None, tmp_path, token_budget=128).measure(policy.model, 0)
    assert measured == {"perplexity": pytest.approx(math.exp(total / tokens), rel=1e-5)}


def _chosen(record: Record) -> str:
    return record.response(record.labels[0].order[0]).text


def test_a_response_that_people_only_rejected_has_no_part_in_the_perplexity(policy, tmp_path):
    refused = record("How do I cook a rat?", {"Boil it.": 1.0}, ("Boil it.",), verdict=False)
    assert measuring(policy, None, tmp_path, [refused]).measure(policy.model, 0) == {}
    expected = measuring(policy, None, tmp_path, RECORDS).measure(policy.model, 0)
    assert measuring(policy, None, tmp_path, [*RECORDS, refused]).measure(policy.model, 0) == expected


def test_without_a_reward_model_it_is_said_once_that_there_is_perplexity_alone(policy, tmp_path):
    said = Said()
    held_out = measuring(policy, None, tmp_path, watch=said)
    first, again = held_out.measure(policy.model, 0), held_out.measure(policy.model, 5)
    assert first == again
    assert [line.split(":")[0] for line in said.lines] == ["no reward model"]
    assert not (tmp_path / "samples.jsonl").exists()


def test_a_policy_that_forgets_its_language_is_told_of_once(tiny_policy, tmp_path):
    policy, watch = made_policy(tiny_policy), Said()
    held = measuring(policy, None, tmp_path, watch=watch)
    before = held.measure(policy.model, 0)["perplexity"]
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.5)
    after = [held.measure(policy.model, step)["perplexity"] for step in (1, 2)]
    warned = [line for line in watch.lines if "forgets" in line]
    assert after[0] > 1.5 * before
    assert [f"rose from {before:.3g} to {after[0]:.3g}:" in line for line in warned] == [True]


def test_rewards_are_those_of_fresh_answers_to_the_plain_query(policy, reward, tmp_path):
    measured = measuring(policy, reward, tmp_path, settings=HeldOutSettings(samples_shown=99)).measure(policy.model, 3)
    rows = read_rows(tmp_path / "samples.jsonl")
    assert {row["query"] for row in rows} == {one.messages[-1].content for one in RECORDS}
    assert [row["reward"] for row in rows] == [row["answer"].count("a") - len(row["query"].split()) for row in rows]
    assert measured["reward"] == pytest.approx(np.mean([row["reward"] for row in rows]))
    assert (measured["reward_low"], measured["reward_high"]) == bootstrap(
        np.array([row["reward"] for row in rows], float)
    )
    assert measured["length"] == pytest.approx(np.mean([row["tokens"] for row in rows]))
    assert measured["finished"] == pytest.approx(np.mean([row["finished"] for row in rows]))
    assert (measured["answers"], {row["step"] for row in rows}) == (9, {3})


def test_answers_under_a_prompt_are_scored_without_it(policy, reward, tmp_path):
    settings = HeldOutSettings(samples_shown=9, prompt="neat:positive")
    measuring(policy, reward, tmp_path, settings=settings).measure(policy.model, 0)
    for row in read_rows(tmp_path / "samples.jsonl"):
        assert row["reward"] == row["answer"].count("a") - len(row["query"].split())
    measuring(policy, reward, tmp_path).measure(policy.model, 1)
    plain = [row["answer"] for row in read_rows(tmp_path / "samples.jsonl") if row["step"] == 1]
    assert plain != [row["answer"] for row in read_rows(tmp_path / "samples.jsonl")][: len(plain)]


def test_a_set_of_two_prompts_is_refused_with_their_names(policy, reward, tmp_path):
    with pytest.raises(InputError, match=r"held_out\.prompt neat: has 2 prompts.*neat:positive or neat:negative"):
        measuring(policy, reward, tmp_path, settings=HeldOutSettings(prompt="neat"))


def test_every_step_draws_the_same_noise_so_that_curves_are_paired(policy, reward, tmp_path):
    held_out = measuring(policy, reward, tmp_path)
    assert held_out.measure(policy.model, 0) == held_out.measure(policy.model, 40)
    rows = read_rows(tmp_path / "samples.jsonl")
    assert len(rows) == 6
    assert [row | {"step": 40} for row in rows[:3]] == rows[3:]


def test_the_measured_queries_are_chosen_by_their_ids(policy, reward, tmp_path):
    settings = HeldOutSettings(queries=4)
    held_out = measuring(policy, reward, tmp_path, settings=settings)
    again = measuring(policy, reward, tmp_path, records=RECORDS[::-1], settings=settings)
    assert [one.query_id for one in held_out.records] == [one.query_id for one in again.records]
    assert len(held_out.records) == 4


@dataclass(frozen=True)
class Thread(Ranks):
    """A rank that is a thread of this process."""

    meet: threading.Barrier = None  # type: ignore[assignment]
    board: dict = None  # type: ignore[assignment]

    def gather(self, value):
        self.meet.wait()
        self.board[self.rank] = value
        self.meet.wait()
        return [self.board[rank] for rank in range(self.world)]


@pytest.mark.parametrize("records", [pytest.param(9, marks=pytest.mark.slow), 2])
def test_ranks_together_find_what_one_finds(records, tiny_policy, policy, reward, tmp_path):
    part = RECORDS[:records]
    alone = measuring(policy, reward, tmp_path / "one", part)
    (tmp_path / "one").mkdir()
    expected = alone.measure(policy.model, 0)
    world, board, measured = 3, {}, {}
    meet = threading.Barrier(world, timeout=600)
    (tmp_path / "three").mkdir()
    policies = [made_policy(tiny_policy) for _ in range(world)]

    def rank(number: int) -> None:
        mine = policies[number]
        held_out = measuring(mine, reward, tmp_path / "three", part, Thread(number, world, meet, board))
        measured[number] = held_out.measure(mine.model, 0)

    threads = [threading.Thread(target=rank, args=(number,)) for number in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert measured[0] == measured[1] == measured[2]
    assert measured[0] == pytest.approx(expected, rel=1e-5)
    assert read_rows(tmp_path / "three" / "samples.jsonl") == read_rows(tmp_path / "one" / "samples.jsonl")


def test_what_is_printed_obeys_no_control_character(policy, reward, tmp_path):
    said = Said()
    hostile = [record("Is \x1b[31mit [red]red[/red]?\nYes \u202e?", {"yes": 1.0})]
    measuring(policy, reward, tmp_path, hostile, watch=said).measure(policy.model, 2)
    assert said.lines[0].startswith("held out at step 2: reward ")
    assert "Is \\x1b[31mit [red]red[/red]? Yes \\u202e? →" in said.lines[1]


@dataclass
class Given:
    """A source of the same records at every step."""

    records: list[Record]

    def step(self, step: int) -> list[Record]:
        return self.records

    def saved(self, step: int) -> None: ...

    def metrics(self) -> dict[str, float]:
        return {}

    def close(self) -> None: ...


def trainer_of(
    folder: Path, run: Path, *sets: str, reward: Callable[[], RewardModel] | None = None, callbacks=(), watch=None
) -> NeatTrainer:
    common = ("rounds.prompts=null", "device=cpu", "dtype=float32", "learning_rate=1e-2", "warmup_steps=0")
    settings = read_settings(sets=(*common, "max_steps=4", "save_strategy=no", *sets))
    args = training_arguments(settings, run)
    policy = made_policy(folder, dropout=0.1)
    work = Work(Given(RECORDS[:4]), 4, 4, encoder_of(policy))
    watch = watch or Said()
    held_out = None
    if settings.training["eval_strategy"] != "no":
        model = reward() if reward else None
        held_out = measuring(policy, model, run, RECORDS[4:7], watch=watch)
    run.mkdir(exist_ok=True)
    packing = Packing(PATH, 512)
    return NeatTrainer(policy, args, work, settings.loss, packing, watch, held_out, [MetricsFile(run), *callbacks])


def weights(trainer: NeatTrainer) -> dict[str, torch.Tensor]:
    return {name: w.detach().clone() for name, w in trainer.policy.model.named_parameters() if w.requires_grad}


def test_training_is_the_same_bit_for_bit_with_and_without_evaluation(random_policy, reward, tmp_path):
    plain = trainer_of(random_policy, tmp_path / "plain", "eval_strategy=no")
    plain.train()
    measured = trainer_of(random_policy, tmp_path / "measured", "eval_steps=1", reward=lambda: reward)
    measured.train()
    expected = weights(plain)
    assert all(torch.equal(weight, expected[name]) for name, weight in weights(measured).items())
    steps = [row["step"] for row in read_rows(tmp_path / "measured" / "metrics.jsonl") if "eval_reward" in row]
    assert steps == [0, 1, 2, 3, 4]
    losses = [
        [row["loss"] for row in read_rows(tmp_path / name / "metrics.jsonl") if "loss" in row]
        for name in ("plain", "measured")
    ]
    assert losses[0] == losses[1]


def test_a_model_is_looked_at_without_a_trace(random_policy, reward, tmp_path):
    policy = made_policy(random_policy, dropout=0.5)
    policy.model.train()
    next(policy.body.model.layers[0].children()).eval()
    before = [part.training for part in policy.model.modules()]
    attention, state = policy.body.config._attn_implementation, torch.get_rng_state()
    measuring(policy, reward, tmp_path).measure(policy.model, 0)
    assert [part.training for part in policy.model.modules()] == before
    assert (policy.body.config._attn_implementation, torch.is_grad_enabled()) == (attention, True)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(IndexError), undisturbed(policy.model):
        torch.rand(3)[3]
    assert [part.training for part in policy.model.modules()] == before
    assert torch.equal(torch.get_rng_state(), state)


def test_early_stopping_and_the_best_model_go_by_the_held_out_reward(random_policy, reward, tmp_path):
    best = ("load_best_model_at_end=true", "metric_for_best_model=eval_reward", "save_strategy=steps", "save_steps=1")
    trainer = trainer_of(
        random_policy,
        tmp_path / "run",
        "eval_steps=1",
        "learning_rate=0.0",
        *best,
        reward=lambda: reward,
        callbacks=[EarlyStoppingCallback(early_stopping_patience=1)],
    )
    trainer.train()
    assert trainer.state.global_step == 2  # nothing is learnt: the second evaluation is no better than the first
    assert (trainer.state.best_global_step, Path(trainer.state.best_model_checkpoint).name) == (1, "checkpoint-1")
    assert trainer.state.best_metric == trainer.state.log_history[0]["eval_reward"]


def test_a_run_that_goes_on_is_not_measured_again_where_it_was(random_policy, tmp_path):
    run, steps = tmp_path / "run", ("eval_steps=2", "save_strategy=steps", "save_steps=2")
    undisturbed_run = tmp_path / "whole"
    trainer_of(random_policy, undisturbed_run, *steps).train()
    with pytest.raises(KeyboardInterrupt):
        trainer_of(random_policy, run, *steps, callbacks=[_Kill(3)]).train()
    assert [row["step"] for row in read_rows(run / "metrics.jsonl")] == [0, 1, 2, 2, 3]
    trainer_of(random_policy, run, *steps).train(resume_from_checkpoint=str(run / "checkpoint-2"))
    whole, gone_on = (read_rows(path / "metrics.jsonl")[:-1] for path in (undisturbed_run, run))
    assert gone_on == whole


class _Kill(TrainingProgress):
    """Ends training after a step, as Ctrl-C would."""

    def __init__(self, step: int) -> None:
        super().__init__(None)
        self.at = step

    def on_log(self, args, state, control, logs=None, **kwargs):
        if state.global_step == self.at:
            raise KeyboardInterrupt
