"""The reward model that is trained: a decoder with an adapter (or trained whole) and one linear score head in float32.

`load_reward_to_train` puts it together, `TrainedReward.save` leaves a folder that `neat-data score --reward-model` and
`AutoModelForSequenceClassification` (behind peft, where it is an adapter) load with the same scores.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from types import MethodType
from typing import Any, Literal

import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from neat_data.errors import InputError
from neat_data.models.device import dtype_name, resolve_device, resolve_dtype
from neat_data.models.fused_kernels import fuse_kernels, kernels_setting
from neat_data.models.reward_adapter import BASE
from neat_data.models.reward_model import RewardModelSpec
from neat_data.models.stopping import end_of_turn
from neat_data.models.templates import ChatTemplate
from neat_data.models.trees.attention import TREES_SDPA
from neat_data.models.trees.exactness import ScoringChoice, choose_path, configured_window
from neat_data.models.trees.forward import linear_head
from neat_data.models.weights import ModelSource, explained, identity_of, load_body_of_classifier, resolved, silence
from neat_data.store.atomic import write_atomically
from neat_train.policy.fused_lora import fuse
from neat_train.policy.logprobs import body_of, planted, take_attention, training_attention
from neat_train.policy.lora import new_adapter, read_adapter, save_adapter
from neat_train.policy.policy import PolicySpec
from neat_train.reward_model.examples import RewardBatch


@dataclass(frozen=True, slots=True, eq=False)
class TrainedReward:
    """A reward model on its device, ready to be trained.

    Attributes:
        model: peft's model, or the model itself where all of it is trained.
        body: the transformers classifier inside.
        settings: JSON-able; what can change a byte of the result. No paths, no time, no machine.
        choice: the path and the attention of its passes.
        notes: lines worth printing once.
        source: where the base model comes from.
    """

    model: nn.Module
    body: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    template: ChatTemplate
    settings: dict[str, Any]
    choice: ScoringChoice
    notes: list[str]
    device: torch.device
    source: ModelSource

    def save(self, folder: Path) -> None:
        """Write weights, configuration, tokenizer and template; beside an adapter, what identifies its base."""
        folder.mkdir(parents=True, exist_ok=True)
        with silence():
            if isinstance(self.model, PeftModel):
                place = str(Path(self.source.path).resolve()) if self.source.local else self.source.path
                save_adapter(self.model, folder, place, self.source.revision)
                identity = {name: self.settings[name] for name in ("weights", "revision") if name in self.settings}
                write_atomically(folder / BASE, lambda file: file.write(json.dumps(identity).encode()))
            else:
                self.body.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)

    def restore(self, folder: Path) -> None:
        """Put the weights that `save` wrote into this model, bit for bit."""
        if isinstance(self.model, PeftModel):
            read_adapter(self.model, folder)
        else:
            for file in sorted(folder.glob("model*.safetensors")):
                report = self.body.load_state_dict(load_file(file), strict=False)
                assert not report.unexpected_keys, report.unexpected_keys


def load_reward_to_train(
    spec: PolicySpec, path: Literal["auto", "trees", "batches"], max_length: int, dtype: torch.dtype | None
) -> TrainedReward:
    """Load the model that `spec` names with a score head: its own, or a new one drawn from the seed.

    Args:
        path: how its passes run.
        max_length: tokens of a dialogue.
        dtype: that passes compute in; None: the weights' own.

    Raises:
        InputError: it cannot be had, is no decoder with one linear head, or its window is shorter.
    """
    device = resolve_device(spec.device)
    source = _source(spec)
    asked = RewardModelSpec(
        spec.model,
        device=spec.device,
        max_length=max_length,
        path=path,
        chat_template=spec.chat_template,
        template_args=spec.template_args,
        model_args=spec.model_args or {},
        trust_remote_code=spec.trust_remote_code,
    )
    body, new_head = _body_with_head(source, asked, spec, device)
    tokenizer = _tokenizer(source, spec.trust_remote_code)
    template = ChatTemplate(tokenizer, spec.chat_template, spec.template_args)
    tokenizer.chat_template = template.source
    body.config.pad_token_id = _pad(tokenizer, template)
    fused = fuse_kernels(body, spec.model_args)
    choice = _choice(body, template, asked, dtype)
    model = nn.Module.to(_trained(body, spec), device)
    _give_keyword(body)
    return TrainedReward(
        model=model,
        body=body,
        tokenizer=tokenizer,
        template=template,
        settings=_settings(source, body, template, spec, new_head) | kernels_setting(fused),
        choice=choice,
        notes=[_note(source, model, device), *choice.note.splitlines(), *fused.splitlines(), *template.scoring_notes],
        device=device,
        source=source,
    )


def _source(spec: PolicySpec) -> ModelSource:
    source = ModelSource.parse(spec.model, "policy", "causal language model")
    if (Path(spec.model) / "adapter_config.json").is_file():
        raise source.wrong("is an adapter", "merge it first (neat-train export --merge --out MERGED), and give MERGED")
    if source.local:
        return source
    with silence(), explained(source):
        config = AutoConfig.from_pretrained(
            source.path, revision=source.revision, trust_remote_code=spec.trust_remote_code
        )
    return resolved(source, config)


def _body_with_head(
    source: ModelSource, asked: RewardModelSpec, spec: PolicySpec, device: torch.device
) -> tuple[PreTrainedModel, bool]:
    """The classifier on its device, its head in float32, and whether that head is a new one."""
    weights = torch.float32 if spec.full else resolve_dtype(spec.dtype, device)
    body, missing = load_body_of_classifier(source, asked, weights)
    if missing not in ([], ["score.weight"]):
        raise source.wrong(f"{missing[0]} is missing from its weights", "copy or download it again")
    if linear_head(body) is None:
        raise source.wrong("is no decoder with one linear score head, which method reward trains")
    window = configured_window(body.config)
    if window is not None and asked.max_length is not None and asked.max_length > window:
        raise InputError(f"the model's window is {window} tokens", field="max_length", value=asked.max_length)
    _prepare_head(body, spec.seed if missing else None)
    return nn.Module.to(body, device), bool(missing)


def _choice(
    body: PreTrainedModel, template: ChatTemplate, asked: RewardModelSpec, dtype: torch.dtype | None
) -> ScoringChoice:
    """How its passes run; outside of `training_attention` it keeps its own attention."""
    own = body.config._attn_implementation
    choice = choose_path(body, template, asked, body.config.pad_token_id, backward=True, dtype=dtype)
    body.set_attn_implementation(own)
    take_attention(body, choice.attention if choice.path == "trees" else TREES_SDPA)
    return choice


def _settings(
    source: ModelSource, body: PreTrainedModel, template: ChatTemplate, spec: PolicySpec, new_head: bool
) -> dict[str, Any]:
    return {
        "model": source.label,
        **identity_of(source),
        **template.fingerprint,
        "full": spec.full,
        "lora": None if spec.full else spec.lora.model_dump(mode="json"),
        "head": "new" if new_head else "own",
        "device": body.device.type,
        "dtype": dtype_name(body.dtype),
        "model_args": spec.model_args or {},
    }


def scores(module: nn.Module, batch: RewardBatch) -> Tensor:
    """Scores of the batch's responses, in float32  # (responses,)

    Args:
        module: the prepared model, wrapped or not. With gradients, the caller holds `training_attention` around this
            and the backward pass; without, it need not.
        batch: on the module's device.
    """
    inputs: dict[str, Any] = {"input_ids": batch.ids, "position_ids": batch.positions}
    if batch.trees is None:
        width = torch.arange(batch.ids.shape[1], device=batch.ids.device)
        inputs["attention_mask"] = (width < batch.lengths[:, None]).long()
    if batch.trees is None or torch.is_grad_enabled():
        return module(**inputs, neat_scored=(batch.last, batch.trees))
    with training_attention(body_of(module), "trees"):
        return module(**inputs, neat_scored=(batch.last, batch.trees))


def _give_keyword(body: PreTrainedModel) -> None:
    """Patch the instance's forward, as peft and DDP call it: with the keyword it gives scores at chosen places."""

    @wraps(type(body).forward)
    def forward(self: PreTrainedModel, *args: Any, neat_scored: Any = None, **kwargs: Any) -> Any:
        if neat_scored is None:
            return type(self).forward(self, *args, **kwargs)
        last, trees = neat_scored
        inputs: dict[str, Any] = {
            name: kwargs[name] for name in ("input_ids", "position_ids", "attention_mask") if name in kwargs
        }
        if trees is not None:
            inputs = planted(self, inputs["input_ids"], inputs["position_ids"], trees)
        hidden = self.base_model(use_cache=False, **inputs).last_hidden_state.flatten(0, 1).index_select(0, last)
        head: Any = self.score
        with torch.autocast(hidden.device.type, enabled=False):
            return head(hidden.float())[:, 0]

    body.forward = MethodType(forward, body)


