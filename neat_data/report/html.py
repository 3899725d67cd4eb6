"""What the project's HTML pages share: a document that stands alone, and its text, tables and pictures.

Style and pictures are inside, there is no script, and the content security policy lets a browser load nothing. All
text from outside is made visible (`visible`) and escaped.
"""

from __future__ import annotations

from html import escape
from importlib.resources import files
from pathlib import Path

from neat_data.errors import RunError
from neat_data.report.escape import one_line, visible
from neat_data.report.tables import Table
from neat_data.store.atomic import write_atomically
from neat_data.store.inside import refuse_inside_dataset
from neat_data.thought import thought_of

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
FOLD_CHARACTERS = 700


def write_page(content: str, path: Path) -> None:
    """Write the page.

    Raises:
        InputError: the file would lie in a dataset.
        RunError: the file cannot be written.
    """
    refuse_inside_dataset(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(content.encode()))
    except OSError as error:
        raise RunError(f"{path}: cannot write the report there ({error.strerror})") from error


def document(title: str, body: str) -> str:
    """A whole page.

    Args:
        title: HTML already, without elements.
        body: HTML.
    """
    style = files("neat_data.report").joinpath("page.css").read_text()
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def line(text: str) -> str:
    """Text from outside as HTML, on one line."""
    return escape(one_line(text))


def figure_of(caption: str, svg: str) -> str:
    """A picture under its caption."""
    return f'<figure class="card"><figcaption>{escape(caption)}</figcaption>{svg}</figure>'


def table_of(table: Table) -> str:
    """A table with its heading and its note."""
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    if any(table.columns):
        cells = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
        begin = f"<table><thead><tr>{cells}</tr></thead>"
    else:
        begin = '<table class="names">'
    note = f'<p class="soft">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<section class="card"><h3>{escape(table.title)}</h3><div class="scroll">{begin}'
        f"<tbody>{rows}</tbody></table></div>{note}</section>"
    )


def folded(text: str) -> str:
    """Text as it stands; its thought and the end of a long one are folded away."""
    thought = thought_of(text)
    if thought is None:
        return _cut(text)
    end = "" if thought.ended else ", without an end"
    return (
        f"<details><summary>Thought of {len(thought.text):,} characters{end}</summary>"
        f'<p class="text">{escape(visible(thought.text))}</p></details>{_cut(thought.answer)}'
    )


def _cut(text: str) -> str:
    shown = visible(text)
    if len(shown) <= FOLD_CHARACTERS * 1.3:
        return f'<p class="text">{escape(shown)}</p>'
    cut = shown.rfind(" ", FOLD_CHARACTERS // 2, FOLD_CHARACTERS)
    cut = FOLD_CHARACTERS if cut < 0 else cut
    return (
        f'<p class="text">{escape(shown[:cut])} …</p><details><summary>{len(shown) - cut:,} more characters</summary>'
        f'<p class="text">{escape(shown[cut:].lstrip())}</p></details>'
    )
