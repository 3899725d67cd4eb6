"""What the documentation tells people to type exists: every command of ours in it is parsed by the command itself."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import pytest
import typer

from neat_data.cli import app as neat_data_app
from neat_train.cli import app as neat_train_app
from pipelines.run import _parser, commands, read_recipe
from tests.support.killing import ROOT

DOCS = ("README.md", *sorted(page.relative_to(ROOT).as_posix() for page in (ROOT / "docs").rglob("*.md")))
RECIPES = ("pipelines/hh_rlhf.yaml", "pipelines/ultrafeedback.yaml")
VERBS = {
    tool: cast("Any", typer.main.get_command(app)).commands
    for tool, app in (("neat-data", neat_data_app), ("neat-train", neat_train_app))
}
USAGE = cast("type[Exception]", typer.BadParameter.__base__)  # typer brings a click of its own
# Of lm-eval 0.4.13, `lm-eval run --help`.
LM_EVAL = {"--model", "--model_args", "--tasks", "--apply_chat_template", "--batch_size", "--output_path"}


def command_lines(text: str) -> Iterator[str]:
    """The lines of a page's bash blocks, continued ones joined, without comments."""
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            command = re.sub(r"\s#\s.*", "", line).strip()
            yield from filter(None, (part.strip() for part in command.split("&&")))


def parse(words: list[str]) -> None:
    """Raise USAGE where one of our commands would refuse these words."""
    if words[1:] == ["--version"]:
        return
    verb = VERBS[words[0]].get(words[1])
    if verb is None:
        raise USAGE(f"no verb {words[1]}")
    verb.make_context(words[1], words[2:])


OURS = [(page, line) for page in DOCS for line in command_lines((ROOT / page).read_text())]
PARSED = [(page, line) for page, line in OURS if line.split()[0] in VERBS]


@pytest.mark.parametrize(("page", "line"), PARSED, ids=[f"{page}: {line[:60]}" for page, line in PARSED])
def test_a_command_of_the_documentation_is_one_that_its_tool_takes(page: str, line: str) -> None:
    parse(shlex.split(line))


def test_the_pages_hold_commands_and_a_wrong_flag_is_found() -> None:
    assert {page for page, _ in PARSED} > {"README.md", "docs/first-day.md", "docs/guides/train.md"}
    assert len(PARSED) > 60
    for wrong in (
        "neat-data nothing x",
        "neat-data stats x --nothing",
        "neat-train fit x --policy y --out z --nproc q",
    ):
        with pytest.raises(USAGE):
            parse(wrong.split())


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_step_of_a_recipe_is_a_command_that_its_tool_takes(recipe: str) -> None:
    for command in commands(read_recipe(ROOT / recipe), Path("out")):
        parse(list(command.words))


def test_recipes_that_are_named_exist_and_their_steps_have_different_names() -> None:
    named = [shlex.split(line) for _, line in OURS if line.startswith("python -m pipelines.run")]
    assert named
    for words in named:
        assert _parser().parse_args(words[3:]).recipe.as_posix() in RECIPES
    for recipe in RECIPES:
        names = [step.name for step in read_recipe(ROOT / recipe).steps]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_uses_every_variable_that_it_has(recipe: str) -> None:
    content = read_recipe(ROOT / recipe)
    used = set(re.findall(r"\{(\w+)\}", " ".join(step.run for step in content.steps)))
    assert used == {*content.variables, "out"}


@pytest.mark.parametrize("page", DOCS)
def test_files_that_a_page_names_are_there(page: str) -> None:
    named = re.findall(
        r"(?<![\w/])(?:pipelines|neat_train|neat_data|benchmarks|tests)/[\w/]+\.(?:yaml|py|json|md)",
        (ROOT / page).read_text(),
    )
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_the_readme_links_to_what_is_there() -> None:
    linked = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text())
    assert [name for name in linked if not (ROOT / name).exists()] == []


def test_lm_eval_is_given_options_that_it_has() -> None:
    lines = [line for page, line in OURS if line.startswith("lm-eval")]
    assert len(lines) > 2
    for line in lines:
        words = shlex.split(line)
        assert words[1] == "run"
        assert {word for word in words if word.startswith("--")} <= LM_EVAL


def options_of(package: str, *files: str) -> set[str]:
    """`--name` for each field of the dataclasses in these files; read as text, as importing them takes its time."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    trees = [ast.parse((Path(spec.origin).parent / file).read_text()) for file in files]
    classes = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    fields = (field for node in classes for field in node.body if isinstance(field, ast.AnnAssign))
    return {f"--{ast.unparse(field.target)}" for field in fields}


def test_the_flags_of_trl_are_trls() -> None:
    """The second column of the table."""
    configs = [f"trainer/{name}_config.py" for name in ("base", "dpo", "grpo", "model")]
    known = options_of("trl", *configs, "scripts/utils.py", "scripts/grpo.py")
    known |= options_of("transformers", "training_args.py")
    table = (ROOT / "docs/first-day.md").read_text().partition("| `neat-train fit` |")[2].partition("\n\n")[0]
    cells = [row.split("|")[2] for row in table.splitlines()[2:]]
    named = {flag for cell in cells if "accelerate" not in cell for flag in re.findall(r"--[\w]+", cell)}
    assert len(named) > 25
    assert named <= known, named - known


def test_settings_of_the_table_are_settings() -> None:
    """Every NAME=VALUE behind `--set` in the first column is accepted by a method that has a use for it."""
    from neat_train.config.reading import read_settings

    table = (ROOT / "docs/first-day.md").read_text().partition("| `neat-train fit` |")[2].partition("\n\n")[0]
    first = [row.split("|")[1] for row in table.splitlines()[2:]]
    said = [pair for cell in first for pair in re.findall(r"--set ([\w.]+=[^\s`]+)", cell)]
    assert len(said) > 15
    for pair in said:
        method = "dpo" if pair.startswith("loss.ranking.beta") else "neat"
        extra = ["rounds.reward_model=http://127.0.0.1:1"] if pair == "rounds.placement=server" else []
        read_settings(None, {"method": method}, [pair, *extra])
