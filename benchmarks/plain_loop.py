"""Compare every stored reward with a plain loop of the transformers model, one dialogue at a time in float32.

python benchmarks/plain_loop.py DATASET --reward-model FOLDER
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import track
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import neat_data


def main(
    dataset: str,
    reward_model: Annotated[str, typer.Option()],
    json_out: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Exit status 1 where a reward differs by 1e-4 or more."""
    tokenizer = AutoTokenizer.from_pretrained(reward_model)
    model = AutoModelForSequenceClassification.from_pretrained(reward_model, dtype=torch.float32).eval()
    opened = neat_data.open(dataset)
    worst, compared = 0.0, 0
    for record in track(opened.records(), total=len(opened), description="plain loop"):
        messages = [{"role": m.role, "content": m.content} for m in record.messages]
        for response in record.responses:
            dialogue = [*messages, {"role": "assistant", "content": response.text}]
            ids = tokenizer.apply_chat_template(dialogue, return_dict=True, return_tensors="pt")["input_ids"]
            with torch.inference_mode():
                reward = model(input_ids=ids).logits.item()
            assert response.reward is not None
            worst = max(worst, abs(reward - response.reward))
            compared += 1
    result = {"records": len(opened), "responses": compared, "largest_difference": worst}
    print(json.dumps(result))
    if json_out:
        json_out.write_text(json.dumps(result, indent=1) + "\n")
    raise typer.Exit(0 if worst < 1e-4 else 1)


if __name__ == "__main__":
    typer.run(main)
