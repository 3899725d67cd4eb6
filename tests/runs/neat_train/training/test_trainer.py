"""An optimiser step is the same whatever its micro-batches and ranks, and every part of the adapter learns from it."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from neat_data.errors import RunError
from neat_train.config.reading import read_settings
from neat_train.config.trainer_arguments import training_arguments
from neat_train.data.examples import Encoder
from neat_train.data.record_source import Offline
from neat_train.data.records import Records
from neat_train.distributed import Ranks
from neat_train.policy import logprobs
from neat_train.policy.policy import PolicySpec, load_policy_to_train
from neat_train.training.divergence import Diverged
from neat_train.training.trainer import NeatTrainer, Packing, Work

Gradients = dict[str, torch.Tensor]
TERMS = {
    "sft": ("loss.alpha=0", "loss.beta=0"),
    "ranking": ("loss.alpha=1", "loss.beta=0"),
    "likelihood": ("loss.alpha=0", "loss.beta=1", "loss.penalty.kind=likelihood"),
    "npo": ("loss.alpha=0", "loss.beta=1", "loss.penalty.kind=npo"),
}
SHIFT = 0.05  # of the adapter's weights, which start where their gradients vanish


class Said:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def phase(self, name: str, total: int | None) -> None: ...

    def advance(self, rows: int, tokens: int = 0) -> None: ...

    def say(self, line: str) -> None:
        self.lines.append(line)


def trainer_of(dataset: Path, policy: Path, out: Path, *sets: str, budget: int = 100_000, watch=None) -> NeatTrainer:
    common = ("rounds.prompts=null", "eval_strategy=no", "device=cpu", "records_per_step=16", "max_response=64")
    settings = read_settings(sets=(*common, *sets))
    args = training_arguments(settings, out)
    records, ranks = Records.open(str(dataset)), Ranks.here()
    spec = PolicySpec(
        str(policy), settings.full, settings.lora, device="cpu", gradient_checkpointing=args.gradient_checkpointing
    )
    policy_to_train = load_policy_to_train(spec)
    choice = logprobs.prepare(policy_to_train.body, settings.path)
    encoder = Encoder(
        policy_to_train.template,
        policy_to_train.stops,
        policy_to_train.tokenizer,
        policy_to_train.tokenizer_id,
        256,
        64,
    )
    work = Work(Offline(records, settings.records_per_step, 0, ranks), len(records), settings.records_per_step, encoder)
    return NeatTrainer(policy_to_train, args, work, settings.loss, Packing(choice.path, budget), watch or Said())


def gradients(trainer: NeatTrainer) -> Gradients:
    """Of the first step, with an adapter that has moved from its start."""
    generator = torch.Generator().manual_seed(1)
    model = trainer.policy.model
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    with torch.no_grad():
        for weight in trained.values():
            weight += SHIFT * torch.randn(weight.shape, generator=generator)
    trainer.training_step(trainer.accelerator.prepare(model) if trainer.ranks.world > 1 else model, {"step": 0})
    return {name: weight.grad.clone() for name, weight in trained.items() if weight.grad is not None}


def alone(gradients_of: dict[str, Gradients]) -> dict[str, Gradients]:
    """Each term's own gradients: the SFT term's are in all of them."""
    return {
        term: {name: grad - (gradients_of["sft"][name] if term != "sft" else 0) for name, grad in grads.items()}
        for term, grads in gradients_of.items()
    }


def of_all_terms(dataset: Path, policy: Path, out: Path, budget: int = 100_000) -> dict[str, Gradients]:
    return {term: gradients(trainer_of(dataset, policy, out, *sets, budget=budget)) for term, sets in TERMS.items()}


@pytest.fixture
def whole(ragged, random_policy, tmp_path) -> dict[str, Gradients]:
    """Gradients of a step in one process and one micro-batch."""
    return alone(of_all_terms(ragged, random_policy, tmp_path / "run"))


def assert_same(actual: dict[str, Gradients], expected: dict[str, Gradients]) -> None:
    for term, grads in expected.items():
        assert set(actual[term]) == set(grads)
        scale = max(float(grad.abs().max()) for grad in grads.values())
        assert scale > 1e-4
        for name, grad in grads.items():
            torch.testing.assert_close(actual[term][name], grad, rtol=0, atol=1e-6 * max(1.0, scale), msg=term)


def test_micro_batches_change_no_term_s_gradient(whole, ragged, random_policy, tmp_path):
    assert_same(alone(of_all_terms(ragged, random_policy, tmp_path / "run", budget=150)), whole)


def test_two_processes_have_the_gradients_of_one(whole, ragged, random_policy, tmp_path, forks):
    assert forks.run(__file__, "in_one_of_two", ragged, random_policy, tmp_path, world=2) == [0, 0]
    for rank in range(2):
        saved = torch.load(tmp_path / f"gradients-{rank}.pt")
        for term, grads in saved["terms"].items():
            saved["terms"][term] = {name.removeprefix("module."): grad for name, grad in grads.items()}
        assert_same(alone(saved["terms"]), whole)


def in_one_of_two(dataset: str, policy: str, out: str) -> None:
    """What each of two processes runs: rank 1 has a budget for everything at once, so that rank 0 has more to do."""
    rank = int(os.environ["RANK"])
    terms = of_all_terms(Path(dataset), Path(policy), Path(out, "run"), budget=150 if rank == 0 else 100_000)
    torch.save({"terms": terms}, Path(out, f"gradients-{rank}.pt"))


@pytest.mark.parametrize("checkpointing", ["true", "false"])
def test_after_one_step_every_part_of_the_adapter_has_moved(checkpointing, ragged, random_policy, tmp_path):
    sets = ("max_steps=1", "learning_rate=1e-2", "warmup_steps=0", f"gradient_checkpointing={checkpointing}")
    trainer = trainer_of(ragged, random_policy, tmp_path / "run", *sets, "save_strategy=no")
    trainer.train()
    moved = {n: float(w.detach().norm()) for n, w in trainer.policy.model.named_parameters() if "lora_B" in n}
    assert len(moved) == 14
    assert min(moved.values()) > 0


def test_a_step_is_logged_with_all_it_was_made_of(ragged, random_policy, tmp_path):
    trainer = trainer_of(ragged, random_policy, tmp_path / "run", "max_steps=2", "save_strategy=no", "logging_steps=2")
    trainer.train()
    log = trainer.state.log_history[0]
    records, responses = 2 * 16, 2 * (4 * (1 + 2 + 3 + 4))
    assert (log["records"], log["responses"], log["step"]) == (records, responses, 2)
    seen = [one for step in range(2) for record in trainer._work.source.step(step) for one in record.responses]
    ids = trainer.policy.tokenizer([one.text for one in seen], add_special_tokens=False)["input_ids"]
    assert log["response_tokens"] == sum(len(one) + 1 for one in ids)  # and its end of turn
    assert log["tokens"] > log["response_tokens"]
    assert log["penalty"] == pytest.approx(2 * math.log(2))  # of npo where the policy is still its reference
    terms = log["sft"] + log["ranking"] + 0.1 * log["penalty"]
    assert log["loss"] == pytest.approx(terms, rel=1e-5)
    assert {"best_logp", "worst_logp", "ranking_accuracy", "negative_worst", "tokens", "grad_norm"} <= set(log)
    assert 0 <= log["ranking_accuracy"] <= 1
    assert log["negative_worst"] == 0


class _NoGradient(torch.autograd.Function):
    """Itself forward, no number backward."""

    @staticmethod
    def forward(ctx, hidden: torch.Tensor) -> torch.Tensor:
        return hidden.clone()

    @staticmethod
    def backward(ctx, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0] * torch.nan


def lose(what: str, body: PreTrainedModel, token: int) -> None:
    """A token's embedding is no number, or rows that hold the token have no gradient that is one."""

    def embedded(module, args, output):
        return output.masked_fill((args[0] == token)[..., None], torch.nan)

    def ran(module, args, kwargs, output):
        if (kwargs["input_ids"] == token).any():
            output.last_hidden_state = _NoGradient.apply(output.last_hidden_state)
        return output

    if what == "the gradient":
        body.base_model.register_forward_hook(ran, with_kwargs=True)
    else:
        body.get_input_embeddings().register_forward_hook(embedded)


