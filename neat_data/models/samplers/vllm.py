"""vLLM as a sampler, in this process or in one that vLLM starts: `--sampler vllm`.

Token ids go in, made by the same functions as for transformers, and token ids come out; all asks of a shard are handed
over at once, so that vLLM keeps its batch full. Greedy samples in float32 are those of the transformers sampler. At a
temperature they are not: vLLM draws with a generator of its own. With one seed it draws the same again, as long as
rounding, which depends on the batch, tips no tie. The adapter goes along with every request and is never merged.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from neat_data.errors import InputError
from neat_data.models.adapter import adapter_config, adapter_hash
from neat_data.models.device import DTYPES, dtype_name, resolve_dtype
from neat_data.models.encode import encode_query
from neat_data.models.memory import budget_of
from neat_data.models.sampler import Ask, Sample, SamplerSpec
from neat_data.models.samplers.transformers import check_room, policy_label, window_of
from neat_data.models.servers import vllm_engine
from neat_data.models.stopping import end_of_turn, sampled, tokenizer_id
from neat_data.models.templates import policy_template
from neat_data.models.trees.exactness import configured_window
from neat_data.models.weights import identity_of, load_policy_shape
from neat_data.store.documents import Arguments, Settings

_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # those that vLLM takes
_adapter_ids = itertools.count(1)  # vLLM holds on to what it loaded under an id


_Done = Callable[[int, Sequence[int], "Sequence[float] | None"], None]


class VllmSampler:
    """See `neat_data.models.sampler.Sampler`. `--model-arg` goes to `vllm.LLM` and overrides what is set here.

    The token budget is the room of its cache of keys and values.
    """

    not_taken: tuple[str, ...] = ()

    def __init__(self, spec: SamplerSpec) -> None:
        """Errors as `load_sampler`, and where vLLM was built for another device or cannot run the model."""
        device = vllm_engine.first_device(spec.device)
        adapter = adapter_hash(spec.adapter) if spec.adapter else None
        vllm = vllm_engine.import_vllm(device, "--sampler vllm")
        source, config, self._tokenizer = load_policy_shape(spec)
        self.template = policy_template(self._tokenizer, spec.chat_template, spec.template_args, spec.thinking)
        self.stops = end_of_turn(self.template, self._tokenizer)
        self.spec = replace(
            spec,
            model=source.reference,
            backend="vllm",
            device=str(device),
            dtype=dtype_name(resolve_dtype(spec.dtype, device)),
            max_length=window_of(spec, configured_window(config)),
            token_budget=budget_of(spec, device),
        )
        identity = identity_of(source)
        self.label = policy_label(source, identity, adapter)
        self.tokenizer: str | None = tokenizer_id(self.template, self.stops)
        self.settings = {"model": source.label, **identity, "adapter": adapter, **self._settings(device.type)}
        self.notes = self._notes(vllm.__version__)
        self.usage = {"prompt_tokens": 0, "completion_tokens": 0}
        self.tells_logps = False  # whether samples say how likely their tokens were
        self._adapter = _request(spec.adapter) if spec.adapter else None
        options = _options(self.spec, config)
        self._sleeps = vllm_engine.sleeps(options)
        self._llm = vllm_engine.start(vllm, source.path, source.revision, options)

    def _settings(self, device: str) -> Settings:
        return {
            **self.template.fingerprint,
            "backend": "vllm",
            "device": device,
            "dtype": self.spec.dtype,
            "max_length": self.spec.max_length,
            "token_budget": self.spec.token_budget,
            "stop_tokens": list(self.stops.ids),
            "stop_string": self.stops.string,
            "model_args": self.spec.model_args,
        }

    def _notes(self, version: str) -> list[str]:
        spec = self.spec
        return [
            f"policy {self.label}: vLLM {version}, {spec.device}, {spec.dtype}, a window of {spec.max_length} tokens",
            *self.template.asking_notes,
            *([self.stops.note] if self.stops.note else []),
        ]

    def sample(
        self,
        asks: Sequence[Ask],
        *,
        token_budget: int | None = None,
        advance: Callable[[int, int], None] | None = None,
    ) -> list[Sample]:
        """See `Sampler.sample`. vLLM took its memory when it started, so another budget changes nothing."""
        assert self.spec.max_length is not None
        check_room(asks, self.spec.max_length)
        queries = [encode_query(ask, self.template, self.spec.max_length) for ask in asks]
        samples = [Sample("", None, finished=False, refused=query.refused) for query in queries]
        wanted = {number: query.ids for number, query in enumerate(queries) if query.refused is None}
        if advance is not None:
            advance(len(asks) - len(wanted), 0)

        def done(number: int, ids: Sequence[int], logps: Sequence[float] | None) -> None:
            sample = sampled(ids, self.stops, self._tokenizer, queries[number].turns_cut, self.template.opened)
            samples[number] = sample if logps is None else replace(sample, logps=tuple(logps))
            self.usage["prompt_tokens"] += len(wanted[number])
            self.usage["completion_tokens"] += len(ids)
            if advance is not None:
                advance(1, len(ids))

        self._llm.reset_prefix_cache()  # a shard's samples do not depend on what was sampled before
        with vllm_engine.errors_in_our_words():
            self._generate({number: (ids, self._parameters(asks[number])) for number, ids in wanted.items()}, done)
        return samples

    def take_adapter(self, folder: str, label: str) -> None:
        """Sample with another adapter from now on, of the rank that the engine was started with at most.

        Args:
            folder: where peft saved it; read when the next sample is drawn.
            label: for `Response.model`.
        """
        if self._adapter is not None:
            self._llm.llm_engine.remove_lora(self._adapter.lora_int_id)
        self._adapter, self.label = _request(folder), label

    def sleep(self) -> None:
        """Give the card's memory back until `wake`, where `enable_sleep_mode` was asked for and the platform can."""
        if self._sleeps:
            self._llm.sleep(level=1)

    def wake(self) -> None:
        """Take the memory again that `sleep` gave back."""
        if self._sleeps:
            self._llm.wake_up()

    def close(self) -> None:
        """See `Sampler.close`."""
        vllm_engine.end(self._llm)
        del self._llm

    def _generate(self, wanted: dict[int, tuple[list[int], Any]], done: _Done) -> None:
        """Run requests by their number; an interruption leaves none of them in the engine."""
        engine = self._llm.llm_engine
        try:
            for number, (ids, parameters) in wanted.items():
                engine.add_request(str(number), {"prompt_token_ids": ids}, parameters, lora_request=self._adapter)
            while engine.has_unfinished_requests():
                for output in engine.step():
                    made = output.outputs[0]
                    done(int(output.request_id), made.token_ids, _logps(made))
        except BaseException:
            engine.abort_request([str(number) for number in wanted])
            raise

    def _parameters(self, ask: Ask) -> Any:
        """vLLM's sampling parameters. What ends a response is told, so its own idea of it is left out."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            temperature=ask.sampling.temperature,
            top_p=ask.sampling.top_p,
            max_tokens=ask.sampling.max_new_tokens,
            seed=ask.seed,
            stop_token_ids=list(self.stops.ids),
            stop=self.stops.string,
            ignore_eos=True,
            logprobs=0 if self.tells_logps else None,  # those of the sampled tokens alone
            detokenize=self.stops.string is not None,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )


def _logps(made: Any) -> list[float] | None:
    """Log-probabilities of the sampled tokens, before temperature; None where they were not asked for."""
    if made.logprobs is None:
        return None
    return [entry[token].logprob for token, entry in zip(made.token_ids, made.logprobs, strict=True)]


def _request(folder: str) -> Any:
    from vllm.lora.request import LoRARequest

    number = next(_adapter_ids)
    return LoRARequest(f"adapter-{number}", number, str(Path(folder).resolve()))


def _options(spec: SamplerSpec, config: PreTrainedConfig) -> Arguments:
    """What vLLM is started with."""
    assert spec.max_length is not None
    assert spec.token_budget is not None
    room = max(spec.token_budget, spec.max_length)
    options: Arguments = {
        "runner": "generate",
        "dtype": spec.dtype,
        "max_model_len": spec.max_length,
        "kv_cache_memory_bytes": vllm_engine.cache_room(config, room, DTYPES[spec.dtype].itemsize),
        "enable_prefix_caching": True,
        "trust_remote_code": spec.trust_remote_code,
        "load_format": "safetensors",
    }
    if spec.device == "cpu":
        # A chunked prompt with a seed of its own ends the engine there; without chunks a prompt must fit into one pass.
        options |= {"enforce_eager": True, "enable_chunked_prefill": False, "max_num_batched_tokens": room}
    if spec.adapter:
        options |= {"enable_lora": True, "max_lora_rank": _rank(spec.adapter)}
    return {**options, **spec.model_args}


def _rank(folder: str) -> int:
    """The smallest rank that vLLM reserves room for and the adapter fits into."""
    config = adapter_config(folder)
    pattern = config.get("rank_pattern") or {}
    ranks = [config.get("r", 0), *(pattern.values() if isinstance(pattern, dict) else [pattern])]
    if not all(type(rank) is int for rank in ranks):
        raise InputError(f"its ranks are no whole numbers: {str(ranks)[:80]}", field="adapter", value=folder)
    own = max(ranks)
    allowed = next((rank for rank in _RANKS if rank >= own), None)
    if allowed is None:
        raise InputError(f"its rank is {own}, and vLLM takes {_RANKS[-1]} at most", field="adapter", value=folder)
    return allowed
