"""The figures of the model cards, measured once on the published folders (bf16 weights, arithmetic in fp32).

No figure here selects anything. Rows whose query occurs in the test files were not trained on, so every usable test row
is clean; a stricter figure leaves out test dialogues that begin with a query that was trained on.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.tiny_models.agreement import agreement, gaps
from pipelines.tiny_models.batches import by_length, pad
from pipelines.tiny_models.contrast import contrast
from pipelines.tiny_models.language import next_token_loss
from pipelines.tiny_models.rows import KINDS, Pair
from pipelines.tiny_models.steps import Workshop
from pipelines.tiny_models.teach import response_tokens
from pipelines.tiny_models.tokenizer import Encoder


def measure(shop: Workshop, out: Path) -> dict[str, Any]:
    """All figures, JSON-able, by name of the model."""
    reward, heldout, seed = load(out / "tiny-reward"), load(out / "tiny-reward-heldout"), shop.settings["seed"]
    usable = [pair for pair in shop.test if not pair.unusable]
    figures: dict[str, Any] = {"sets": _sets(shop), "sizes": _sizes(out)}
    for name in ("tiny-reward", "tiny-reward-heldout"):
        model = reward if name == "tiny-reward" else heldout
        figures[name] = {"agreement": _agreement(shop, model, usable)}
    queries = _some_queries(usable, shop.settings["contrast"]["queries"])
    for name in ("tiny-policy", "tiny-policy-plain"):
        policy = load(out / name)
        by_model = contrast(
            policy, {"tiny-reward": reward, "tiny-reward-heldout": heldout}, queries, shop.encoder, seed
        )
        figures[name] = {
            "contrast": asdict(by_model["tiny-reward"]),
            "heldout_contrast": asdict(by_model["tiny-reward-heldout"]),
            "response_nll": {k: response_nll(policy, [p for p in usable if p.kind == k], shop.encoder) for k in KINDS},
        }
    return figures


def load(folder: Path) -> Any:
    """A published model by its folder alone, in fp32."""
    from transformers import LlamaForCausalLM, LlamaForSequenceClassification

    kind = LlamaForSequenceClassification if "reward" in folder.name else LlamaForCausalLM
    return kind.from_pretrained(folder, dtype="float32")


def begun_with(pair: Pair, queries: set) -> bool:
    """Whether the dialogue begins with one of `queries`."""
    return any(pair.query[: n + 1] in queries for n in range(len(pair.query)))


def _agreement(shop: Workshop, model: Any, usable: Sequence[Pair]) -> dict[str, dict[str, Any]]:
    trained = {pair.query for name in ("reward_a", "reward_b") for pair in shop.trained_on(name)}
    measured = gaps(model, usable, shop.encoder, shop.settings["window"])
    rows = list(zip(usable, measured, strict=True))
    result = {}
    for kind in KINDS:
        parts = {
            kind: [gap for pair, gap in rows if pair.kind == kind],
            f"{kind}, no shared opening": [
                gap for pair, gap in rows if pair.kind == kind and not begun_with(pair, trained)
            ],
        }
        for name, gaps_of_part in parts.items():
            agreed = agreement(gaps_of_part)
            result[name] = {"agreed": agreed.agreed, "pairs": agreed.pairs, "interval": agreed.interval}
    return result


def response_nll(model: Any, pairs: Sequence[Pair], encoder: Encoder, limit: int = 500) -> float:
    """Mean negative log-likelihood, in nats a token, of the first `limit` chosen responses."""
    import torch

    lessons = []
    for pair in pairs[:limit]:
        query, response = encoder.query(pair.query), encoder.response(pair.chosen)
        lessons.append(([*query, *response], len(query) + 1))
    total, count = 0.0, 0
    model.eval()
    for batch in by_length([len(ids) for ids, _ in lessons], 8192, random.Random(0)):
        members = [lessons[i] for i in batch]
        learn = response_tokens(members)
        with torch.inference_mode():
            loss = next_token_loss(model, pad([ids for ids, _ in members], encoder.pad), learn)
        tokens = int(learn.sum())
        total, count = total + loss.item() * tokens, count + tokens
    return total / count


def _some_queries(usable: Sequence[Pair], count: int) -> list:
    """Half of each kind, evenly spread over the test files."""
    chosen = []
    for kind in KINDS:
        members = [pair.query for pair in usable if pair.kind == kind]
        chosen.extend(members[:: max(1, len(members) // (count // 2))][: count // 2])
    return chosen


def _sets(shop: Workshop) -> dict[str, dict[str, int]]:
    return {
        name: {
            "rows": len(pairs),
            "queries": len({pair.query_id for pair in pairs}),
            "unusable": sum(pair.unusable is not None for pair in pairs),
            "in_test": sum(pair.unusable is None and pair.query_id in shop.tested for pair in pairs),
        }
        for name, pairs in shop.sets.items()
    }


def _sizes(out: Path) -> dict[str, int]:
    """Bytes of every model folder."""
    return {
        folder.name: sum(file.stat().st_size for file in folder.iterdir() if file.name != "README.md")
        for folder in sorted(out.glob("tiny-*"))
    }
