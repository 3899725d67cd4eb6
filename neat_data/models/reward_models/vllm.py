"""A classifier inside vLLM, in this process or in one that vLLM starts: `--backend vllm`.

Token ids go in, made by the same functions as for transformers, and raw logits come out: vLLM applies a sigmoid unless
it is told not to, by an option that has had several names. The score head runs in float32, as in the reference. Queries
are shared through vLLM's prefix cache, which is emptied before each shard, so that a shard's rewards do not depend on
what was scored before it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from transformers import PreTrainedConfig

from neat_data.errors import InputError, RunError
from neat_data.models.arguments import OURS
from neat_data.models.device import dtype_name, resolve_dtype
from neat_data.models.reward_model import RewardModelSpec, Scored, Task
from neat_data.models.reward_models.tokenized import Tokenized, load_shape, load_tokenizer, scored, sequences
from neat_data.models.servers import vllm_engine
from neat_data.models.trees.exactness import window
from neat_data.models.weights import identity_of
from neat_data.record import Message
from neat_data.store.documents import Arguments

CPU_BUDGET = 4_096
ACCELERATOR_BUDGET = 16_384
TASKS = 64  # handed to vLLM at a time, so that progress can be told
_RAW = ("use_activation", "activation", "softmax")  # newest name first


class VllmRewardModel:
    """See `neat_data.models.reward_model.RewardModel`.

    `--model-arg` goes to `vllm.LLM` and overrides what is set here."""

    not_taken: tuple[str, ...] = ()

    def __init__(self, spec: RewardModelSpec) -> None:
        """Errors as `load_reward_model`, and where vLLM is not installed or was built for another device."""
        if spec.path != "auto":
            raise InputError("vLLM shares queries in its own way; leave it out", field="path", value=spec.path)
        if given := next((name for name in OURS if name in spec.model_args), None):
            raise InputError("vLLM has its own attention and kernels; leave it out", field="model_args", value=given)
        device = vllm_engine.first_device(spec.device)
        vllm = vllm_engine.import_vllm(device, "--backend vllm")
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
        self._llm = vllm_engine.start(vllm, source.path, source.revision, _options(self.spec, shape.config))
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
        self.notes = [
            f"vLLM {vllm.__version__}, {device}, {self.spec.dtype}, at most {self.spec.max_length} tokens",
            *self.template.notes_of(spec.score),
        ]

    def score(
        self,
        tasks: Sequence[Task],
        *,
        token_budget: int | None = None,
        advance: Callable[[int, int], None] | None = None,
    ) -> list[Scored]:
        """See `RewardModel.score`. vLLM took its memory when it started, so another budget changes nothing."""
        self._llm.reset_prefix_cache()
        results: list[Scored] = []
        for start in range(0, len(tasks), TASKS):
            encoded = self._tokens.encode(tasks[start : start + TASKS])
            part = scored(encoded, *self._classify(sequences(encoded)))
            results += part
            if advance is not None:
                advance(len(part), sum(item.tokens_run for item in part))
        return results

    def close(self) -> None:
        """See `RewardModel.close`. On a CPU no other engine of this process outlives it."""
        vllm_engine.end(self._llm)
        del self._llm

    def _check(self, path: str) -> None:
        """One short dialogue: what vLLM has no kernel for shows only when it runs."""
        try:
            self.score([Task((Message("user", "Knock knock."),), ("Who is there?",))])
        except RunError as error:
            raise InputError(f"vLLM cannot run {path}: {vllm_engine.first_line(error.__cause__ or error)}") from error

    def _classify(self, asked: list[list[int]]) -> tuple[list[float], list[int]]:
        """Raw logits, and how many tokens of each sequence came from the cache."""
        prompts = [{"prompt_token_ids": ids} for ids in asked]
        with vllm_engine.errors_in_our_words():
            outputs = self._llm.classify(prompts, pooling_params=self._parameters, use_tqdm=False) if asked else []
        # `probs` is vLLM's name whether or not an activation was applied.
        logits = [float(output.outputs.probs[0]) for output in outputs]
        return logits, [output.num_cached_tokens for output in outputs]


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


def _options(spec: RewardModelSpec, config: PreTrainedConfig) -> Arguments:
    """What vLLM is started with; on a CPU the cache has room for 16 full sequences."""
    assert spec.max_length is not None
    assert spec.token_budget is not None
    cpu = {"enforce_eager": True, "kv_cache_memory_bytes": vllm_engine.cache_room(config, 16 * spec.max_length, 4)}
    return {
        "runner": "pooling",
        "dtype": spec.dtype,
        "max_model_len": spec.max_length,
        "max_num_batched_tokens": max(spec.token_budget, spec.max_length),
        "enable_chunked_prefill": False,
        "enable_prefix_caching": True,
        "trust_remote_code": spec.trust_remote_code,
        "load_format": "safetensors",
        "hf_overrides": {"head_dtype": "float32"},
        **(cpu if spec.device == "cpu" else {}),
        **spec.model_args,
    }
