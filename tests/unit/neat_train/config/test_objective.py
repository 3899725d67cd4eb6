"""The objective's settings: strict, described, and loaded without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from neat_train.config.objective import (
    NPO,
    PRESETS,
    Likelihood,
    NoPenalty,
    ObjectiveSettings,
    RankingSettings,
    Settings,
)


def test_the_paper_s_preset_is_its_letter():
    paper = PRESETS["paper"]
    assert (paper.reduction, paper.ranking.reduction) == ("token_sum", "sum")
    assert paper.penalty == Likelihood(target="worst", context="query")


def test_the_recommended_preset_is_the_default():
    assert PRESETS["recommended"] == ObjectiveSettings()
    assert PRESETS["recommended"].penalty.kind == "npo"


@pytest.mark.parametrize("kind", ["likelihood", "unlikelihood", "npo", "simnpo", "dpop", "none"])
def test_the_kind_decides_which_penalty_is_read(kind):
    assert ObjectiveSettings.model_validate({"penalty": {"kind": kind}}).penalty.kind == kind


@pytest.mark.parametrize(
    "given",
    [
        {"gamma": 1},
        {"alpha": -1},
        {"beta": float("nan")},
        {"penalty": {"kind": "other"}},
        {"penalty": {"kind": "likelihood", "inverse_temperature": 1}},
        {"penalty": {"kind": "none", "target": "worst"}},
        {"penalty": {"kind": "npo", "inverse_temperature": 0}},
        {"reduction": "mean"},
        {"ranking": {"reduction": "token_mean"}},
    ],
)
def test_what_means_nothing_is_refused(given):
    with pytest.raises(ValidationError):
        ObjectiveSettings.model_validate(given)


def test_settings_survive_being_written_down():
    for settings in PRESETS.values():
        assert ObjectiveSettings.model_validate(settings.model_dump(mode="json")) == settings


def test_a_penalty_without_weight_is_none_and_needs_no_reference():
    assert ObjectiveSettings(penalty=NPO()).needs_reference
    assert not ObjectiveSettings(penalty=NPO(), beta=0).needs_reference
    assert not ObjectiveSettings(penalty=Likelihood()).needs_reference
    assert ObjectiveSettings(penalty=NPO(), beta=0).active_penalty == NoPenalty()


def every(model: type[Settings]) -> list[type[Settings]]:
    return [model, *(sub for child in model.__subclasses__() for sub in every(child))]


def test_every_field_is_described():
    assert RankingSettings in every(Settings)
    for model in every(Settings):
        assert [name for name, field in model.model_fields.items() if not field.description] == []


def test_reading_settings_loads_no_torch():
    code = "import sys, neat_train.config.objective; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
