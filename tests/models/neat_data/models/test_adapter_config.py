"""An adapter's configuration, whoever wrote it: read, or refused in words."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from neat_data.errors import InputError
from neat_data.models.adapter import adapter_config, adapter_hash
from neat_data.models.samplers.vllm import _rank
from tests.support.damage import damaged

GOOD = {"peft_type": "LORA", "r": 8, "rank_pattern": {"q_proj": 16}, "base_model_name_or_path": "org/base"}


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    (tmp_path / "adapter_config.json").write_text(json.dumps(GOOD))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    return tmp_path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=damaged(GOOD))
def test_whatever_stands_in_it_is_read_or_refused(adapter: Path, content: bytes) -> None:
    (adapter / "adapter_config.json").write_bytes(content)
    for read in (adapter_config, adapter_hash, _rank):
        with suppress(InputError):
            read(str(adapter))


def test_the_room_for_an_adapter_is_that_of_its_largest_rank(adapter: Path) -> None:
    assert _rank(str(adapter)) == 16
    (adapter / "adapter_config.json").write_text(json.dumps({**GOOD, "rank_pattern": {"q_proj": 1000}}))
    with pytest.raises(InputError, match="its rank is 1000"):
        _rank(str(adapter))
    for wrong in ({"r": "8"}, {"rank_pattern": True}):
        (adapter / "adapter_config.json").write_text(json.dumps({**GOOD, **wrong}))
        with pytest.raises(InputError, match="no whole numbers"):
            _rank(str(adapter))
