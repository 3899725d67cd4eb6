"""The ways of making one optimiser step that `train_step.py` compares: the same model, examples and loss."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import score
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from neat_data.models.stopping import end_of_turn, tokenizer_id
from neat_data.models.templates import policy_template
from neat_data.record import Record, Response, query_id, response_id
from neat_train.config.objective import NoPenalty, ObjectiveSettings, SFTTerm
from neat_train.config.ranking import DPO
from neat_train.data.batches import MicroBatch, micro_batches
from neat_train.data.examples import Encoder, Example
from neat_train.losses import TermCounts, objective, plan_for, plan_of, total
from neat_train.policy.logprobs import logps, prepare, training_attention

MAX_LENGTH, MAX_RESPONSE = 512, 128
LOSS = ObjectiveSettings(penalty=NoPenalty())
DPO_LOSS = ObjectiveSettings(sft=SFTTerm(weight=0), beta=0, penalty=NoPenalty(), ranking=DPO(pairs="best-worst"))
TOKENIZER = "data/models/tiny-policy-plain"


def encoded(data: str, records: int, k: int, tokenizer: str) -> list[Example]:
    """The first records that keep k distinct responses, ranked in the order given."""
    own_tokenizer = AutoTokenizer.from_pretrained(tokenizer)
    template = policy_template(own_tokenizer, "auto")
    stops = end_of_turn(template, own_tokenizer)
    encoder = Encoder(template, stops, own_tokenizer, tokenizer_id(template, stops), MAX_LENGTH, MAX_RESPONSE)
    examples = []
    for task in score.read_tasks(data, 2 * records, k):
        query = query_id(task.messages)
        responses = tuple(
            Response(response_id(query, text), text, reward=-float(rank)) for rank, text in enumerate(task.texts)
        )
        example = encoder.example(Record(query, task.messages, responses))
        if example is not None and len({answer.response_id for answer in example.answers}) == k:
            examples.append(example)
    if len(examples) < records:
        raise SystemExit(f"{data} has {len(examples)} usable records, {records} were asked for")
    return examples[:records]


def gradient_of(model: torch.nn.Module) -> torch.Tensor:
    """All gradients in one row, in float32."""
    return torch.cat([p.grad.float().flatten() for p in model.parameters() if p.grad is not None])


class Way(ABC):
    """A model under LoRA, and one way of computing its log-probabilities."""

    def __init__(self, shape: dict[str, int], dtype: torch.dtype) -> None:
        self.model = _model(shape, dtype)
        self.body = self.model.get_base_model()

    @abstractmethod
    def batches(self, examples: Sequence[Example], budget: int) -> list[MicroBatch]:
        """Which records go together."""

    @abstractmethod
    def logps(self, batch: MicroBatch) -> torch.Tensor:
        """Log-probabilities of the batch's targets."""

    def step(self, batches: Sequence[MicroBatch]) -> float:
        """Forward and backward pass of one optimiser step; its loss."""
        plans = [plan_of(batch.layout) for batch in batches]
        counts = sum((plan.counts for plan in plans), TermCounts(0, 0, 0))
        self.model.zero_grad()
        loss = 0.0
        for batch, plan in zip(batches, plans, strict=True):
            part = total(objective(self.logps(batch), plan, LOSS), counts, LOSS)
            part.backward()
            loss += float(part.detach())
        return loss


class Trees(Way):
    """This project."""

    def __init__(self, shape: dict[str, int], dtype: torch.dtype) -> None:
        super().__init__(shape, dtype)
        prepare(self.body, "trees")

    def batches(self, examples: Sequence[Example], budget: int) -> list[MicroBatch]:
        return micro_batches(examples, budget, "trees")

    def logps(self, batch: MicroBatch) -> torch.Tensor:
        return logps(self.model, batch)

    def step(self, batches: Sequence[MicroBatch]) -> float:
        with training_attention(self.body, "trees"):
            return super().step(batches)


class Padded(Way):
    """Padded rows through the model's own forward pass: logits and log-softmax over all of their positions."""

    def logps(self, batch: MicroBatch) -> torch.Tensor:
        rows, width = batch.ids.shape
        mask = (torch.arange(width) < batch.lengths[:, None]).long()
        logits = self.model(input_ids=batch.ids, attention_mask=mask, use_cache=False).logits
        labels = torch.zeros(rows * width, dtype=torch.long).index_copy(0, batch.at, batch.targets)
        every = torch.log_softmax(logits, dim=-1).gather(-1, labels.view(rows, width, 1))
        return every.flatten()[batch.at].float()


