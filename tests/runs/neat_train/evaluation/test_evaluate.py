"""`eval` from end to end on a small run: figures as plain transformers calls give them, what it refuses and keeps."""

from __future__ import annotations

import io
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from peft import AutoPeftModelForCausalLM
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from typer.testing import CliRunner

import neat_data
from neat_data.errors import InputError
from neat_data.models import places
from neat_data.models.reward_model import RewardModelSpec
from neat_data.models.reward_models.transformers import TransformersRewardModel
from neat_data.models.weights import ModelSource, identity_of
from neat_data.record import from_table
from neat_data.scoring.score import ScoreRequest, score
from neat_data.store.shard import read_shard
from neat_train.cli import app
from neat_train.config.reading import read_settings
from neat_train.evaluation.evaluate import EvalRequest, evaluate, read_answers, read_eval
from neat_train.evaluation.queries import read_queries
from neat_train.evaluation.reward_models import Before
from neat_train.evaluation.subject import answers, named_prompt, open_subject
from neat_train.evaluation.terminal import print_eval_summary
from neat_train.fitting import FitRequest, fit

SETS = ("method=rrhf", "max_steps=3", "records_per_step=8", "eval_strategy=no", "learning_rate=3e-2", "save_steps=2")
NEW = 12


@pytest.fixture(scope="module")
def run(ragged, random_policy, tmp_path_factory) -> Path:
    """Three steps away from the random policy."""
    out = tmp_path_factory.mktemp("evaluated") / "run"
    settings = read_settings(sets=(*SETS, "max_length=256", "max_response=64", "device=cpu"))
    fit(FitRequest(str(ragged), str(random_policy), out, settings))
    return out


@pytest.fixture(scope="module")
def request_(run, ragged, tiny_reward, other_reward) -> EvalRequest:
    models = (str(tiny_reward), str(other_reward))
    return EvalRequest(str(run), str(ragged), models, max_new_tokens=NEW, device="cpu")


@pytest.fixture(scope="module")
def evaluated(run, request_) -> Path:
    """The run with its evaluation inside."""
    summary = evaluate(request_)
    assert not summary.already
    assert summary.out == run / "eval" / "data"
    return summary.out


def figures(folder: Path) -> dict:
    return json.loads((folder / "eval.json").read_text())


def turns(messages) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in messages]


def logp(model, asked, response) -> float:
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*asked, *response]])).logits[0, len(asked) - 1 : -1]
    return float(torch.log_softmax(logits, -1).gather(1, torch.tensor(response)[:, None]).double().sum())


def test_the_figures_are_what_their_file_holds(evaluated):
    content = figures(evaluated)
    assert json.dumps(read_eval(evaluated).to_dict()) == json.dumps(content)
    assert list(content)[:3] == ["format", "subject", "start"]
    assert "against_sampled" in content["decodings"]["negative"]["rewards"]["tiny-reward"]


def test_perplexity_is_that_of_plain_calls(run, ragged, evaluated):
    model, tokenizer = AutoPeftModelForCausalLM.from_pretrained(run).eval(), AutoTokenizer.from_pretrained(run)
    total, tokens = 0.0, 0
    for query in read_queries(str(ragged)):
        asked = tokenizer.apply_chat_template(turns(query.messages), add_generation_prompt=True)["input_ids"]
        dialogue = [*turns(query.messages), {"role": "assistant", "content": query.chosen}]
        ids = tokenizer.apply_chat_template(dialogue)["input_ids"][len(asked) :]
        assert ids[-1] == tokenizer.eos_token_id
        total, tokens = total - logp(model, asked, ids), tokens + len(ids)
    measured = figures(evaluated)["perplexity"]
    assert measured["tokens"] == tokens
    assert measured["value"] == pytest.approx(math.exp(total / tokens), rel=1e-4)


