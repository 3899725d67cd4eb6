"""What both packages are as a distribution: one version, typed."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.resources import files

import pytest
from typer.testing import CliRunner

import neat_data
import neat_data.cli
import neat_train
import neat_train.cli
from tests.support.killing import ROOT

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.mark.parametrize("package", [neat_data, neat_train])
def test_a_package_and_its_command_say_the_version_of_the_distribution(package) -> None:
    assert package.__version__ == VERSION
    assert CliRunner().invoke(package.cli.app, ["--version"]).stdout == f"neat-align {VERSION}\n"


@pytest.mark.parametrize("package", [neat_data, neat_train])
def test_a_package_says_what_it_does_not_have(package) -> None:
    with pytest.raises(AttributeError, match="'no_such_name'"):
        package.no_such_name  # noqa: B018


@pytest.mark.parametrize("package", ["neat_data", "neat_train"])
def test_a_package_tells_type_checkers_that_it_is_typed(package: str) -> None:
    assert (files(package) / "py.typed").is_file()


@pytest.mark.parametrize("package", ["neat_data", "neat_train"])
def test_the_command_lines_load_nothing_heavy(package: str) -> None:
    """`--help` is answered as soon as one has typed it."""
    heavy = "'numpy', 'pyarrow', 'polars', 'datasets', 'torch', 'transformers'"
    code = f"import sys, {package}.cli; print(sorted({{{heavy}}} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(("package", "verb"), [("neat_data", "score"), ("neat_train", "fit")])
def test_help_loads_no_pydantic(package: str, verb: str) -> None:
    """It takes as long to load as all the rest together."""
    program = f"""
import atexit, sys, {package}.cli
atexit.register(lambda: print("loaded:", sorted({{"pydantic", "yaml", "rich"}} & {{*sys.modules}})))
sys.argv = [{package!r}, {verb!r}, "--help"]
{package}.cli.main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("loaded: []\n")
