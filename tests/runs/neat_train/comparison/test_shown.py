"""A comparison in the terminal, as Markdown and as a page: complete, of a bounded width, and dead to hostile names."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from neat_data.errors import RunError
from neat_data.report.html import POLICY
from neat_data.report.tables import Table
from neat_data.report.terminal import print_tables
from neat_train.cli import app
from neat_train.comparison.compare import compare
from neat_train.comparison.evaluation import named
from neat_train.comparison.markdown import markdown, write_markdown
from neat_train.comparison.page import page, write_report
from neat_train.comparison.plots import _reach, drawable, write_plots
from neat_train.comparison.result import Figure
from neat_train.comparison.tables import fitted, tables
from tests.support.evaluations import A, B, write_evaluation, write_judge, write_run
from tests.support.markup import Elements

ATTACK = (
    "</p></style></title><script>document.title='owned'</script><img src='//x/i' onerror=alert(1)> "
    "| $x$ [a](b) \x1b[31m \u202e"
)
BASE = np.random.default_rng(0).normal(0, 1, 30)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three arms of two seeds, each more rewarded than the one before it."""
    folder, by_name = tmp_path_factory.mktemp("runs"), {}
    for level, name in enumerate(("sft", "rrhf", "neat")):
        for seed in (0, 1):
            run = write_run(folder / name / str(seed), method=name, seed=seed, sampled=(level * 10, level))
            rewards = {A: BASE + 0.5 * level + 0.1 * seed, B: BASE}
            negative = {A: BASE - 1, B: BASE}
            write_evaluation(
                run / "eval/test", rewards, negative=negative, greedy=rewards, chosen={A: BASE}, method=name, seed=seed
            )
            by_name.setdefault(name, []).append(run)
    return by_name


@pytest.fixture(scope="module")
def compared(runs):
    return compare(runs)


@pytest.fixture(scope="module")
def judged(runs, tmp_path_factory):
    """The same, and a judge's verdicts."""
    return compare(runs, judged=[write_judge(tmp_path_factory.mktemp("judged") / "judge", 18, 9, 3)])


