"""The policy that is trained: a causal language model with an adapter (or trained whole), its template and its stops.

`load_policy_to_train` puts it together from a folder, a hub id, or what an earlier run left behind; `Policy.reference`
runs it as it was then; `Policy.save` leaves a folder that loads elsewhere and stops by itself there.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel, prepare_model_for_kbit_training
from safetensors.torch import load_file
from torch import nn
from transformers import AutoTokenizer, BitsAndBytesConfig, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from neat_data.errors import InputError
from neat_data.models.adapter import adapter_hash
from neat_data.models.device import dtype_name, resolve_device, resolve_dtype
from neat_data.models.fused_kernels import fuse_kernels, kernels_setting
from neat_data.models.sampler import SamplerSpec
from neat_data.models.samplers.transformers import policy_label
from neat_data.models.stopping import Stops, end_of_turn, tokenizer_id
from neat_data.models.templates import ChatTemplate, policy_template
from neat_data.models.weights import Loaded, ModelSource, copy_processor, load_policy, silence
from neat_data.options.words import Thinking
from neat_data.record import Message
from neat_data.store.documents import Arguments, Settings
from neat_train.policy.fused_lora import fuse
from neat_train.policy.lora import REFERENCE, TRAINED, adapter_to_go_on, new_adapter, read_adapter, save_adapter
from neat_train.policy.start import base_of
from neat_train.policy.undisturbed import evaluating

if TYPE_CHECKING:
    from neat_train.config.settings import LoraSettings

_PROBE = (Message("user", "Knock knock."), Message("assistant", "Whoisthere"), Message("user", "Nobodyelse"))


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """What the user asked for.

    Attributes:
        model: a folder, a hub id (`ID@REV`), a run's folder, or any folder with a LoRA adapter to go on from.
        full: train all weights, in float32, instead of an adapter.
        lora: shape and number format of the adapter; where one is gone on from, only what it has already.
        dtype: of the weights that are not trained.
        chat_template: `auto`, `hh`, or a file.
        thinking, template_args: as `SamplerSpec` has them.
        keep_reference: whether a `full` policy keeps a frozen copy of its start; an adapter needs none.
        seed: what a new adapter is drawn from.
        base: the model of an adapter that says no more of it than a folder; see `start.base_of`.
    """

    model: str
    full: bool
    lora: LoraSettings
    load_in_4bit: bool = False
    device: str = "auto"
    dtype: str = "auto"
    chat_template: str = "auto"
    thinking: Thinking | None = None
    template_args: Arguments = field(default_factory=dict)
    model_args: Arguments | None = None
    gradient_checkpointing: bool = False
    trust_remote_code: bool = False
    keep_reference: bool = False
    seed: int = 0
    base: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """A policy on its device, ready to be trained.

    Attributes:
        model: peft's model, or the model itself where all of it is trained; trainable parameters require gradients.
        body: the transformers model inside.
        tokenizer: its chat template is the one that is trained on.
        tokenizer_id: for `Response.tokenizer`.
        label: of the start, for `Response.model`.
        identity: what decides the start's numbers: a hub's commit, or hashes of a folder.
        settings: JSON-able; what can change a byte of the result. No paths, no time, no machine.
        notes: lines worth printing once.
        full: whether all weights are trained.
        trained: the names of the trained parameters, in `model`.
        source: where the base model comes from.
        frozen: a copy of the start, where all weights are trained and a reference was asked for.
    """

    model: nn.Module
    body: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    template: ChatTemplate
    stops: Stops
    tokenizer_id: str
    label: str
    identity: dict[str, str]
    settings: Settings
    notes: list[str]
    device: torch.device
    full: bool
    spec: PolicySpec
    trained: tuple[str, ...]
    source: ModelSource
    frozen: PreTrainedModel | None = None

    @contextmanager
    def reference(self) -> Iterator[nn.Module]:
        """The module that computes what the policy computed when training began; without gradients or dropout.

        Raises:
            RuntimeError: all weights are trained and no copy was kept (`PolicySpec.keep_reference`).
        """
        if isinstance(self.model, PeftModel):
            with torch.no_grad(), evaluating(self.model), _start_of(self.model):
                yield self.model
        elif self.frozen is not None:
            with torch.no_grad():
                yield self.frozen
        else:
            raise RuntimeError("the policy was loaded without a reference")

    def trained_hash(self) -> str:
        """sha256 over the names and the bytes of what is trained."""
        parameters = dict(self.model.named_parameters())
        digest = hashlib.sha256()
        for name in self.trained:
            weight = parameters[name].detach().cpu().contiguous()
            digest.update(f"{name} {dtype_name(weight.dtype)} {tuple(weight.shape)}\n".encode())
            digest.update(weight.flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def put_trained(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Give what is trained these weights, by their names."""
        own = dict(self.model.named_parameters())
        with torch.no_grad():
            for name in self.trained:
                own[name].copy_(weights[name])

    def save(self, folder: Path) -> None:
        """Write what `AutoPeftModelForCausalLM` (`AutoModelForCausalLM` where all was trained) loads from anywhere.

        Beside the weights: the tokenizer, `chat_template.jinja`, and `generation_config.json` with the stop tokens.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with silence():
            if isinstance(self.model, PeftModel):
                place = str(Path(self.source.path).resolve()) if self.source.local else self.source.path
                save_adapter(self.model, folder, place, self.source.revision)
            else:
                self.body.save_pretrained(folder)
                copy_processor(self.source, folder)
            assert self.body.generation_config is not None
            self.body.generation_config.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)

    def restore(self, folder: Path) -> None:
        """Put the weights that `save` wrote into this policy, bit for bit."""
        if isinstance(self.model, PeftModel):
            read_adapter(self.model, folder)
        else:
            for file in sorted(folder.glob("model*.safetensors")):
                report = self.body.load_state_dict(load_file(file), strict=False)  # tied weights are written once
                assert not report.unexpected_keys, report.unexpected_keys


def load_policy_to_train(spec: PolicySpec) -> Policy:
    """Load the policy that `spec` names, with what is to be trained of it.

    Raises:
        InputError: it cannot be had, has no end-of-turn token, or the settings contradict each other or its adapter.
    """
    _check(spec)
    device = resolve_device(spec.device)
    start = Path(spec.model) if (Path(spec.model) / "adapter_config.json").is_file() else None
    loaded = _base(spec, start, device)
    tokenizer = own_tokenizer(start, spec.trust_remote_code) or loaded.tokenizer
    template = policy_template(tokenizer, spec.chat_template, spec.template_args, spec.thinking)
    stops = _stops(template, tokenizer, spec)
    _settle(loaded.model, tokenizer, template, stops)
    model = _trained(loaded.model, start, spec, device)
    fused = fuse_kernels(loaded.model, spec.model_args)
    adapter = adapter_hash(str(start), "policy") if start else None
    label = policy_label(loaded.source, loaded.identity, adapter)
    return Policy(
        model=model,
        body=loaded.model,
        tokenizer=tokenizer,
        template=template,
        stops=stops,
        tokenizer_id=tokenizer_id(template, stops),
        label=label,
        identity={**loaded.identity, **({"adapter": adapter} if adapter else {})},
        settings=_settings(loaded, template, stops, spec, device, adapter) | kernels_setting(fused),
        notes=[
            _note(label, model, loaded.model, device),
            *fused.splitlines(),
            *template.asking_notes,
            *([stops.note] if stops.note else []),
        ],
        device=device,
        full=spec.full,
        spec=spec,
        trained=tuple(name for name, weight in model.named_parameters() if weight.requires_grad),
        source=loaded.source,
        frozen=_copy(loaded.model) if spec.full and spec.keep_reference else None,
    )


def _check(spec: PolicySpec) -> None:
    if spec.load_in_4bit and importlib.util.find_spec("bitsandbytes") is None:
        raise InputError("needs bitsandbytes: pip install bitsandbytes", field="load_in_4bit")
    folder = Path(spec.model)
    if (folder / "settings.json").is_file() and not _holds_weights(folder):
        raise InputError(
            "is a run that has not finished\nfinish it with the command that began it, or give one of its checkpoints",
            field="policy",
            value=folder,
        )


def _holds_weights(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file() or (folder / "config.json").is_file()


def _base(spec: PolicySpec, start: Path | None, device: torch.device) -> Loaded:
    """The model without an adapter."""
    dtype = torch.float32 if spec.full else resolve_dtype(spec.dtype, device)
    asked = SamplerSpec(
        model=base_of(str(start), spec.base) if start else spec.model,
        device=spec.device,
        chat_template=spec.chat_template,
        model_args={**(spec.model_args or {}), **(_four_bits(dtype, device) if spec.load_in_4bit else {})},
        trust_remote_code=spec.trust_remote_code,
    )
    if start and spec.full:
        raise InputError(
            "is an adapter, which has no weights of its own to train in full\n"
            f"merge it first (neat-train export {start} --merge --out MERGED) and give MERGED",
            field="policy",
            value=start,
        )
    return load_policy(asked, dtype)


def _four_bits(dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """QLoRA's quantisation (Dettmers et al. 2023, arXiv 2305.14314): NF4, its scales quantised again."""
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    return {"quantization_config": config, "device_map": {"": device}}


