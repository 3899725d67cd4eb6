"""The commands as a careless person would use them: what is said, with which exit status, and what stays."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from neat_data import open as neat_data_open
from neat_data.cli import app

MODEL = """
import os, signal
calls = 0
def length(conversations):
    return [float(len(turns[-1]["content"])) for turns in conversations]
def not_a_number(conversations):
    return [float("nan") if turns[-1]["content"] == "no 9" else 1.0 for turns in conversations]
def interrupted(conversations):
    global calls
    calls += 1
    if calls == 3 and os.environ.get("INTERRUPT"):
        os.kill(os.getpid(), signal.SIGINT)
    return length(conversations)
"""


def neat_data(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refusal(*arguments: object) -> str:
    """What a command that must be refused as bad input says."""
    result = neat_data(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert len(result.stderr.strip().splitlines()) <= 3
    return result.stderr


def hh_line(number: int) -> str:
    query = f"\n\nHuman: question {number}\n\nAssistant:"
    return json.dumps({"chosen": f"{query} yes {number}", "rejected": f"{query} no {number}"})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(hh_line(number) for number in range(12)))
    return path


@pytest.fixture
def damaged(tiny_classifier: Path, tmp_path: Path) -> Path:
    """A classifier of transformers that knows no number for a tilde."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_classifier)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_classifier)
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids("~")] = torch.nan
    model.save_pretrained(tmp_path / "damaged")
    tokenizer.save_pretrained(tmp_path / "damaged")
    return tmp_path / "damaged"


@pytest.mark.parametrize(
    ("options", "way"),
    [
        ((), "path trees, attention neat_trees_sdpa, dtype float32"),
        (("--model-arg", "tree_attention=varlen"), "path trees, attention neat_trees_varlen, dtype float32"),
        (("--path", "batches", "--dtype", "bfloat16"), "path batches, attention sdpa, dtype bfloat16"),
    ],
)
def test_a_reward_that_is_no_number_names_its_row_and_how_it_was_computed(
    options: tuple[str, ...], way: str, source: Path, damaged: Path, tmp_path: Path
) -> None:
    source.write_text(source.read_text().replace("no 9", "no ~"))
    result = neat_data("score", source, "--reward-model", damaged, "--out", tmp_path / "out", *options)
    assert result.exit_code == 1, result.output
    assert "nan for response" in result.stderr
    assert "of row 9 of rows.jsonl" in result.stderr
    assert f"by {way}." in result.stderr


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "rewards.py"
    path.write_text(MODEL)
    return f"{path}:length"


