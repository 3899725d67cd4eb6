"""The reference sampler against `generate`, against itself in other batches, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, BertConfig, GPT2Config, LlamaConfig, MistralConfig, T5Config

from neat_data.errors import InputError
from neat_data.models.encode import encode_query
from neat_data.models.load import load_sampler
from neat_data.models.sampler import Ask, Sampler, SamplerSpec, Sampling, sample_seed
from neat_data.models.samplers.transformers import TransformersSampler
from neat_data.models.stopping import Stops, decoded
from neat_data.prompts.sets import load_prompts
from neat_data.record import Message, Messages

GREEDY = Sampling(temperature=0, max_new_tokens=12)
WARM = Sampling(max_new_tokens=24)
QUERIES: list[Messages] = [
    (Message("user", "How do I bake bread?"),),
    (Message("user", "Why?"),),
    (Message("user", "Tell me"), Message("assistant", "I don't know. " * 4), Message("user", "Well, you could try\n")),
    (Message("system", "Be brief."), Message("user", "The quick brown fox jumps over  ")),
]


def asks_of(sampling: Sampling, prompts: str = "neat") -> list[Ask]:
    """Every query under every prompt, twice: beginnings that many share, and whole prompts that two share."""
    return [
        Ask(prompt.applied(query), sample_seed(7, 1, str(number), prompt.name, index), sampling)
        for number, query in enumerate(QUERIES)
        for prompt in load_prompts(prompts).prompts
        for index in range(2)
    ]


@pytest.fixture(scope="module")
def folder(make_policy: Callable[..., Path]) -> Path:
    return make_policy(LlamaConfig, num_key_value_heads=2)


@pytest.fixture(scope="module")
def sampler(folder: Path) -> TransformersSampler:
    return load(folder)


def load(folder: Path | str, **options: Any) -> TransformersSampler:
    sampler = load_sampler(SamplerSpec(str(folder), device="cpu", **options))
    assert isinstance(sampler, TransformersSampler)
    return sampler


def generated(sampler: Sampler, folder: Path, ask: Ask, model: Any = None) -> tuple[int, ...]:
    """What `generate` makes of one query alone, greedily."""
    assert isinstance(sampler, TransformersSampler)
    model = model or AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.tensor([sampler.template.query_ids(ask.messages)])
    options = {"do_sample": False, "max_new_tokens": ask.sampling.max_new_tokens, "pad_token_id": 0}
    generated = model.generate(
        ids, attention_mask=torch.ones_like(ids), eos_token_id=list(sampler.stops.ids), **options
    )
    return tuple(generated[0, ids.shape[1] :].tolist())


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (LlamaConfig, {"num_key_value_heads": 2}),
        (LlamaConfig, {}),
        (GPT2Config, {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}),
        (MistralConfig, {"sliding_window": 20, "num_key_value_heads": 2}),
    ],
)
def test_greedy_is_what_generate_makes(make_policy: Callable[..., Path], config: type, options: dict[str, int]) -> None:
    folder = make_policy(config, **options)
    sampler = load(folder)
    asks = asks_of(GREEDY)
    for ask, sample in zip(asks, sampler.sample(asks), strict=True):
        assert sample.tokens == generated(sampler, folder, ask)


def test_a_sample_alone_is_the_sample_in_any_batch(sampler: TransformersSampler) -> None:
    asks = [*asks_of(WARM), *asks_of(replace(WARM, temperature=0.7, top_p=0.9, max_new_tokens=9), "plain")]
    together = sampler.sample(asks)
    assert together == [sampler.sample([ask])[0] for ask in asks]
    assert together == sampler.sample(asks, token_budget=400)
    assert together[::-1] == sampler.sample(asks[::-1], token_budget=1_000)
    assert len({sample.tokens for sample in together}) == len(asks)


def test_rows_that_end_leave_the_batch_and_change_nothing_for_the_others(folder: Path) -> None:
    sampler = load(folder)
    sampler.decoder = replace(sampler.decoder, stops=Stops(tuple(range(0, 512, 9))))
    asks = asks_of(WARM)
    together = sampler.sample(asks)
    lengths = {len(sample.tokens or ()) for sample in together}
    assert len(lengths) > 4
    for ask, sample in zip(asks, together, strict=True):
        assert sample == sampler.sample([ask])[0]
        assert sample.tokens is not None
        assert all(token % 9 for token in sample.tokens[:-1])
        assert sample.finished == (sample.tokens[-1] % 9 == 0)
        assert sample.finished or len(sample.tokens) == 24


def test_a_stop_string_ends_a_response_as_soon_as_it_stands_there(folder: Path) -> None:
    sampler = load(folder, chat_template="hh")
    assert sampler.stops.string == "\n\nHuman:"
    sampler.decoder = replace(sampler.decoder, stops=Stops((), "e"))
    samples = sampler.sample(asks_of(WARM))
    assert any(sample.cut for sample in samples)
    for sample in samples:
        assert sample.tokens is not None
        assert "e" not in sample.text
        assert sample.finished == sample.cut == ("e" in decoded(sample.tokens, sampler.template.tokenizer))
        assert "e" not in decoded(sample.tokens[:-1], sampler.template.tokenizer)


def test_ids_are_kept_as_sampled_and_not_made_from_the_text(sampler: TransformersSampler) -> None:
    tokenizer = sampler.template.tokenizer
    samples = sampler.sample(asks_of(WARM))
    again = [tuple(tokenizer(sample.text, add_special_tokens=False)["input_ids"]) for sample in samples]
    assert any(ids != sample.tokens for ids, sample in zip(again, samples, strict=True))
    assert [sample.text for sample in samples] == [decoded(s.tokens or (), tokenizer).strip() for s in samples]


@given(st.text(max_size=30), st.sampled_from(["", " ", "  ", "\n", "\n\n", " \t"]))
def test_a_query_is_tokenised_once_with_one_bos(sampler: TransformersSampler, text: str, end: str) -> None:
    ask = Ask((Message("user", text + end),), 1, Sampling(max_new_tokens=3))
    ids = encode_query(ask, sampler.template, 512).ids
    bos = sampler.template.tokenizer.bos_token_id
    assert (ids[0], ids.count(bos)) == (bos, 1 + text.count("<|bos|>"))
    assert ids == sampler.template.ids(ask.messages, ask=True)


def test_a_tokenizer_that_adds_its_own_bos_and_eos(
    make_policy: Callable[..., Path], make_tokenizer: Callable[..., Any]
) -> None:
    from tokenizers.processors import TemplateProcessing

    own = make_tokenizer()
    own.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|bos|> $A <|end|>", special_tokens=[("<|bos|>", own.bos_token_id), ("<|end|>", own.eos_token_id)]
    )
    folder = make_policy(LlamaConfig, own)
    for template in ("auto", "hh"):
        sampler = load(folder, chat_template=template)
        ids = encode_query(Ask(QUERIES[0], 0, GREEDY), sampler.template, 512).ids
        assert (ids[0], ids.count(own.bos_token_id)) == (own.bos_token_id, 1)
        assert ids[-1] != own.eos_token_id


def test_nothing_of_a_models_own_generation_settings_leaks_in(sampler: TransformersSampler, tmp_path: Path) -> None:
    own = Path(shutil.copytree(sampler.spec.model, tmp_path / "own"))
    leaky = {"do_sample": True, "top_k": 1, "top_p": 0.1, "temperature": 0.01, "repetition_penalty": 9.0}
    (own / "generation_config.json").write_text(json.dumps({**leaky, "eos_token_id": list(range(400))}))
    assert load(own).sample(asks_of(WARM)) == sampler.sample(asks_of(WARM))


def test_bfloat16_differs_by_rounding_only(folder: Path) -> None:
    sampler = load(folder, dtype="bfloat16")
    assert sampler.settings["dtype"] == "bfloat16"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    asks = asks_of(replace(GREEDY, max_new_tokens=6))
    samples = sampler.sample(asks)
    same = [s.tokens == generated(sampler, folder, ask, model) for s, ask in zip(samples, asks, strict=True)]
    assert sum(same) >= 0.75 * len(asks)


def test_tokens_and_asks_are_counted(folder: Path) -> None:
    sampler, steps = load(folder), []
    long = Ask((Message("user", "word " * 2_000),), 0, WARM)
    asks = [*asks_of(WARM), long]
    samples = sampler.sample(asks, token_budget=600, advance=lambda done, tokens: steps.append((done, tokens)))
    made = sum(len(sample.tokens or ()) for sample in samples)
    assert [sum(column) for column in zip(*steps, strict=True)] == [len(asks), made]
    given = sum(len(sampler.template.query_ids(ask.messages)) for ask in asks[:-1])
    assert sampler.usage == {"prompt_tokens": given, "completion_tokens": made}
    assert (samples[-1].refused, samples[-1].tokens, samples[-1].text) == ("query_too_long", None, "")


def test_a_query_loses_whole_oldest_turns_but_never_its_system_turn_or_prompt(folder: Path) -> None:
    sampler = load(folder, max_length=80)
    turns = [Message("assistant" if i % 2 else "user", f"turn {i} of some length") for i in range(7)]
    sampling = Sampling(max_new_tokens=5)
    asks = [
        Ask((Message("system", "Sys."), *turns), 1, sampling),
        Ask((replace(turns[0], content="Lead. turn 0"), *turns[1:]), 1, sampling, lead="Lead. "),
        Ask((*turns[:-1], replace(turns[-1], content="Last. turn")), 1, sampling),
    ]
    queries = [encode_query(ask, sampler.template, 80) for ask in asks]
    texts = [sampler.template.tokenizer.decode(query.ids) for query in queries]
    assert all(0 < len(query.ids) <= 75 and query.turns_cut in (4, 6) for query in queries)
    assert texts[0].startswith("<|bos|><|system|>Sys.<|end|><|user|>turn")
    assert texts[1].startswith("<|bos|><|user|>Lead. turn ")
    assert texts[1].count("Lead.") == 1
    assert texts[2].endswith("<|user|>Last. turn<|end|><|assistant|>")
    assert [sample.turns_cut for sample in sampler.sample(asks)] == [query.turns_cut for query in queries]


def test_a_dialogue_that_the_template_refuses(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "strict.jinja"
    file.write_text(
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
        "<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    samples = load(folder, chat_template=str(file)).sample([Ask(query, 1, GREEDY) for query in QUERIES])
    assert [sample.refused for sample in samples] == [None, None, None, "template_refused"]


def test_settings_and_label_know_nothing_of_the_way_to_the_folder(folder: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(folder, tmp_path / "elsewhere" / folder.name))
    here, there = load(folder), load(moved)
    assert here.settings == there.settings
    assert str(tmp_path) not in json.dumps(there.settings)
    assert here.label == there.label == f"{folder.name}@{here.settings['weights'][:12]}"
    assert here.tokenizer == there.tokenizer
    assert load(folder, chat_template="hh").settings != here.settings


def test_closing_frees_the_model(folder: Path) -> None:
    sampler = load(folder)
    sampler.close()
    assert not hasattr(sampler, "model")


@pytest.fixture(scope="module")
def adapter(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter with weights large enough to change what is sampled."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False))
    out = tmp_path_factory.mktemp("adapter")
    adapted.save_pretrained(out)
    return out


def test_an_adapter_is_applied_and_not_merged(folder: Path, adapter: Path) -> None:
    from peft import PeftModel

    sampler, plain = load(folder, adapter=str(adapter)), load(folder)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), adapter)
    asks = asks_of(GREEDY)
    samples = sampler.sample(asks)
    assert [s.tokens for s in samples] == [generated(sampler, folder, ask, model) for ask in asks]
    assert samples != plain.sample(asks)
    base = {name.replace(".base_layer", ""): value for name, value in sampler.model.state_dict().items()}
    assert all(torch.equal(base[name], value) for name, value in plain.model.state_dict().items())


def test_an_adapter_is_known_by_its_weights_and_not_by_where_its_model_lay(
    folder: Path, adapter: Path, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(adapter, tmp_path / "moved"))
    config = json.loads((moved / "adapter_config.json").read_text())
    (moved / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "/elsewhere"}))
    here, there = load(folder, adapter=str(adapter)), load(folder, adapter=str(moved))
    assert here.settings == there.settings
    assert here.label == there.label == f"{load(folder).label}+adapter:{here.settings['adapter'][:12]}"


def refusal(model: Path | str, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(model, **options)
    assert len(str(caught.value).splitlines()) <= 2
    return str(caught.value)


def test_an_adapter_of_another_model(make_policy: Callable[..., Path], adapter: Path, tmp_path: Path) -> None:
    assert "does not fit its model" in refusal(make_policy(LlamaConfig, hidden_size=64), adapter=str(adapter))
    deeper = make_policy(LlamaConfig, num_hidden_layers=3, num_key_value_heads=2)
    assert "does not fit its model" in refusal(deeper, adapter=str(adapter))
    assert "has no adapter_config.json" in refusal(deeper, adapter=str(tmp_path))
    assert "is an adapter without its model" in refusal(adapter)


def test_what_does_not_generate(
    make_policy: Callable[..., Path], make_classifier: Callable[..., Path], tokenizer: Any, tmp_path: Path
) -> None:
    assert "is a classifier (LlamaForSequenceClassification)" in refusal(make_classifier(LlamaConfig, tokenizer))
    BertConfig(architectures=["BertForMaskedLM"]).save_pretrained(tmp_path)
    assert "is an encoder (BertForMaskedLM)" in refusal(tmp_path)
    T5Config(architectures=["T5ForConditionalGeneration"]).save_pretrained(tmp_path)
    assert "is an encoder with a decoder" in refusal(tmp_path)


def test_a_base_model_without_a_template_gets_the_plain_one_and_says_so(folder: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(folder, tmp_path / "bare"))
    (bare / "chat_template.jinja").unlink()
    sampler, named = load(bare), load(bare, chat_template="hh")
    assert any(r"'\n\nHuman:'" in note for note in sampler.notes)
    assert sampler.settings == named.settings


def test_a_policy_without_a_tokenizer(folder: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(folder, tmp_path / "bare"))
    for file in bare.glob("*token*"):
        file.unlink()
    said = refusal(bare, chat_template="hh")
    assert said.startswith(f"policy {bare}: has no tokenizer")


def test_a_kind_of_model_whose_tokenizer_can_be_made_up(make_policy: Callable[..., Path]) -> None:
    folder = make_policy(GPT2Config, n_embd=32, n_layer=1, n_head=2, n_positions=64)
    for file in (*folder.glob("*token*"), *folder.glob("*.jinja")):
        file.unlink()
    assert "has no tokenizer" in refusal(folder, chat_template="hh")


def test_lengths_that_leave_no_room(folder: Path) -> None:
    assert "the policy's window is 512 tokens" in refusal(folder, max_length=513)
    with pytest.raises(InputError, match="leaves no room for a query"):
        load(folder).sample([Ask(QUERIES[0], 1, Sampling(max_new_tokens=512))])


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.1}, {"max_new_tokens": 0}])
def test_sampling_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        Sampling(**wrong)


def test_the_seed_of_a_sample_depends_on_all_five() -> None:
    seeds = {
        sample_seed(run, round, query, prompt, index)
        for run in (0, 1)
        for round in (1, 2)
        for query in ("a", "b")
        for prompt in ("positive", "negative")
        for index in (0, 1)
    }
    assert len(seeds) == 32
    assert all(0 <= seed < 2**63 for seed in seeds)
