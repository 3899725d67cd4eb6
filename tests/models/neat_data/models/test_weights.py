"""Models that cannot be loaded: two lines that say what and what to do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from neat_data.errors import InputError
from neat_data.models.load import load_reward_model
from neat_data.models.reward_model import RewardModelSpec
from neat_data.models.weights import ModelSource


def message(model: str | Path) -> str:
    with pytest.raises(InputError) as caught:
        load_reward_model(RewardModelSpec(str(model), device="cpu"))
    assert 1 <= len(str(caught.value).splitlines()) <= 2
    return str(caught.value)


@pytest.fixture
def folder(make_classifier: Callable[..., Path], tokenizer: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(make_classifier(LlamaConfig, tokenizer), tmp_path / "model"))


def test_two_outputs(make_classifier: Callable[..., Path], tokenizer: Any) -> None:
    assert "has 2 outputs" in message(make_classifier(LlamaConfig, tokenizer, num_labels=2))


def test_a_generative_model_has_no_score_head(tmp_path: Path, tokenizer: Any) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=512, **sizes)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert "has no score head, it is a generative model (LlamaForCausalLM)" in message(tmp_path)


def test_a_head_missing_from_the_weights_is_not_made_up(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "has no score head that fits (score.weight" in message(folder)


def test_damaged_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert "a .safetensors file is damaged" in message(folder)


def test_weights_in_another_format(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "has no .safetensors weights" in message(folder)


def test_a_folder_that_holds_no_model(tmp_path: Path) -> None:
    assert "cannot be loaded" in message(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no_such_kind"}))
    assert "cannot be loaded" in message(tmp_path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert "no such folder" in message(tmp_path / "nothing")
    assert "no such folder" in message("nothing")


def test_a_missing_template_names_the_option(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    assert "chat_template hh" in message(folder)


def test_ids_and_revisions_are_told_apart(folder: Path) -> None:
    assert ModelSource.parse("acme/judge@v1.2") == ModelSource("acme/judge", "v1.2", local=False)
    assert ModelSource.parse("acme/judge").reference == "acme/judge"
    local = ModelSource.parse(str(folder))
    assert (local.local, local.label) == (True, "model")


class Hub(BaseHTTPRequestHandler):
    """Answers by the repository's name, with the codes and headers of the real hub."""

    answers: ClassVar[dict[str, tuple[int, str]]] = {
        "gated": (403, "GatedRepo"),
        "private": (401, "RepoNotFound"),
        "missing": (404, "RepoNotFound"),
        "old": (404, "RevisionNotFound"),
        "closed": (403, ""),
        "busy": (429, ""),
    }

    def do_HEAD(self) -> None:
        name = next((name for name in self.answers if f"acme/{name}" in self.path), "missing")
        status, code = self.answers[name]
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


ASK = """
import sys, time
time.sleep = lambda seconds: None  # the client waits half a minute for a busy hub
from neat_data.errors import InputError
from neat_data.models.reward_model import RewardModelSpec
from neat_data.models.load import load_reward_model
for model in sys.argv[1:]:
    try:
        load_reward_model(RewardModelSpec(model, device="cpu"))
    except InputError as error:
        print("|".join(str(error).splitlines()))
"""


def ask(hub: str, home: Path, *models: str, **env: str) -> list[str]:
    """The messages for some models, from a process that takes `hub` for the hub."""
    settings = {**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **env}
    settings.pop("HF_TOKEN", None)
    command = [sys.executable, "-c", ASK, *models]
    return subprocess.run(command, env=settings, capture_output=True, text=True, check=True).stdout.splitlines()


def test_every_answer_of_the_hub_is_explained(hub: str, tmp_path: Path) -> None:
    names = ["acme/gated", "acme/private", "acme/missing", "acme/old@v9", "acme/closed", "acme/busy"]
    said = ask(hub, tmp_path, *names)
    assert [line.split(": ", 1)[1].split("|")[0] for line in said] == [
        "the hub keeps it behind a form (gated)",
        "the hub has no such model, or it is private",
        "the hub has no such model, or it is private",
        "the hub has no revision v9",
        "the hub refuses access (403)",
        "the hub asks for patience (429, too many requests)",
    ]
    assert all("|" in line for line in said)


@pytest.mark.slow
def test_being_offline_is_explained(tmp_path: Path) -> None:
    (line,) = ask("http://127.0.0.1:9", tmp_path, "acme/judge", HF_HUB_OFFLINE="1")
    assert "cannot be reached and there is no copy in the cache|go online once" in line