def own_tokenizer(start: Path | None, trust_remote_code: bool = False) -> PreTrainedTokenizerBase | None:
    """The tokenizer that an adapter brings along, and with it the template it was trained with."""
    if start is None or not (start / "tokenizer_config.json").is_file():
        return None
    with silence():
        tokenizer = AutoTokenizer.from_pretrained(start, trust_remote_code=trust_remote_code)
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return tokenizer


def _stops(template: ChatTemplate, tokenizer: PreTrainedTokenizerBase, spec: PolicySpec) -> Stops:
    stops = end_of_turn(template, tokenizer)
    if not stops.ids:
        raise InputError(
            "its tokenizer has no end-of-turn token, so that it could never learn to stop",
            field="policy",
            value=spec.model,
            advice="name one in its tokenizer_config.json (eos_token), or a template that ends turns: {chat_template}",
        )
    return stops


def _settle(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, template: ChatTemplate, stops: Stops) -> None:
    """Let model and tokenizer say themselves where a response ends and what a dialogue looks like; both are saved."""
    config = model.generation_config or GenerationConfig()
    config._from_model_config = False  # else it is made anew from the model's configuration, which knows less
    config.eos_token_id = list(stops.ids)
    config.pad_token_id = stops.ids[-1] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    model.generation_config = config
    tokenizer.chat_template = _template_to_save(tokenizer, template)