@pytest.mark.parametrize("what", ["a log-probability", "the gradient"])
@pytest.mark.parametrize("path", ["trees", "batches"])
def test_what_is_no_number_is_named_by_step_row_path_and_query(what, path, stored, random_policy, tmp_path):
    queries = [f"a question, number {number}" for number in range(6)]
    responses = ("yes it is", "no it is not, by no means")
    dataset = stored([(query, {text: float(reward) for reward, text in enumerate(responses)}) for query in queries])
    trainer = trainer_of(
        dataset, random_policy, tmp_path / "run", f"path={path}", "records_per_step=6", "save_strategy=no", budget=40
    )
    examples = [trainer._work.encoder.example(record) for record in trainer._work.source.step(0)]
    guilty = examples[3]
    (token,) = set(guilty.query) - {token for one in examples if one is not guilty for token in one.query}
    batches = trainer._packed(trainer._work.source.step(0))[0]
    row, batch = next((n, one.batch) for n, one in enumerate(batches, 1) if (one.batch.ids == token).any())
    assert row > 1
    lose(what, trainer.policy.body, token)
    with pytest.raises(Diverged) as stopped:
        trainer.train()
    assert stopped.value.exit_status == 3
    way = "path trees, attention neat_trees_sdpa" if path == "trees" else "path batches"
    together = f"queries {', '.join(group.query_id for group in batch.groups)}"
    queries = together if what == "the gradient" else f"query {guilty.query_id}"
    expected = f"stopped at step 1: {what} is not finite in row {row} of {len(batches)} ({way}, {queries}).\n"
    assert str(stopped.value).startswith(expected)


