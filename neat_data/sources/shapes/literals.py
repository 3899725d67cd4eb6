"""Lists and objects that stand in a cell as text, as CSV files and careless exports hold them.

JSON is tried first, then Python's literals by `ast.literal_eval`, which builds values and runs nothing. numpy writes a
list of objects or texts without commas; they are put in. What cannot be read stays the text that it is.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from neat_data.sources.row import Unusable

_LONGEST = 16_000_000  # characters; a syntax tree takes many times its text
_STRING_OR_GAP = re.compile(r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")(\s+(?=['"]))?|\}(?=\s+\{)""", re.DOTALL)


def parsed(value: Any) -> Any:
    """The list or object that a text spells; any other value, and a text that spells none, as it is.

    >>> parsed('["a", "b"]'), parsed("['a' 'b']"), parsed("[{'role': 'user'} {'role': 'x'}]"), parsed("[sic]")
    (['a', 'b'], ['a', 'b'], [{'role': 'user'}, {'role': 'x'}], '[sic]')
    """
    if not isinstance(value, str) or value.strip()[:1] not in ("[", "{"):
        return value
    try:
        return json.loads(value, object_pairs_hook=unique)
    except (ValueError, RecursionError):
        return _literal(value.strip())


def _literal(text: str) -> Any:
    if len(text) > _LONGEST:
        return text
    try:
        made = ast.literal_eval(_STRING_OR_GAP.sub(_with_comma, text))
        json.dumps(made)  # what JSON cannot hold is no value of a column
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
    return made if isinstance(made, list | dict) else text


def _with_comma(part: re.Match[str]) -> str:
    return f"{part[0]}," if part[0] == "}" or part[1] else part[0]


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, refused where it names a key twice."""
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise Unusable("duplicate_key", next(name for name in names if names.count(name) > 1))
    return value
