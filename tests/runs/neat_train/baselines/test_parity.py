"""dpo, ipo, simpo and sft on token trees: the loss and the gradients of TRL's own trainers on the same batch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import datasets
import pytest
import torch
from torch import Tensor, nn
from trl.experimental.cpo import CPOConfig, CPOTrainer

from neat_data.progress import Silent
from neat_data.record import Label, Message, Record, Response, query_id, response_id, to_table
from neat_data.store.folder import DatasetFolder
from neat_train.baselines.rows import row_of, rows_of
from neat_train.baselines.trl import make_trainer
from neat_train.config.ranking import DPO, IPO, Ranking, SimPO
from neat_train.config.reading import resolve
from neat_train.config.settings import FitSettings
from neat_train.data.batches import PackingMode, micro_batches
from neat_train.data.examples import Encoder
from neat_train.data.records import Records
from neat_train.data.selection import selected, selection
from neat_train.distributed import Ranks
from neat_train.losses import TermCounts, objective, plan_for, total
from neat_train.policy.logprobs import logps, prepare, training_attention
from neat_train.policy.policy import Policy, PolicySpec, load_policy_to_train

MODEL = Path(__file__).resolve().parents[4] / "data" / "models" / "tiny-policy"
RECORDS = 6


def record(number: int) -> Record:
    """A query with a preferred and a rejected answer; all three differ in length from record to record."""
    messages = (Message("user", "What should I cook" + " tomorrow" * number + "?"),)
    query = query_id(messages)
    texts = ("Soup " * (1 + 2 * number % 5) + "with bread.", "I do not know" + ", really" * (number % 4))
    responses = tuple(
        Response(response_id(query, text), text, reward, "source")
        for text, reward in zip(texts, (-1.0, 1.0), strict=True)
    )
    label = Label("a.jsonl", None, "train", number, tuple(response.response_id for response in responses))
    return Record(query, messages, responses, (label,)).ranked()


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Records:
    folder = tmp_path_factory.mktemp("data") / "made"
    with DatasetFolder.open(folder, {"reward_model": {"model": "tiny", "dtype": "float32"}}, versions={}) as dataset:
        made = [record(number) for number in range(RECORDS)]
        dataset.record(0, dataset.commit(0, 0, to_table(made), [], {"source_rows": RECORDS}))
        dataset.finish(0, {"source_rows": RECORDS, "queries_cut": 0})
    return Records.open(str(folder))


@pytest.fixture
def policy() -> Policy:
    return moved_policy()


def moved_policy() -> Policy:
    """In float32, its adapter moved away from the reference."""
    settings = settings_of("dpo")
    loaded = load_policy_to_train(PolicySpec(str(MODEL), False, settings.lora, device="cpu", dtype="float32"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in loaded.model.named_parameters():
            if "lora_B" in name and weight.requires_grad:
                weight.copy_(0.05 * torch.randn(weight.shape, generator=generator))
    loaded.model.eval()
    return loaded


def settings_of(method: str, **loss) -> FitSettings:
    said = {"method": method, "max_length": 96, "max_response": 48, "token_budget": 4096}
    return resolve({**said, **({"loss": loss} if loss else {})})


def encoder_of(policy: Policy) -> Encoder:
    return Encoder(policy.template, policy.stops, policy.tokenizer, policy.tokenizer_id, 96, 48)


def gradients(module: nn.Module) -> Tensor:
    gradients_of = [weight.grad.flatten().clone() for weight in module.parameters() if weight.grad is not None]
    module.zero_grad(set_to_none=True)
    return torch.cat(gradients_of)


def ours(policy: Policy, records: Records, settings: FitSettings, path: PackingMode, budget: int):
    """Loss and gradients of one step over all records, in micro-batches within the budget."""
    select, encoder = selection(settings), encoder_of(policy)
    examples = [encoder.example(selected(records[query], select)) for query in records.ids]
    planned = [(batch, plan_for(batch.layout, settings.loss)) for batch in micro_batches(examples, budget, path)]
    counts = sum((plan.counted(settings.loss) for _, plan in planned), TermCounts(0, 0, 0))
    prepare(policy.body, path)
    loss = 0.0
    with training_attention(policy.body, path):
        for batch, plan in planned:
            with policy.reference() as start:
                reference = logps(start, batch)
            part = total(objective(logps(policy.model, batch), plan, settings.loss, reference), counts, settings.loss)
            part.backward()
            loss += part.item()
    return loss, gradients(policy.model), len(planned)


def arguments(out: Path) -> dict:
    usual = {"output_dir": str(out), "use_cpu": True, "report_to": "none", "save_strategy": "no", "disable_tqdm": True}
    return {**usual, "remove_unused_columns": False, "per_device_train_batch_size": 1}


def trl_s(policy: Policy, records: Records, method: str, out: Path, loss_type: str | None = None):
    """Of TRL's DPOTrainer or SFTTrainer, all records in one padded batch."""
    settings = settings_of(method)
    rows = rows_of(records, settings, encoder_of(policy), Silent())
    trainer = make_trainer(settings, rows, policy, None, Ranks(), arguments(out), [], Silent())
    if "ref" in policy.model.peft_config:  # TRL takes the adapter as it stands; the start of this one was the base
        policy.model.delete_adapter("ref")
    if loss_type is not None:
        trainer.loss_types = [loss_type]
    batch = trainer.data_collator([rows.table[number] for number in range(len(rows.ids))])
    policy.model.eval()
    tokens = torch.tensor(sum(rows.learned))
    loss = trainer.compute_loss(policy.model, {**batch, "weight": 1.0}, num_items_in_batch=tokens)
    loss.backward()
    return loss.item(), gradients(policy.model)


