"""What is evaluated or judged: a run, one of its checkpoints, or any causal language model, ready to answer queries.

`open_subject` finds it, with the tokenizer, the template and the stops that the run had, and what identifies it; its
weights are loaded when they are first needed. `answers` asks it. `policy.start` names the policy that a run began from.
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import PreTrainedModel

from neat_data.errors import InputError
from neat_data.models.adapter import adapted, adapter_hash, with_adapter
from neat_data.models.device import release, resolve_device, resolve_dtype
from neat_data.models.memory import budget_of, check, estimate
from neat_data.models.out_of_memory import halving
from neat_data.models.sampler import NO_ROUND, Ask, Sample, SamplerSpec, Sampling, sample_seed
from neat_data.models.samplers.decode_attention import use_where_faster
from neat_data.models.samplers.transformers import LONGEST, Decoder, policy_label, window_of
from neat_data.models.stopping import Stops, end_of_turn, tokenizer_id
from neat_data.models.templates import ChatTemplate, policy_template
from neat_data.models.trees.attention_choice import asked_attention
from neat_data.models.trees.exactness import configured_window
from neat_data.models.weights import identity_of, load_policy, load_policy_shape
from neat_data.options.words import Thinking
from neat_data.prompts.sets import Prompt, load_prompts
from neat_data.record import canonical_json
from neat_data.scoring.workers import Advance
from neat_data.store.documents import Arguments, Settings
from neat_train.config.settings import of_earlier_versions
from neat_train.documents import PolicyContent
from neat_train.evaluation.queries import EvalQuery
from neat_train.evaluation.result import EvaluatedPolicy
from neat_train.policy.policy import own_tokenizer
from neat_train.policy.start import base_of, remember_base, start_of
from neat_train.run_folder import RESULT, SETTINGS, run_of

_SHORT = {"none": "plain", "positive": "neat:positive", "negative": "neat:negative"}


@dataclass(frozen=True, eq=False)
class Subject:
    """A policy that answers.

    Attributes:
        spec: as the user gave it.
        label: for people: the folder's name, or the hub id.
        kind: whether it is a run of `neat-train fit` (or a checkpoint of one).
        method, seed: of the run; None for a model.
        identity: what decides its numbers: a hub's commit, or hashes of a folder, and of the adapter.
        model_label: for `Response.model`.
        template, stops, tokenizer_id: as training uses them.
        max_length: tokens of query and answer together.
        start: what `open_subject` takes for the policy that the run began from; None where it is not known.
        began_with: the identity of that policy, as the run wrote it down.
        trust_remote_code: whether code that comes with the model is run.
    """

    spec: str
    label: str
    kind: Literal["run", "model"]
    method: str | None
    seed: int | None
    identity: dict[str, str]
    model_label: str
    template: ChatTemplate
    stops: Stops
    tokenizer_id: str
    max_length: int
    start: str | None
    began_with: PolicyContent
    trust_remote_code: bool
    _asked: SamplerSpec

    @property
    def base(self) -> str:
        """What loads its model without an adapter."""
        return self._asked.model

    @property
    def weights(self) -> str:
        """sha256 that tells it from any other."""
        return hashlib.sha256(canonical_json(self.identity).encode()).hexdigest()

    @property
    def token_budget(self) -> int:
        """(query + new tokens) x rows of one batch, on its device; InputError where it is none."""
        return budget_of(self._asked, resolve_device(self._asked.device))

    @property
    def attention(self) -> str:
        """That was asked for over token trees; InputError for one that is unknown."""
        return asked_attention(self._asked.model_args)

    @property
    def settings(self) -> Settings:
        """JSON-able; all that can change an answer or a log-probability, on the device of this machine. No paths."""
        device = resolve_device(self._asked.device)
        return {
            **self.identity,
            **self.template.fingerprint,
            "stop_tokens": list(self.stops.ids),
            "stop_string": self.stops.string,
            "max_length": self.max_length,
            "token_budget": self.token_budget,
            "device": device.type,
            "dtype": str(resolve_dtype(self._asked.dtype, device)).removeprefix("torch."),
            "model_args": self._asked.model_args,
        }

    @cached_property
    def decoder(self) -> Decoder:
        """The model, loaded on its device in evaluation mode, around which samples are drawn.

        Raises:
            InputError: its weights are damaged, or do not fit into memory.
        """
        asked, device = self._asked, resolve_device(self._asked.device)
        with _without_names():
            check([estimate(asked)], asked.device)
            loaded = load_policy(asked, resolve_dtype(asked.dtype, device))
            model = _with_adapter(loaded.model, asked.adapter) if asked.adapter else loaded.model
        if not hasattr(model, "hf_device_map"):
            nn.Module.to(model, device)
        use_where_faster(model)
        return Decoder(model, self.template.tokenizer, self.template, self.stops, self.max_length, self.token_budget)

    def close(self) -> None:
        """Free the model's memory; it is loaded again where it is needed again."""
        self.__dict__.pop("decoder", None)
        gc.collect()
        release()

    @property
    def name(self) -> EvaluatedPolicy:
        """For eval.json and judge.json."""
        return EvaluatedPolicy(self.spec, self.label, self.kind, self.method, self.seed, self.weights)