def _template_to_save(tokenizer: PreTrainedTokenizerBase, template: ChatTemplate) -> str:
    """The template with the special tokens that its dialogues begin with: elsewhere nobody adds them."""
    text, lead = template.text(_PROBE, ask=True), template.query_ids(_PROBE)
    bare = tokenizer(text, add_special_tokens=False)["input_ids"]
    missing = lead[: len(lead) - len(bare)] if len(lead) > len(bare) else []
    marks = "".join(tokenizer.convert_ids_to_tokens(missing))
    return f"{{{{- {marks!r} -}}}}{template.source}" if marks else template.source


def _trained(body: PreTrainedModel, start: Path | None, spec: PolicySpec, device: torch.device) -> nn.Module:
    """The model with its trainable parameters set, on the device."""
    if spec.load_in_4bit:
        prepare_model_for_kbit_training(body, use_gradient_checkpointing=False)
    if spec.gradient_checkpointing:
        # Not reentrant: gradients reach the adapters of a checkpointed layer although its input needs none.
        body.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if spec.full:
        model: nn.Module = body.requires_grad_(True)
    else:
        model = adapter_to_go_on(body, str(start), spec.lora) if start else new_adapter(body, spec.lora, spec.seed)
    if device.type == "cuda":
        fuse(model)
    return model if hasattr(body, "hf_device_map") else model.to(device)


def _copy(model: PreTrainedModel) -> PreTrainedModel:
    frozen = copy.deepcopy(model)
    frozen.gradient_checkpointing_disable()
    return frozen.requires_grad_(False).eval()


def _settings(
    loaded: Loaded, template: ChatTemplate, stops: Stops, spec: PolicySpec, device: torch.device, adapter: str | None
) -> Settings:
    return {
        "model": loaded.source.label,
        **loaded.identity,
        "adapter": adapter,
        **template.fingerprint,
        "full": spec.full,
        "lora": None if spec.full else spec.lora.model_dump(mode="json"),
        "load_in_4bit": spec.load_in_4bit,
        "device": device.type,
        "dtype": dtype_name(loaded.model.dtype),
        "stop_tokens": list(stops.ids),
        "stop_string": stops.string,
        "model_args": spec.model_args or {},
    }


def _note(label: str, model: nn.Module, body: PreTrainedModel, device: torch.device) -> str:
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    of = sum(weight.numel() for name, weight in model.named_parameters() if f".{REFERENCE}." not in name)
    return f"policy {label}: {device.type}, {dtype_name(body.dtype)}, {trained:,} of {of:,} parameters are trained"


@contextmanager
def _start_of(model: PeftModel) -> Iterator[None]:
    """The model as training found it: with the frozen adapter it goes on from, or with none."""
    if REFERENCE not in model.peft_config:
        with model.disable_adapter():
            yield
        return
    model.set_adapter(REFERENCE, inference_mode=True)
    try:
        yield
    finally:
        model.set_adapter(TRAINED)
