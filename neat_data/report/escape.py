"""Dataset text made safe to look at: what a terminal would obey or a reader could not see is shown escaped."""

from __future__ import annotations

import json
import re

# C0 and C1 controls but newline and tab, invisible and direction-changing characters, lone surrogates, tag characters.
# The two joiners U+200C and U+200D stay: Persian and many emoji are written with them.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    r"""The same text with every such character as its escape.

    >>> visible("red \x1b[31m\u202e")
    'red \\x1b[31m\\u202e'
    """
    return _UNSEEN.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


def one_line(text: str) -> str:
    r"""`visible` text for a table's cell or a heading: newlines and tabs escaped too.

    >>> one_line("a\nb")
    'a\\nb'
    """
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def in_json(text: str) -> str:
    r"""JSON that means the same, with every such character as its escape: a terminal would obey C1 controls in it, too.

    >>> in_json('{"a": "\x9b31m é"}')
    '{"a": "\\u009b31m é"}'
    """
    return _UNSEEN.sub(lambda match: json.dumps(match[0])[1:-1], text)