def test_score_stats_verify_and_show_work_together(source: Path, model: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    scored = neat_data("score", source, "--reward-model", model, "--out", out, "--shard-rows", 5)
    assert scored.exit_code == 0, scored.output
    assert "12 rows: 12 stored as 12 records with 24 responses" in scored.stdout

    stats = json.loads(neat_data("stats", out, "--json").stdout)
    assert stats["counts"]["pairs"] == 12
    assert neat_data("verify", out).exit_code == 0
    shown = json.loads(neat_data("show", out, "--widest-gap", 1, "--json").stdout)["records"]
    assert [response["text"] for response in shown[0]["responses"]] in (["yes 0", "no 0"], ["yes 10", "no 10"])

    again = neat_data("score", source, "--reward-model", model, "--out", out, "--shard-rows", 5)
    assert again.exit_code == 0
    assert "complete already" in again.stdout


def test_compressed_shards_read_the_same(source: Path, model: str, tmp_path: Path) -> None:
    for name in ("none", "zstd"):
        out = tmp_path / name
        assert neat_data("score", source, "--reward-model", model, "--out", out, "--compression", name).exit_code == 0
        assert neat_data("verify", out).exit_code == 0
    plain, packed = (neat_data_open(str(tmp_path / name)) for name in ("none", "zstd"))
    assert list(plain.records()) == list(packed.records())
    assert plain.scan().collect().equals(packed.scan().collect())
    assert plain.to_hf().to_list() == packed.to_hf().to_list()
    sizes = [(tmp_path / name / "round-0000" / "00000.arrow").stat().st_size for name in ("none", "zstd")]
    assert sizes[1] < sizes[0]


def test_json_is_the_only_thing_on_stdout(source: Path, model: str, tmp_path: Path) -> None:
    result = neat_data("score", source, "--reward-model", model, "--out", tmp_path / "out", "--json")
    assert json.loads(result.stdout)["source_rows"] == 12


def test_other_settings_on_the_same_folder_are_refused_by_name(source: Path, model: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert neat_data("score", source, "--reward-model", model, "--out", out).exit_code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert "limit" in refusal("score", source, "--reward-model", model, "--out", out, "--limit", 3)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_bad_sources_are_refused_before_anything_is_made(source: Path, model: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--reward-model", model, "--out", out)
    assert "no such file" in refusal("score", tmp_path / "absent.jsonl", *options)

    empty = tmp_path / "empty.jsonl"
    empty.touch()
    assert "empty.jsonl" in refusal("score", empty, *options)

    columns = tmp_path / "columns.jsonl"
    columns.write_text('{"question": "a", "answer": "b"}')
    said = refusal("score", columns, *options)
    assert "question" in said
    assert "answer" in said

    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress(source.read_bytes() * 200)[:-40])
    assert "cut.jsonl.gz" in refusal("score", cut, *options)
    assert not list(out.glob("round-*")) if out.exists() else True


def test_a_source_without_a_usable_row_says_why(tmp_path: Path, model: str) -> None:
    path = tmp_path / "same.jsonl"
    path.write_text(json.dumps({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: b"}))
    assert "identical_responses 1" in refusal("score", path, "--reward-model", model, "--out", tmp_path / "out")


def test_a_folder_with_something_else_in_it_is_left_alone(source: Path, model: str, tmp_path: Path) -> None:
    out = tmp_path / "photos"
    out.mkdir()
    (out / "cat.png").write_bytes(b"cat")
    assert "cat.png" in refusal("score", source, "--reward-model", model, "--out", out)
    assert [path.name for path in out.iterdir()] == ["cat.png"]


def test_contradictions_and_typing_errors(source: Path, model: str, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    assert "--reward-model" in refusal("score", source, *out)
    assert "--rewards given" in refusal("score", source, *out, "--reward-model", model, "--rewards", "given")
    assert "--workers" in refusal("score", source, *out, "--reward-model", model, "--workers", "many")
    assert "KEY=VALUE" in refusal("score", source, *out, "--reward-model", model, "--model-arg", "oops")
    assert neat_data("score", source, *out, "--reword-model", model).exit_code == 2


def test_a_reward_that_is_not_a_number_fails_and_names_the_row(source: Path, model: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    bad = model.replace(":length", ":not_a_number")
    result = neat_data("score", source, "--reward-model", bad, "--out", out, "--shard-rows", 4)
    assert result.exit_code == 1
    assert "nan" in result.stderr
    assert len(list(out.glob("round-0000/*.arrow"))) == 2  # what was committed stays


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_committed_and_the_same_command_goes_on(source: Path, model: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "neat_data", "score", source, "--out", out, "--shard-rows", "2"]
    command += ["--reward-model", model.replace(":length", ":interrupted"), "--quiet"]
    first = subprocess.run(command, env={**os.environ, "INTERRUPT": "1"}, capture_output=True, text=True)
    assert first.returncode == 130
    assert "same command goes on" in first.stderr
    assert "Traceback" not in first.stderr
    committed = len(list(out.glob("round-0000/*.arrow")))
    assert 0 < committed < 6
    assert subprocess.run(command).returncode == 0
    assert neat_data("verify", out).exit_code == 0


def test_a_full_disk_says_so_and_the_same_command_goes_on(model: str, tmp_path: Path) -> None:
    source = tmp_path / "long.jsonl"
    rows = [{"prompt": f"question {n}", "chosen": f"yes {n} " * 400, "rejected": f"no {n} " * 400} for n in range(200)]
    source.write_text("\n".join(map(json.dumps, rows)))
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1800k", "tmpfs", disk], capture_output=True)
    if mount.returncode:
        pytest.skip("mounting a small disk is not permitted here")
    try:
        command = ("score", source, "--reward-model", model, "--out", disk / "out", "--shard-rows", 10)
        full = neat_data(*command)
        assert full.exit_code == 1
        assert "disk is full" in full.stderr
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        assert neat_data(*command).exit_code == 0
        assert neat_data("verify", disk / "out").exit_code == 0
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_settings_file_fills_in_and_flags_win(source: Path, model: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(
        f"reward-model: {model}\nout: {tmp_path / 'a'}\nlimit: 3\nshard_rows: 2\nignore: tools\nworkers: 1\n"
    )
    line = ("score", source, "--settings", file, "--json")
    assert json.loads(neat_data(*line).stdout)["source_rows"] == 3
    assert json.loads(neat_data(*line, "--out", tmp_path / "b", "--limit", "5").stdout)["source_rows"] == 5
    file.write_text("limits: 3\n")
    wrong = neat_data(*line)
    assert (wrong.exit_code, "limits: no such option. Did you mean limit?" in wrong.stderr) == (2, True)
    old = neat_data("score", source, "--config", file)
    assert (old.exit_code, "is called --settings now" in old.stderr) == (2, True)


def test_help_and_stats_do_not_load_torch() -> None:
    program = "import sys, neat_data.cli, neat_data.scoring.score, neat_data.analysis.stats; print([*sys.modules])"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    for heavy in ("torch", "transformers", "datasets", "matplotlib", "vllm", "ray"):
        assert f"'{heavy}'" not in modules


def test_an_empty_or_foreign_folder_is_no_dataset(tmp_path: Path) -> None:
    for verb in ("stats", "show"):
        assert "dataset.json" in refusal(verb, tmp_path)
    assert "absent" in refusal("stats", tmp_path / "absent")
