"""What mkdocs asks while it builds the site: the pages that are made from the code, and formulas as MathML."""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

from docs.generate import commands, settings
from neat_data.cli import app as neat_data
from neat_train.cli import app as neat_train

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages, and a picture that stands beside its figures."""
    made = {
        "reference/neat-data.md": commands.page("neat-data", neat_data),
        "reference/neat-train.md": commands.page("neat-train", neat_train),
        "reference/settings.md": settings.page(),
    }
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    files.append(File.generated(config, "pictures/gold.png", abs_src_path="benchmarks/results/gold.png"))
    return files


def on_page_content(content: str, **_: Any) -> str:
    """Formulas that the browser draws by itself, without a script."""
    return FORMULA.sub(_mathml, content)


def _mathml(found: re.Match[str]) -> str:
    display = "block" if found[1] == "div" else "inline"
    return str(convert(html.unescape(found[2]), display=display))
