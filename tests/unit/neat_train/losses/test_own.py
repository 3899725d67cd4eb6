"""A loss of the user's: what it is given, and what is said of one that gives no loss."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from neat_data.errors import InputError
from neat_train.config.objective import NoPenalty, ObjectiveSettings, SFTTerm
from neat_train.config.ranking import DPO
from neat_train.config.reading import read_settings
from neat_train.losses import Layout, objective, plan_for
from neat_train.losses.own import load_own

DPO_OF_ONE_S_OWN = """
import torch.nn.functional as F

def loss(logps, reference):
    margin = 0.1 * ((logps - reference)[0] - (logps - reference)[-1])
    return -F.logsigmoid(margin)
"""


def written(folder: Path, source: str) -> str:
    (folder / "mine.py").write_text(source)
    return f"{folder / 'mine.py'}:loss"


def batch() -> tuple[Layout, torch.Tensor, torch.Tensor]:
    """Records of two, one and two responses, worst first."""
    layout = Layout(
        response=torch.tensor([0, 0, 1, 2, 2, 3, 3, 3, 4]),
        mask=torch.ones(9, dtype=torch.bool),
        record=torch.tensor([0, 0, 1, 2, 2]),
        reward=torch.tensor([0.0, 1.0, 3.0, -1.0, 2.0]),
    )
    generator = torch.Generator().manual_seed(1)
    return layout, *(-torch.rand(9, generator=generator, dtype=torch.float64) for _ in range(2))


def alone(ranking) -> ObjectiveSettings:
    return ObjectiveSettings(sft=SFTTerm(weight=0), beta=0, penalty=NoPenalty(), ranking=ranking)


def test_dpo_written_by_the_user_is_dpo(tmp_path):
    own = load_own(written(tmp_path, DPO_OF_ONE_S_OWN))
    layout, logps, reference = batch()
    logps.requires_grad_()
    results = []
    for settings, function in ((alone(own.settings), own), (alone(DPO()), None)):
        term = objective(logps, plan_for(layout, settings), settings, reference, function).ranking
        results.append((term.sum.item(), term.count, torch.autograd.grad(term.sum, logps)[0]))
    assert results[0][:2] == pytest.approx(results[1][:2])
    assert torch.allclose(results[0][2], results[1][2])


def test_it_says_by_its_parameters_what_it_needs(tmp_path):
    own = load_own(written(tmp_path, "def loss(logps, lengths, rewards=None):\n    return (logps / lengths).sum()\n"))
    assert own.settings.parameters == ("logps", "rewards", "lengths")
    assert not own.settings.needs_reference
    assert load_own(written(tmp_path, DPO_OF_ONE_S_OWN)).settings.needs_reference


def test_a_batch_of_fillers_gives_a_zero_that_hangs_on_the_log_probabilities(tmp_path):
    own = load_own(written(tmp_path, DPO_OF_ONE_S_OWN))
    settings, (layout, logps, reference) = alone(own.settings), batch()
    nobody = Layout(layout.response, layout.mask, layout.record * 0 - 1, layout.reward)
    logps.requires_grad_()
    term = objective(logps, plan_for(nobody, settings), settings, reference, own).ranking
    assert (term.sum.item(), term.count) == (0, 0)
    term.sum.backward()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def loss(logps):\n    return logps\n", "shape (2,) for a record of 2 responses"),
        ("def loss(logps):\n    return 1.0\n", "gave a float"),
        ("def loss(logps):\n    return (logps * 0).log().sum()\n", "a loss is finite"),
        ("def loss(logps):\n    return logps.detach().sum()\n", "without a gradient"),
        ("def loss(logps):\n    return logps[5]\n", "raised IndexError"),
        ("def loss(logps, prompt):\n    return logps.sum()\n", "takes prompt; a loss is given logps, reference"),
        ("def loss(rewards):\n    return rewards.sum()\n", "takes no logps"),
        ("def other(logps):\n    return logps.sum()\n", "has no function loss"),
        ("def loss(logps:\n", "cannot be run: SyntaxError"),
    ],
)
def test_what_is_no_loss_is_refused_before_anything_loads(tmp_path, source, words):
    with pytest.raises(InputError) as caught:
        load_own(written(tmp_path, source))
    message = str(caught.value)
    assert words in message
    assert message.startswith("method ")
    assert "mine.py" in message


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.py cannot be read"):
        load_own(f"{tmp_path / 'none.py'}:loss")


def test_only_the_command_line_names_one(tmp_path):
    own = load_own(written(tmp_path, DPO_OF_ONE_S_OWN)).settings
    settings = read_settings(own=own)
    assert (settings.method, settings.loss.ranking, settings.loss.sft.weight) == ("own", own, 0)
    file = tmp_path / "settings.yaml"
    for text in (
        "method: own\n",
        "loss: {ranking: {kind: own, function: 'a.py:f', sha256: '', parameters: [logps]}}\n",
    ):
        file.write_text(text)
        with pytest.raises(InputError, match="own"):
            read_settings(file)
    assert read_settings(file, own=own).loss.ranking == own, "the command line wins"
