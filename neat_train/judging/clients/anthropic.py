"""A server that speaks Anthropic's API: `--judge anthropic:NAME`, through the official client.

That API has no temperature any more: a judge there answers as it does by itself.
"""

from __future__ import annotations

import os
from typing import Any

from anthropic import APIConnectionError, APIStatusError, AsyncAnthropic, omit

from neat_data.errors import InputError
from neat_train.judging.clients.client import JudgeSpec, Question, Reply
from neat_train.judging.clients.served import address, count, extra_body, key

KEY_NAME = "ANTHROPIC_API_KEY"
URL_NAME = "ANTHROPIC_BASE_URL"
_OURS = ("messages", "model", "stream", "system")
_FINISHED = ("end_turn", "stop_sequence")


class AnthropicMessages:
    """See `neat_train.judging.clients.served.Chat`."""

    client_errors = (APIStatusError, APIConnectionError)
    key_name = KEY_NAME
    not_taken = ()

    def __init__(self, spec: JudgeSpec) -> None:
        if "temperature" in spec.args:
            raise InputError("Anthropic's API takes none; leave it out", field="judge_args", value="temperature")
        url = address(spec.base_url or os.environ.get(URL_NAME))
        self.key = key(KEY_NAME, spec, url)
        self.attempts = spec.retries + 1
        self.url = url or "https://api.anthropic.com"
        self._options: dict[str, Any] = {"max_retries": spec.retries, "timeout": spec.timeout}
        self._fields = {
            "model": spec.name,
            "max_tokens": spec.max_tokens,
            "extra_body": extra_body(spec, _OURS),
        }

    def client(self) -> AsyncAnthropic:
        """See `Chat.client`."""
        return AsyncAnthropic(api_key=self.key, base_url=self.url, **self._options)

    async def begin(self, client: AsyncAnthropic, question: Question) -> None:
        """See `Chat.begin`."""
        await self.complete(client, question)

    async def complete(self, client: AsyncAnthropic, question: Question) -> Reply:
        """See `Chat.complete`. What the model thought is not part of its answer."""
        system = [turn["content"] for turn in question if turn["role"] == "system"]
        turns = [turn for turn in question if turn["role"] != "system"]
        found = await client.messages.create(messages=turns, system="\n\n".join(system) or omit, **self._fields)  # type: ignore[call-overload]
        return Reply(
            "".join(block.text for block in found.content if block.type == "text"),
            # Its word for an answer that was cut is `CUT`.
            unfinished=None if found.stop_reason in _FINISHED else found.stop_reason,
            prompt_tokens=count(found.usage, "input_tokens"),
            completion_tokens=count(found.usage, "output_tokens"),
        )
