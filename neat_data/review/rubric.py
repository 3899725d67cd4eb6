"""What raters are asked beside the verdict: a line of advice, words for the grades, labels of one's own.

It is read from a YAML file:

```yaml
advice: Drop what you would not want a child to read.
scale: {1: unusable, 5: could not be better}
labels: [rude, off topic, made up]
```
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from neat_data.errors import InputError

GRADES = range(1, 6)
MAX_LABELS = 20


@dataclass(frozen=True)
class ReviewRubric:
    """What raters are asked.

    Attributes:
        advice: shown above the responses.
        scale: what a grade means, for those of 1 to 5 that are explained.
        labels: what may be said of a response beside the verdict.
    """

    advice: str = ""
    scale: dict[int, str] = field(default_factory=lambda: {1: "worst", 5: "best"})
    labels: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: Path) -> ReviewRubric:
        """Read the file.

        Raises:
            InputError: it cannot be read, or says something else.
        """
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(f"cannot be read ({' '.join(str(error).split())})", field="labels", value=path) from error
        if not isinstance(content, dict) or (unknown := sorted(map(str, content.keys() - _PARTS.keys()))):
            what = f"has no part {unknown[0]!r}" if isinstance(content, dict) else "is no mapping"
            raise InputError(f"{what}; the parts are {', '.join(_PARTS)}", field="labels", value=path)
        for name, value in content.items():
            if not _PARTS[name](value):
                raise InputError(f"{name} is {_WANTED[name]}", field="labels", value=path)
        keywords = {**content, "labels": tuple(content.get("labels", ()))}
        return cls(**keywords)


def _is_scale(value: Any) -> bool:
    return isinstance(value, dict) and all(
        type(grade) is int and grade in GRADES and isinstance(word, str) for grade, word in value.items()
    )


def _is_labels(value: Any) -> bool:
    texts = isinstance(value, list) and all(isinstance(label, str) and 0 < len(label) <= 60 for label in value)
    return texts and len(set(value)) == len(value) <= MAX_LABELS


_PARTS = {"advice": lambda value: isinstance(value, str), "scale": _is_scale, "labels": _is_labels}
_WANTED = {
    "advice": "a text",
    "scale": "a mapping of grades from 1 to 5 to texts",
    "labels": f"a list of at most {MAX_LABELS} different texts of 60 characters at most",
}
