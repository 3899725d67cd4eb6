"""What the reward models on SmolLM2 learn from, how agreement is counted, and what is shipped of a run."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from neat_data.record import Label, Message, Record, Response, query_id
from pipelines.alignment_rows import IDS
from pipelines.smollm2.agreement import figures, opens_with
from pipelines.smollm2.rows import FOR_POLICIES, ids_of, placed
from pipelines.smollm2.shipped import ship
from pipelines.table2_small.sizes import SIZES
from pipelines.tiny_models.rows import Pair
from pipelines.tiny_models.splits import read_ids


def test_the_two_models_share_no_query_and_leave_those_of_the_policies_alone() -> None:
    a, b = ids_of("a"), ids_of("b")
    size = SIZES["smollm2"]
    assert size.records is not None
    assert size.records + size.validation <= FOR_POLICIES
    assert not a & b
    assert not (a | b) & set(sorted(read_ids(IDS))[:FOR_POLICIES])


def test_a_share_of_the_pairs_stands_behind_other_dialogues() -> None:
    pairs = [Pair("helpful", str(n), (Message("user", f"one two three {n}"),), "yes", "no") for n in range(40)]
    lengths = [len(pair.query) for pair in placed(pairs, share=0.5, short_query=0.0, seed=0)]
    assert 8 < sum(length > 1 for length in lengths) < 32
    assert all(len(pair.query) == 1 for pair in placed(pairs, share=0.0, short_query=0.0, seed=0))


def record(chosen: float, rejected: float, texts: tuple[str, str] = ("a longer one", "short")) -> Record:
    messages = (Message("user", f"{chosen} or {rejected}?"),)
    responses = (Response("c", texts[0], chosen), Response("r", texts[1], rejected))
    label = Label("x", None, None, 0, ("c", "r"))
    return Record(query_id(messages), messages, responses, (label,)).ranked()


def test_agreement_is_the_share_of_pairs_whose_chosen_response_has_more_reward() -> None:
    made = figures([record(1.0, 0.0), record(0.5, 0.0), record(2.0, 1.0), record(0.0, 0.3), record(1.0, 1.0)])
    assert (made["accuracy"], made["pairs"]) == (0.6, 5), "a tie has not"
    assert made["length_correlation"] > 0


def test_a_dialogue_that_begins_with_a_known_query_is_no_clean_one() -> None:
    first = (Message("user", "Hi"),)
    dialogue = (*first, Message("assistant", "Hello"), Message("user", "And?"))
    assert opens_with(dialogue, {query_id(first)})
    assert not opens_with(dialogue[2:], {query_id(first)})


def test_what_is_shipped_is_in_bfloat16_and_names_no_path(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    weights = {"lora_A.weight": torch.tensor([[1.0, 2.5]]), "score.weight": torch.tensor([[0.1]])}
    save_file(weights, run / "adapter_model.safetensors")
    (run / "adapter_config.json").write_text(json.dumps({"r": 4, "base_model_name_or_path": "/home/somebody/model"}))
    (run / "base.json").write_text('{"weights": "ab12"}')
    folder = ship(run, tmp_path / "shipped")
    shipped = load_file(folder / "adapter_model.safetensors")
    assert {weight.dtype for weight in shipped.values()} == {torch.bfloat16}
    assert shipped["score.weight"].item() == pytest.approx(0.1, rel=2**-8)
    assert "somebody" not in "".join(file.read_text() for file in folder.glob("*.json"))
    assert json.loads((folder / "base.json").read_text()) == {"weights": "ab12"}