class _HalfGradient(torch.autograd.Function):
    """Itself forward; backward what float16 leaves of a gradient: nothing finite beyond 65,504."""

    @staticmethod
    def forward(ctx, hidden: torch.Tensor) -> torch.Tensor:
        return hidden.clone()

    @staticmethod
    def backward(ctx, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0].half().float()


def scaled(trainer: NeatTrainer, scale: float) -> torch.amp.GradScaler:
    """What fp16 does on a card: the loss is multiplied, and steps whose gradients overflow are skipped."""
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return trainer.accelerator.scaler


def test_steps_whose_gradients_overflow_under_a_scaler_are_skipped_and_the_run_goes_on(ragged, random_policy, tmp_path):
    sets = ("max_steps=24", "logging_steps=1", "learning_rate=1e-2", "warmup_steps=0", "save_strategy=no")
    trainer = trainer_of(ragged, random_policy, tmp_path / "run", *sets, "records_per_step=2")
    scaler = scaled(trainer, 2.0**30)

    def halved(module, args, kwargs, output):
        output.last_hidden_state = _HalfGradient.apply(output.last_hidden_state)
        return output

    trainer.policy.body.base_model.register_forward_hook(halved, with_kwargs=True)
    trainer.train()
    finite = [math.isfinite(log["grad_norm"]) for log in trainer.state.log_history if "grad_norm" in log]
    assert (len(finite), finite[0], finite[-1]) == (24, False, True)
    assert scaler.get_scale() == 2.0 ** (30 - finite.count(False))  # each of them halved it
    moved = [weight for name, weight in trainer.policy.model.named_parameters() if "lora_B" in name]
    assert all(0 < float(weight.detach().norm()) < math.inf for weight in moved)


def test_a_gradient_that_no_scale_mends_is_named_as_without_a_scaler(stored, random_policy, tmp_path):
    dataset = stored([("a question", {"yes it is": 1.0, "no": 0.0})])
    trainer = trainer_of(dataset, random_policy, tmp_path / "run", "save_strategy=no", "max_steps=9")
    example = trainer._work.encoder.example(trainer._work.source.step(0)[0])
    lose("the gradient", trainer.policy.body, example.query[-1])
    scaled(trainer, 4.0)
    with pytest.raises(Diverged, match="stopped at step 3: the gradient is not finite in row 1 of 1"):
        trainer.train()


def test_a_likelihood_penalty_that_runs_away_is_stopped_and_the_checkpoint_stays(ragged, tiny_policy, tmp_path):
    sets = ("loss.penalty.kind=likelihood", "loss.beta=20", "learning_rate=0.01", "warmup_steps=0", "max_steps=60")
    trainer = trainer_of(ragged, tiny_policy, tmp_path / "run", *sets, "save_steps=2", "records_per_step=4")
    with pytest.raises(RunError, match=r"(?s)stopped at step .*loss.penalty.kind=npo, or a loss.beta below 20"):
        trainer.train()
    assert (tmp_path / "run" / "checkpoint-2" / "complete.json").exists()
