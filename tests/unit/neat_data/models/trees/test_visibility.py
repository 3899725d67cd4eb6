"""The rule of what sees what, against the same rule by tree and branch."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given

from neat_data.models.trees.visibility import sees, until
from tests.support.layouts import Lengths, layouts, seen_by_rule


@given(layouts())
def test_the_rule_is_that_of_trees_and_branches(lengths: Lengths) -> None:
    ends = until(lengths)
    index = torch.arange(len(ends))
    assert np.array_equal(sees(ends, index[:, None], index[None, :]).numpy(), seen_by_rule(lengths))
