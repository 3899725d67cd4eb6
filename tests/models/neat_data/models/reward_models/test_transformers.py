"""Rewards of tiny random classifiers against a plain loop of transformers, one dialogue at a time."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BloomConfig,
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    OPTConfig,
    Qwen2Config,
    RobertaConfig,
)

from neat_data.errors import InputError
from neat_data.models.load import load_reward_model
from neat_data.models.reward_model import RewardModelSpec, Task
from neat_data.record import Message

GROUPED = {"num_key_value_heads": 2}
TREES = [
    (LlamaConfig, {}),
    (LlamaConfig, GROUPED),
    (Qwen2Config, GROUPED),
    (GPTNeoXConfig, {}),
    (GemmaConfig, {"head_dim": 8, "num_key_value_heads": 1}),
    (GPT2Config, {}),
    (OPTConfig, {"word_embed_proj_dim": 16, "ffn_dim": 64}),
    (MixtralConfig, {**GROUPED, "num_local_experts": 4}),
]
BATCHES = [
    (MistralConfig, {"sliding_window": 16, **GROUPED}),
    (Gemma2Config, {"head_dim": 8, **GROUPED}),
    (BloomConfig, {"n_head": 4, "n_layer": 2}),
    (BertConfig, {}),
    (RobertaConfig, {"max_position_embeddings": 514}),
]


def spec(folder: Path, **options: Any) -> RewardModelSpec:
    return RewardModelSpec(**{"model": str(folder), "device": "cpu", "max_response": 90, **options})


def alone(folder: Path, tasks: Sequence[Task]) -> list[float]:
    """The reference: transformers itself, one unpadded dialogue after another, in float32."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    if hasattr(model, "score"):
        model.config.pad_token_id = model.config.vocab_size - 1  # an id that no text has: nothing is padding
    scores = []
    for task in tasks:
        for text in task.texts:
            chat = [{"role": m.role, "content": m.content} for m in (*task.messages, Message("assistant", text))]
            ids = tokenizer.apply_chat_template(chat, return_tensors="pt")["input_ids"]
            with torch.no_grad():
                scores.append(float(model(ids).logits[0, 0]))
    return scores


def flat(scored: Sequence[Any]) -> list[float]:
    return [reward for one in scored for reward in one.rewards]


@pytest.mark.parametrize(("config", "options"), TREES + BATCHES, ids=lambda value: getattr(value, "__name__", ""))
def test_rewards_are_those_of_a_plain_loop(
    make_classifier: Callable[..., Path], tokenizer: Any, tasks: list[Task], config: type, options: dict[str, Any]
) -> None:
    folder = make_classifier(config, tokenizer, **options)
    model = load_reward_model(spec(folder))
    assert model.spec.path == ("trees" if (config, options) in TREES else "batches")
    assert flat(model.score(tasks)) == pytest.approx(alone(folder, tasks), abs=1e-5)


@pytest.fixture(scope="module")
def llama(make_classifier: Callable[..., Path], tokenizer: Any) -> Path:
    return make_classifier(LlamaConfig, tokenizer, **GROUPED)


@pytest.mark.parametrize("path", ["trees", "batches"])
def test_a_score_does_not_depend_on_its_neighbours(llama: Path, tasks: list[Task], path: Any) -> None:
    model = load_reward_model(spec(llama, path=path))
    one_by_one = [reward for task in tasks for reward in flat(model.score([task]))]
    for budget in (1, 200, 700, 5_000):
        assert flat(model.score(tasks, token_budget=budget)) == pytest.approx(one_by_one, abs=1e-5)
    backwards = model.score(tasks[::-1])[::-1]
    assert flat(backwards) == pytest.approx(one_by_one, abs=1e-5)


@pytest.mark.parametrize("path", ["trees", "batches"])
@pytest.mark.parametrize("pad", ["<|end|>", None], ids=["pad is end of turn", "no pad"])
def test_the_last_token_counts_whatever_the_pad_token(
    make_classifier: Callable[..., Path], make_tokenizer: Any, tasks: list[Task], path: Any, pad: str | None
) -> None:
    """LLaMA-3's pad equals its end of turn: looking for the last token that is no pad skips the end of turn."""
    tokenizer = make_tokenizer(pad_token=pad)
    folder = make_classifier(LlamaConfig, tokenizer, pad_token_id=tokenizer.pad_token_id)
    rewards = flat(load_reward_model(spec(folder, path=path)).score(tasks))
    assert rewards == pytest.approx(alone(folder, tasks), abs=1e-5)


def test_the_end_of_turn_is_what_is_scored(llama: Path, tasks: list[Task]) -> None:
    """The trap is real: without the last token the rewards are others."""
    model = load_reward_model(spec(llama))
    template = model.template  # type: ignore[attr-defined]
    ids = template.ids((*tasks[0].messages, Message("assistant", tasks[0].texts[0])))
    assert ids[-1] == template.tokenizer.eos_token_id
    plain = AutoModelForSequenceClassification.from_pretrained(llama)
    short = float(plain(torch.tensor([ids[:-1]])).logits.detach()[0, 0])
    assert abs(short - flat(model.score(tasks[:1]))[0]) > 1e-3


def test_the_same_call_gives_the_same_bytes(llama: Path, tasks: list[Task]) -> None:
    first, second = (load_reward_model(spec(llama)) for _ in range(2))
    assert first.score(tasks) == first.score(tasks) == second.score(tasks)


