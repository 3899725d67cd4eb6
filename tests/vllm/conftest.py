"""A tiny classifier with random weights, the shipped tiny policy, and a real `vllm serve` of each on loopback.

These tests need vLLM, which lives in an environment of its own: `make test-vllm`. Elsewhere they are skipped.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
import tenacity

# Two layers over bytes; the weights are large enough that every token moves the logit by far
# more than the tolerance.
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,  # heads of 32: vLLM's attention on CPUs has none of 16
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "num_labels": 1,
    "initializer_range": 0.2,
}
POLICY = Path(__file__).resolve().parents[2] / "data" / "models" / "tiny-policy-plain"
SPECIALS = ["<|bos|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def save_tokenizer(folder: Path) -> int:
    """Bytes and the special tokens above; returns the size of the vocabulary."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({character: i for i, character in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(special, special=True) for special in SPECIALS])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|bos|>", eos_token="<|end|>", pad_token="<|pad|>"
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    return len(fast)


def save_classifier(folder: Path, **options: object) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(0)
    entries = save_tokenizer(folder)
    config = LlamaConfig(**{**SIZES, "vocab_size": entries, "pad_token_id": 257, **options})
    LlamaForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture
def two_outputs(tmp_path: Path) -> Path:
    return save_classifier(tmp_path / "two", num_labels=2)


@pytest.fixture
def small_heads(tmp_path: Path) -> Path:
    return save_classifier(tmp_path / "small", num_attention_heads=4)


@pytest.fixture(scope="session")
def policy() -> Path:
    """The shipped tiny policy."""
    return POLICY


@pytest.fixture(scope="session")
def tiny_reward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("models") / "tiny-reward")


@pytest.fixture(scope="session")
def starting_server(tiny_reward: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """A vLLM server of the tiny classifier on its way up, half a minute on one core; calling it gives the address."""
    options = ["--runner", "pooling", "--served-model-name", "tiny"]
    with _started(tiny_reward, tmp_path_factory.mktemp("server") / "log", options) as ready:
        yield ready


@pytest.fixture(scope="session")
def server(starting_server: Callable[[], str]) -> str:
    return starting_server()


@pytest.fixture(scope="session")
def starting_chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """A vLLM server of the tiny policy on its way up; calling it waits and gives the address, `/v1` included."""
    options = ["--served-model-name", "tiny-chat", "--max-model-len", "512", "--no-enable-chunked-prefill"]
    options += ["--generation-config", "vllm"]
    with _started(POLICY, tmp_path_factory.mktemp("chat") / "log", options) as ready:
        yield lambda: f"{ready()}/v1"


@contextmanager
def _started(model: Path, log: Path, options: list[str]) -> Iterator[Callable[[], str]]:
    """A server process on a free port, and what waits for its address. It ends with all that it started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # `vllm serve` looks for a distribution named vllm, which the CPU build does not have; this is what it runs.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), *options]
    command += ["--dtype", "float32", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--enforce-eager", "--kv-cache-memory-bytes", str(64 << 20)]
    environment = {**os.environ, "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    environment.pop("VLLM_ENABLE_V1_MULTIPROCESSING", None)  # set for the tests' own process, not for a server
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )

    def ready() -> str:
        _wait_until_ready(process, f"http://127.0.0.1:{port}", log)
        return f"http://127.0.0.1:{port}"

    try:
        yield ready
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with suppress(ProcessLookupError):  # its engine, where it did not take that along
        os.killpg(process.pid, signal.SIGKILL)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(httpx.TransportError),
        wait=tenacity.wait_fixed(0.5),
        stop=tenacity.stop_after_delay(240),
        reraise=True,
    ):
        with attempt:
            if process.poll() is not None:
                pytest.fail(f"vLLM's server ended: {log.read_text()[-2000:]}")
            httpx.get(f"{url}/health").raise_for_status()
