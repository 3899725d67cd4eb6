"""A server that speaks Anthropic's API: `--judge anthropic:NAME`, through the official client.

That API has no temperature any more: a judge there answers as it does by itself.
"""

from __future__ import annotations

import os
from typing import Any

from anthropic import APIConnectionError, APIStatusError, AsyncAnthropic, DefaultAsyncHttpxClient, omit

from neat_data.errors import InputError
from neat_data.models.servers.address import checked
from neat_data.models.servers.asking import Reply, Request, bounded, count, key_of
from neat_train.judging.clients.client import JudgeSpec

KEY_NAME = "ANTHROPIC_API_KEY"
URL_NAME = "ANTHROPIC_BASE_URL"
_OURS = ("messages", "model", "stream", "system")
_FINISHED = ("end_turn", "stop_sequence")


class AnthropicMessages:
    """See `neat_data.models.servers.asking.Api`."""

    client_errors: tuple[type[Exception], type[Exception]] = (APIStatusError, APIConnectionError)
    key_name = KEY_NAME
    not_taken: tuple[str, ...] = ()

    def __init__(self, spec: JudgeSpec) -> None:
        if "temperature" in spec.args:
            raise InputError("Anthropic's API takes none; leave it out", field="judge_args", value="temperature")
        given = spec.base_url or os.environ.get(URL_NAME)
        self.url = checked(given, KEY_NAME) if given else "https://api.anthropic.com"
        self.key = key_of(KEY_NAME, vendors_own=not given)
        self.attempts, self.timeout = spec.retries + 1, spec.timeout
        self._options: dict[str, Any] = {"max_retries": spec.retries, "timeout": spec.timeout}
        self._fields = {
            "model": spec.name,
            "max_tokens": spec.max_tokens,
            "extra_body": _extra(spec),
        }

    def client(self) -> AsyncAnthropic:
        """See `Api.client`."""
        http = DefaultAsyncHttpxClient(timeout=self.timeout, **bounded(self.url))
        return AsyncAnthropic(api_key=self.key, base_url=self.url, http_client=http, **self._options)

    async def complete(self, client: AsyncAnthropic, request: Request) -> Reply:
        """See `Api.complete`. What the model thought is not part of its answer."""
        system = [turn["content"] for turn in request.turns if turn["role"] == "system"]
        turns = [turn for turn in request.turns if turn["role"] != "system"]
        message = await client.messages.create(messages=turns, system="\n\n".join(system) or omit, **self._fields)  # type: ignore[call-overload]
        return Reply(
            "".join(block.text for block in message.content if block.type == "text"),
            # Its word for an answer that was cut is `CUT`.
            unfinished=None if message.stop_reason in _FINISHED else message.stop_reason,
            prompt_tokens=count(message.usage, "input_tokens"),
            completion_tokens=count(message.usage, "output_tokens"),
        )


def _extra(spec: JudgeSpec) -> dict[str, Any]:
    for name in spec.extra:
        if name in _OURS or "key" in name.lower() or "auth" in name.lower():
            raise InputError(f"not handed to the server; a key belongs into {KEY_NAME}", field="judge_args", value=name)
    return spec.extra
