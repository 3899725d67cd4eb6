"""A classifier inside vLLM, in this process or in one that vLLM starts: `--backend vllm`.

Token ids go in, made by the same functions as for transformers, and raw logits come out: vLLM applies a sigmoid unless
it is told not to, by an option that has had several names. The score head runs in float32, as in the reference. Queries
are shared through vLLM's prefix cache, which is emptied before each shard, so that a shard's rewards do not depend on
what was scored before it.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import PreTrainedConfig

from neat_data.errors import InputError, RunError
from neat_data.models.choose_path import window
from neat_data.models.device import dtype_name, is_out_of_memory, resolve_device, resolve_dtype
from neat_data.models.pretrained import identity_of
from neat_data.models.reward import OutOfMemory, RewardSpec, Scored, Task
from neat_data.models.tokenized import Tokenized, load_shape, load_tokenizer, scored, sequences
from neat_data.record import Message

CPU_BUDGET = 4_096
ACCELERATOR_BUDGET = 16_384
TASKS = 64  # handed to vLLM at a time, so that progress can be told
_RAW = ("use_activation", "activation", "softmax")  # newest name first
_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # stdout belongs to --json
}


class VllmRewardModel:
    """See `neat_data.models.reward.RewardModel`. `--model-arg` goes to `vllm.LLM` and overrides what is set here."""

    def __init__(self, spec: RewardSpec) -> None:
        """Errors as `load_reward_model`, and where vLLM is not installed or was built for another device."""
        if spec.path != "auto":
            raise InputError(f"--path {spec.path}: vLLM shares queries in its own way; leave it out")
        device = _device(spec)
        vllm = _import_vllm(device)
        dtype = resolve_dtype(spec.dtype, device)
        source, shape = load_shape(spec)
        tokenizer = load_tokenizer(source, spec.trust_remote_code)
        self._tokens = Tokenized(spec, tokenizer, window(shape, tokenizer))
        self.template = self._tokens.template
        budget = spec.token_budget or (CPU_BUDGET if device.type == "cpu" else ACCELERATOR_BUDGET)
        self.spec = replace(
            self._tokens.spec,
            model=source.reference,
            device=str(device),
            dtype=dtype_name(dtype),
            token_budget=budget,
        )
        self._parameters = _raw_logits(vllm.PoolingParams)
        self._llm = _start(vllm, self.spec, shape.config, source.path, source.revision)
        self._check(source.path)
        self.settings = {
            "model": source.label,
            **identity_of(source),
            **self.template.fingerprint,
            "backend": "vllm",
            "device": device.type,
            "dtype": self.spec.dtype,
            "max_length": self.spec.max_length,
            "max_response": self.spec.max_response,
            "token_budget": budget,
            "head": "float32",
            "model_args": spec.model_args,
        }
        self.notes = [f"vLLM {vllm.__version__}, {device}, {self.spec.dtype}, at most {self.spec.max_length} tokens"]

    def score(
        self,
        tasks: Sequence[Task],
        *,
        token_budget: int | None = None,
        advance: Callable[[int, int], None] | None = None,
    ) -> list[Scored]:
        """See `RewardModel.score`. vLLM took its memory when it started, so another budget changes nothing."""
        self._llm.reset_prefix_cache()
        found: list[Scored] = []
        for start in range(0, len(tasks), TASKS):
            encoded = self._tokens.encode(tasks[start : start + TASKS])
            part = scored(encoded, *self._classify(sequences(encoded)))
            found += part
            if advance is not None:
                advance(len(part), sum(one.tokens_run for one in part))
        return found

    def _check(self, path: str) -> None:
        """One short dialogue: what vLLM has no kernel for shows only when it runs."""
        try:
            self.score([Task((Message("user", "Knock knock."),), ("Who is there?",))])
        except RunError as error:
            raise InputError(f"vLLM cannot run {path}: {_first_line(error.__cause__ or error)}") from error

    def _classify(self, asked: list[list[int]]) -> tuple[list[float], list[int]]:
        """Raw logits, and how many tokens of each sequence came from the cache."""
        prompts = [{"prompt_token_ids": ids} for ids in asked]
        try:
            outputs = self._llm.classify(prompts, pooling_params=self._parameters, use_tqdm=False) if asked else []
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise OutOfMemory("vLLM ran out of memory; try a smaller --token-budget") from error
            raise RunError(f"vLLM stopped: {_first_line(error)}; run the same command again to go on") from error
        # `probs` is vLLM's name whether or not an activation was applied.
        logits = [float(output.outputs.probs[0]) for output in outputs]
        return logits, [output.num_cached_tokens for output in outputs]


def _device(spec: RewardSpec) -> torch.device:
    device = resolve_device(spec.device)
    if device.index:
        raise InputError(
            f"--device {spec.device}: vLLM takes the first card it sees; choose it with CUDA_VISIBLE_DEVICES,\n"
            "or spread one model over several with --model-arg tensor_parallel_size=N and --workers 1"
        )
    return device


def _import_vllm(device: torch.device) -> Any:
    """vLLM, told to be quiet; on a CPU inside this process, which starts it in seconds."""
    environment = dict(_ENVIRONMENT)
    if device.type == "cpu":
        environment["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    try:
        import vllm
        from vllm.platforms import current_platform
    except ImportError as error:
        raise InputError(
            f"--backend vllm needs vLLM: pip install 'neat-align[vllm]' ({error})\n"
            "on a machine without a GPU: make vllm"
        ) from error
    if current_platform.device_type != device.type:
        raise InputError(f"--device {device.type}: the vLLM installed here runs on {current_platform.device_type}")
    return vllm


def _raw_logits(parameters: Any) -> Any:
    """vLLM's pooling parameters with no activation, under the name that this version has for it.

    Raises:
        InputError: it has none that is known here; a reward behind a sigmoid is worse than no reward.
    """
    known = inspect.signature(parameters).parameters
    name = next((name for name in _RAW if name in known), None)
    if name is None:
        raise InputError("this version of vLLM names no option for raw logits that is known here; vLLM 0.32 does")
    return parameters(**{name: False})


def _start(vllm: Any, spec: RewardSpec, config: PreTrainedConfig, path: str, revision: str | None) -> Any:
    assert spec.max_length is not None
    assert spec.token_budget is not None
    options = {
        "runner": "pooling",
        "dtype": spec.dtype,
        "max_model_len": spec.max_length,
        "max_num_batched_tokens": max(spec.token_budget, spec.max_length),
        "enable_chunked_prefill": False,
        "enable_prefix_caching": True,
        "use_tqdm_on_load": False,
        "trust_remote_code": spec.trust_remote_code,
        "hf_overrides": {"head_dtype": "float32"},
        **(_cpu_options(config, spec.max_length) if spec.device == "cpu" else {}),
        **spec.model_args,
    }
    try:
        return vllm.LLM(model=path, revision=revision, tokenizer_revision=revision, **options)
    except Exception as error:  # what vLLM raises while starting is of every kind
        raise InputError(f"vLLM cannot run {path}: {type(error).__name__}: {_first_line(error)}") from error


def _cpu_options(config: PreTrainedConfig, max_length: int) -> dict[str, Any]:
    """The cache's size is given because vLLM's own guess fails on some memory layouts: room for 16 full sequences."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    sequence = 2 * 4 * text.num_hidden_layers * heads * width * max_length  # keys and values of 4 bytes at most
    return {"enforce_eager": True, "kv_cache_memory_bytes": max(64 << 20, 16 * sequence)}


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