class Rrhf(Padded):
    """One record a micro-batch, its responses padded to the longest."""

    def batches(self, examples: Sequence[Example], budget: int) -> list[MicroBatch]:
        return [batch for example in examples for batch in micro_batches([example], 1, "batches")]


class Sorted(Padded):
    """Length-sorted records whose padded area stays within the token budget."""

    def batches(self, examples: Sequence[Example], budget: int) -> list[MicroBatch]:
        return micro_batches(examples, budget, "batches")


class TreesDPO(Trees):
    """This project's `--method dpo`: the reference is the base under the adapter, in a pass without gradients."""

    def step(self, batches: Sequence[MicroBatch]) -> float:
        plans = [plan_for(batch.layout, DPO_LOSS) for batch in batches]
        counts = sum((plan.counts for plan in plans), TermCounts(0, 0, 0))
        self.model.zero_grad()
        loss = 0.0
        with training_attention(self.body, "trees"):
            for batch, plan in zip(batches, plans, strict=True):
                with torch.no_grad(), self.model.disable_adapter():
                    reference = self.logps(batch)
                part = total(objective(self.logps(batch), plan, DPO_LOSS, reference), counts, DPO_LOSS)
                part.backward()
                loss += float(part.detach())
        return loss


class TrlDPO(Sorted):
    """TRL's DPOTrainer, its collator and its loss, at its fastest: length-sorted batches, no checkpointing.

    Its reference is the same, the base under the adapter, in a pass without gradients.
    """

    def __init__(self, shape: dict[str, int], dtype: torch.dtype) -> None:
        super().__init__(shape, dtype)
        self.trainer = dpo_trainer(self.model)

    def step(self, batches: Sequence[MicroBatch]) -> float:
        records = sum(len(batch.groups) for batch in batches)
        self.model.zero_grad()
        loss = 0.0
        for batch in batches:
            rows = [
                {"prompt_ids": list(group.query), "chosen_ids": list(better), "rejected_ids": list(worse)}
                for group in batch.groups
                for better, worse in [group.answers]
            ]
            inputs = self.trainer.data_collator(rows)
            part = self.trainer.compute_loss(self.model, inputs) * len(batch.groups) / records
            part.backward()
            loss += float(part.detach())
        return loss


def dpo_trainer(model: PeftModel) -> Any:
    """TRL's trainer around the model, over a table that is never read."""
    import datasets
    from trl import DPOConfig, DPOTrainer

    class Given(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset  # it holds token ids

    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    with tempfile.TemporaryDirectory() as folder:
        arguments = DPOConfig(
            output_dir=folder, use_cpu=True, gradient_checkpointing=False, bf16=False, max_length=None, report_to=[]
        )
        table = datasets.Dataset.from_list([{"prompt_ids": [1], "chosen_ids": [1], "rejected_ids": [2]}])
        trainer = Given(model=model, args=arguments, train_dataset=table, processing_class=tokenizer)
    model.delete_adapter("ref")  # a copy of the adapter as it stands: the reference here is the base
    return trainer


WAYS: dict[str, type[Way]] = {"trees": Trees, "rrhf": Rrhf, "sorted": Sorted}
PAIRS: dict[str, type[Way]] = {"trees dpo": TreesDPO, "trl dpo": TrlDPO}


def _model(shape: dict[str, int], dtype: torch.dtype) -> PeftModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=shape["vocabulary"],
        hidden_size=shape["hidden"],
        num_hidden_layers=shape["layers"],
        intermediate_size=shape["intermediate"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["heads"],
        max_position_embeddings=4_096,
    )
    lora = LoraConfig(r=16, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    # The adapter in the model's dtype, whatever that is: casts between two cost every way a third of its speed.
    model = get_peft_model(LlamaForCausalLM(config).to(dtype), lora, autocast_adapter_dtype=False).to(dtype)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at first, which would leave every lora_A without a gradient to compare
            torch.nn.init.normal_(parameter, std=0.01)
    return model.train()
