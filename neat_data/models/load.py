"""Reward models and samplers opened by what the user asked for: the one module that knows every back end.

Importing it imports no back end; `load_reward_model` and `load_sampler` import the one that is asked for.
"""

from __future__ import annotations

from neat_data.errors import InputError
from neat_data.models.reward_model import RewardModel, RewardModelSpec
from neat_data.models.sampler import Sampler, SamplerSpec


def load_reward_model(spec: RewardModelSpec) -> RewardModel:
    """Load the back end that `spec` names.

    Its settings say which part of a response is scored where that is not the answer alone.

    Raises:
        InputError: no such model, two outputs, no chat template, a back end that is not installed.
    """
    model = _back_end(spec)
    if spec.score == "whole":
        model.settings = {**model.settings, "score": "whole"}
    return model


def _back_end(spec: RewardModelSpec) -> RewardModel:
    if spec.model.startswith(("http://", "https://")):
        from neat_data.models.reward_models.http import HttpRewardModel

        return HttpRewardModel(spec)
    if spec.model.startswith("judge:"):
        from neat_data.models.reward_models.judge import JudgeRewardModel

        return JudgeRewardModel(spec)
    if spec.model.startswith("implicit:"):
        from neat_data.models.reward_models.implicit import ImplicitRewardModel

        return ImplicitRewardModel(spec)
    if ".py:" in spec.model:
        from neat_data.models.reward_models.function import CallableRewardModel

        return CallableRewardModel(spec)
    if spec.backend == "vllm":
        from neat_data.models.reward_models.vllm import VllmRewardModel

        return VllmRewardModel(spec)
    from neat_data.models.reward_models.transformers import TransformersRewardModel

    return TransformersRewardModel(spec)


def load_sampler(spec: SamplerSpec) -> Sampler:
    """Load the back end that `spec` names.

    Raises:
        InputError: no such model, no tokenizer or chat template, a back end that is not installed.
    """
    backend = spec.backend
    if backend == "auto":
        backend = "openai" if spec.base_url else "transformers"
    if backend == "openai":
        from neat_data.models.samplers.openai import OpenAISampler

        return OpenAISampler(spec)
    if spec.base_url:
        raise InputError(f"has no meaning for the sampler {backend}", field="base_url", advice="add {sampler} openai")
    if backend == "vllm":
        from neat_data.models.samplers.vllm import VllmSampler

        return VllmSampler(spec)
    from neat_data.models.samplers.transformers import TransformersSampler

    return TransformersSampler(spec)