def shown(comparison, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_tables([part for table in tables(comparison) for part in fitted(table, width)], console)
    return console.file.getvalue()


def cells(table: Table, row: int) -> dict[str, str]:
    return dict(zip(table.columns, table.rows[row], strict=True))


def test_the_tables_say_what_the_comparison_holds(judged):
    main, differences, verdicts, distance, answers, chosen, costs = tables(judged)
    assert main.rows[2][:3] == ("neat ×2", "7.39", "14.45")  # exp(20 / 10)
    value = BASE.mean() + 1.05
    assert main.rows[2][3].startswith(f"{value:.2f} [" if value >= 1 else f"{value:.3f} [")
    assert main.rows[2][4] == "-3.432"
    assert "the order of its rows compares, the numbers do not" in main.note
    assert cells(differences, 0)["hypothesis"] == "sft → rrhf"
    assert cells(differences, 0)["verdict"] == "holds"
    assert cells(verdicts, 0) | {"at equal length": ""} == {
        "pair": "neat – chosen",
        "win": "18",
        "lose": "9",
        "tie": "3",
        "unread": "0",
        "win rate": "65.0 % [55.0, 75.0]",
        "sign test p": "0.040",
        "at equal length": "",
    }
    paper = {row[0]: row[6] for row in verdicts.rows[1:]}
    assert paper["paper: NEAT – RRHF"] == "0.122"
    assert cells(verdicts, 1)["pair"] == "paper: NEAT – chosen"
    assert cells(verdicts, 1)["win rate"] == "86.7 % [72.5, 93.8]"  # Tango's of 24, 2 and 4
    assert "with a power of 80 % at 2.5 %, Holm's first step." in differences.note
    assert "With three seeds that spread much, about nine of ten such intervals hold the truth." in main.note
    assert cells(distance, 0)["KL a token"].startswith("0.100")
    assert cells(answers, 0)["distinct-2"] == "0.600"
    assert cells(chosen, 0)["negative prompt"].startswith(f"{BASE.mean() - 1:.2f}"[:5])
    assert cells(chosen, 0)["negative prompt minus no prompt"].startswith("-1.05 [")
    assert "(0 where the policy does not obey it)" in chosen.note
    assert cells(costs, 2)["responses sampled"] == "22"
    assert cells(costs, 2)["response tokens trained"] == "48,000"
    assert cells(costs, 2)["wall-clock"] == "1 min 30 s"


@pytest.mark.parametrize(
    ("prompts", "negative", "head"),
    [
        (("positive", "positive"), "Be rude.", "rude prompt minus positive prompt"),
        (("none", "positive"), "Be rude.", "rude prompt minus its own prompt"),
        (("none", "none"), None, "no prompt minus no prompt"),
    ],
)
def test_what_the_negative_answers_are_compared_with_is_named(tmp_path, prompts, negative, head):
    for name, prompt in zip("ab", prompts, strict=True):
        settings = {"negative": {"name": "rude", "text": negative}}
        run = write_run(tmp_path / name)
        write_evaluation(run / "eval/test", {A: BASE}, negative={A: BASE - 1}, prompt=prompt, settings=settings)
    made = {table.title: table for table in tables(compare({name: [tmp_path / name] for name in "ab"}))}
    table = made["Other ways of asking, and the chosen responses"]
    assert cells(table, 0)[head] == "-1.00 [-1.00, -1.00]"
    assert ("obey" in table.note) == (negative is not None)


def test_an_arm_has_as_many_seeds_as_were_evaluated(runs, tmp_path):
    more = {**runs, "neat": [*runs["neat"], write_run(tmp_path / "neat/2", method="neat", seed=2)]}
    assert [row[0] for row in tables(compare(more))[0].rows] == ["sft ×2", "rrhf ×2", "neat ×2"]


def test_a_mean_without_some_answers_says_so(tmp_path):
    lacking = np.where(np.arange(30) < 3, np.nan, BASE)
    for name, rewards in (("a", {A: BASE, B: BASE}), ("b", {A: lacking, B: lacking})):
        write_evaluation(write_run(tmp_path / name) / "eval/test", rewards)
    note = tables(compare({name: [tmp_path / name] for name in "ab"}))[0].note
    assert "b: 3 of 30 answers have no reward: the mean is that of the others." in note
    assert "b: 3 of 30 answers have no held-out reward: the mean is that of the others." in note
    assert "a: " not in note


@pytest.mark.parametrize(
    ("starts", "words"),
    [
        ([("base", True), ("base", True)], "from the policy that the run began from,"),
        ([("base", True), ("sft", True)], "from the policy that the run began from,"),
        ([("base", True), ("base", False)], "from base, wherever the runs began,"),
        ([("base", True), ("sft", False)], "from the policies that the notes name,"),
    ],
)
def test_what_kl_is_the_distance_from_is_what_the_evaluations_say(tmp_path, starts, words):
    for name, (start, own) in zip("ab", starts, strict=True):
        write_evaluation(write_run(tmp_path / name) / "eval/test", {A: BASE}, start=start, own=own)
    made = {table.title: table for table in tables(compare({name: [tmp_path / name] for name in "ab"}))}
    assert words in made["How far from the start?"].note


@pytest.mark.parametrize("value", [0.1, 0.0])
def test_seeds_without_any_spread_are_drawn(tmp_path, value):
    """The mean of 0.1 is outside its own interval by a last digit."""
    seeds = [write_run(tmp_path / str(seed), seed=seed) for seed in range(3)]
    for seed, run in enumerate(seeds):
        write_evaluation(run / "eval/test", {A: [value] * 60}, seed=seed, kl=[0.3] * 60)
    comparison = compare({"one": seeds})
    assert "<svg" in page(comparison)
    write_plots(comparison, tmp_path / "plots")


def test_an_interval_that_ends_at_zero_reaches_up_to_it():
    assert _reach(Figure(-1.0, -3.0, 0.0)) == [[2.0], [1.0]]
    assert _reach(Figure(-1.0)) == [[0.0], [0.0]]


def test_without_a_judge_there_is_no_table_3(compared):
    assert not any("judge" in table.title for table in tables(compared))


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_terminal_of_any_width_shows_every_cell_whole(judged, width):
    text = shown(judged, width)
    assert max(map(len, text.splitlines())) <= width
    for table in tables(judged):
        for row in table.rows:
            for cell in row:
                assert cell in text


def test_a_wide_table_is_cut_between_columns():
    table = Table("title", ("arm", "one two", "three"), (("a", "1" * 20, "2" * 20),), "note")
    first, second = fitted(table, 30)
    assert (first.columns, first.rows, first.note) == (("arm", "one two"), (("a", "1" * 20),), "")
    assert (second.columns, second.rows, second.note) == (("arm", "three"), (("a", "2" * 20),), "note")
    assert second.title == "title (continued)"
    assert fitted(Table("", ("a", "long heading"), (("b", "1"),)), 80)[0].columns == ("a", "long\nheading")


@pytest.fixture
def hostile(tmp_path):
    """A comparison in which every free text is an attack."""
    model = ATTACK.replace("/", "\\")
    run = write_run(tmp_path / "run")
    write_evaluation(
        run / "eval/test",
        {model: BASE},
        texts=[ATTACK] * 30,
        query=ATTACK,
        source=ATTACK,
        queries=ATTACK,
        prompt=ATTACK,
    )
    judge = write_judge(tmp_path / "judge", 1, 0, 0)
    content = json.loads((judge / "judge.json").read_text())
    content["a"]["label"] = content["b"]["label"] = content["judge"]["model"] = ATTACK
    (judge / "judge.json").write_text(json.dumps(content))
    return compare({ATTACK: [run]}, judged=[judge], extra={ATTACK: {ATTACK: ATTACK}})


def test_nothing_hostile_becomes_markup(hostile):
    elements = Elements(page(hostile))
    names = {tag for tag, _ in elements.tags}
    assert not names & {"script", "img", "iframe", "link", "object", "form", "a"}
    attributes = [(name, value or "") for _, attrs in elements.tags for name, value in attrs.items()]
    assert not [name for name, _ in attributes if name.startswith("on")]
    assert not [value for name, value in attributes if "href" in name and not value.startswith("#")]
    assert not [value for name, value in attributes if name == "src"]
    assert "<script>document.title='owned'" in elements.text
    assert r"\x1b[31m \u202e" in elements.text
    assert not set(elements.text) & {"\x1b", "\u202e"}


def test_nothing_hostile_reaches_the_terminal_or_markdown(hostile):
    text = shown(hostile, 100)
    assert not set(text) & {"\x1b", "\u202e"}
    written = markdown(tables(hostile))
    assert not set(written) & {"\x1b", "\u202e"}
    assert "<script>" not in written
    assert not re.search(r"(?<!\\)[<$]", written)
    rows = [line for line in written.splitlines() if line.startswith("|")]
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in rows]
    groups = "".join("x" if line.startswith("|") else " " for line in written.splitlines()).split()
    begin = 0
    for group in groups:  # every row of a table has as many cells as its heading
        assert len(set(widths[begin : begin + len(group)])) == 1
        begin += len(group)


