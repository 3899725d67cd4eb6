"""Block masks against the rule they stand for, and the guards around the compiled call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from torch.nn.attention.flex_attention import BlockMask

from neat_data.errors import RunError
from neat_data.models.trees import attention_flex
from neat_data.models.trees.attention import TREES_FLEX, laid_out
from neat_data.models.trees.attention_flex import BLOCK, RECOMPILES, block_mask, full_share, seen_blocks
from tests.support.layouts import Lengths, layouts, seen_by_rule


def whole_blocks(lengths: Lengths) -> Lengths:
    """The layout as FlexAttention takes it."""
    ids = torch.zeros(1, sum(map(sum, lengths)), dtype=torch.int64)
    return laid_out(ids, ids, lengths, TREES_FLEX)[2]


def in_blocks(dense: np.ndarray) -> np.ndarray:
    """(tokens, tokens) -> (query blocks, key blocks, 128, 128)"""
    blocks = len(dense) // BLOCK
    return dense.reshape(blocks, BLOCK, blocks, BLOCK).swapaxes(1, 2)


def listed(counts: torch.Tensor | None, indices: torch.Tensor | None) -> set[tuple[int, int]]:
    """The pairs of blocks that counts and indices name, rows first."""
    assert counts is not None
    assert indices is not None
    rows = zip(indices[0, 0].tolist(), counts[0, 0].tolist(), strict=True)
    return {(row, other) for row, (columns, count) in enumerate(rows) for other in columns[:count]}


def written_out(mask: BlockMask, tokens: int) -> np.ndarray:
    """What a kernel computes: blocks in part through the rule, full ones without a look  # (tokens, tokens)"""
    written = np.zeros((tokens, tokens), dtype=bool)
    inside = torch.arange(BLOCK)
    for query, key in listed(mask.kv_num_blocks, mask.kv_indices):
        queries, keys = query * BLOCK + inside, key * BLOCK + inside
        seen = mask.mask_mod(torch.tensor(0), torch.tensor(0), queries[:, None], keys[None, :])
        written[np.ix_(queries, keys)] = seen.numpy()
    for query, key in listed(mask.full_kv_num_blocks, mask.full_kv_indices):
        written[query * BLOCK : (query + 1) * BLOCK, key * BLOCK : (key + 1) * BLOCK] = True
    return written


@given(layouts())
def test_blocks_are_seen_in_part_or_as_a_whole_as_their_tokens_are(lengths: Lengths) -> None:
    lengths = whole_blocks(lengths)
    blocks = in_blocks(seen_by_rule(lengths))
    some, whole = seen_blocks(lengths)
    assert np.array_equal(some, blocks.any(axis=(2, 3)))
    assert np.array_equal(whole, blocks.all(axis=(2, 3)))


@given(layouts())
def test_a_block_mask_is_the_rule_token_by_token(lengths: Lengths) -> None:
    lengths = whole_blocks(lengths)
    dense = seen_by_rule(lengths)
    mask = block_mask(lengths, "cpu")
    assert mask.BLOCK_SIZE == (BLOCK, BLOCK)
    assert mask.seq_lengths == dense.shape
    assert np.array_equal(written_out(mask, len(dense)), dense)


@given(layouts())
def test_what_the_backward_pass_walks_by_keys_is_what_the_forward_walks_by_queries(lengths: Lengths) -> None:
    mask = block_mask(whole_blocks(lengths), "cpu")
    part, full = listed(mask.kv_num_blocks, mask.kv_indices), listed(mask.full_kv_num_blocks, mask.full_kv_indices)
    assert not part & full
    assert {(query, key) for key, query in listed(mask.q_num_blocks, mask.q_indices)} == part
    assert {(query, key) for key, query in listed(mask.full_q_num_blocks, mask.full_q_indices)} == full


def test_the_share_of_full_blocks_is_that_of_the_blocks_that_run() -> None:
    # Three blocks of queries: themselves in part, and the prefix's two before them as a whole.
    assert full_share(block_mask(((256, 128),), "cpu")) == 3 / 6
    # The third sees of the second block the prefix's half alone.
    assert full_share(block_mask(((192, 64, 128),), "cpu")) == 2 / 6


def test_a_row_of_parts_of_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a row of 130 tokens.*multiples of 128"):
        block_mask(((100, 30),), "cpu")


@pytest.fixture
def on_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`on_an_accelerator(compiled, dtype, scale)` attends where tensors are not a CPU's, through a call of our own."""

    def attend(compiled: Any, dtype: torch.dtype = torch.bfloat16, scale: float = 0.5, key_heads: int = 4) -> Any:
        monkeypatch.setattr(attention_flex, "_compiled", lambda: compiled)
        query, key = (torch.empty(1, heads, BLOCK, 16, dtype=dtype, device="meta") for heads in (4, key_heads))
        return attention_flex.attend(query, key, key, block_mask(((64, 64),), "cpu"), scale)

    return attend


def test_the_limit_on_recompiles_is_raised_and_an_error_around_the_call_alone(on_an_accelerator: Any) -> None:
    config = torch._dynamo.config
    before = (config.recompile_limit, config.fail_on_recompile_limit_hit)
    during = on_an_accelerator(lambda *_, **__: (config.recompile_limit, config.fail_on_recompile_limit_hit))
    assert during == (RECOMPILES, True)
    assert before != during
    assert (config.recompile_limit, config.fail_on_recompile_limit_hit) == before
    with pytest.raises(ZeroDivisionError):
        on_an_accelerator(lambda *_, **__: 1 / 0)
    assert (config.recompile_limit, config.fail_on_recompile_limit_hit) == before


def test_a_call_compiled_anew_too_often_is_an_error_and_never_runs_eagerly(
    on_an_accelerator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dynamo itself, which without the guard would run what it gave up on."""
    monkeypatch.setattr(attention_flex, "RECOMPILES", 2)

    @torch.compile(backend="eager", dynamic=False, fullgraph=True)
    def compiled(query: torch.Tensor, *_: torch.Tensor, scale: int, **__: Any) -> torch.Tensor:
        return query.new_ones(scale)

    assert [on_an_accelerator(compiled, scale=scale).shape for scale in (1, 2)] == [(1,), (2,)]
    with pytest.raises(RunError, match="more than 2 times") as raised:
        on_an_accelerator(compiled, scale=3)
    assert len(str(raised.value).splitlines()) == 2


def test_float32_takes_small_tiles_and_grouped_heads_are_told(on_an_accelerator: Any) -> None:
    def given(*_: torch.Tensor, **options: Any) -> dict[str, Any]:
        return options

    half = on_an_accelerator(given)
    assert (half["kernel_options"], half["enable_gqa"], half["scale"]) == (None, False, 0.5)
    single = on_an_accelerator(given, torch.float32, key_heads=2)
    assert set(single["kernel_options"].values()) == {32}
    assert single["enable_gqa"]
