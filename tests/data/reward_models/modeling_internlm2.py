"""internlm/internlm2-7b-reward written anew at any size: a reward for the mark that ends a dialogue, by a method."""

from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaModel, PreTrainedModel


class InternLM2Config(LlamaConfig):
    model_type = "internlm2"


class InternLM2ForRewardModel(PreTrainedModel):
    config_class = InternLM2Config

    def __init__(self, config: InternLM2Config) -> None:
        super().__init__(config)
        self.model = LlamaModel(config)
        self.v_head = nn.Linear(config.hidden_size, 1, bias=False)
        self.post_init()

    def forward(self, input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
        return self.v_head(self.model(input_ids).last_hidden_state[:, -1])

    @torch.no_grad()
    def get_score(self, tokenizer: Any, conversation: list[dict[str, str]]) -> float:
        text = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=False)
        ids = tokenizer.encode(text, return_tensors="pt", add_special_tokens=False)
        mark = torch.tensor([[self.config.reward_token_id]])
        return self(torch.cat([ids, mark], dim=1) if ids[0, -1] != mark else ids).item()
