"""A judge opened by its name; importing this module imports no back end, `open_judge` the one that is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from neat_data.errors import InputError
from neat_data.models.servers.several import addresses
from neat_train.judging.clients.client import Judge, JudgeSpec


def open_judge(spec: JudgeSpec) -> Judge:
    """Open the back end that `spec` names; nothing is asked yet.

    Raises:
        InputError: no key, no address, no such local model, a back end that is not installed.
    """
    if not spec.name:
        raise InputError("name the model, as in openai:NAME", field="judge", value=spec.model)
    if spec.api == "local":
        from neat_train.judging.clients.local import LocalJudge

        try:
            return LocalJudge(spec)
        except InputError as error:
            if "/" in spec.name or Path(spec.name).exists():
                raise
            raise InputError(f"{error}\nof a server say openai:{spec.name} or anthropic:{spec.name}") from error
    from neat_train.judging.clients.served import ServedJudge

    return ServedJudge(_apis(spec), spec.concurrency)


def _apis(spec: JudgeSpec) -> list[Any]:
    """One for each address, those of the environment where none is given."""
    open_one: Callable[[JudgeSpec], Any]
    try:
        if spec.api == "openai":
            from neat_data.models.servers.chat import URL_NAME

            open_one = _openai
        else:
            from neat_train.judging.clients.anthropic import URL_NAME, AnthropicMessages

            open_one = AnthropicMessages
    except ImportError as error:
        raise InputError(
            "needs neat-align[judge]: pip install 'neat-align[judge]'", field="judge", value=spec.model
        ) from error
    urls = addresses(spec.base_url or os.environ.get(URL_NAME))
    return [open_one(replace(spec, base_url=url)) for url in urls]


def _openai(spec: JudgeSpec) -> Any:
    from neat_data.models.servers.chat import OpenAIChat

    return OpenAIChat(
        spec.name,
        spec.base_url,
        fields={"max_tokens": spec.max_tokens, "temperature": spec.temperature},
        extra=spec.extra,
        own=("max_tokens", "temperature"),
        attempts=spec.retries + 1,
        timeout=spec.timeout,
        extra_name="judge_args",
    )
