"""Which card a vLLM engine is left."""

import pytest
import torch

from neat_data.errors import InputError
from neat_data.models.servers import vllm_engine


@pytest.mark.parametrize(
    ("before", "device", "after"),
    [
        ({}, "cuda:2", {"CUDA_VISIBLE_DEVICES": "2"}),
        ({"CUDA_VISIBLE_DEVICES": "4, 6"}, "cuda:1", {"CUDA_VISIBLE_DEVICES": "6"}),
        ({"CUDA_VISIBLE_DEVICES": "GPU-a,MIG-b"}, "cuda:1", {"CUDA_VISIBLE_DEVICES": "MIG-b"}),
    ],
)
def test_a_workers_engine_sees_its_own_card_alone(before, device, after):
    vllm_engine.see_alone(torch.device(device), before)
    assert before == after


def test_elsewhere_another_card_than_the_first_is_refused(monkeypatch):
    monkeypatch.setattr(vllm_engine, "resolve_device", torch.device)
    with pytest.raises(InputError, match="vLLM takes the first card it sees"):
        vllm_engine.first_device("cuda:1")
    monkeypatch.setattr(vllm_engine.multiprocessing, "parent_process", lambda: "somebody")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert vllm_engine.first_device("cuda:1") == torch.device("cuda", 0)
    assert vllm_engine.os.environ["CUDA_VISIBLE_DEVICES"] == "5"
