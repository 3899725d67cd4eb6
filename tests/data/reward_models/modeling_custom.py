"""Heads of published reward models, written anew at any size: what their own code computes, and no more of it.

ArmoRM (RLHFlow/ArmoRM-Llama3-8B-v0.1), QRM (nicolinho/QRM-Llama3.1-8B), URM (LxzGordon/URM-LLaMa-3.1-8B) and the
generalizable reward model with a network as its head (Ray2333/GRM-llama3-8B-sftreg).
"""

from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaModel, LlamaPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


def last_tokens(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    return hidden[torch.arange(len(hidden)), attention_mask.sum(1) - 1]


class Body(LlamaPreTrainedModel):
    """A Llama body; what is called with ids and a mask gives logits."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.model = LlamaModel(config)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> SequenceClassifierOutput:
        hidden = self.model(input_ids, attention_mask=attention_mask).last_hidden_state
        return SequenceClassifierOutput(logits=self.rewards(input_ids, attention_mask, hidden))


class LlamaForRewardModelWithGating(Body):
    """Objectives of the last token, weighted by a gate that reads the end of the prompt; QRM's have quantiles."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        width, self.quantiles = config.num_objectives, getattr(config, "num_quantiles", 1)
        self.regression_layer = nn.Linear(config.hidden_size, width * self.quantiles, bias=False)
        self.reward_transform_matrix = nn.Parameter(torch.eye(width), requires_grad=False)
        self.gate = nn.Sequential(
            nn.Linear(config.hidden_size, config.gating_hidden_dim),
            nn.ReLU(),
            nn.Linear(config.gating_hidden_dim, width),
        )
        self.post_init()

    def rewards(self, ids: torch.Tensor, mask: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        objectives = self.regression_layer(last_tokens(hidden, mask)).float()
        objectives = objectives.view(len(ids), -1, self.quantiles).mean(2) @ self.reward_transform_matrix
        ends = torch.stack([self.prompt_end(row) for row in ids])
        weights = (self.gate(hidden[torch.arange(len(ids)), ends]) / self.config.gating_temperature).softmax(1)
        rewards = (weights * objectives).sum(1)
        return rewards if self.quantiles == 1 else rewards[:, None]

    def prompt_end(self, ids: torch.Tensor) -> torch.Tensor:
        pattern = torch.tensor(self.config.gating_tokens, device=ids.device)
        return (ids.unfold(0, len(pattern), 1) == pattern).all(1).nonzero().max()


class LlamaForSequenceClassificationWithNormal_Weights(Body):
    """Means and deviations of five attributes, the means weighted by a network of the last hidden state."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        size = config.hidden_size
        self.score = nn.Linear(size, config.num_labels, bias=False)
        self.weights = nn.Sequential(nn.Linear(size, size), nn.SELU(), nn.Linear(size, config.num_labels // 2))
        self.post_init()

    def rewards(self, ids: torch.Tensor, mask: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        last = last_tokens(hidden, mask)
        means = self.score(last).view(len(ids), -1, 2)[:, :, 0]
        return (means * self.weights(last)).sum(1, keepdim=True)


class GRewardModel(Body):
    """A network of one hidden layer over the last hidden state."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        hidden = config.vhead_num_neurons
        self.v_head = nn.Sequential(nn.Linear(config.hidden_size, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self.post_init()

    def rewards(self, ids: torch.Tensor, mask: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        return self.v_head(last_tokens(hidden, mask))
