"""What mkdocs asks while it builds the site: the pages that are made from the code, and formulas as drawings."""

from __future__ import annotations

import html
import re
from typing import Any

import ziamath
from mkdocs.structure.files import File, Files
from ziamath import Latex

from docs.generate import commands, settings
from neat_data.cli import app as neat_data
from neat_train.cli import app as neat_train

EM = 16.0  # what formulas are drawn for; their size is told in em
ziamath.config.svg2 = False  # shapes stand where they are used: references by id would mix the formulas of a page
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages, and the pictures that stand beside their figures."""
    made = {
        "reference/neat-data.md": commands.page("neat-data", neat_data),
        "reference/neat-train.md": commands.page("neat-train", neat_train),
        "reference/settings.md": settings.page(),
    }
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    for name in ("gold.png", "scale.png"):
        files.append(File.generated(config, f"pictures/{name}", abs_src_path=f"benchmarks/results/{name}"))
    return files


def on_page_content(content: str, **_: Any) -> str:
    """Formulas as drawings in the page itself: they look the same everywhere, and need neither a script nor a font."""
    return FORMULA.sub(_drawing, content)


def _drawing(found: re.Match[str]) -> str:
    latex, display = html.unescape(found[2]).strip(), found[1] == "div"
    drawn = Latex(latex, size=EM, color="currentColor", inline=not display, title=latex, margin=0)
    width, height = (size / EM for size in drawn.getsize())
    style = f"width:{width:.3f}em;height:{height:.3f}em;vertical-align:{drawn.getyofst() / EM:.3f}em"
    svg = re.sub(r'width="[^"]*" height="[^"]*"', f'class="formula" role="img" style="{style}"', drawn.svg(), count=1)
    return f'<div class="formulas">{svg}</div>' if display else svg