def test_the_page_stands_alone_and_shows_everything(compared, runs):
    content = page(compared)
    elements = Elements(content)
    metas = [attrs for tag, attrs in elements.tags if tag == "meta"]
    assert [a["content"] for a in metas if a.get("http-equiv") == "Content-Security-Policy"] == [POLICY]
    assert not re.search(r"""(?:src|href)=["'](?!#)""", content)
    tags = [tag for tag, _ in elements.tags]
    assert tags.count("svg") == 2
    assert tags.count("article") == 6
    ids = [attrs["id"] for _, attrs in elements.tags if attrs.get("id")]
    assert len(ids) == len(set(ids))
    for words in ("Table 2", "Figure 3", "offensive, harmful", "paper (8B)", "Answers side by side", "nobody picked"):
        assert words in elements.text
    drawn = re.findall(r"<svg.*?</svg>", content, re.DOTALL)
    assert not set(re.findall(r"#[0-9a-f]{6}\b", "".join(drawn))) - {"#ffffff", "#000000"}
    assert page(compare(runs)) == content


def test_arms_beyond_the_colours_differ_in_their_lines(tmp_path):
    arms = {}
    for number in range(10):
        run = write_run(tmp_path / f"_arm{number}$")
        write_evaluation(run / "eval/test", {A: BASE + number})
        arms[run.name] = [run]
    content = page(compare(arms, hypotheses=[], examples=0))
    assert "3px dashed var(--data-0)" in content
    assert "3px solid var(--data-0)" in content