def _prepare_head(body: PreTrainedModel, seed: int | None) -> None:
    """The head in float32; a new one drawn from `seed` with variance 1 / (hidden + 1) (Stiennon et al. 2020)."""
    head: Any = body.score
    head.float()
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(head.weight.shape, generator=generator) / math.sqrt(head.weight.shape[1] + 1)
        with torch.no_grad():
            head.weight.copy_(drawn)


def _tokenizer(source: ModelSource, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    with silence(), explained(source):
        return AutoTokenizer.from_pretrained(source.path, revision=source.revision, trust_remote_code=trust_remote_code)


def _pad(tokenizer: PreTrainedTokenizerBase, template: ChatTemplate) -> int:
    """A token that no dialogue ends with: elsewhere the last token that is no padding is scored.

    A pad that equals the end of turn would move the place that is scored (transformers looks for it by its id).
    """
    ends = {*end_of_turn(template, tokenizer).ids, tokenizer.eos_token_id}
    named = (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id)
    token = next((number for number in named if number is not None and number not in ends), None)
    return next(number for number in range(len(tokenizer)) if number not in ends) if token is None else token


def _trained(body: PreTrainedModel, spec: PolicySpec) -> nn.Module:
    """The model with its trainable parameters set."""
    if spec.gradient_checkpointing:
        body.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if spec.full:
        return body.requires_grad_(True)
    model = new_adapter(body, spec.lora, spec.seed, task="SEQ_CLS")
    if body.device.type == "cuda":
        fuse(model)
    return model


def _note(source: ModelSource, model: nn.Module, device: torch.device) -> str:
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    of = sum(weight.numel() for weight in model.parameters())
    return f"reward model from {source.label}: {device.type}, {trained:,} of {of:,} parameters are trained"
