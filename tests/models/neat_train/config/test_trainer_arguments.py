"""What goes to transformers' trainer under its own names."""

from __future__ import annotations

import pytest
from transformers import TrainingArguments

from neat_data.errors import InputError
from neat_train.config.reading import read_settings
from neat_train.config.trainer_arguments import REFUSED, kinds, training_arguments


def test_the_names_read_from_transformers_source_are_those_of_its_class():
    assert set(kinds()) >= set(REFUSED)
    assert set(kinds()) <= set(TrainingArguments.__dataclass_fields__)
    assert {"learning_rate", "bf16", "save_steps", "report_to"} <= set(kinds())


def test_a_reporter_that_is_not_there_is_named_before_anything_loads(tmp_path):
    with pytest.raises(InputError, match=r"report_to trackio: is not installed"):
        training_arguments(read_settings(sets=("method=rrhf", "report_to=trackio", "device=cpu")), tmp_path)
    assert training_arguments(read_settings(sets=("method=rrhf", "device=cpu")), tmp_path).report_to == []
