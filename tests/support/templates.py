"""Published chat templates, and a tokenizer that knows the marks which one of them writes.

TRL ships its own; axolotl's, LLaMA-Factory's and a few more lie in `tests/data/templates`, each with its source.
"""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import trl
from transformers import PreTrainedTokenizerFast

from tests.support.classifiers import train_tokenizer

_OWN = Path(__file__).resolve().parents[1] / "data" / "templates"
PUBLISHED = {
    path.stem: path.read_text(encoding="utf-8")
    for folder in (Path(trl.__file__).parent / "chat_templates", _OWN)
    for path in sorted(folder.glob("*.jinja"))
}
for _path in sorted(_OWN.glob("*.json")):
    _published = json.loads(_path.read_text(encoding="utf-8"))["templates"]
    PUBLISHED |= {f"{_path.stem}/{name}": source for name, source in _published.items()}
# `<|end|>`, `</s>`, `[INST]`; EXAONE's `[|endofturn|]`, MiniMax's `]~b]` and `[e~[`.
_MARK = re.compile(
    r"<[|｜]?[\w▁ ]{1,40}[|｜]?>|</[\w]{1,40}>|<[\w]{1,40}\|>|\[/?[A-Z_]{3,20}\]|\[\|\w+\|\]|\]~!?b\[|\]~b\]|\[e~\["
)
_BASE = train_tokenizer()


def tokenizer_of(name: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with the template called `name`, for which each of its marks is one token."""
    source = PUBLISHED[name]
    tokenizer = copy.deepcopy(_BASE)
    tokenizer.add_tokens(sorted(set(_MARK.findall(source))), special_tokens=True)
    tokenizer.chat_template = source
    return tokenizer