@pytest.fixture(scope="module")
def of_trl(records, tmp_path_factory) -> Callable[..., tuple[float, Tensor]]:
    """`trl_s` of a fresh policy, computed once for all that is held against it."""

    @cache
    def computed(method: str, loss_type: str | None = None) -> tuple[float, Tensor]:
        return trl_s(moved_policy(), records, method, tmp_path_factory.mktemp("trl"), loss_type)

    return computed


def cpo_s(policy: Policy, records: Records, out: Path, **config):
    """Of TRL's CPOTrainer on the ids that are trained on here: its own come from its own rendering."""
    tokenizer = policy.tokenizer
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.convert_ids_to_tokens(policy.stops.ids[-1])
    text = datasets.Dataset.from_list([{"prompt": "Hello", "chosen": " you", "rejected": " me"}])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = CPOConfig(**arguments(out), loss_type="simpo", cpo_alpha=0.0, max_length=96, **config)
        trainer = CPOTrainer(model=policy.model, args=made, train_dataset=text, processing_class=tokenizer)
    policy.model.eval()
    rows = [row_of(records[query], settings_of("dpo-trl"), encoder_of(policy)) for query in records.ids]
    loss, _ = trainer.get_batch_loss_metrics(policy.model, collated(rows), "train")
    loss.backward()
    return loss.item(), gradients(policy.model)


def collated(rows: list[dict[str, list[int]]]) -> dict[str, Tensor]:
    """Padded on the right, as CPOTrainer's collator does."""
    batch = {}
    for side in ("chosen", "rejected"):
        ids = [row["prompt_ids"] + row[f"{side}_ids"] for row in rows]
        width = max(map(len, ids))
        labels = [[-100] * len(row["prompt_ids"]) + row[f"{side}_ids"] for row in rows]
        batch[f"{side}_input_ids"] = torch.tensor([[*one, *[0] * (width - len(one))] for one in ids])
        batch[f"{side}_labels"] = torch.tensor([[*one, *[-100] * (width - len(one))] for one in labels])
        batch[f"{side}_attention_mask"] = torch.tensor([[1] * len(one) + [0] * (width - len(one)) for one in ids])
    return batch


def same(mine, theirs) -> None:
    loss, gradient, _ = mine
    assert loss == pytest.approx(theirs[0], abs=1e-5)
    assert theirs[1].abs().max() > 1e-3, "nothing to compare"
    assert (gradient - theirs[1]).abs().max() < 1e-4


@pytest.mark.parametrize("path", ["trees", "batches"])
@pytest.mark.parametrize("budget", [4096, 120])
@pytest.mark.parametrize(("method", "loss_type"), [("dpo", "sigmoid"), ("ipo", "ipo"), ("hinge", "hinge")])
def test_losses_of_pairs_are_those_of_trl_s_dpo_trainer(policy, records, of_trl, method, loss_type, path, budget):
    mine = ours(policy, records, settings_of(method), path, budget)
    assert (mine[2] > 1) == (budget == 120), "micro-batches"
    same(mine, of_trl("dpo-trl", loss_type))


@pytest.mark.parametrize("kind", [SimPO(beta=2.0, gamma=0.8)])
def test_simpo_is_that_of_trl_s_cpo_trainer(policy, records, tmp_path, kind: Ranking):
    theirs = cpo_s(policy, records, tmp_path, beta=2.0, simpo_gamma=0.8)
    same(ours(policy, records, settings_of("simpo", ranking=kind.model_dump()), "trees", 120), theirs)


def test_alphapo_is_that_of_trl_s_cpo_trainer(policy, records, tmp_path):
    theirs = cpo_s(policy, records, tmp_path, beta=2.0, simpo_gamma=0.8, alpha=0.25)
    ranking = {"alpha": 0.25, "beta": 2.0, "gamma": 0.8}
    same(ours(policy, records, settings_of("alphapo", ranking=ranking), "trees", 120), theirs)


@pytest.mark.parametrize("budget", [4096, 120])
def test_sft_is_that_of_trl_s_sft_trainer(policy, records, of_trl, budget):
    same(ours(policy, records, settings_of("sft"), "trees", budget), of_trl("sft-trl"))


def test_the_defaults_of_pairs_are_people_s_and_the_methods_are_alone():
    for method, kind in (("dpo", DPO), ("ipo", IPO), ("simpo", SimPO)):
        loss = settings_of(method).loss
        assert loss.ranking == kind(pairs="chosen")
        assert (loss.sft.weight, loss.alpha, loss.beta, loss.penalty.kind) == (0, 1, 0, "none")
