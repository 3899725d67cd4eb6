"""The model card of a run, and the summary a run ends with."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

import neat_data
from neat_data.errors import InputError
from neat_train.config.reading import read_settings
from neat_train.policy.policy import PolicySpec, load_policy_to_train
from neat_train.reports.card import write_card
from neat_train.reports.summary import FitResult, figures, print_fit_summary
from tests.support.damage import damaged

EVALUATIONS = {0: (-2.0, 14.5), 20: (-0.5, 13.0), 40: (-0.75, 15.0)}
POLICY = {"model": "org/base@abc", "revision": "abc", "adapter": None, "dtype": "bfloat16"}
REWARD = {"model": "sfairXC/FsfairX-LLaMA3-RM-v0.1@def", "revision": "def", "dtype": "bfloat16"}


def metrics() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for step in range(41):
        if step:
            amounts = {
                "records": 64,
                "responses": 256,
                "response_tokens": 5_000,
                "tokens": 9_000,
                "round/responses": 128 if step % 10 == 1 else None,
            }
            rows.append({"step": step, "epoch": step / 20, "loss": 2.0, **amounts})
        if step in EVALUATIONS:
            reward, perplexity = EVALUATIONS[step]
            measured = {"reward": reward, "reward_low": reward - 0.25, "reward_high": reward + 0.25}
            measured |= {"perplexity": perplexity, "length": 40.0, "finished": 0.9, "answers": 200.0}
            rows.append(
                {"step": step, "epoch": step / 20, **{f"eval_{name}": value for name, value in measured.items()}}
            )
    return [*rows, {"step": 40, "epoch": 2.0, "train_runtime": 754.3}]


@pytest.fixture
def run_of(tmp_path: Path) -> Callable[..., Path]:
    """A run folder as `fit` leaves it, but for weights."""

    def make(*sets: str, rows: list[dict[str, Any]] | None = None, **content: Any) -> Path:
        settings = read_settings(sets=sets)
        document = {
            "settings": settings.resolved(),
            "fingerprint": "f" * 64,
            "content": {
                "dataset": {"rounds": 1, "sha256": "d" * 64},
                "policy": POLICY,
                "reward_model": REWARD,
                **content,
            },
            "versions": {"neat-align": "0.1.0", "torch": "2.13.0"},
        }
        (tmp_path / "settings.json").write_text(json.dumps(document))
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows or metrics()))
        return tmp_path

    return make


def test_the_figures_of_a_run_are_those_of_its_start_its_end_and_its_best(run_of):
    result = figures(run_of())
    assert (result.steps, result.epochs, result.seconds) == (40, 2.0, 754.3)
    amounts = {"records": 64, "responses": 256, "response_tokens": 5_000, "tokens": 9_000}
    assert result.trained.to_dict() == {name: 40 * amount for name, amount in amounts.items()}
    assert result.sampled == 4 * 128
    held_out = result.held_out
    assert [row["step"] for row in (held_out.start, held_out.best, held_out.end)] == [0, 20, 40]
    assert (held_out.start["reward"], held_out.end["perplexity"]) == (-2.0, 15.0)
    assert FitResult.from_dict(json.loads(json.dumps(result.to_dict(), allow_nan=False))) == result


def test_a_run_without_measurements_has_figures_all_the_same(run_of):
    result = figures(run_of(rows=[{"step": 3, "epoch": 0.5, "loss": 1.0}]))
    assert result.held_out.to_dict() == {"start": {}, "end": {}, "best": {}}
    assert (result.steps, result.sampled, result.seconds) == (3, 0, None)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_stands_in_a_runs_settings_the_card_is_made_or_refused(run_of, data):
    run = run_of()
    content = data.draw(damaged(json.loads((run / "settings.json").read_bytes())))
    (run / "settings.json").write_bytes(content)
    with suppress(InputError):
        write_card(run, None)


def printed(run: Path, **options: Any) -> str:
    console = Console(file=io.StringIO(), width=80)
    print_fit_summary(run, figures(run), console, **options)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_summary_is_short_and_says_what_to_do_next(run_of):
    text = printed(run_of())
    first, *rest = text.splitlines()
    assert first == (
        "40 steps: 2,560 records with 10,240 responses, 512 responses sampled, 360,000 tokens, 12 min 34 s."
    )
    rows = [line.split() for line in rest if line.strip()[:1].isdigit()]
    assert rows[0] == ["0", "-2.00", "-2.25", "to", "-1.75", "14.50", "40", "90", "%"]
    assert [row[0] for row in rows] == ["0", "20,", "40"]
    assert max(map(len, rest[:-3])) <= 80
    assert "nothing was done" not in text
    assert "nothing was done" in printed(run_of(), already=True)


def test_what_was_cut_or_left_out_is_told(run_of):
    counted = {"encoder/responses_cut": 3, "encoder/queries_cut": 1, "encoder/sampled_ids": 9}
    rows = [{"step": step, "epoch": 1.0, **counted, "round/dropped/unfinished": 2.0} for step in (1, 2)]
    assert printed(run_of(rows=rows)).splitlines()[1] == (
        "2 queries lost their oldest turns to max_length; 6 responses cut at max_response; "
        "samples not used: unfinished 4."
    )


def test_the_next_command_fits_what_lies_there(run_of):
    assert "export" not in printed(run_of("full=true"))
    run = run_of()
    (run / "adapter_config.json").write_text("{}")
    assert printed(run).splitlines()[-1] == f"next: neat-train export {run} --merge --out {run}-merged"


def header(run: Path) -> dict[str, Any]:
    card = ModelCard.load(run / "README.md")
    return card.data.to_dict()


def test_the_header_is_what_the_hub_reads(run_of):
    run = run_of("method=neat-pp", prompts=[{"polarity": "negative"}])
    write_card(run)
    assert header(run) == {
        "license": "unknown",
        "base_model": "org/base",
        "base_model_relation": "adapter",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["neat-align", "alignment", "neat-pp", "lora"],
    }
    local = run_of("full=true", policy={"model": "my-folder", "weights": "0" * 64})
    write_card(local)
    assert "base_model" not in header(local)
    assert header(local)["library_name"] == "transformers"


def test_the_card_says_what_was_done_and_what_came_of_it(run_of):
    run = run_of("method=neat-pp", prompts=[{"polarity": "negative"}, {"polarity": "positive"}])
    (run / "curves.png").write_bytes(b"")
    text = write_card(run).read_text()
    assert "weighed by beta 0.1" in text
    assert "| 40 | -0.750 | -1.00 to -0.500 | 15.00 | 40 | 90 % |" in text
    assert "asked for bad answers on purpose" in text
    assert "![Curves of the run](curves.png)" in text
    assert "- sha256 of its shards: " + "d" * 64 in text
    assert "sfairXC/FsfairX-LLaMA3-RM-v0.1@def" in text
    assert "| learning\\_rate | 5e-05 |" in text
    assert "put `license:` into the header" in text


def test_only_settings_that_mean_something_for_the_method_are_told(run_of):
    def sections(*sets: str) -> set[str]:
        text = write_card(run_of(*sets)).read_text()
        table = text.partition("## Settings")[2].partition("## Licence")[0]
        return {
            line.split("|")[1].strip().replace("\\", "").split(".")[0] for line in table.splitlines() if "|" in line
        }

    assert {"loss", "rounds", "lora"} <= sections("method=neat")
    assert not {"dpo", "sft"} & sections("method=neat")
    assert "rounds" not in sections("method=rrhf")
    assert "dpo" in sections("method=dpo-trl")
    assert not {"loss", "rounds", "sft"} & sections("method=dpo-trl")
    assert "loss" in sections("method=dpo")
    assert not {"dpo", "rounds", "sft"} & sections("method=dpo")
    assert "lora" not in sections("method=sft", "full=true")


def test_neither_secrets_nor_the_way_to_a_folder_are_told(run_of):
    run = run_of("model_args.token=hf_very_secret", "held_out.data=/home/somebody/private/held", "max_response=64")
    text = write_card(run).read_text()
    assert "hf_very_secret" not in text
    assert "somebody" not in text
    assert "| held\\_out.data | held |" in text
    assert "| max\\_response | 64 |" in text
    assert "token\\_budget" in write_card(run_of("token_budget=512")).read_text()


def test_the_same_run_has_the_same_card_and_the_user_s_part_stays(run_of):
    run = run_of()
    first = write_card(run).read_bytes()
    assert write_card(run).read_bytes() == first
    mine = first.replace(b"license: unknown", b"license: mit") + b"\n## My own notes\n\nGood with *bread*.\n"
    (run / "README.md").write_bytes(b"" + mine)
    assert write_card(run).read_bytes() == mine
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 60, "eval_reward": 1.25, "eval_perplexity": 11.0}) + "\n")
    grown = write_card(run).read_text()
    assert "| 60, best |" in grown
    assert grown.endswith("## My own notes\n\nGood with *bread*.\n")
    assert header(run)["license"] == "mit"


def test_hostile_names_are_shown_as_they_stand(run_of):
    text = write_card(run_of(policy={"model": "a<script>|b\n# c", "weights": "0"})).read_text()
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert "\n# c" not in text


def test_the_dataset_is_named_where_it_is_known(run_of, stored):
    dataset = neat_data.open(str(stored([("q", {"a": 1.0, "b": 0.0})])))
    text = write_card(run_of(), dataset).read_text()
    assert f"- fingerprint: {dataset.manifest.fingerprint}" in text


def test_what_the_card_says_about_loading_works_as_it_stands(run_of, random_policy, capsys):
    run = run_of()
    lora = read_settings().lora
    load_policy_to_train(PolicySpec(str(random_policy), full=False, lora=lora, device="cpu")).save(run)
    text = write_card(run).read_text()
    code = text.partition("```python\n")[2].partition("```")[0]
    exec(code.replace("path/to/this/folder", str(run)).replace("max_new_tokens=128", "max_new_tokens=5"))
    assert capsys.readouterr().out.strip()
    assert yaml.safe_load(text.split("---")[1])["library_name"] == "peft"
