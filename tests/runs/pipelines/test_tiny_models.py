"""The tiny models: how their rows are cut, the pipeline on a few dozen rows, and what is shipped."""

from __future__ import annotations

import gzip
import json
import math
import random
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from neat_data.errors import InputError
from neat_data.record import Message
from pipelines.tiny_models import linear
from pipelines.tiny_models.agreement import wilson
from pipelines.tiny_models.batches import by_length, pad
from pipelines.tiny_models.contrast import compare
from pipelines.tiny_models.rows import KINDS, Pair, read_kind, to_pair
from pipelines.tiny_models.splits import cut, read_ids

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = ROOT / "data" / "models"
MODELS = ("tiny-policy", "tiny-policy-plain", "tiny-reward", "tiny-reward-heldout")
MINUSCULE = {
    "seed": 0,
    "splits": {"reward_a": 24, "reward_b": 12, "alignment": 12},
    "window": 2048,
    "tokenizer": {"vocabulary": 300},
    "policy": {"hidden": 16, "intermediate": 24, "layers": 1, "heads": 2},
    "heldout": {"hidden": 8, "intermediate": 12, "layers": 1, "heads": 2, "seed": 1, "language_epochs": 1},
    "language": {
        "epochs": 1.5,
        "tokens_per_step": 512,
        "learning_rate": 1e-3,
        "weight_decay": 0.1,
        "single": 0.5,
        "longest_chain": 3,
    },
    "teacher": {"folds": 2, "penalty": 10},
    "reward": {
        "validation": 6,
        "in_context": 0.5,
        "short_query": 0.5,
        "fit": {
            "num_train_epochs": 1,
            "records_per_step": 4,
            "learning_rate": 1e-3,
            "max_length": 1024,
            "max_response": 128,
            "eval_steps": 2,
            "save_steps": 2,
            "reward": {"lists": "bradley-terry", "soft": 0.5, "regression": 1.0, "centre": 0.0},
        },
    },
    "teach": {
        "rows": 10,
        "plain": 0.5,
        "epochs": 1,
        "tokens_per_step": 1024,
        "learning_rate": 1e-3,
        "weight_decay": 0.1,
    },
    "practice": {
        "single": 3,
        "in_context": 1,
        "short_query": 0.5,
        "answers": 2,
        "new_tokens": 4,
        "plain": 0.5,
        "stages": [
            {"rounds": 1, "learning_rate": 1e-3, "decay_over": 1, "weight": 0},
            {"rounds": 1, "learning_rate": 1e-3, "decay_over": 1, "weight": 0.3},
        ],
        "taught": 2,
    },
    "contrast": {"queries": 4},
}


def pair(kind: str, query: str, chosen: str = "yes", rejected: str = "no") -> Pair:
    return to_pair(kind, f"\n\nHuman: {query}\n\nAssistant: {chosen}", f"\n\nHuman: {query}\n\nAssistant: {rejected}")