@dataclass(frozen=True, slots=True)
class _Recorded:
    """What settings.json says of a run: its method and seed, and the policy that it began with."""

    method: str
    seed: int
    policy: PolicyContent


def open_subject(
    spec: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    chat_template: str = "auto",
    thinking: Thinking | None = None,
    template_args: dict[str, Any] | None = None,
    max_length: int | None = None,
    token_budget: int | None = None,
    model_args: Arguments | None = None,
    trust_remote_code: bool = False,
    base: str | None = None,
) -> Subject:
    """Find a run, a run's checkpoint, a model's or an adapter's folder, or a hub id.

    Args:
        thinking, template_args: as `SamplerSpec` has them.
        max_length: tokens of query and answer; None: the model's window, 4,096 at most.
        token_budget: (query + new tokens) x rows of one batch; None: the device's default.
        base: the model of an adapter that says no more of it than a folder; see `start.base_of`.

    Raises:
        InputError: there is none, the run has not finished, or its settings cannot be read.
    """
    asked_attention(model_args)  # an unknown one shows before hours of sampling
    folder = Path(spec)
    adapter = str(folder) if (folder / "adapter_config.json").is_file() else None
    recorded = _recorded(spec)
    with _without_names():
        asked = SamplerSpec(
            model=base_of(adapter, base) if adapter else spec,
            adapter=adapter,
            device=device,
            dtype=dtype,
            chat_template=chat_template,
            max_length=max_length,
            token_budget=token_budget,
            model_args=model_args or {},
            trust_remote_code=trust_remote_code,
        )
        return _subject(spec, asked, recorded, base_was_named=base is not None)


def _subject(spec: str, asked: SamplerSpec, recorded: _Recorded | None, *, base_was_named: bool) -> Subject:
    """What its files say, before its weights are loaded."""
    folder = Path(spec)
    source, config, tokenizer = load_policy_shape(asked)
    tokenizer = own_tokenizer(folder if asked.adapter else None, asked.trust_remote_code) or tokenizer
    template = policy_template(tokenizer, asked.chat_template, asked.template_args, asked.thinking)
    stops = end_of_turn(template, tokenizer)
    adapter, identity = adapter_hash(asked.adapter) if asked.adapter else None, identity_of(source)
    if adapter and base_was_named:
        remember_base(identity, source)
    return Subject(
        spec=spec,
        label=label_of(folder) if folder.is_dir() else source.label,
        kind="run" if recorded else "model",
        method=recorded.method if recorded else None,
        seed=recorded.seed if recorded else None,
        identity={**identity, **({"adapter": adapter} if adapter else {})},
        model_label=policy_label(source, identity, adapter),
        template=template,
        stops=stops,
        tokenizer_id=tokenizer_id(template, stops),
        max_length=_longest(asked, configured_window(config)),
        start=start_of(recorded.policy) if recorded else None,
        began_with=recorded.policy if recorded else {},
        trust_remote_code=asked.trust_remote_code,
        _asked=asked,
    )


