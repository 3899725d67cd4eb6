import math

import numpy as np
import pytest
import torch

from neat_data.models.reward_models.conversations import NotRewards, as_rewards


@pytest.mark.parametrize("three", [[1, 2.5, -3], (1, 2.5, -3), np.array([1, 2.5, -3]), torch.tensor([1, 2.5, -3])])
def test_one_number_an_entry_is_taken_whatever_holds_them(three):
    assert as_rewards(three, 3) == [1.0, 2.5, -3.0]


def test_entries_may_be_scalars_of_an_array_library():
    assert as_rewards([np.float64(0.5), torch.tensor(1.5), np.int64(2)], 3) == [0.5, 1.5, 2.0]


def test_rewards_are_rounded_to_float32():
    assert as_rewards([0.1], 1) == [float(np.float32(0.1))]


@pytest.mark.parametrize("answer", [[1.0], [1.0, 2.0, 3.0], []])
def test_another_count_is_refused(answer):
    with pytest.raises(NotRewards, match=f"2 rewards were asked for and {len(answer)} came"):
        as_rewards(answer, 2)


@pytest.mark.parametrize("answer", [None, 1.0, "12", {"a": 1, "b": 2}])
def test_what_is_no_list_is_refused(answer):
    with pytest.raises(NotRewards, match=r"2 rewards were asked for and .* came"):
        as_rewards(answer, 2)


@pytest.mark.parametrize("entry", [None, "1.0", True, [1.0], {"score": 1}, np.bool_(True)])
def test_an_entry_that_is_no_number_is_named(entry):
    with pytest.raises(NotRewards, match="not a number") as raised:
        as_rewards([0.0, entry], 2)
    assert raised.value.index == 1


@pytest.mark.parametrize("entry", [math.nan, math.inf, -math.inf, 1e39, 10**400], ids=lambda entry: str(entry)[:9])
def test_an_entry_beyond_float32_is_named(entry):
    with pytest.raises(NotRewards, match="not a finite float32 number") as raised:
        as_rewards([entry, 0.0], 2)
    assert raised.value.index == 0
