"""A YAML file of settings, and what a name that is none may have meant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar

import yaml

from neat_data.errors import InputError


class _Loader(yaml.SafeLoader):
    """As YAML 1.2 has it: 5e-5 is a number, which 1.1 wants a dot for, and `no` is a word, as in eval_strategy."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in known if not tag.endswith(":bool")]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("true|True|TRUE|false|False|FALSE"), list("tTfF"))


def parse(text: str) -> Any:
    """YAML to values.

    Raises:
        yaml.YAMLError: it is none.
    """
    return yaml.load(text, _Loader)


def read_file(path: Path) -> dict[str, Any]:
    """What a file of settings says, by name.

    Raises:
        InputError: it is not there, or holds no settings.
    """
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(" ".join(str(error).split()), field="settings", value=path) from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InputError("holds no settings: it should say NAME: VALUE, line by line.", field="settings", value=path)
    return content


def meant(name: object, known: Iterable[str]) -> str:
    """A sentence with the nearest of the known names; "" where none is near.

    >>> meant("limits", ["limit", "split"])
    ' Did you mean limit?'
    """
    near = get_close_matches(str(name), list(known), n=1)
    return f" Did you mean {near[0]}?" if near else ""