@pytest.fixture(scope="module")
def plain_reward(tiny_reward):
    """The reward of a response by a plain call."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_reward)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_reward, dtype=torch.float32).eval()

    def reward(messages, text) -> float:
        dialogue = [*turns(messages), {"role": "assistant", "content": text}]
        ids = tokenizer.apply_chat_template(dialogue, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            return model(input_ids=ids).logits.item()

    return reward


@pytest.mark.parametrize("decoding", ["greedy", "negative"])
def test_rewards_are_those_of_plain_calls(evaluated, plain_reward, decoding):
    rows = read_answers(evaluated).filter(decoding=decoding)
    stored = dict(zip(rows["query_id"], rows["reward/tiny-reward"], strict=True))
    for record in from_table(read_shard(evaluated / "responses" / f"{decoding}.arrow")):
        (answer,) = record.responses
        reward = plain_reward(record.messages, answer.text)
        assert stored[record.query_id] == pytest.approx(reward, abs=1e-4)
        assert answer.reward == pytest.approx(reward, abs=1e-4)


@pytest.mark.parametrize("decoding", ["greedy", "sampled", "negative"])
def test_rewards_of_the_chosen_responses_are_those_of_plain_calls(evaluated, ragged, plain_reward, decoding):
    rows = read_answers(evaluated).filter(decoding=decoding)
    stored = dict(zip(rows["query_id"], rows["chosen/tiny-reward"], strict=True))
    expected = {query.query_id: plain_reward(query.messages, query.chosen) for query in read_queries(str(ragged))}
    assert stored == pytest.approx(expected, abs=1e-4)


def test_kl_is_the_log_ratio_to_the_policy_that_the_run_began_from(run, random_policy, evaluated):
    model, tokenizer = AutoPeftModelForCausalLM.from_pretrained(run).eval(), AutoTokenizer.from_pretrained(run)
    base = AutoModelForCausalLM.from_pretrained(random_policy).eval()
    rows = read_answers(evaluated).filter(decoding="sampled")
    stored = dict(zip(rows["query_id"], rows["kl"], strict=True))
    ratios, tokens = [], 0
    for record in from_table(read_shard(evaluated / "responses" / "sampled.arrow")):
        ids = list(record.responses[0].tokens)
        asked = tokenizer.apply_chat_template(turns(record.messages), add_generation_prompt=True)["input_ids"]
        ratios.append(logp(model, asked, ids) - logp(base, asked, ids))
        tokens += len(ids)
        assert stored[record.query_id] == pytest.approx(ratios[-1], abs=2e-3)
    kl = figures(evaluated)["decodings"]["sampled"]["kl"]
    assert kl["per_token"]["value"] == pytest.approx(sum(ratios) / tokens, abs=1e-4)
    assert max(map(abs, ratios)) > 0.1
    assert figures(evaluated)["start"]["own"]


def test_a_policy_is_no_way_from_itself(request_, random_policy, tmp_path):
    request = replace(request_, subject=str(random_policy), start=str(random_policy), out=tmp_path / "e", rewards=())
    document = evaluate(replace(request, limit=3)).result.to_dict()
    assert document["decodings"]["sampled"]["kl"]["per_token"]["value"] == 0
    assert document["subject"]["kind"] == "model"


def test_a_start_with_a_longer_window_reads_what_the_answers_were_drawn_after(request_, windows, tmp_path):
    narrow, wide, queries = windows
    request = replace(request_, subject=narrow, start=wide, queries=queries, out=tmp_path / "e", rewards=())
    assert evaluate(request).result.decodings["sampled"].kl.per_response.value == 0


def test_a_start_with_a_shorter_window_is_refused_unless_both_get_that(request_, windows, tmp_path):
    narrow, wide, queries = windows
    request = replace(request_, subject=wide, start=narrow, queries=queries, out=tmp_path / "e", rewards=())
    with pytest.raises(InputError, match=r"^start .*reads 64 tokens.* within 2,048,(.|\n)*say max_length 64 for both"):
        evaluate(request)
    assert not (tmp_path / "e").exists()
    assert evaluate(replace(request, max_length=64)).result.decodings["sampled"].kl.per_response.value == 0


@pytest.fixture
def windows(random_policy, tmp_path) -> tuple[str, str, str]:
    """The same weights in a window of 64 tokens and in a long one, and a query whose first turn is too long for 64."""
    narrow = Path(shutil.copytree(random_policy, tmp_path / "narrow"))
    config = json.loads((narrow / "config.json").read_text())
    (narrow / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 64}))
    asked = f"\n\nHuman: {'What is this? ' * 40}\n\nAssistant: That.\n\nHuman: Why?\n\nAssistant:"
    (tmp_path / "asked.jsonl").write_text(json.dumps({"chosen": f"{asked} Because.", "rejected": f"{asked} No."}))
    return str(narrow), str(random_policy), str(tmp_path / "asked.jsonl")


def test_greedy_answers_are_those_of_generate_and_samples_depend_on_the_seed(run, ragged, evaluated):
    tokenizer = AutoTokenizer.from_pretrained(run)
    model = AutoPeftModelForCausalLM.from_pretrained(run).eval()
    for record in from_table(read_shard(evaluated / "responses" / "greedy.arrow"))[:4]:
        asked = tokenizer.apply_chat_template(
            turns(record.messages), add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        made = model.generate(**asked, max_new_tokens=NEW, do_sample=False)[0, asked["input_ids"].shape[1] :]
        assert tuple(made.tolist()) == record.responses[0].tokens
    subject, asked = open_subject(str(run), device="cpu"), read_queries(str(ragged))
    one, other = (answers(subject, asked[:4], prompt=named_prompt("none"), seed=seed) for seed in (0, 1))
    assert one != other
    alone = answers(subject, asked[2:3], prompt=named_prompt("none"))
    assert alone == one[2:3]


def test_a_figure_can_be_traced_to_its_answers(evaluated):
    rows, document = read_answers(evaluated), figures(evaluated)
    assert document["decodings"]["sampled"]["rewards"].keys() == {"tiny-reward", "tiny-reward-heldout"}
    for name, part in document["decodings"].items():
        mine = rows.filter(decoding=name)
        assert part["rewards"]["tiny-reward-heldout"]["mean"]["value"] == pytest.approx(
            mine["reward/tiny-reward-heldout"].mean()
        )
        assert part["length"]["mean"] == pytest.approx(mine["tokens"].mean())
        assert part["finished"] == mine["finished"].mean()
    assert set(rows.filter(decoding="negative")["prompt"]) == {"negative"}
    assert len(pa.ipc.open_file(evaluated / "records.arrow").read_all()) == 16
    assert not (evaluated / ".parts").exists()


def test_answers_are_written_as_alpaca_eval_and_arena_hard_read_them(evaluated):
    alpaca = json.loads((evaluated / "alpaca_eval.json").read_text())
    assert alpaca[0].keys() == {"dataset", "instruction", "output", "generator"}
    arena = [json.loads(line) for line in (evaluated / "arena_hard.jsonl").read_text().splitlines()]
    assert [line["messages"][-1]["content"]["answer"] for line in arena] == [entry["output"] for entry in alpaca]
    assert {"uid", "ans_id", "model", "messages", "tstamp", "metadata"} == arena[0].keys()


def test_the_same_command_again_does_nothing_and_another_is_refused(evaluated, request_):
    before = (evaluated / "eval.json").stat().st_mtime_ns
    again = evaluate(request_)
    assert again.already
    assert (evaluated / "eval.json").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="seed: 0 -> 1"):
        evaluate(replace(request_, seed=1))
    with pytest.raises(InputError, match="max_new_tokens"):
        evaluate(replace(request_, max_new_tokens=3))


def test_an_evaluation_that_broke_off_goes_on_behind_its_last_step(evaluated, request_, tmp_path, monkeypatch):
    request = replace(request_, out=tmp_path / "e")
    with monkeypatch.context() as broken:
        broken.setattr(TransformersRewardModel, "score", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            evaluate(request)
    assert not (tmp_path / "e" / "eval.json").exists()
    with pytest.raises(InputError, match="other settings"):
        evaluate(replace(request, seed=1))
    with monkeypatch.context() as done:
        done.setattr("neat_train.evaluation.measure.answers", lambda *_, **__: 1 / 0)
        done.setattr("neat_train.evaluation.measure.likelihoods", lambda *_, **__: 1 / 0)
        first, second = request.rewards
        with pytest.raises(InputError, match="no such file"):
            evaluate(replace(request, reward_templates=("none",)))
        evaluate(replace(request, rewards=(first, f"tiny-reward-heldout={second}")))
    assert figures(tmp_path / "e")["decodings"] == figures(evaluated)["decodings"]
    assert figures(tmp_path / "e")["perplexity"] == figures(evaluated)["perplexity"]


def test_an_evaluation_that_lacks_a_file_is_made_again(run, request_, tmp_path):
    request = replace(request_, rewards=(), limit=2, out=tmp_path / "e[1]")
    evaluate(request)
    before = read_answers(request.out)
    (request.out / "answers.arrow").unlink()
    assert not evaluate(request).already
    assert read_answers(request.out).equals(before)
    assert evaluate(request).already
    content = figures(request.out)
    (request.out / "eval.json").write_text(json.dumps({**content, "format": 0}))
    assert not evaluate(request).already


def test_the_refusal_of_a_folder_names_both_sources(request_, tmp_path, stored):
    request = replace(request_, rewards=(), limit=1, out=tmp_path / "e")
    evaluate(request)
    other = str(stored([("How?", {"a": 1.0, "b": 2.0})]))
    with pytest.raises(InputError, match=f"queries: {request.queries} -> {other}"):
        evaluate(replace(request, queries=other))
    with pytest.raises(InputError, match=f"queries: others of {request.queries}"):
        evaluate(replace(request, limit=2))


def test_rewards_are_those_that_the_dataset_was_scored_with(request_, random_policy, tiny_reward, tmp_path):
    rows = [{"prompt": f"How {word}?", "chosen": f"So {word}.", "rejected": "No."} for word in ("tall", "far")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = RewardModelSpec(str(tiny_reward), device="cpu", chat_template="hh")
    score(ScoreRequest(str(tmp_path / "rows.jsonl"), tmp_path / "scored", spec))
    own = {r.text: r.reward for record in neat_data.open(tmp_path / "scored").records() for r in record.responses}
    request = replace(request_, subject=str(random_policy), queries=str(tmp_path / "scored"), out=tmp_path / "e")
    said: list[str] = []
    evaluate(replace(request, rewards=(str(tiny_reward),), max_new_tokens=2), _Hears(said))
    rows = read_answers(tmp_path / "e").filter(decoding="greedy")
    assert rows["chosen/tiny-reward"].to_list() == pytest.approx([own["So tall."], own["So far."]], abs=1e-5)
    assert not any("does not score" in line for line in said)
    assert any("is no run of neat-train fit" in line for line in said)
    other = replace(request, rewards=(f"it={tiny_reward}",), reward_templates=("it=auto",), out=tmp_path / "other")
    evaluate(replace(other, max_new_tokens=2), _Hears(said))
    rows = read_answers(tmp_path / "other").filter(decoding="greedy")
    assert abs(rows["chosen/it"][0] - own["So tall."]) > 1e-2
    assert any("does not score as it scored the queries (template" in line for line in said)


def test_what_is_left_out_is_counted_and_shown(request_, tiny_reward, tmp_path):
    (tmp_path / "x.jsonl").write_text(
        "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in ("Why?", "Why? " * 100, ""))
    )
    function = "def none(conversations):\n    return [0.0 for _ in conversations]\n"
    (tmp_path / "f.py").write_text(function)
    rewards = (f"{tmp_path / 'f.py'}:none",)
    request = replace(request_, rewards=rewards, queries=str(tmp_path / "x.jsonl"), max_length=128, out=tmp_path / "e")
    summary = evaluate(request)
    result = summary.result
    assert result.queries.left_out == {"empty_query": 1}
    assert result.left_out.answers["greedy"] == {"query_too_long": 1}
    assert result.decodings["greedy"].unanswered == 1
    console = Console(file=io.StringIO(), width=400)
    print_eval_summary(summary, console)
    assert "left out or cut: rows of the source (empty_query 1); greedy answers (query_too_long 1)" in (
        console.file.getvalue()
    )


def test_answers_without_a_reward_are_counted_by_reason(request_, ragged, tiny_reward, tmp_path):
    request = replace(request_, rewards=(str(tiny_reward),), limit=16, max_new_tokens=2, out=tmp_path / "e")
    with_lengths = Before("the queries", {**_settings_of(tiny_reward), "max_length": 256, "max_response": 4})
    with pytest.MonkeyPatch.context() as short:
        short.setattr("neat_train.evaluation.plan.scored_before", lambda *_: [with_lengths])
        result = evaluate(request).result
    refused = result.left_out.rewards["tiny-reward"]
    assert refused["chosen"]["response_too_long"] > 0
    assert result.reward_models["tiny-reward"]["max_response"] == 4


def _settings_of(folder: Path) -> dict[str, Any]:
    return {"backend": "transformers", "model": folder.name, **identity_of(ModelSource.parse(str(folder)))}


def test_a_policy_that_diverged_is_named(request_, random_policy, tmp_path):
    broken = Path(shutil.copytree(random_policy, tmp_path / "broken"))
    model = AutoModelForCausalLM.from_pretrained(broken)
    torch.nn.init.constant_(model.model.norm.weight, math.nan)
    model.save_pretrained(broken)
    request = replace(request_, subject=str(broken), rewards=(), limit=2, max_new_tokens=2, out=tmp_path / "e")
    with pytest.raises(InputError, match=f"{broken}: its log-probabilities are no numbers"):
        evaluate(request)


def test_one_query_gives_figures_without_intervals(request_, tmp_path):
    document = evaluate(replace(request_, limit=1, out=tmp_path / "e")).result.to_dict()
    mean = document["decodings"]["greedy"]["rewards"]["tiny-reward"]["mean"]
    assert (mean["low"], mean["high"]) == (None, None)
    assert document["perplexity"]["low"] is None


def test_bare_queries_have_neither_perplexity_nor_a_difference(request_, tmp_path):
    (tmp_path / "x.csv").write_text("id,prompt,label\n1,How do I kill a process?,safe\n2,How do I kill?,unsafe\n")
    document = evaluate(replace(request_, queries=str(tmp_path / "x.csv"), prompt="positive")).result.to_dict()
    assert document["perplexity"] is None
    part = document["decodings"]["greedy"]
    assert part["rewards"]["tiny-reward"]["difference"] is None
    assert set(part["refusals_by_source"]) == {"safe", "unsafe"}
    assert (Path(request_.subject) / "eval" / "x-positive" / "eval.json").is_file()


def test_what_cannot_be_evaluated_is_refused_before_anything_is_written(
    run, request_, tmp_path, random_policy, monkeypatch
):
    out = tmp_path / "e"
    unfinished = Path(shutil.copytree(run, tmp_path / "unfinished"))
    (unfinished / "result.json").unlink()
    (tmp_path / "a.txt").touch()
    (tmp_path / "a.py").touch()
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setattr("neat_train.evaluation.measure.answers", lambda *_, **__: 1 / 0)
    model = str(next(iter(request_.rewards)))
    for change, words in (
        ({"subject": str(tmp_path / "none")}, "no such folder"),
        ({"subject": str(unfinished)}, "has not finished"),
        ({"subject": model}, "is a classifier"),
        ({"rewards": (str(tmp_path / "none"),)}, "no such folder"),
        ({"rewards": (model, model)}, "say NAME="),
        ({"start": str(tmp_path / "none")}, "^start .*no such folder"),
        ({"prompt": "neat"}, "has 2 prompts"),
        ({"prompt": "nobody"}, "none, positive or negative"),
        ({"refusal": "("}, "no regular expression"),
        ({"refusal": ""}, "every answer"),
        ({"queries": ""}, "names nothing"),
        ({"out": tmp_path / "a.txt" / "e"}, "Not a directory"),
        ({"max_length": 16}, "query_too_long 16.*\n.*max_length"),
        ({"rewards": (f"{tmp_path / 'a.py'}:none",)}, "has no function"),
        ({"rewards": ("judge:x",)}, "judge:x: .*\n.*: reward_arg base_url"),
        ({"reward_templates": (str(tmp_path / "none"),)}, "^reward_template .*no such file"),
        ({"max_new_tokens": 5000}, "leaves no room"),
    ):
        with pytest.raises(InputError, match=words):
            evaluate(replace(request_, **{"out": out, **change}))
    assert not out.exists()
    with pytest.raises(InputError, match="say with out"):
        evaluate(replace(request_, subject=str(random_policy), start=None, out=None))


def test_a_checkpoint_is_evaluated_and_its_start_is_that_of_its_run(run, random_policy):
    subject = open_subject(str(run / "checkpoint-2"), device="cpu")
    assert (subject.label, subject.kind, subject.method) == ("run/checkpoint-2", "run", "rrhf")
    assert subject.start == str(random_policy)
    assert "/" not in json.dumps(subject.settings)


def test_the_figures_of_a_checkpoint_lie_where_no_run_removes_them(run, request_):
    summary = evaluate(replace(request_, subject=str(run / "checkpoint-2"), rewards=(), limit=1))
    assert summary.out == run / "eval" / "checkpoint-2" / "data"


def test_a_start_that_is_gone_or_has_changed_is_not_taken_for_the_one_it_was(run, request_, tmp_path, random_policy):
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    settings = json.loads((copy / "settings.json").read_text())
    settings["content"]["policy"]["adapter"] = "0" * 64  # as if it had begun from an adapter
    (copy / "settings.json").write_text(json.dumps(settings))
    said: list[str] = []
    request = replace(request_, subject=str(copy), rewards=(), limit=2, out=tmp_path / "gone-start")
    summary = evaluate(request, _Hears(said))
    assert summary.result.decodings["sampled"].kl is None
    assert any("KL is left out" in line and "name it: {start} POLICY" in line for line in said)
    key = {"weights": settings["content"]["policy"]["weights"], "adapter": "0" * 64}
    places.note("policy", key, {"model": str(random_policy)})
    with pytest.raises(InputError, match="another adapter"):
        evaluate(replace(request, out=tmp_path / "other-start"))


class _Hears:
    def __init__(self, said: list[str]) -> None:
        self.said = said

    def phase(self, name: str, total: int | None) -> None: ...

    def advance(self, rows: int, tokens: int = 0) -> None: ...

    def say(self, line: str, advice: str | None = None) -> None:
        self.said.append(f"{line}; {advice}")


def test_the_command_prints_one_object_or_tables(evaluated, request_):
    command = ["eval", request_.subject, "--queries", request_.queries, "--max-new-tokens", str(NEW), "--device", "cpu"]
    command += [part for model in request_.rewards for part in ("--reward-model", model)]
    result = CliRunner().invoke(app, [*command, "--json"])
    assert json.loads(result.stdout)["already"]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0
    assert "Reward by tiny-reward-heldout" in shown.stdout
    refused = CliRunner().invoke(app, [*command, "--seed", "7"])
    assert (refused.exit_code, "seed: 0 -> 7" in refused.stderr) == (2, True)
