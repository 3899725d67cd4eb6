"""The pages that are made from the code hold all of it."""

from __future__ import annotations

import doctest
from typing import Any

import pytest
import typer

from docs.generate import commands, settings
from neat_data.cli import app as neat_data
from neat_train.cli import app as neat_train
from neat_train.config.settings import FitSettings


@pytest.mark.parametrize(("name", "app"), [("neat-data", neat_data), ("neat-train", neat_train)])
def test_the_reference_of_a_command_has_every_option_of_every_verb(name: str, app: typer.Typer) -> None:
    group: Any = typer.main.get_command(app)
    sections = {part.split("\n")[0]: part for part in commands.page(name, app).split(f"\n## {name} ")[1:]}
    assert set(sections) == set(group.commands)
    for verb, command in group.commands.items():
        shown = [parameter for parameter in command.params if not parameter.hidden]
        options = [option for parameter in shown for option in parameter.opts if option.startswith("--")]
        assert len(options) > 3
        assert [option for option in options if f"| `{option}` |" not in sections[verb]] == []


def test_choices_are_told_one_by_one() -> None:
    assert "| `--phase` | `both` `sample` `score` |" in commands.page("neat-data", neat_data)


def test_the_reference_of_settings_has_every_setting() -> None:
    names = [name for name in settings._flat(FitSettings().resolved()) if not name.startswith("training")]
    page = settings.page()
    assert {"loss.alpha", "loss.penalty.inverse_temperature", "rounds.queries"} <= set(names)
    assert [name for name in names if f"`{name}`" not in page] == []


def test_its_examples_hold() -> None:
    assert doctest.testmod(commands) == (0, 1)
