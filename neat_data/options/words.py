"""The words that options take, where they are a choice of a few."""

from __future__ import annotations

from typing import Literal

Backend = Literal["auto", "transformers", "vllm"]
Compression = Literal["none", "zstd"]
DropBy = Literal["any", "majority", "all"]
Engine = Literal["local", "ray"]
Form = Literal["trl-dpo", "trl-sft", "trl-kto", "trl-reward", "rrhf", "parquet", "hf"]
Part = Literal["answer", "whole"]
PairsOf = Literal["best-worst", "mu-2sigma", "random", "labels", "all", "reviews"]
Phase = Literal["both", "sample", "score"]
RescorePhase = Literal["all", "finish"]
Rewards = Literal["model", "given"]
SamplerBackend = Literal["auto", "transformers", "vllm", "openai"]
ScorePhase = Literal["all", "plan", "finish"]
ScoringPath = Literal["auto", "trees", "batches"]
Thinking = Literal["on", "off"]
