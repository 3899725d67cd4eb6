"""What `neat-train export` makes of a run: one model, compared with its adapter, here or on the hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from peft import AutoPeftModelForCausalLM
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from neat_data.errors import InputError
from neat_data.progress import Silent
from neat_train.config.settings import LoraSettings
from neat_train.policy.export import RunExportRequest, export
from neat_train.policy.merge import merge
from neat_train.policy.policy import Policy, PolicySpec, load_policy_to_train

MODEL = Path(__file__).resolve().parents[4] / "data" / "models" / "tiny-policy"
IDS = torch.tensor([[1, 5, 8, 200, 300, 17]])
CARD = """---
license: unknown
library_name: peft
tags: [neat-align, lora]
---
# A run

from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer
model = AutoPeftModelForCausalLM.from_pretrained(folder)
"""
COMMAND = (
    "import typer; from neat_train.cli.export import add_to; app = typer.Typer(pretty_exceptions_enable=False);"
    "add_to(app); app.callback()(lambda: None); app()"
)


def trained(*, full: bool = False) -> Policy:
    """A policy whose trained weights were pushed about."""
    policy = load_policy_to_train(PolicySpec(str(MODEL), full, LoraSettings(), device="cpu"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if name in policy.trained:
                weight += 0.02 * torch.randn(weight.shape, generator=generator)
    return policy


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    trained().save(folder)
    (folder / "README.md").write_text(CARD)
    (folder / "samples.jsonl").write_text("{}\n")
    (folder / "checkpoint-2").mkdir()
    (folder / "checkpoint-2" / "adapter_model.safetensors").write_bytes(b"")
    return folder


def logps(model) -> torch.Tensor:
    with torch.no_grad():
        return model.float()(IDS).logits.log_softmax(-1)


@pytest.mark.parametrize("dtype", [None, "float32"])
def test_the_merged_model_says_the_same_to_within_its_rounding(dtype, run, tmp_path):
    out = tmp_path / "merged"
    merged_model = merge(run, out, dtype, "cpu", trust_remote_code=False, watch=Silent(), base=str(MODEL))
    apart = logps(AutoPeftModelForCausalLM.from_pretrained(run, dtype=torch.float32))
    merged = AutoModelForCausalLM.from_pretrained(out)
    assert merged.dtype == (torch.bfloat16 if dtype is None else torch.float32)
    assert merged_model.dtype == ("bfloat16" if dtype is None else "float32")
    off = float((logps(merged) - apart).abs().max())
    if dtype is None:
        assert 1e-4 < merged_model.difference < 0.5
        assert off < 3 * merged_model.difference
    else:
        assert max(merged_model.difference, off) < 1e-4
    assert merged_model.probability <= merged_model.difference
    assert not (out.parent / ".merged.partial").exists()


def test_the_sum_is_rounded_once(run, tmp_path):
    """Every merged weight is the bfloat16 nearest to base + scale * B A, computed in float64."""
    merge(run, tmp_path / "merged", None, "cpu", trust_remote_code=False, watch=Silent(), base=str(MODEL))
    name = "model.layers.1.mlp.up_proj.weight"
    with safe_open(MODEL / "model.safetensors", framework="pt") as base:
        weight = base.get_tensor(name).double()
    with safe_open(run / "adapter_model.safetensors", framework="pt") as adapter:
        key = f"base_model.model.{name.removesuffix('.weight')}"
        a, b = (adapter.get_tensor(f"{key}.lora_{side}.weight").double() for side in "AB")
    with safe_open(tmp_path / "merged" / "model.safetensors", framework="pt") as merged:
        stored = merged.get_tensor(name)
        assert "lm_head.weight" not in merged.keys()  # noqa: SIM118
    exact = weight + 16 / 16 * b @ a
    assert stored.dtype == torch.bfloat16
    other = (stored != exact.to(torch.bfloat16)).double().mean()
    assert other < 1e-3, "but for sums that lie between two of them to within float32"


def test_a_merged_model_knows_where_to_stop_and_has_the_run_s_card(run, tmp_path):
    out = tmp_path / "merged"
    summary = export(RunExportRequest(run, merged=True, out=out, device="cpu", base=str(MODEL)))
    assert (summary.adapter, summary.model) == (False, out)
    tokenizer, model = AutoTokenizer.from_pretrained(out), AutoModelForCausalLM.from_pretrained(out)
    assert model.generation_config.eos_token_id == [2]
    assert model.generation_config.pad_token_id == 0
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(run).chat_template
    card = ModelCard.load(out / "README.md")
    assert (card.data.library_name, card.data.tags) == ("transformers", ["neat-align"])
    assert "merged into its model in float32 and stored as bfloat16" in card.text
    assert "peft" not in card.text.lower()
    assert "model = AutoModelForCausalLM.from_pretrained(folder)" in card.text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"merged": True}, r"merge: .*\nsay where: out"),
        ({"out": Path("x")}, r"out: no merging .*\nit goes with merge"),
        ({"public": True}, "public: no upload"),
        ({"merged": True, "out": Path("x"), "dtype": "int8"}, "dtype int8: unknown"),
        ({"push_to_hub": "me/x"}, "model in a folder, which nobody else has"),
    ],
)
def test_options_that_do_not_go_together_are_refused(fields, words, run):
    with pytest.raises(InputError, match=words):
        export(RunExportRequest(run, device="cpu", **fields))


def test_places_are_looked_at_first(run, tmp_path):
    with pytest.raises(InputError, match="neither an adapter nor a model"):
        export(RunExportRequest(tmp_path))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    with pytest.raises(InputError, match="is taken"):
        export(RunExportRequest(run, merged=True, out=tmp_path / "mine", device="cpu"))
    trained(full=True).save(tmp_path / "full")
    with pytest.raises(InputError, match="no adapter to merge"):
        export(RunExportRequest(tmp_path / "full", merged=True, out=tmp_path / "out", device="cpu"))


def command(hub_url: str, home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own: the hub's library reads its settings when it is imported."""
    hub = {"HF_ENDPOINT": hub_url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "secret"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | hub
    return subprocess.run(
        [sys.executable, "-c", COMMAND, "export", *options],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


@pytest.mark.slow
def test_a_merged_model_goes_to_a_private_repository_without_what_else_lies_in_the_run(run, hub, tmp_path):
    wanted = ["--merge", "--out", str(tmp_path / "merged"), "--device", "cpu", "--push-to-hub", "me/model", "--json"]
    wanted += ["--base", str(MODEL)]
    done = command(hub.url, tmp_path / "home", str(run), *wanted)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["url"] == f"{hub.url}/me/model"
    assert document["merged"]["dtype"] == "bfloat16"
    assert hub.repositories["me/model"].private
    names = {"README.md", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors"}
    assert set(hub.repositories["me/model"].files) == names | {"tokenizer.json", "tokenizer_config.json"}
    assert (
        hub.repositories["me/model"].files["model.safetensors"]
        == (tmp_path / "merged" / "model.safetensors").read_bytes()
    )
    again = command(hub.url, tmp_path / "home", str(run), *wanted[:2], str(tmp_path / "b"), *wanted[3:], "--public")
    assert again.returncode == 2
    assert "me/model: exists on the hub and is private\nleave out --public" in again.stderr
    assert not (tmp_path / "b").exists(), "asked before any work is done"


@pytest.mark.slow
def test_an_adapter_of_a_hub_model_goes_there_as_it_is(run, hub, tmp_path):
    adapter = tmp_path / "run"
    subprocess.run(["cp", "-r", str(run), str(adapter)], check=True)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "some/base"}))
    done = command(hub.url, tmp_path / "home", str(adapter), "--push-to-hub", "me/adapter", "--public")
    assert done.returncode == 0, done.stderr
    assert f'AutoPeftModelForCausalLM.from_pretrained("{adapter}")' in done.stdout
    files = set(hub.repositories["me/adapter"].files)
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md", "generation_config.json"} <= files
    assert not any("checkpoint" in name or "samples" in name for name in files)
    assert not hub.repositories["me/adapter"].private
