"""Tables and records in a terminal: legible at 80 columns, and nothing in a dataset can drive the terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from neat_data.analysis.stats import PAPER_MODEL, compute
from neat_data.report.escape import one_line, visible
from neat_data.report.terminal import marks, print_records, print_stats, signed_gap

HOSTILE = "[red]no[/red] [link=http://x]l[/link] \x1b[31m\x1b]0;title\x07 \u202egnp.exe \x9b1m \r over\x00 :smile:"


def printed(show, *what, width: int = 80) -> str:
    out = io.StringIO()
    show(*what, Console(file=out, width=width, force_terminal=True, color_system=None, highlight=False))
    return out.getvalue()


def test_text_is_shown_with_its_controls_escaped():
    assert visible("a\tb\nc") == "a\tb\nc"
    assert visible("\x1b[31m\x00\x7f\x9b\r") == r"\x1b[31m\x00\x7f\x9b\r"
    assert visible("\u202e\u2066\ufeff\u200b\ud800") == r"\u202e\u2066\ufeff\u200b\ud800"
    assert visible("نمی\u200cخواهم 👨\u200d👩 é 你好") == "نمی\u200cخواهم 👨\u200d👩 é 你好"
    assert one_line("a\nb") == r"a\nb"


def test_hostile_text_of_a_record_is_shown_and_not_obeyed(record_of):
    record = record_of(HOSTILE, {HOSTILE: 1.0, "b": 0.0}, [(HOSTILE, "b")], place=(HOSTILE, HOSTILE, None))
    shown = printed(print_records, [record], width=2000)
    assert shown.count("[red]no[/red]") == 4  # query, response, and the label's file and subset
    assert ":smile:" in shown
    assert r"\x1b[31m\x1b]0;title\x07 \u202egnp.exe \x9b1m \r over\x00" in shown
    assert not set(shown) & {"\x1b", "\x07", "\x9b", "\r", "\x00", "\u202e"}


def test_hostile_names_in_stats_are_shown_and_not_obeyed(record_of, made_dataset):
    record = record_of("q", {"a": 1.0, "b": 0.0}, [("a", "b")], place=(HOSTILE, None, None), origin="[bold]x\x1b")
    dataset = made_dataset([record], rejected=["[red]r\x1b"], model="[blink]m\x1b")
    shown = printed(print_stats, compute(dataset, by="source"), width=300)
    for name in ("[red]no[/red]", r"origin [bold]x\x1b", r"[red]r\x1b", r"[blink]m\x1b"):
        assert name in shown
    assert "\x1b" not in shown.replace("\x1b[0m", "")


@pytest.mark.parametrize("width", [80, 120])
def test_every_line_of_the_stats_fits(record_of, made_dataset, width):
    records = [record_of(str(i), {"a": i / 3, "b": 0.0, "c": -0.5}, [("a", "b", "c")]) for i in range(30)]
    shown = printed(print_stats, compute(made_dataset(records, model=PAPER_MODEL), by="turns"), width=width)
    assert max(map(len, shown.splitlines())) <= width
    assert "…" not in shown
    # gaps of (a, b), (a, c), (b, c): i/3, i/3 + 1/2, 1/2: beyond 1 are i > 3 and i > 1.5, so 26 + 28 of 90
    line = next(line for line in shown.splitlines() if "|gap| > 1" in line)
    assert "60.0 %" in line
    assert "around 25 %" in line


def test_another_reward_model_is_another_scale(record_of, made_dataset):
    stats = compute(made_dataset([record_of("q", {"a": 1.0, "b": 0.0}, [("a", "b")])]))
    shown = printed(print_stats, stats, width=120)
    assert "another scale" in shown
    assert "around 25 %" not in shown


def test_a_record_shows_rank_reward_origin_verdicts_and_gap(record_of):
    record = record_of(["first", "reply", "second"], {"good": 2.0, "bad": -1.25}, [("bad", "good")])
    lines = [line.rstrip() for line in printed(print_records, [record]).splitlines()]
    assert [line for line in lines if line.startswith("#")] == [
        "#1         reward 2.00  source  rejected",
        "#2         reward -1.25  source  chosen",
    ]
    assert "gap        -3.25  a.jsonl row 0 (train)" in lines
    assert [line.split()[0] for line in lines if line.startswith(("user", "assistant"))] == [
        "user",
        "assistant",
        "user",
    ]


def test_marks_of_rankings_and_single_verdicts(record_of):
    ranking = record_of("q", {"a": 2.0, "b": 1.0, "c": 0.0}, [("b", "a", "c"), ("a", "c")])
    by_text = {r.text: list(marks(r.response_id, ranking.labels)) for r in ranking.responses}
    assert by_text == {"a": ["place 2 of 3", "chosen"], "b": ["place 1 of 3"], "c": ["place 3 of 3", "rejected"]}
    assert [signed_gap(ranking, label) for label in ranking.labels] == [1.0, 2.0]
    single = record_of("q", {"a": 2.0}, [("a",)], verdict=False)
    assert list(marks(single.responses[0].response_id, single.labels)) == ["refused"]
    assert signed_gap(single, single.labels[0]) is None


def test_an_unscored_response_is_shown_without_a_reward(record_of):
    shown = printed(print_records, [record_of("q", {"a": None, "b": 1.0}, [("a", "b")])])
    assert "reward –" in shown
    assert "gap   –" in shown


def test_stats_of_nothing_still_print(made_dataset):
    assert "records" in printed(print_stats, compute(made_dataset([]), by="source"))
