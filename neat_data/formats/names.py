"""What `--to` and `--pairs` may say; apart from the formats, which load pyarrow."""

from __future__ import annotations

from typing import Literal

Name = Literal["trl-dpo", "trl-sft", "trl-kto", "trl-reward", "rrhf", "parquet", "hf"]
PairsOf = Literal["best-worst", "labels", "all", "reviews"]