def test_next_to_nothing_is_drawn_and_said(tmp_path):
    run = write_run(tmp_path / "run", curve=[0.1], finished=False)
    write_evaluation(run / "eval/test", {A: [1.0]})
    comparison = compare({"one": [run]})
    assert drawable(comparison) == ["distance"]
    assert comparison.arms[0].figures[f"sampled/reward/{A}"].low is None
    assert "1.00" in shown(comparison, 80)
    assert "Notes" in Elements(page(comparison)).text


def test_an_evaluation_without_a_reward_model_is_compared_in_perplexity(tmp_path):
    for name in "ab":
        folder = write_evaluation(tmp_path / name, {A: BASE}, nll=(20 + BASE).tolist())
        content = json.loads((folder / "eval.json").read_text())
        content["decodings"]["sampled"]["rewards"] = {}
        (folder / "eval.json").write_text(json.dumps(content))
    comparison = compare({name: [tmp_path / name] for name in "ab"}, hypotheses=[("a", "b", "perplexity")])
    assert comparison.reward_models == ()
    assert comparison.differences[0].difference.value == 0
    assert "perplexity" in shown(comparison, 100)
    page(comparison)


def test_pictures_are_files_of_their_own_too(compared, tmp_path):
    write_plots(compared, tmp_path / "plots")
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == [
        "distance.png",
        "distance.svg",
        "progress.png",
        "progress.svg",
    ]
    assert "neat" in (tmp_path / "plots/progress.svg").read_text()  # the legend


@pytest.mark.parametrize(
    "write", [write_report, write_plots, lambda comparison, path: write_markdown(tables(comparison), path)]
)
def test_what_cannot_be_written_is_said(compared, tmp_path, write):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        write(compared, tmp_path / "file" / "below")


def test_arms_are_named_or_called_as_their_folders(tmp_path):
    (tmp_path / "a=b").mkdir()
    assert named([str(tmp_path / "a=b"), "x=runs/0", "x=runs/1"]) == {
        "a=b": [tmp_path / "a=b"],
        "x": [type(tmp_path)("runs/0"), type(tmp_path)("runs/1")],
    }


@pytest.mark.parametrize("given", [["a/0", "b/0"], ["a/0", "0=b/1"], ["0=b/1", "a/0"]])
def test_two_runs_of_one_name_are_seeds_only_if_that_was_said(given):
    from neat_data.errors import InputError

    with pytest.raises(InputError, match="NAME"):
        named(given)


def test_the_verb_prints_tables_or_one_json_object_and_writes_files(runs, tmp_path):
    given = [f"{name}={path}" for name, paths in runs.items() for path in paths]
    files = ["--markdown", str(tmp_path / "c.md"), "--report", str(tmp_path / "c.html")]
    done = CliRunner().invoke(app, ["compare", *given, *files], env={"COLUMNS": "100"})
    assert done.exit_code == 0, done.output
    assert "Table 2: perplexity and reward" in done.stdout
    assert "neat ×2" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert (tmp_path / "c.md").read_text().startswith("### Table 2")
    assert (tmp_path / "c.html").read_text().startswith("<!DOCTYPE html>")
    result = CliRunner().invoke(app, ["compare", *given, "--json"])
    assert [arm["name"] for arm in json.loads(result.stdout)["arms"]] == ["sft", "rrhf", "neat"]
    assert CliRunner().invoke(app, ["compare", *given, "--quiet"]).stdout == ""


def test_the_verb_refuses_in_words(tmp_path):
    done = CliRunner().invoke(app, ["compare", str(tmp_path)])
    assert done.exit_code == 2
    assert "is no run of neat-train fit" in done.stderr
