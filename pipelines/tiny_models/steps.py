"""The steps from source rows to published models.

Each step leaves one thing in the work folder and is skipped where that is. What a step leaves has its final name only
when it is whole, so a run that was killed goes on with the step it was in.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from neat_data.errors import InputError
from pipelines.tiny_models import linear
from pipelines.tiny_models.language import new_policy, train_language
from pipelines.tiny_models.practice import practise
from pipelines.tiny_models.reward import train_reward
from pipelines.tiny_models.rows import KINDS, Pair, read_kind
from pipelines.tiny_models.splits import cut
from pipelines.tiny_models.teach import Lesson, lessons, read_prompts, train_on_prompts
from pipelines.tiny_models.tokenizer import Encoder, texts_of, train_tokenizer

PUBLISHED = {
    "tiny-policy-plain": "plain",
    "tiny-policy": "policy",
    "tiny-reward": "reward",
    "tiny-reward-heldout": "heldout",
}


@dataclass
class Workshop:
    """Where the work is done, and with what. Reading is lazy, so that finished steps cost nothing."""

    data: Path
    work: Path
    settings: dict[str, Any]
    log: Callable[[str], None] = print

    @cached_property
    def sets(self) -> dict[str, list[Pair]]:
        """Every source row, by set."""
        rows = [pair for kind in KINDS for pair in read_kind(self.data / "hh-rlhf-single-turn", kind)]
        return cut(rows, self.settings["splits"], self.settings["seed"])

    @cached_property
    def test(self) -> list[Pair]:
        return [pair for kind in KINDS for pair in read_kind(self.data / "hh-rlhf", kind)]

    @cached_property
    def tested(self) -> set[str]:
        """The ids of the test files' queries: rows that ask one of them are not trained on."""
        return {pair.query_id for pair in self.test}

    def trained_on(self, name: str) -> list[Pair]:
        """The usable rows of a set whose query is not that of a test row."""
        return [pair for pair in self.sets[name] if not pair.unusable and pair.query_id not in self.tested]

    @cached_property
    def reward_rows(self) -> tuple[list[Pair], list[Pair]]:
        """A's rows for fitting and for validation; these are the rows of the first queries of each kind by id."""
        room = dict.fromkeys(KINDS, self.settings["reward"]["validation"] // 2)
        fitted: list[Pair] = []
        validation: list[Pair] = []
        queries: set[str] = set()
        for pair in sorted(self.trained_on("reward_a"), key=lambda pair: pair.query_id):
            held_out = pair.query_id in queries or room[pair.kind] > 0
            room[pair.kind] -= held_out
            queries.update([pair.query_id] if held_out else [])
            (validation if held_out else fitted).append(pair)
        return fitted, validation

    @cached_property
    def encoder(self) -> Encoder:
        from transformers import PreTrainedTokenizerFast

        return Encoder(PreTrainedTokenizerFast.from_pretrained(self.work / "tokenizer"))

    def load(self, name: str) -> Any:
        """A model of the work folder, in fp32."""
        from transformers import LlamaForCausalLM, LlamaForSequenceClassification

        scored = name in ("reward", "heldout")
        kind = LlamaForSequenceClassification if scored else LlamaForCausalLM
        return kind.from_pretrained(self.work / name, dtype="float32")

    def save(self, name: str, thing: Any) -> None:
        """Anything that has `save_pretrained`, under its final name only when it is whole."""
        unfinished = self.work / f"{name}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        thing.save_pretrained(unfinished)
        if name != "tokenizer":
            self.encoder.tokenizer.save_pretrained(unfinished)
        unfinished.rename(self.work / name)


def run_steps(shop: Workshop) -> None:
    """Make whatever is missing in the work folder.

    Raises:
        InputError: the work folder was begun with other settings.
    """
    shop.work.mkdir(parents=True, exist_ok=True)
    noted = shop.work / "settings.json"
    wanted = json.dumps(shop.settings, indent=1, sort_keys=True)
    if noted.exists() and noted.read_text() != wanted:
        raise InputError(f"{shop.work} was begun with other settings: remove it or name another --work folder")
    noted.write_text(wanted)
    for name, step in STEPS.items():
        if not (shop.work / name).exists():
            shop.log(f"{name}: begun")
            step(shop)


def make_tokenizer(shop: Workshop) -> None:
    texts = texts_of([*shop.trained_on("reward_a"), *shop.trained_on("reward_b")])
    vocabulary = shop.settings["tokenizer"]["vocabulary"]
    shop.save("tokenizer", train_tokenizer(texts, vocabulary, shop.settings["window"]))


def make_plain(shop: Workshop) -> None:
    epochs = shop.settings["language"]["epochs"]
    _make_body(shop, "plain", "policy", ("reward_a", "reward_b"), epochs, shop.settings["seed"])


def make_heldout_body(shop: Workshop) -> None:
    own = shop.settings["heldout"]
    _make_body(shop, "heldout-body", "heldout", ("reward_b",), own["language_epochs"], own["seed"])


def _make_body(shop: Workshop, name: str, shape: str, sets: tuple[str, ...], epochs: float, seed: int) -> None:
    settings = shop.settings
    model = new_policy(settings[shape], shop.encoder, settings["window"], seed)
    rows = [pair for part in sets for pair in shop.trained_on(part)]
    train_language(model, rows, shop.encoder, {**settings["language"], "epochs": epochs}, seed, shop.log)
    shop.save(name, model)


def make_reward(shop: Workshop) -> None:
    """On A, from the plain policy's body; the checkpoint that agrees best with the validation rows."""
    fitted, validation = shop.reward_rows
    _make_reward(shop, "reward", "plain", fitted, validation, shop.settings["seed"])


def make_heldout(shop: Workshop) -> None:
    """On B alone: body, teacher and labels; without selection."""
    rows, seed = shop.trained_on("reward_b"), shop.settings["heldout"]["seed"]
    _make_reward(shop, "heldout", "heldout-body", rows, [], seed)


def _make_reward(shop: Workshop, name: str, body: str, rows: list[Pair], validation: list[Pair], seed: int) -> None:
    teacher = linear.score_out_of_fold(rows, **shop.settings["teacher"])
    making = shop.work / f"{name}.making"
    run = train_reward(shop.work / body, rows, teacher, validation, shop.settings["reward"], seed, making)
    run.rename(shop.work / name)


def make_policy_of_rows(shop: Workshop) -> None:
    """The plain policy, taught with the rows."""
    model = shop.load("plain")
    train_on_prompts(
        model, _row_lessons(shop, "teach"), shop.encoder, shop.settings["teach"], shop.settings["seed"], shop.log
    )
    shop.save("policy-of-rows", model)


def make_policy(shop: Workshop) -> None:
    """That policy, practised on B's queries with the reward model, which was trained on A."""
    model = shop.load("policy-of-rows")
    folders = (shop.work / "policy-of-rows", shop.work / "reward")
    queries, settings, seed = shop.trained_on("reward_b"), shop.settings["practice"], shop.settings["seed"]
    practise(model, folders, queries, _row_lessons(shop, "practice"), shop.encoder, settings, seed, shop.log)
    shop.save("policy", model)


def _row_lessons(shop: Workshop, step: str) -> list[list[Lesson]]:
    """Lessons from A's rows, scored out of fold, and from B's, scored by models fitted on A."""
    a, b = shop.trained_on("reward_a"), shop.trained_on("reward_b")
    penalty = shop.settings["teacher"]["penalty"]
    scores = [*linear.score_out_of_fold(a, **shop.settings["teacher"]), *linear.score(b, a, penalty)]
    rows, plain = shop.settings["teach"]["rows"], shop.settings[step]["plain"]
    return lessons([*a, *b], scores, read_prompts(), shop.encoder, rows, plain, random.Random(shop.settings["seed"]))


STEPS: dict[str, Callable[[Workshop], None]] = {
    "tokenizer": make_tokenizer,
    "plain": make_plain,
    "heldout-body": make_heldout_body,
    "reward": make_reward,
    "heldout": make_heldout,
    "policy-of-rows": make_policy_of_rows,
    "policy": make_policy,
}


def publish(shop: Workshop, out: Path) -> None:
    """Each model in bf16 with the tokenizer, so that its folder loads alone."""
    import torch

    for name, made in PUBLISHED.items():
        folder = out / name
        shop.load(made).to(torch.bfloat16).save_pretrained(folder)
        shop.encoder.tokenizer.save_pretrained(folder)
