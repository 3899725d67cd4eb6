"""Settings for every test: the same on every machine, whoever runs them, and nothing sent anywhere."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# One thread, as two are slow beside another busy process; a terminal of 80 columns, which `COLUMNS` alone fixes.
_FIXED = {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "COLUMNS": "80"}
os.environ.update(_FIXED, TERM="xterm", HF_HUB_DISABLE_TELEMETRY="1")
# What tells a library to colour, to stay offline, whom to ask as whom, or that a launcher has started it.
_COLOURS = ("FORCE_COLOR", "PY_COLORS", "NO_COLOR", "CLICOLOR_FORCE", "GITHUB_ACTIONS", "TTY_COMPATIBLE")
_ACCOUNTS = tuple(f"{who}_{what}" for who in ("OPENAI", "ANTHROPIC") for what in ("API_KEY", "BASE_URL", "AUTH_TOKEN"))
_HUB = ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
_RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
for _name in (*_COLOURS, *_ACCOUNTS, *_HUB, *_RANKS):
    os.environ.pop(_name, None)
# A suite that a shell started in the background has Ctrl-C ignored, and so would all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
# No test sees the user's notes of where models lie, or leaves notes behind; the processes that it starts inherit this.
os.environ["NEAT_ALIGN_CACHE"] = tempfile.mkdtemp(prefix="neat-align-tests-")
atexit.register(shutil.rmtree, os.environ["NEAT_ALIGN_CACHE"], ignore_errors=True)
# A shared machine makes deadlines a matter of luck; the same examples are drawn every time. `make slow` draws more.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True, max_examples=20)
hypothesis.settings.register_profile("thorough", hypothesis.settings.get_profile("steady"), max_examples=100)
hypothesis.settings.load_profile("steady")

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="module", autouse=True)
def _what_is_loaded_is_not_searched_for_garbage() -> None:
    """A collection over all that torch and transformers bring takes a second, and closing a model runs one."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real preference data that the project may read and does not ship."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real data folder shared/data is not beside this checkout")
    return SHARED_DATA


@pytest.fixture
def serve() -> Iterator[Callable[[Any], Any]]:
    """`serve(answer)` starts a `tests.support.loopback.Server`; all of them end with the test."""
    from tests.support.loopback import Server

    started = []

    def start(answer: Any) -> Server:
        server = Server(answer)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


@pytest.fixture
def hub() -> Iterator[Any]:
    """A `tests.support.hub.Hub` that listens on loopback."""
    from tests.support.hub import Hub

    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def tiny_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a randomly initialised Llama classifier (2 layers of 32) and a byte-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-classifier")
    special = ["<|pad|>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    alphabet = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    core = Tokenizer(models.BPE({token: number for number, token in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(special)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<|bos|>", eos_token="<|end|>", pad_token="<|pad|>"
    )
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(alphabet),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        num_labels=1,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