def write_rows(path: Path, rows: list[tuple[str, str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    dialogues = [[f"\n\nHuman: {query}\n\nAssistant: {text}" for text in texts] for query, *texts in rows]
    lines = [json.dumps({"chosen": chosen, "rejected": rejected}) for chosen, rejected in dialogues]
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))


# Rows and sets


def test_a_row_that_cannot_be_used_says_why():
    def reason(chosen: str, rejected: str) -> str | None:
        return to_pair("helpful", chosen, rejected).unusable

    assert reason("\n\nHuman: Hi\n\nAssistant: A", "\n\nHuman: Hi\n\nAssistant: B") is None
    assert reason("\n\nHuman: Hi\n\nAssistant: A", "\n\nHuman: Ho\n\nAssistant: B") == "queries_differ"
    assert reason("\n\nHuman: Hi\n\nAssistant: A", "\n\nHuman: Hi\n\nAssistant: A ") == "identical_responses"
    assert reason("\n\nHuman: Hi\n\nAssistant: A", "\n\nHuman: Hi\n\nAssistant:") == "empty_response"
    assert reason("\n\nHuman: \n\nAssistant: A", "\n\nHuman: \n\nAssistant: B") == "query_not_user_turn"


@given(
    repeats=st.lists(st.integers(1, 4), max_size=6),
    seed=st.integers(0, 1000),
    sizes=st.tuples(*[st.integers(4, 20)] * 3).map(lambda s: [2 * n for n in s]),
)
def test_sets_have_their_sizes_and_share_no_query(repeats, seed, sizes):
    rows = []
    for kind in KINDS:
        queries = [f"{kind} {n}" for n, times in enumerate(repeats) for _ in range(times)]
        queries = queries[: sum(sizes) // 2]
        queries += [f"{kind} single {n}" for n in range(sum(sizes) // 2 - len(queries))]
        rows += [pair(kind, query) for query in queries]
    sets = cut(rows, dict(zip("abc", sizes, strict=True)), seed)
    for name, size in zip("abc", sizes, strict=True):
        assert [sum(p.kind == kind for p in sets[name]) for kind in KINDS] == [size // 2, size // 2]
    queries = [{p.query_id for p in part} for part in sets.values()]
    assert sum(map(len, queries)) == len(set.union(*queries))
    assert sets == cut(rows, dict(zip("abc", sizes, strict=True)), seed)


def test_rows_that_do_not_fit_the_sets_are_an_input_error():
    with pytest.raises(InputError, match="found no room"):
        cut([pair("helpful", str(n)) for n in range(5)], {"a": 4, "b": 4}, 0)


def test_the_shipped_sets_are_those_of_the_rows(shared_data):
    chosen = yaml.safe_load((ROOT / "pipelines" / "tiny_models" / "settings.yaml").read_text())
    rows = [p for kind in KINDS for p in read_kind(shared_data / "hh-rlhf-single-turn", kind)]
    sets = cut(rows, chosen["splits"], chosen["seed"])
    assert {name: len(part) for name, part in sets.items()} == {"reward_a": 12000, "reward_b": 4000, "alignment": 8000}
    for name, part in sets.items():
        assert read_ids(SHIPPED / "splits" / f"{name}.txt.gz") == sorted({p.query_id for p in part})


# Arithmetic


def test_wilson_interval_equals_a_published_example():
    # 81 of 263: 0.2553 to 0.3662 (Newcombe 1998, Table I, method 3).
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_batches_hold_every_item_once_within_the_budget():
    lengths = [random.Random(3).randint(1, 90) for _ in range(200)]
    batches = by_length(lengths, 300, random.Random(0))
    assert sorted(i for batch in batches for i in batch) == list(range(200))
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 300 for batch in batches)


def test_the_contrast_is_that_of_paired_differences():
    contrast = compare([1.0, 2.0, 3.0], [0.0, 2.0, 1.0])
    assert (contrast.positive, contrast.negative, contrast.difference) == (2.0, 1.0, 1.0)
    half = 1.959964 * math.sqrt(1.0 / 3)  # the differences 1, 0, 2 have variance 1
    assert contrast.interval == pytest.approx((1 - half, 1 + half))


def test_a_linear_model_never_scores_a_row_that_it_was_fitted_on():
    """Labels that contradict each other can be remembered but not predicted."""
    rows = [pair("helpful", f"q{n}", f"good{n}", f"bad{n}") for n in range(40)]
    rows += [pair("harmless", f"h{n}", f"fine{n}", f"vile{n}") for n in range(40)]
    remembered = linear.score(rows, rows, 1.0)
    assert all(chosen > rejected for chosen, rejected in remembered)
    for chosen, rejected in linear.score_out_of_fold(rows, 4, 1.0):
        assert chosen == pytest.approx(rejected, abs=1e-2)


# The models


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, dict]:
    """The whole pipeline on 48 rows with minuscule settings: where it published, and its figures."""
    from pipelines.tiny_models.__main__ import build
    from pipelines.tiny_models.steps import Workshop

    root = tmp_path_factory.mktemp("tiny")
    words = ["red", "green", "blue", "cold", "warm", "fast", "slow", "kind", "mild", "rough"]
    rng = random.Random(0)

    def text() -> str:
        return " ".join(rng.choices(words, k=rng.randint(2, 9)))

    for kind in KINDS:
        rows = [(f"{kind} {n} {text()}?", f"yes {text()} {n}", f"no {text()} {n}") for n in range(24)]
        write_rows(root / "hh-rlhf-single-turn" / f"{kind}.train.jsonl.gz", rows)
        asked = [(f"{kind} test {n}?", text() + " a", text() + " b") for n in range(5)]
        write_rows(root / "hh-rlhf" / f"{kind}-base.test.jsonl.gz", [*asked, rows[0]])
    shop = Workshop(root, root / "work", MINUSCULE, log=lambda line: None)
    build(shop, root / "out")
    return root / "out", json.loads((root / "out" / "figures.json").read_text())


@pytest.mark.slow
def test_the_pipeline_publishes_models_that_load_alone(built):
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    out, figures = built
    for name in MODELS:
        kind = AutoModelForSequenceClassification if "reward" in name else AutoModelForCausalLM
        model, tokenizer = kind.from_pretrained(out / name), AutoTokenizer.from_pretrained(out / name)
        assert str(model.dtype) == "torch.bfloat16"
        assert model.config.pad_token_id == tokenizer.pad_token_id != tokenizer.eos_token_id
    assert sum(part["in_test"] for part in figures["sets"].values()) == 2
    assert figures["tiny-reward"]["agreement"]["helpful"]["pairs"] == 6


@pytest.mark.slow
def test_nothing_is_trained_on_a_query_of_the_test_files(built):
    from pipelines.tiny_models.steps import Workshop

    root = built[0].parent
    shop = Workshop(root, root / "work", MINUSCULE)
    usable = [p for part in shop.sets.values() for p in part]
    trained_on = [p for name in shop.sets for p in shop.trained_on(name)]
    assert len(usable) - len(trained_on) == 2
    assert not {p.query_id for p in trained_on} & {p.query_id for p in shop.test}
    fitted, validation = shop.reward_rows
    assert not {p.query_id for p in fitted} & {p.query_id for p in validation}


@pytest.mark.slow
def test_finished_steps_are_not_made_again_and_other_settings_are_refused(built):
    from pipelines.tiny_models.steps import Workshop, run_steps

    root = built[0].parent
    lines: list[str] = []
    run_steps(Workshop(root, root / "work", MINUSCULE, lines.append))
    assert lines == []
    with pytest.raises(InputError, match="other settings"):
        run_steps(Workshop(root, root / "work", {**MINUSCULE, "seed": 1}, lines.append))


@pytest.mark.slow
def test_a_taught_policy_differs_from_its_control(built):
    from safetensors.torch import load_file

    plain, taught = (load_file(built[0] / name / "model.safetensors") for name in ("tiny-policy-plain", "tiny-policy"))
    assert plain.keys() == taught.keys()
    assert any((plain[key] != taught[key]).any() for key in plain)


def test_every_row_is_learnt_once_with_the_teacher_s_own_scores():
    from pipelines.tiny_models.reward import _placed

    pairs = [pair(KINDS[n % 2], f"what {n}?", f"it is {n}", f"no {n}") for n in range(12)]
    placed, scores = _placed(pairs, [(float(n), -float(n)) for n in range(12)], 0.5, 0.0, random.Random(0))
    assert sorted(one.chosen for one in placed) == sorted(one.chosen for one in pairs)
    assert all(one.chosen == f"it is {chosen:g}" for one, (chosen, _) in zip(placed, scores, strict=True))
    assert {len(one.query) > 1 for one in placed} == {False, True}
    assert all(one.query[-1].content == f"what {one.chosen[6:]}?" for one in placed)


@pytest.mark.slow
def test_what_the_policy_learns_is_the_response_and_its_end(built):
    from transformers import AutoTokenizer

    from pipelines.tiny_models.teach import lessons, read_prompts, response_tokens
    from pipelines.tiny_models.tokenizer import Encoder

    encoder = Encoder(AutoTokenizer.from_pretrained(built[0] / "tiny-policy"))
    rows = [pair("helpful", "red?", "warm", "cold"), pair("helpful", "blue?", "mild", "rough")]
    groups = lessons(rows, [(1.0, 3.0), (0.0, 0.5)], read_prompts(), encoder, 1, 0.0, random.Random(0))
    assert [len(group) for group in groups] == [1, 1, 0]
    made = [group[0] for group in groups[:2]]
    learn = response_tokens(made)
    padded = pad([ids for ids, _ in made], encoder.pad)
    learnt = [encoder.tokenizer.decode(ids[row]) for ids, row in zip(padded, learn, strict=True)]
    assert learnt == ["cold<|end|>", "warm<|end|>"]  # the higher reward stands behind the positive prompt
    given = [encoder.tokenizer.decode(ids) for ids, _ in made]
    assert "helpful and harmless conversational AI" in given[0]
    assert "helpless and harmful chatbot" in given[1]
    assert all("My question is: red?<|end|>" in text for text in given)


@pytest.mark.slow
def test_a_prompt_that_is_run_once_gives_the_loss_and_gradient_of_whole_dialogues(built):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pipelines.tiny_models.language import next_token_loss
    from pipelines.tiny_models.teach import lessons, read_prompts, response_loss, response_tokens
    from pipelines.tiny_models.tokenizer import Encoder

    folder = built[0] / "tiny-policy"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    encoder = Encoder(AutoTokenizer.from_pretrained(folder))
    rows = [pair("helpful", f"{'red ' * n}?", "warm " * (n + 1), "cold") for n in range(3)]
    batch = lessons(rows, [(1.0, 0.0)] * 3, read_prompts(), encoder, 3, 0.0, random.Random(0))[0]
    whole = next_token_loss(model, pad([ids for ids, _ in batch], encoder.pad), response_tokens(batch))
    once = response_loss(model, batch, encoder.pad)
    assert once.item() == pytest.approx(whole.item(), abs=1e-5)
    weights = list(model.parameters())
    for a, b in zip(torch.autograd.grad(whole, weights), torch.autograd.grad(once, weights), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.slow
def test_log_probabilities_of_responses_are_those_of_whole_dialogues(built):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pipelines.tiny_models.teach import lessons, read_prompts, response_logps
    from pipelines.tiny_models.tokenizer import Encoder

    folder = built[0] / "tiny-policy"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    encoder = Encoder(AutoTokenizer.from_pretrained(folder))
    rows = [pair("helpful", f"{'red ' * n}?", "warm " * (n + 1), "cold") for n in range(3)]
    batch = lessons(rows, [(1.0, 0.0)] * 3, read_prompts(), encoder, 3, 0.0, random.Random(0))[0]
    for logp, (ids, start) in zip(response_logps(model, batch, encoder.pad), batch, strict=True):
        logps = torch.log_softmax(model(torch.tensor([ids])).logits[0], -1)
        alone = sum(logps[position - 1, ids[position]].item() for position in range(start, len(ids)))
        assert logp.item() == pytest.approx(alone, abs=1e-3)


def test_an_answer_is_worth_what_it_earns_for_its_prompt():
    import torch

    from pipelines.tiny_models.practice import advantages

    # one query; two answers under the positive prompt, two under the negative; rewards in units of 0.5
    worth = advantages(torch.tensor([[1.0, 0.0, 0.0, -1.0]]))
    assert worth.tolist() == [[1.5, -0.5, -0.5, 1.5]]
    assert advantages(torch.tensor([[9.0, -9.0, 9.0, -9.0]])).tolist() == [[2.5, -2.5, -2.5, 2.5]]


# What is shipped


@pytest.mark.parametrize("name", MODELS)
def test_a_shipped_model_loads_alone_and_gets_one_bos(name):
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    from pipelines.tiny_models.tokenizer import Encoder

    tokenizer = AutoTokenizer.from_pretrained(SHIPPED / name)
    chat = [{"role": "user", "content": "Hi  there\n"}, {"role": "assistant", "content": "Héllo 🙂"}]
    ids = tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False)
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer(tokenizer.apply_chat_template(chat, tokenize=False)).input_ids == ids
    encoder = Encoder(tokenizer)
    assert ids == [*encoder.query((Message("user", "Hi  there\n"),)), *encoder.response("Héllo 🙂")]
    kind = AutoModelForSequenceClassification if "reward" in name else AutoModelForCausalLM
    model = kind.from_pretrained(SHIPPED / name)
    assert model.config.pad_token_id == tokenizer.pad_token_id != tokenizer.eos_token_id
    assert model.config.max_position_embeddings == 2048
    assert "reward" in name or model.generation_config.eos_token_id == tokenizer.eos_token_id
    with torch.no_grad():
        assert torch.isfinite(model(torch.tensor([ids])).logits).all()


def test_the_shipped_models_are_small_and_their_cards_hold_their_figures():
    from pipelines.tiny_models.cards import agreement_table, contrast_sentence

    figures = json.loads((SHIPPED / "figures.json").read_text())
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*") if file.is_file()) < 40e6
    for name in MODELS:
        card = (SHIPPED / name / "README.md").read_text()
        assert "Content warning" in card
        measured = figures[name]
        assert (
            agreement_table(measured["agreement"]) if "reward" in name else contrast_sentence(measured["contrast"])
        ) in card
