"""Markdown of a text from outside: what it may become, and what stays text."""

from __future__ import annotations

import pytest

from neat_data.review.look.diff import differences
from neat_data.review.look.markdown import MAX_CHARACTERS, rendered
from tests.support.markup import Elements
from tests.support.reviewing import HOSTILE


def test_emphasis_lists_tables_and_code_are_rendered():
    found = Elements(str(rendered("# Head\n**b** *i*\n\n1. one\n\n```py\n<b>x = 1\n```\n\n| a |\n|---|\n| 1 |\n")))
    names = [name for name, _ in found.tags]
    assert {"strong", "em", "ol", "li", "pre", "code", "table"} <= set(names)
    assert "h1" not in names  # the page's own outline stays
    assert "<b>x = 1" in found.text


@pytest.mark.parametrize(
    "text",
    [
        HOSTILE,
        "[a](javascript:alert(1)) <https://a.b> ![p](http://a.b/p.png) https://a.b",
        "<a href=x onclick=y>z</a>\n\n<svg onload=x>\n<iframe src=y>",
        "[r]: http://a.b\n[r] ![r]",
        "```<script>x\n</script>\n```",
        "| <img src=x> |\n|---|\n| <style>*{}</style> |",
        "&lt;script&gt;&#60;script&#62;",
    ],
)
def test_no_text_brings_links_pictures_attributes_or_markup_of_its_own(text: str):
    found = Elements(str(rendered(text)))
    assert {name for name, _ in found.tags} <= {
        "p",
        "pre",
        "code",
        "strong",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
    }
    assert all(not attributes for _, attributes in found.tags)


def test_control_characters_are_shown():
    assert "\\u202e" in rendered("a\u202eb")


def test_a_very_long_text_stays_text():
    assert "<strong>" not in rendered("**b** " * (MAX_CHARACTERS // 5))
    assert differences("a " * 20_000, "b") is None


def test_what_two_texts_share_and_what_they_do_not_gives_both_back():
    first, second = "I can help you,\nof course.", "I will not help you of course!"
    parts = differences(first, second)
    assert parts is not None
    assert "".join(part.text for part in parts if part.kind != "first") == second
    shared = "".join(part.text for part in parts if part.kind != "second")
    assert "".join(shared.split()) == "".join(first.split())
    assert [part.text for part in parts if part.kind == "second"] == ["will not ", "!"]
