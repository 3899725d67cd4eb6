"""Markdown of a dataset's texts as HTML that can do nothing: no links, no pictures, no markup of the text's own."""

from __future__ import annotations

import nh3
from markdown_it import MarkdownIt
from markupsafe import Markup

from neat_data.report.escape import visible

MAX_CHARACTERS = 100_000  # a longer text stays text
_TAGS = {"p", "br", "hr", "em", "strong", "s", "code", "pre", "blockquote", "ul", "ol", "li"}
_TAGS |= {"h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"}
_READER = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
_READER.disable(["link", "image", "autolink", "html_inline", "html_block", "entity"])


def rendered(text: str) -> Markup:
    """HTML to put into a page as it is."""
    if len(text) > MAX_CHARACTERS:
        return Markup('<p class="text">{}</p>').format(visible(text))
    html = nh3.clean(_READER.render(visible(text)), tags=_TAGS, attributes={"ol": {"start"}}, link_rel=None)
    return Markup(_headings_below(html))


def _headings_below(html: str) -> str:
    """A text's own headings come below those of the page, as bold paragraphs, so that its outline stays the page's."""
    for depth in range(1, 7):
        html = html.replace(f"<h{depth}>", "<p><strong>").replace(f"</h{depth}>", "</strong></p>")
    return html