def test_a_resolved_spec_loads_the_same_model_elsewhere(llama: Path, tasks: list[Task]) -> None:
    model = load_reward_model(RewardModelSpec(str(llama), device="cpu"))
    assert model.spec.dtype == "float32"
    assert (model.spec.max_length, model.spec.max_response) == (512, 256)
    again = load_reward_model(pickle.loads(pickle.dumps(model.spec)))
    assert again.spec == model.spec
    assert again.settings == model.settings
    assert again.score(tasks) == model.score(tasks)


def test_settings_follow_content_and_never_the_folder(llama: Path, tmp_path: Path) -> None:
    moved = tmp_path / llama.name
    moved.mkdir()
    for file in llama.iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    assert load_reward_model(spec(moved)).settings == load_reward_model(spec(llama)).settings
    assert str(tmp_path) not in repr(load_reward_model(spec(moved)).settings)
    weights = moved / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    changed, own = load_reward_model(spec(moved)).settings, load_reward_model(spec(llama)).settings
    assert [key for key in own if changed[key] != own[key]] == ["weights"]


def test_bfloat16_rewards_come_out_of_a_float32_head(llama: Path, tasks: list[Task]) -> None:
    model = load_reward_model(spec(llama, dtype="bfloat16"))
    assert model.spec.path == "trees"
    rewards = torch.tensor(flat(model.score(tasks)))
    assert (rewards.bfloat16().float() != rewards).any()
    assert rewards.tolist() == pytest.approx(alone(llama, tasks), abs=0.1)


def test_long_queries_and_responses_are_cut_refused_and_counted(llama: Path) -> None:
    turns = [Message("assistant" if i % 2 else "user", "~" * 20) for i in range(5)]
    model = load_reward_model(spec(llama, max_length=60, max_response=10))
    cut, refused, long = model.score(
        [
            Task(tuple(turns), ("~", "~" * 50)),
            Task((Message("user", "~" * 80),), ("~",)),
            Task(tuple(turns[:1]), ("~",)),
        ]
    )
    assert (cut.turns_cut, cut.refused) == (4, (None, "response_too_long"))
    assert cut.rewards == (pytest.approx(model.score([Task(tuple(turns[4:]), ("~",))])[0].rewards[0], abs=1e-5), None)
    assert refused.refused == ("query_too_long",)
    assert refused.tokens == refused.tokens_run == 0
    assert long.refused == (None,)


def test_tokens_and_progress_are_counted(llama: Path, tasks: list[Task]) -> None:
    model = load_reward_model(spec(llama))
    seen: list[tuple[int, int]] = []
    scored = model.score([*tasks, Task(tasks[0].messages, ())], advance=lambda done, run: seen.append((done, run)))
    assert sum(done for done, _ in seen) == len(tasks) + 1
    assert sum(run for _, run in seen) == sum(one.tokens_run for one in scored)
    lengths = [len(ids) for one in map(model._encode, tasks) for ids in one.sequences]  # type: ignore[attr-defined]
    assert sum(one.tokens for one in scored) == sum(lengths)
    assert sum(one.tokens_run for one in scored) < 0.6 * sum(lengths)


def test_no_tasks_no_scores(llama: Path) -> None:
    assert load_reward_model(spec(llama)).score([]) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 600}, "window is 512"),
        ({"max_length": 64, "max_response": 64}, "max_response 64: "),
        ({"dtype": "int8"}, "dtype int8: "),
        ({"device": "tpu"}, "device tpu: "),
        ({"device": "cuda"}, "no usable cuda"),
        ({"path": "trees", "model_args": {"attn_implementation": "eager"}}, "path trees: attention eager"),
        ({"model_args": {"tree_attention": "flash"}}, "tree_attention=flash: unknown; choose auto, flex, sdpa, varlen"),
    ],
)
def test_what_cannot_be_is_refused(llama: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_reward_model(spec(llama, **options))


def test_model_arguments_reach_transformers_and_the_settings(llama: Path, tasks: list[Task]) -> None:
    model = load_reward_model(spec(llama, model_args={"attn_implementation": "eager"}))
    assert model.settings["attention"] == "eager"
    assert model.settings["model_args"] == {"attn_implementation": "eager"}
    assert model.spec.path == "batches"
    assert flat(model.score(tasks)) == pytest.approx(alone(llama, tasks), abs=1e-5)


@pytest.mark.parametrize("attention", ["auto", "flex", "sdpa", "varlen"])
def test_any_attention_over_trees_gives_the_same_rewards(llama: Path, tasks: list[Task], attention: str) -> None:
    """The model's own constructor would refuse a word that it does not know."""
    model = load_reward_model(spec(llama, model_args={"tree_attention": attention}))
    name = "sdpa" if attention == "auto" else attention
    assert model.spec.path == "trees"
    assert model.model.config._attn_implementation == f"neat_trees_{name}"  # type: ignore[attr-defined]
    assert model.settings["attention"] == f"neat_trees_{name}"
    assert model.settings["model_args"] == {}
    assert (f"attention over trees: {name}" in model.notes) == (attention != "auto")
    expected = alone(llama, tasks)
    for budget in (150, 5_000):
        assert flat(model.score(tasks, token_budget=budget)) == pytest.approx(expected, abs=1e-5)


def test_trees_are_refused_where_they_are_not_exact(make_classifier: Callable[..., Path], tokenizer: Any) -> None:
    bloom = make_classifier(BloomConfig, tokenizer, n_head=4, n_layer=2)
    with pytest.raises(InputError, match="path trees: trees are off by"):
        load_reward_model(spec(bloom, path="trees"))
    assert "trees are off by" in load_reward_model(spec(bloom)).notes[1]
    windowed = make_classifier(MistralConfig, tokenizer, sliding_window=16, **GROUPED)
    with pytest.raises(InputError, match="window of 16 tokens"):
        load_reward_model(spec(windowed, path="trees"))
