"""Micro-batches worked out by hand, and what packing, padding and copies must not change."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neat_train.data.batches import MicroBatch, filler, micro_batches
from neat_train.data.examples import Example, TrainedResponse
from neat_train.losses import plan_of

PATHS = ("trees", "batches")


def example(query: tuple[int, ...], *answers: TrainedResponse) -> Example:
    return Example("".join(map(str, query)), query, answers)


def drawn(rng: torch.Generator, records: int) -> list[Example]:
    def ids(low: int, high: int) -> tuple[int, ...]:
        size = int(torch.randint(low, high, (1,), generator=rng))
        return tuple(torch.randint(1, 50, (size,), generator=rng).tolist())

    def answers() -> tuple[TrainedResponse, ...]:
        count = int(torch.randint(1, 5, (1,), generator=rng))
        return tuple(TrainedResponse("", ids(1, 9), float(-number)) for number in range(count))

    return [Example("", ids(1, 12), answers()) for _ in range(records)]


def predicted(batch: MicroBatch) -> dict[int, list[int]]:
    """Of every response the tokens it is to learn, in order."""
    by_response: dict[int, list[int]] = {}
    for response, target in zip(batch.layout.response.tolist(), batch.targets.tolist(), strict=True):
        by_response.setdefault(response, []).append(target)
    return by_response


TWO = example((5, 6, 7), TrainedResponse("a", (1, 2, 9), 1.0), TrainedResponse("b", (3, 9), -1.0, "negative"))


def test_a_tree_repeats_the_querys_last_token_at_the_head_of_each_branch() -> None:
    (batch,) = micro_batches([TWO], 100, "trees")
    assert batch.ids.tolist() == [[5, 6, 7, 1, 2, 7, 3]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 4, 2, 3]]
    assert batch.trees == ((2, 3, 2),)
    assert (batch.at.tolist(), batch.targets.tolist()) == ([2, 3, 4, 5, 6], [1, 2, 9, 3, 9])
    assert batch.layout.response.tolist() == [0, 0, 0, 1, 1]
    assert (batch.layout.record.tolist(), batch.layout.reward.tolist()) == ([0, 0], [1.0, -1.0])
    assert batch.layout.negative is not None
    assert batch.layout.negative.tolist() == [False, True]
    assert (batch.tokens, batch.answers) == (7, 2)


def test_padded_rows_know_their_lengths_and_positions() -> None:
    (batch,) = micro_batches([TWO], 100, "batches")
    assert batch.ids.tolist() == [[5, 6, 7, 1, 2], [5, 6, 7, 3, 0]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 4]] * 2
    assert batch.lengths.tolist() == [5, 4]
    assert (batch.at.tolist(), batch.targets.tolist()) == ([2, 3, 4, 7, 8], [1, 2, 9, 3, 9])
    assert (batch.tokens, batch.answers) == (10, 2)


@pytest.mark.parametrize("path", PATHS)
@given(seed=st.integers(0, 10_000), budget=st.integers(1, 120))
def test_every_record_is_whole_in_one_micro_batch_and_every_token_predicted_once(path, seed: int, budget: int) -> None:
    examples = drawn(torch.Generator().manual_seed(seed), 6)
    batches = micro_batches(examples, budget, path)
    answers_seen = []
    for batch in batches:
        answers, record = predicted(batch), batch.layout.record
        numbers = range(int(record.max()) + 1)
        answers_seen += [[answers[r] for r in torch.nonzero(record == number)[:, 0].tolist()] for number in numbers]
        assert batch.tokens <= budget or int(batch.layout.record.max()) == 0
        assert batch.tokens == batch.ids.numel()
    assert sorted(answers_seen) == sorted([[list(answer.ids) for answer in one.answers] for one in examples])


@pytest.mark.parametrize("path", PATHS)
def test_the_last_label_of_every_response_is_its_end_of_turn_though_padding_is_the_same_token(path) -> None:
    end = 0  # what rows are padded with, too
    long, short = TrainedResponse("", (4, 4, 4, 4, end), 1.0), TrainedResponse("", (3, end), 0.0)
    (batch,) = micro_batches([example((1, 2), long, short), example((2,), short, long)], 1_000, path)
    assert [answer[-1] for answer in predicted(batch).values()] == [end] * 4
    assert len(batch.targets) == 14


@pytest.mark.parametrize("path", PATHS)
def test_a_copy_behind_its_prompt_travels_with_its_record_and_is_penalised_in_its_stead(path) -> None:
    rude = TrainedResponse("b", (3, 9), -1.0, "negative", prompted=(8, 8, 5, 6, 7))
    batches = micro_batches([example((5, 6, 7), TWO.answers[0], rude)], 100, path, prompted="worst")
    (batch,) = batches
    assert batch.layout.record.tolist() == [0, 0, -1]
    assert batch.layout.prompted is not None
    assert batch.layout.prompted.tolist() == [0, 2, 2]
    assert batch.layout.query is not None
    assert batch.layout.query.tolist() == [3, 3, 5]
    assert predicted(batch) == {0: [1, 2, 9], 1: [3, 9], 2: [3, 9]}
    assert plan_of(batch.layout).target.tolist() == [2]
    assert batch.answers == 2
    (plain,) = micro_batches([example((5, 6, 7), TWO.answers[0], rude)], 100, path)
    assert plan_of(plain.layout).target.tolist() == [1]


def test_the_copy_is_of_the_response_that_the_plan_penalises() -> None:
    def answer(reward: float, polarity: str | None) -> TrainedResponse:
        return TrainedResponse("", (1, 2), reward, polarity, prompted=(1, 1) if polarity else None)

    mixed = example((5, 6), answer(3, "positive"), answer(2, "negative"), answer(1, None))
    for target, copies in (("negative_prompt", [1]), ("worst", [])):
        (batch,) = micro_batches([mixed], 100, "trees", prompted=target)
        plan = plan_of(batch.layout, target)
        assert batch.layout.prompted is not None
        assert [i for i, stead in enumerate(batch.layout.prompted.tolist()[:3]) if stead != i] == copies
        assert plan.target.tolist() == ([3] if copies else [2])
    tied = example((5, 6), answer(1, "negative"), answer(1, "negative"))
    (batch,) = micro_batches([tied], 100, "trees", prompted="worst")
    assert batch.layout.record.tolist() == [0, 0]


@pytest.mark.parametrize("path", PATHS)
def test_a_filler_has_no_record(path) -> None:
    batch = filler(path)
    plan = plan_of(batch.layout)
    assert (plan.counts.sft, plan.counts.ranking, plan.counts.penalty) == (0, 0, 0)
    assert len(batch.at) == len(batch.targets) == len(batch.layout.response) == 1
    assert batch.answers == 0


@pytest.mark.parametrize("path", PATHS)
@given(seed=st.integers(0, 10_000))
def test_some_responses_alone_predict_the_same_tokens_behind_the_same_queries(path, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    (whole,) = micro_batches(drawn(rng, 4), 10_000, path)
    behind = [(group.query, ids) for group in whole.groups for ids in group.answers]
    chosen = torch.randperm(len(behind), generator=rng)[: 1 + seed % len(behind)]
    part, places = whole.only(chosen)
    assert torch.equal(part.targets, whole.targets[places])
    assert predicted(part) == dict(enumerate(predicted(whole)[int(index)] for index in chosen.sort().values))
    assert [group.query for group in part.groups] == [behind[int(index)][0] for index in chosen.sort().values]
    assert plan_of(part.layout).counts.sft == 0
