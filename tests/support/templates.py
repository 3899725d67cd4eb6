"""Published chat templates, and a tokenizer that knows the marks which one of them writes.

TRL ships most; the rest lie in `tests/data/templates`, each with its source in its first line.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path

import trl
from transformers import PreTrainedTokenizerFast

from tests.support.classifiers import train_tokenizer

_OWN = Path(__file__).resolve().parents[1] / "data" / "templates"
PUBLISHED = {
    path.stem: path
    for folder in (Path(trl.__file__).parent / "chat_templates", _OWN)
    for path in sorted(folder.glob("*.jinja"))
}
_MARK = re.compile(r"<[|｜]?[\w▁ ]{1,40}[|｜]?>|</[\w]{1,40}>|<[\w]{1,40}\|>|\[/?[A-Z_]{3,20}\]")
_BASE = train_tokenizer()


def tokenizer_of(name: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with the template called `name`, for which each of its marks is one token."""
    source = PUBLISHED[name].read_text(encoding="utf-8")
    tokenizer = copy.deepcopy(_BASE)
    tokenizer.add_tokens(sorted(set(_MARK.findall(source))), special_tokens=True)
    tokenizer.chat_template = source
    return tokenizer
