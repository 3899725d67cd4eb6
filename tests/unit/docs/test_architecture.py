"""What docs/architecture.md answers by naming a file is in that file."""

from __future__ import annotations

import re

from tests.support.killing import ROOT

NAMED = re.compile(r"`(neat_(?:data|train)/[\w/]+\.py)(?:::(\w+))?`")


def test_every_answer_to_where_names_what_is_there() -> None:
    section = (ROOT / "docs/architecture.md").read_text().split("## Where is")[1].split("\n## ")[0]
    named = NAMED.findall(section)
    assert len(named) > 20
    for path, name in named:
        text = (ROOT / path).read_text()
        assert not name or re.search(rf"^ *(?:def|class) {name}\b", text, re.MULTILINE), f"{path}::{name}"
