"""Which prompts run together: every one once, within the budget, sharing what they say they share."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from neat_data.models.sampler import Sampling
from neat_data.models.samplers.batching import batches, groups

Prompts = list[list[int]]
prompts_of_any_kind = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=40), min_size=1, max_size=20)
TWO = (Sampling(), Sampling(temperature=0.5, max_new_tokens=30))


@given(st.lists(st.tuples(st.integers(0, 60), st.sampled_from(TWO)), max_size=30), st.integers(1, 500))
def test_batches(shapes: list[tuple[int, Sampling]], budget: int) -> None:
    prompts, samplings = [[0] * length for length, _ in shapes], [sampling for _, sampling in shapes]
    made = list(batches(prompts, samplings, budget))
    assert sorted(index for batch in made for index in batch) == [i for i, prompt in enumerate(prompts) if prompt]
    for batch in made:
        (sampling,) = {samplings[index] for index in batch}
        longest = max(len(prompts[index]) for index in batch)
        assert len(batch) == 1 or (longest + sampling.max_new_tokens) * len(batch) <= budget


def test_batches_are_of_like_length() -> None:
    prompts = [[0] * length for length in (10, 90, 11, 80)]
    assert list(batches(prompts, [Sampling(max_new_tokens=10)] * 4, 200)) == [[1, 3], [2, 0]]


@given(prompts_of_any_kind, st.integers(1, 200))
def test_groups(prompts: Prompts, limit: int) -> None:
    beginnings = [[7] * 20 + prompt for prompt in prompts] + prompts
    made = groups(beginnings, limit)
    assert sorted(row for rows, _ in made for row in rows) == list(range(len(beginnings)))
    for rows, depth in made:
        assert len({tuple(beginnings[row][:depth]) for row in rows}) == 1
        assert all(len(beginnings[row]) > depth for row in rows)
        assert len(rows) == 1 or depth + len(rows) * (max(len(beginnings[row]) for row in rows) - depth) <= limit


def test_what_two_prompts_of_one_query_share_is_worth_more_than_what_all_share() -> None:
    start, one, other = list(range(20)), [30] * 50, [40] * 50
    prompts = [[*start, *one, 1], [*start, *other, 1], [*start, *one, 2], [*start, *other, 2]]
    assert groups(prompts, 1_000) == [([0, 2], 70), ([1, 3], 70)]


def test_samples_of_one_prompt_share_all_but_its_last_token() -> None:
    assert groups([list(range(30))] * 3, 100) == [([0, 1, 2], 29)]