def _longest(asked: SamplerSpec, window: int | None) -> int:
    return window_of(asked, min(window or LONGEST, LONGEST) if asked.max_length is None else window)


def _with_adapter(model: PreTrainedModel, folder: str) -> Any:
    """In float32 the adapter goes into the weights, which rounds as little as any sum there and samples a fifth faster.

    In lower precision what an adapter adds can be below the weights' last bit: there it stays beside them.
    """
    if model.dtype != torch.float32:
        return with_adapter(model, folder)
    return adapted(model, folder, autocast_adapter_dtype=False).merge_and_unload().eval()


def _recorded(spec: str) -> _Recorded | None:
    """Of a run that has finished, or of one of a run's checkpoints; None for a model."""
    run = run_of(Path(spec))
    if run is None:
        return None
    if run == Path(spec) and not (run / RESULT).is_file():
        raise InputError(
            f"{spec}: is a run that has not finished\n"
            "finish it with the command that began it, or give one of its checkpoints"
        )
    try:
        stored = json.loads((run / SETTINGS).read_bytes())
        settings = of_earlier_versions(stored["settings"])
        policy = PolicyContent(**stored["content"]["policy"])
        return _Recorded(settings["method"], settings["training"]["seed"], policy)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{run / SETTINGS}: cannot be read as a run's settings ({error!r})") from error


def label_of(folder: Path) -> str:
    """A folder's name, behind that of the folder above where it is a number or a checkpoint.

    >>> label_of(Path("/runs/neat-pp")), label_of(Path("/runs/neat-pp/0")), label_of(Path("/runs/neat/checkpoint-9"))
    ('neat-pp', 'neat-pp/0', 'neat/checkpoint-9')
    """
    place = folder.resolve()
    more = place.name.isdecimal() or place.name.startswith("checkpoint-")
    return f"{place.parent.name}/{place.name}" if more else place.name


@contextmanager
def _without_names() -> Iterator[None]:
    """Errors about a policy that has no name here: who asks for it has several."""
    try:
        yield
    except InputError as error:
        raise error.renamed({"policy": None, "adapter": None}) from error


def answers(
    subject: Subject,
    queries: Sequence[EvalQuery],
    *,
    prompt: Prompt,
    temperature: float = 1.0,
    seed: int = 0,
    max_new_tokens: int = 128,
    advance: Advance | None = None,
) -> list[Sample]:
    """One answer a query, in their order; `Sample.refused` says why there is none.

    Args:
        prompt: what stands around the query; see `named_prompt`.
        temperature: 0 is greedy.
        seed: with the query's id and the prompt's name it decides the answer, whatever else is asked, so that two
            subjects are compared with the same luck.
        advance: hears of (answers, tokens) done.

    Raises:
        InputError: the new tokens leave no room for a query.
        RunError: out of memory even with a small budget.
    """
    asks = asked(queries, prompt, Sampling(temperature=temperature, max_new_tokens=max_new_tokens), seed)
    decoder = subject.decoder
    return halving(lambda smaller: decoder.sample(asks, token_budget=smaller, advance=advance), decoder.token_budget)[0]


def asked(queries: Sequence[EvalQuery], prompt: Prompt, sampling: Sampling, seed: int) -> list[Ask]:
    """What `answers` asks."""
    return [
        Ask(
            prompt.applied(query.messages),
            sample_seed(seed, NO_ROUND, query.query_id, prompt.name, 0),
            sampling,
            prompt.lead,
        )
        for query in queries
    ]


def named_prompt(spec: str) -> Prompt:
    """`none`, `positive` or `negative` (Table 1 of the paper), or one prompt of a set: neat:positive, FILE, FILE:NAME.

    Raises:
        InputError: no such prompt, or a set of several.
    """
    try:
        prompts = load_prompts(_SHORT.get(spec, spec))
    except InputError as error:
        raise error.renamed({"prompts": "prompt"}, "or say none, positive or negative") from error
    return prompts.only("prompt", spec)
