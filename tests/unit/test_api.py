"""The Python API: what it names, that it says what the command line says, and what it refuses."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import Any

import pytest
import typer

import neat_data as nd
import neat_train as nt
from neat_data import api, arguments
from neat_data.cli import app as data_app
from neat_data.errors import InputError
from neat_data.models.reward_model import RewardModelSpec
from neat_data.options.groups import RewardLoading
from neat_data.options.option import options_of
from neat_train.cli import app as train_app
from neat_train.config.verbs import Flagged

COMMANDS = {
    "neat-data": typer.main.get_command(data_app).commands,  # type: ignore[attr-defined]
    "neat-train": typer.main.get_command(train_app).commands,  # type: ignore[attr-defined]
}
VERBS = {
    "neat-data": (nd.score, nd.expand, nd.rescore, nd.stats, nd.export, nd.compact, nd.verify),
    "neat-train": (nt.fit, nt.evaluate, nt.judge, nt.compare, nt.export),
}
ONLY_TYPED = {
    "*": {"json", "quiet", "settings", "config", "debug"},
    "score": {"dry_run"},
    "expand": {"responses", "edits", "format", "split", "subset", "columns", "ignore"},  # of `add_responses`
    # settings by their own names, and what is of one command alone
    "fit": {*(option.name for option in options_of(Flagged)), "set_", "seed", "report_to", "nproc"},
}
ONLY_CALLED = {"progress", "hypotheses", "callbacks", "settings", "more"}


@pytest.mark.parametrize(("tool", "function"), [(tool, each) for tool, verbs in VERBS.items() for each in verbs])
def test_python_takes_what_the_command_line_takes(tool: str, function: Any) -> None:
    verb = function.__name__.replace("evaluate", "eval")
    typed = {option.name: option for option in COMMANDS[tool][verb].params}
    called = inspect.signature(function).parameters
    assert set(called) - ONLY_CALLED == set(typed) - ONLY_TYPED["*"] - ONLY_TYPED.get(verb, set())
    for name in called.keys() & typed.keys():
        assert typed[name].default in (None, called[name].default), name


def test_types_and_helps_of_keywords_are_those_that_were_declared() -> None:
    parameter = inspect.signature(nd.score).parameters["limit"]
    assert (parameter.annotation, parameter.default) == (int | None, None)
    assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
    assert "\n    limit: Source rows read at most.\n" in nd.score.__doc__
    assert "max_response: Tokens of a response. None: half of `max_length`.\n" in nd.score.__doc__
    assert nd.score.__doc__.count("Args:") == nd.score.__doc__.count("Raises:") == 1
    with pytest.raises(TypeError, match="unexpected keyword argument 'limits'"):
        nd.score("a", out="b", limits=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("package", [nd, nt])
def test_every_public_name_is_there_and_documented(package: Any) -> None:
    assert dir(package) == package.__all__ == sorted(package.__all__)
    for name in package.__all__:
        value = getattr(package, name)
        assert name == "__version__" or value.__doc__, name
        if inspect.isfunction(value):
            for parameter in inspect.signature(value).parameters:
                assert parameter in value.__doc__, f"{name}: {parameter}"
            assert "Example:" in value.__doc__


@pytest.mark.parametrize("package", [nd, nt])
def test_no_module_at_the_root_takes_the_name_of_a_function(package: Any) -> None:
    modules = {path.stem for path in Path(package.__file__).parent.iterdir()}
    assert modules.isdisjoint(package.__all__)


def test_a_bar_is_shown_unless_it_is_not_wanted_and_lines_are_logged(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # what rich takes for a terminal
    caplog.set_level(logging.INFO, "neat_data")
    shown = {}
    for progress in (True, False):
        with api.watching(progress) as watch:
            watch.phase("scoring", 10)
            watch.advance(3)
            watch.say("sorted [batches]")
        shown[progress] = capfd.readouterr()
    assert "scoring" in shown[True].err
    assert "sorted" not in shown[True].err
    assert shown[False].err == shown[False].out == shown[True].out == ""
    assert [record.getMessage() for record in caplog.records] == ["sorted [batches]"] * 2
    assert {record.name for record in caplog.records} == {"neat_data"}


def test_a_model_that_says_how_it_is_loaded_says_all_of_it() -> None:
    spec = RewardModelSpec("tiny", dtype="float32")
    assert arguments.reward_spec(spec, RewardLoading()) is spec
    assert arguments.reward_spec(Path("tiny"), RewardLoading(dtype="float32")) == spec
    with pytest.raises(InputError, match="RewardModelSpec: say device there"):
        arguments.reward_spec(spec, RewardLoading(device="cpu"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nd.score("a", out="b"), "Say either reward_model or rewards given"),
        (lambda: nd.score("a", out="b", reward_model="c", limit=0), "limit 0: must be at least 1"),
        (lambda: nd.score("a", out="b", reward_model="c", path="tree"), "path 'tree': choose one of 'auto', 'trees'"),
        (lambda: nd.score("a", out="b", reward_model="c", workers="all"), "workers 'all': a number from 1, or auto"),
        (lambda: nd.expand("a"), "Say policy MODEL"),
        (
            lambda: nd.expand("a", policy="b", model_args={"tree_attention": "sdpa"}),
            "model_args tree_attention=sdpa: a",
        ),
        (lambda: nd.expand("a", policy="b", reward_args={"c": 1}), "reward_args: goes with the name"),
        (lambda: nd.export("a", to="csv", out="b"), "to 'csv': choose one of 'trl-dpo'"),
        (lambda: nd.open("no/such/folder"), "no dataset folder"),
        (lambda: nt.fit("a", policy="b", out="c", learning_rat=1), "Did you mean learning_rate"),
        (lambda: nt.fit("a", policy="b", out="c", rounds={"querys": 1}), "rounds.querys"),
        (lambda: nt.evaluate("a", "b", limit=-1), "limit -1: must be at least 1"),
        (lambda: nt.judge("a", "b", judge="c", timeout=0), "timeout 0: must"),
    ],
)
def test_what_cannot_be_is_an_input_error(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
