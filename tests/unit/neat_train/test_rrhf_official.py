"""The denominator of RRHF's published code, against that code's arithmetic written out, and against numbers by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from neat_train.config.objective import ObjectiveSettings, RankingSettings
from neat_train.losses import Layout, by_response, objective, plan_of, total

OFFICIAL = ObjectiveSettings(alpha=1.0, beta=0.0, normaliser="padded", ranking=RankingSettings(reduction="sum"))
PAD = -100


def their_loss(logits: torch.Tensor, labels: torch.Tensor, rewards: torch.Tensor, weight: float) -> torch.Tensor:
    """RRHF's loss of one record: logits (responses, width, vocabulary), labels (responses, width) shifted by one.

    As it was published: labels that are not learned are set to 0 in place before the lengths are counted, so that every
    length is the width of the padded batch, query included; the SFT term is the mean over that width.
    """
    logps = F.log_softmax(logits, dim=-1)
    mask = (labels != PAD).float()
    labels[labels == PAD] = 0
    picked = torch.gather(logps, dim=-1, index=labels.unsqueeze(-1)).squeeze(-1) * mask
    length = (labels != PAD).float().sum(-1)  # of the overwritten labels
    scores = picked.sum(-1) / length
    difference = scores.unsqueeze(0) - scores.unsqueeze(-1)
    reward_difference = rewards.unsqueeze(0) - rewards.unsqueeze(-1)
    violated = (reward_difference > 0) & (difference < 0)
    return weight * -difference[violated].sum() - picked[torch.argmax(rewards)].mean()


def record_of(query: int, sizes: list[int], generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Random logits and labels of one record, padded to its longest response."""
    width = query + max(sizes)
    logits = 3 * torch.randn(len(sizes), width, 11, generator=generator, dtype=torch.float64)
    labels = torch.full((len(sizes), width), PAD)
    for row, size in enumerate(sizes):
        labels[row, query - 1 : query - 1 + size] = torch.randint(11, (size,), generator=generator)
    return logits, labels


@pytest.mark.parametrize("weight", [1.0, 100.0])
def test_the_padded_normaliser_is_rrhf_as_it_was_published(weight):
    generator = torch.Generator().manual_seed(3)
    shapes = [(5, [3, 7, 1]), (2, [4, 4]), (9, [1, 2, 6, 3])]
    rewards = [torch.tensor([0.5, -1.0, 2.0]), torch.tensor([-2.0, 1.0]), torch.tensor([0.0, 3.0, 3.0, -1.0])]
    theirs, flat, tokens, queries, records = [], [], [], [], []
    for number, ((query, sizes), reward) in enumerate(zip(shapes, rewards, strict=True)):
        logits, labels = record_of(query, sizes, generator)
        picked = F.log_softmax(logits, -1).gather(-1, labels.clamp(min=0)[..., None]).squeeze(-1)
        flat.append(picked[labels != PAD])
        tokens += sizes
        queries += [query] * len(sizes)
        records += [number] * len(sizes)
        theirs.append(their_loss(logits, labels, reward.double(), weight))
    layout = Layout(
        response=torch.repeat_interleave(torch.arange(len(tokens)), torch.tensor(tokens)),
        mask=torch.ones(sum(tokens), dtype=torch.bool),
        record=torch.tensor(records),
        reward=torch.cat(rewards),
        query=torch.tensor(queries),
    )
    settings = OFFICIAL.model_copy(update={"alpha": weight})
    plan, logps = plan_of(layout), torch.cat(flat)
    mine = total(objective(logps, plan, settings), plan.counts, settings)
    assert torch.allclose(mine, torch.stack(theirs).sum() / 3, rtol=1e-12)
    plain = settings.model_copy(update={"normaliser": "response"})
    assert not torch.allclose(mine, total(objective(logps, plan, plain), plan.counts, plain), rtol=1e-2)


def two_answers() -> tuple[Layout, torch.Tensor]:
    """A query of 5 tokens; the better answer has 3 tokens of log-probability -1, the worse one of -2."""
    layout = Layout(
        response=torch.tensor([0, 0, 0, 1]),
        mask=torch.ones(4, dtype=torch.bool),
        record=torch.tensor([0, 0]),
        reward=torch.tensor([1.0, 0.0]),
        query=torch.tensor([5, 5]),
    )
    return layout, torch.tensor([-1.0, -1.0, -1.0, -2.0])


def test_by_hand_a_short_bad_answer_looks_better_than_it_is():
    layout, logps = two_answers()
    plan = plan_of(layout)
    assert by_response(logps, plan, "token_mean").tolist() == [-1.0, -2.0]  # the better one is likelier: no violation
    assert by_response(logps, plan, "token_mean", "padded").tolist() == [-3 / 8, -2 / 8]
    terms = objective(logps, plan, OFFICIAL)
    assert (terms.ranking.sum.item(), terms.sft.sum.item()) == (1 / 8, 3 / 8)
    assert by_response(logps, plan, "token_sum", "padded").tolist() == [-3.0, -2.0]


def test_the_default_divides_by_the_response_and_needs_no_queries():
    layout, logps = two_answers()
    bare = plan_of(replace(layout, query=None))
    assert ObjectiveSettings().normaliser == "response"
    settings = OFFICIAL.model_copy(update={"normaliser": "response"})
    assert objective(logps, bare, settings).ranking.sum.item() == 0
    with pytest.raises(ValueError, match="how many tokens each query has"):
        objective(logps, bare, OFFICIAL)


def test_a_record_s_width_is_its_own_and_a_copy_s_too():
    layout, logps = two_answers()
    copied = Layout(
        response=torch.cat([layout.response, torch.tensor([2, 2])]),
        mask=torch.ones(6, dtype=torch.bool),
        record=torch.tensor([4, 4, -1]),
        reward=torch.tensor([1.0, 0.0, 9.0]),
        query=torch.tensor([5, 5, 20]),
    )
    plan = plan_of(copied)
    assert plan.padded is not None
    assert plan.padded.tolist() == [8, 8, 22]
    filler = replace(copied, mask=torch.zeros(6, dtype=torch.bool), record=torch.full((3,), -1), query=torch.zeros(3))
    logps = torch.cat([logps, logps[:2]]).requires_grad_()
    empty = plan_of(filler).to("cpu")
    total(objective(logps, empty, OFFICIAL), plan.counts, OFFICIAL).backward()
    assert logps.grad is not None
    assert logps.grad.tolist() == [0.0] * 6
