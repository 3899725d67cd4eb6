"""Arguments of a chat template (`enable_thinking=false`), written into its text as defaults.

So a saved template answers elsewhere as it did here; whoever names the argument there has the last word.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from neat_data.errors import InputError
from neat_data.models.template_trial import environment
from neat_data.thought import CHANNEL, MARKS, SWITCHES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_GIVEN = {"messages", "date_string", "raise_exception", "strftime_now"}


def resolved_arguments(
    source: str, arguments: Mapping[str, Any], thinking: str | None, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any]:
    """The arguments that a template is given, with the switch for thoughts that `thinking` (on, off) asks for.

    Raises:
        InputError: the template does not know an argument, or transformers gives it itself; its value is no scalar;
            the template has no switch, or both ways of setting it are used.
    """
    for name, value in arguments.items():
        _require_settable(source, name, value, tokenizer)
    if thinking is None or (thinking == "on" and switch_of(source) is None and _opens_a_thought(source)):
        return dict(arguments)
    switch = switch_of(source)
    if switch is None:
        raise InputError(
            "the chat template has no switch for thoughts",
            field="thinking",
            value=thinking,
            advice="leave it out, or name the template's own argument: {template_args} KEY=VALUE",
        )
    if switch in arguments:
        raise InputError(f"is {switch} of the chat template, which is given as well", field="thinking", value=thinking)
    return {**arguments, switch: thinking == "on"}


def _require_settable(source: str, name: str, value: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    if name in _GIVEN or name in tokenizer.special_tokens_map or name in _parameters(tokenizer):
        raise InputError("is not for the user to set", field="template_args", value=name)
    if not _mentions(source, name):
        raise InputError("the chat template has no such argument", field="template_args", value=name)
    if not isinstance(value, str | int | float | bool | None):
        raise InputError("takes a text, a number, true, false or null", field="template_args", value=name)


def _opens_a_thought(source: str) -> bool:
    """Whether it writes the mark that opens one: such a template may always ask for thoughts, and has no switch."""
    return any(mark in source for mark in (CHANNEL, *(opens for opens, _ in MARKS)))


def switch_of(source: str) -> str | None:
    """What the template calls the argument that turns thoughts on and off; None where it has none.

    `thinking` may also be no argument but a field of a turn (gpt-oss).
    """
    from jinja2 import TemplateSyntaxError, meta

    try:
        asked_for = meta.find_undeclared_variables(environment().parse(source))
    except TemplateSyntaxError:  # told when it is rendered
        return None
    return next((name for name in SWITCHES if name in asked_for), None)


def with_defaults(source: str, arguments: Mapping[str, Any]) -> str:
    """The template with its arguments set wherever nobody else sets them; once, where it was saved with them."""
    lines = [
        f"{{%- if {name} is not defined %}}{{%- set {name} = {_literal(value)} %}}{{%- endif -%}}"
        for name, value in sorted(arguments.items())
    ]
    return "".join(line for line in lines if line not in source) + source


def _literal(value: Any) -> str:
    return "none" if value is None else json.dumps(value)


def _mentions(source: str, name: str) -> bool:
    return name.isidentifier() and re.search(rf"\b{name}\b", source) is not None


def _parameters(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    return set(inspect.signature(tokenizer.apply_chat_template).parameters)
