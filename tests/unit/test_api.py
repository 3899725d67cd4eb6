"""The Python API: what it names, that it says what the command line says, and what it refuses."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

import neat_data as nd
import neat_train as nt
from neat_data import api, arguments
from neat_data.cli import app as data_app
from neat_data.errors import InputError
from neat_data.models.reward_model import RewardModelSpec
from neat_train.cli import app as train_app

# Options of the command line that Python calls otherwise, and those that it has no use for.
NAMES = {
    "model_arg": "model_args",
    "reward_arg": "reward_args",
    "judge_arg": "judge_args",
    "threshold": "thresholds",
    "polarity": "polarities",
    "license_": "license",
    "reward_template": "reward_templates",
    "template_arg": "template_args",
}
CALLED = {
    "eval": {"subject": "model", "reward_model": "reward_models"},
    "compare": {"eval_": "evaluation", "judge": "judged"},
}
ONLY_TYPED = {
    "*": {"json_", "quiet", "config", "debug"},
    "score": {"dry_run"},
    "expand": {"responses", "format", "split", "columns", "ignore"},  # of `add_responses`
    "judge": {"preset"},
    # settings by their own names, and what is of one command alone
    "fit": {
        *("settings", "set_", "full", "load_in_4bit", "device", "dtype", "chat_template", "seed", "report_to"),
        *("thinking", "template_arg"),
        *("where", "limit", "rank_by", "drop_by", "model_arg", "nproc"),
    },
}
ONLY_CALLED = {"progress", "hypotheses", "callbacks", "config", "settings"}


def verbs() -> dict[str, tuple[Any, Any]]:
    """Every verb that both have: its parameters in the terminal, and in Python."""
    named = {"score": nd.score, "expand": nd.expand, "rescore": nd.rescore, "stats": nd.stats, "compact": nd.compact}
    named |= {"verify": nd.verify, "fit": nt.fit, "eval": nt.evaluate, "judge": nt.judge, "compare": nt.compare}
    commands = {**typer.main.get_command(data_app).commands, **typer.main.get_command(train_app).commands}  # type: ignore[attr-defined]
    pairs = {name: (commands[name], function) for name, function in named.items()}
    pairs["data-export"] = typer.main.get_command(data_app).commands["export"], nd.export  # type: ignore[attr-defined]
    pairs["train-export"] = typer.main.get_command(train_app).commands["export"], nt.export  # type: ignore[attr-defined]
    return pairs


def typed(verb: str, command: Any) -> dict[str, Any]:
    """The options of a command, under Python's names, with their defaults."""
    left_out = ONLY_TYPED["*"] | ONLY_TYPED.get(verb, set())
    names = {**NAMES, **CALLED.get(verb, {})}
    return {names.get(p.name, p.name): p.default for p in command.params if p.name not in left_out}


@pytest.mark.parametrize("verb", verbs())
def test_python_takes_what_the_command_line_takes(verb: str) -> None:
    command, function = verbs()[verb]
    called = set(inspect.signature(function).parameters) - ONLY_CALLED
    assert called == set(typed(verb, command))


@pytest.mark.parametrize("verb", verbs())
def test_defaults_are_those_of_the_command_line(verb: str) -> None:
    command, function = verbs()[verb]
    defaults = typed(verb, command)
    for name, parameter in inspect.signature(function).parameters.items():
        if name in ONLY_CALLED or parameter.default in (None, ()) or parameter.default is inspect.Parameter.empty:
            continue
        default = {"n": 300, "thresholds": (1.0, 5.0)}.get(name, defaults[name])  # None there, and told in words
        assert str(parameter.default) == str(default), name


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
    assert arguments.reward_spec(spec, dtype="auto", device="auto") is spec
    assert arguments.reward_spec(Path("tiny"), dtype="float32") == spec
    with pytest.raises(InputError, match="RewardModelSpec: say device there"):
        arguments.reward_spec(spec, device="cpu")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nd.score("a", out="b"), "either reward_model=MODEL or rewards='given'"),
        (lambda: nd.score("a", out="b", reward_model="c", limit=0), "limit=0: must be at least 1"),
        (lambda: nd.score("a", out="b", reward_model="c", path="tree"), "path='tree': choose one of 'auto', 'trees'"),
        (lambda: nd.score("a", out="b", reward_model="c", workers="all"), "workers='all': a number from 1, or 'auto'"),
        (lambda: nd.expand("a"), "say policy=MODEL"),
        (lambda: nd.expand("a", policy="b", reward_args={"c": 1}), "reward_args goes with the name"),
        (lambda: nd.export("a", to="csv", out="b"), "to='csv': choose one of 'trl-dpo'"),
        (lambda: nd.open("no/such/folder"), "no dataset folder"),
        (lambda: nt.fit("a", policy="b", out="c", learning_rat=1), "Did you mean learning_rate"),
        (lambda: nt.fit("a", policy="b", out="c", rounds={"querys": 1}), "rounds.querys"),
        (lambda: nt.evaluate("a", "b", limit=-1), "limit=-1: must be at least 1"),
        (lambda: nt.judge("a", "b", judge="c", timeout=0), "timeout=0"),
    ],
)
def test_what_cannot_be_is_an_input_error(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_words_are_those_that_the_requests_take() -> None:
    assert get_args(api.Backend) == get_args(inspect.get_annotations(RewardModelSpec, eval_str=True)["backend"])
    assert get_args(api.ScoringPath) == get_args(inspect.get_annotations(RewardModelSpec, eval_str=True)["path"])
