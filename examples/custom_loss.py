"""A loss of your own, in a loop of your own, on the dataset's rewards.

The terms of NEAT's objective are pure functions of log-probabilities, which any loop can use: here the likelihood of
the best response, beside a margin that grows with the gap of the rewards.

python examples/custom_loss.py [--out FOLDER] [--steps N]
"""

from argparse import ArgumentParser
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import neat_data as nd
from neat_train.losses import Layout, LossPlan, by_response, plan_of, sft

DATA = Path(__file__).resolve().parent.parent / "data"
MODELS, SOURCE = DATA / "models", DATA / "sample/helpful.train.jsonl"


def margin_loss(logps: torch.Tensor, plan: LossPlan, reward: torch.Tensor) -> torch.Tensor:
    """Mean over all pairs of max(0, gap of the rewards - gap of the log-probabilities a token)."""
    score = by_response(logps, plan, "token_mean")  # (responses,)
    gap, margin = (values[plan.higher] - values[plan.lower] for values in (score, reward))
    return torch.relu(margin - gap).sum() / max(len(gap), 1)


def token_logps(model, tokenizer, record: nd.Record, text: str) -> torch.Tensor:
    """Log-probabilities of the tokens of one response, (tokens,)."""
    turns = [{"role": turn.role, "content": turn.content} for turn in record.messages]
    query = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    answer = [*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    logps = model(torch.tensor([query + answer])).logits[0, len(query) - 1 : -1].log_softmax(-1)
    return logps[range(len(answer)), answer]


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="demo/examples/custom-loss")
    parser.add_argument("--steps", type=int, default=8)
    asked = parser.parse_args()
    nd.score(SOURCE, out=asked.out, reward_model=MODELS / "tiny-reward", limit=asked.steps)
    model, tokenizer = (kind.from_pretrained(MODELS / "tiny-policy") for kind in (AutoModelForCausalLM, AutoTokenizer))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    for record in nd.open(asked.out):
        parts = [token_logps(model, tokenizer, record, response.text) for response in record.responses]
        of_response = torch.repeat_interleave(torch.tensor([len(part) for part in parts]))
        mask, reward = of_response >= 0, torch.tensor([response.reward for response in record.responses])
        plan = plan_of(Layout(of_response, mask, torch.zeros_like(reward).long(), reward))
        logps = torch.cat(parts)  # (tokens,)
        loss = sft(logps, plan, "token_mean").sum + margin_loss(logps, plan, reward)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
