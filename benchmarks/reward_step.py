"""How fast this project trains a reward model, beside TRL's RewardTrainer, in one run on one machine.

    python benchmarks/reward_step.py DATA [--records 64] [--repeats 3] [--out benchmarks/results/reward_step.json]

DATA is any source of pairs; the first records' two responses are the pair, in the order given. The model is a Llama of
about 85 M body parameters with random weights under LoRA (r 16, all linear layers), its score head in float32. `trees`
is this project: each query once for both responses, packed to a budget. `trl` is TRL's collator and loss on the same
token ids, padded, its pairs sorted by length so that it pads least, as many in a batch as the same budget holds. First
loss and gradients are compared in float32, then both are timed in turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import score
import torch
from datasets import Dataset
from train_ways import TOKENIZER
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from trl import RewardConfig, RewardTrainer

from neat_data.models.trees.packing import rectangles
from neat_data.record import Label, Record, Response, query_id, response_id
from neat_train.config.reward import RewardSettings
from neat_train.config.settings import LoraSettings
from neat_train.losses.reward_model import loss_of
from neat_train.policy.logprobs import training_attention
from neat_train.policy.policy import PolicySpec
from neat_train.reward_model.examples import RewardEncoder, RewardExample, reward_batches
from neat_train.reward_model.model import TrainedReward, load_reward_to_train, scores

SHAPE = {"hidden_size": 640, "num_hidden_layers": 12, "intermediate_size": 1_728, "num_attention_heads": 10}
BUDGET, MAX_LENGTH, MAX_RESPONSE = 2_048, 1_024, 512
EXACT_RECORDS = 6
LOSS = RewardSettings(centre=0.0)


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        model = _model(Path(folder), options)
        examples = _examples(model, options)
        trainer = _trainer(model, folder)
        ways = {"trees": lambda some: _trees(model, some), "trl": lambda some: _trl(model, trainer, some)}
        results = {
            "settings": {"records": len(examples), "threads": options.threads, "token_budget": BUDGET},
            "machine": score._machine(),
            "versions": score._versions(),
            "exact": _distance(model, ways, examples[:EXACT_RECORDS]),
            "runs": _times(ways, examples, options.repeats),
        }
    results["summary"] = _summary(results["runs"])
    score._save(results, options.out)
    print(json.dumps({name: results[name] for name in ("settings", "exact", "summary")}, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a source of pairs, for example harmless-base.test.jsonl.gz")
    parser.add_argument("--records", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layers", type=int, default=SHAPE["num_hidden_layers"])
    parser.add_argument("--tokenizer", default=TOKENIZER, help="a folder with a chat template")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/reward_step.json"))
    return parser.parse_args()


def _model(folder: Path, options: argparse.Namespace) -> TrainedReward:
    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)
    torch.manual_seed(0)
    shape = {**SHAPE, "num_hidden_layers": options.layers, "vocab_size": 32_000, "max_position_embeddings": 2_048}
    LlamaForCausalLM(LlamaConfig(**shape)).save_pretrained(folder / "body")
    tokenizer.save_pretrained(folder / "body")
    spec = PolicySpec(str(folder / "body"), full=False, lora=LoraSettings(), device="cpu", dtype="float32")
    return load_reward_to_train(spec, "trees", MAX_LENGTH, None)


def _examples(model: TrainedReward, options: argparse.Namespace) -> list[RewardExample]:
    encoder = RewardEncoder(model.template, MAX_LENGTH, MAX_RESPONSE)
    examples = []
    for task in score.read_tasks(options.data, 2 * options.records, 2):
        query = query_id(task.messages)
        ids = tuple(response_id(query, text) for text in task.texts)
        responses = tuple(Response(each, text, reward=0.0) for each, text in zip(ids, task.texts, strict=True))
        label = Label("benchmark", None, "train", len(examples), ids)
        examples.append(encoder.example(Record(query, task.messages, responses, (label,))))
    usable = [example for example in examples if example is not None and len(example.sequences) == 2]
    return usable[: options.records]


def _trainer(model: TrainedReward, folder: str) -> RewardTrainer:
    """TRL's, around the same model: its collator and its loss."""
    args = RewardConfig(
        output_dir=folder, report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False, max_length=None
    )
    rows = Dataset.from_list([{"chosen_ids": [1, 2], "rejected_ids": [1, 3]}])
    return RewardTrainer(model.model, args, processing_class=model.tokenizer, train_dataset=rows)


def _trees(model: TrainedReward, examples: Sequence[RewardExample]) -> float:
    """Forward and backward pass of one optimiser step; its loss."""
    loss = 0.0
    with training_attention(model.body, "trees"):
        for batch in reward_batches(examples, BUDGET, "trees"):
            part = loss_of(scores(model.model, batch), batch.labels, LOSS) / len(examples)
            part.backward()
            loss += float(part.detach())
    return loss


def _trl(model: TrainedReward, trainer: RewardTrainer, examples: Sequence[RewardExample]) -> float:
    """The same by TRL."""
    loss = 0.0
    widths = [max(map(len, example.sequences)) for example in examples]
    for places in rectangles(widths, BUDGET, rows=[2] * len(examples)):
        rows = [_row(examples[place]) for place in places]
        part = trainer.compute_loss(model.model, trainer.data_collator(rows)) * len(rows) / len(examples)
        part.backward()
        loss += float(part.detach())
    return loss


def _row(example: RewardExample) -> dict[str, list[int]]:
    ((better, worse),) = example.orders
    return {"chosen_ids": example.sequences[better], "rejected_ids": example.sequences[worse]}


def _distance(
    model: TrainedReward, ways: dict[str, Callable[[Any], float]], examples: Sequence[RewardExample]
) -> dict[str, float]:
    """How far TRL's loss and gradients are from those of token trees, the latter against the largest gradient."""
    steps = {}
    for name, way in ways.items():
        model.model.zero_grad()
        loss = way(examples)
        steps[name] = (loss, torch.cat([p.grad.flatten() for p in model.model.parameters() if p.grad is not None]))
    (loss, gradient), (other_loss, other) = steps.values()
    gradient_off = (gradient - other).abs().max() / gradient.abs().max()
    return {"loss_off": abs(loss - other_loss), "gradient_off": float(gradient_off)}


def _times(
    ways: dict[str, Callable[[Any], float]], examples: Sequence[RewardExample], repeats: int
) -> list[dict[str, Any]]:
    runs = []
    for repeat in range(repeats + 1):  # the first allocates and chooses kernels
        for name, way in ways.items():
            began = time.perf_counter()
            way(examples)
            seconds = time.perf_counter() - began
            if repeat:
                runs.append({"way": name, "repeat": repeat, "records_per_s": round(len(examples) / seconds, 3)})
    return runs


def _summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    rates = {
        way: statistics.median(run["records_per_s"] for run in runs if run["way"] == way) for way in ("trees", "trl")
    }
    return {"records_per_s": rates, "times_faster_than_trl": round(rates["trees"] / rates["trl"], 2)}


if __name__ == "__main__":
    main()
