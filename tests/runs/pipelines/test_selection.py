"""The selection experiment: arms that differ in their pairs alone, and the whole of it at toy size."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from neat_data.errors import InputError
from neat_data.formats.strategies import Keep
from neat_train.config.reading import read_settings
from neat_train.config.settings import METHODS
from pipelines.selection.__main__ import SETTINGS, report
from pipelines.selection.experiment import Arms
from pipelines.table2_small.jobs import Workers
from tests.support.random_models import random_model

WITHOUT = {"reward", "dpo-trl", "sft-trl", "rrhf-official", "rrhf-online"}  # no policy, TRL's own, other forms of rrhf


def experiment(data: Path, out: Path, size: str = "tiny", settings: Path = SETTINGS) -> Arms:
    models = (str(random_model(name)) for name in ("tiny-policy", "tiny-reward", "tiny-reward-heldout"))
    return Arms(data, out, *models, yaml.safe_load(settings.read_text()), size, Workers(out, 2, print))


def test_arms_differ_in_their_pairs_alone(tmp_path: Path) -> None:
    made = experiment(tmp_path, tmp_path, "small")
    fits = {name: made._arm(name, 1).commands[0] for name in made.arms}
    for fit in fits.values():
        given = dict(pairwise(fit))
        assert Keep.parse(given["--keep-pairs"]).count == 50
        read_settings(sets=[word for flag, word in pairwise(fit) if flag == "--set"])
    kept = {(fit[-3], fit[-1]) for fit in fits.values()}
    assert len(kept) == len(fits)
    place = fits["random"].index("--out") + 1
    assert len({(*fit[:place], *fit[place + 1 : -3]) for fit in fits.values()}) == 1


def test_every_method_that_trains_a_policy_is_an_arm_with_settings_that_hold(tmp_path: Path) -> None:
    made = experiment(tmp_path, tmp_path, "small", SETTINGS.with_name("methods.yaml"))
    assert {arm["method"] for arm in made.arms.values()} == set(METHODS) - WITHOUT
    for name in made.arms:
        fit = made._arm(name, 1).commands[0]
        given = dict(pairwise(fit))
        options = {"method": given["--method"]}
        if "--pairs" in given:
            options["loss.ranking.pairs"] = given["--pairs"]
        settings = read_settings(options=options, sets=[word for flag, word in pairwise(fit) if flag == "--set"])
        assert settings.training["max_steps"] == 100


def test_nothing_evaluated_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no evaluated run"):
        report(experiment(tmp_path, tmp_path))


@pytest.mark.slow
def test_the_whole_of_it_at_toy_size(shared_data: Path, tmp_path: Path) -> None:
    made = experiment(shared_data, tmp_path / "out")
    made.settings["arms"] = {name: made.arms[name] for name in ("random", "small-implicit-gap", "mu-2sigma")}
    made.run()
    report(made)
    result = json.loads((tmp_path / "out" / "table.json").read_text())
    assert [arm["name"] for arm in result["arms"]] == ["before training", "random", "small-implicit-gap", "mu-2sigma"]
    assert len(result["differences"]) == 2
    for name in ("table.md", "table.html"):
        assert "small-implicit-gap" in (tmp_path / "out" / name).read_text()
