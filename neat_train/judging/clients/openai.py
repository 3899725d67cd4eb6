"""An OpenAI-compatible server: `--judge openai:NAME`, through the official client."""

from __future__ import annotations

import os
from typing import Any

from openai import APIConnectionError, APIStatusError, AsyncOpenAI, BadRequestError

from neat_train.judging.clients.client import CUT, JudgeSpec, Question, Reply
from neat_train.judging.clients.served import address, count, extra_body, key

KEY_NAME = "OPENAI_API_KEY"
URL_NAME = "OPENAI_BASE_URL"
_OURS = ("messages", "model", "n", "stream", "max_completion_tokens")
# Compatible servers have many words for an answer that is whole, and these for one that is not.
_UNFINISHED = {"length": CUT, "content_filter": "content_filter"}


class OpenAIChat:
    """See `neat_train.judging.clients.served.Chat`."""

    client_errors = (APIStatusError, APIConnectionError)
    key_name = KEY_NAME

    def __init__(self, spec: JudgeSpec) -> None:
        url = address(spec.base_url or os.environ.get(URL_NAME))
        self.key = key(KEY_NAME, spec, url)
        self.attempts = spec.retries + 1
        self.url = url or "https://api.openai.com/v1"
        self.not_taken: tuple[str, ...] = ()
        self._options: dict[str, Any] = {"max_retries": spec.retries, "timeout": spec.timeout}
        self._fields: dict[str, Any] = {
            "model": spec.name,
            "max_tokens": spec.max_tokens,
            "temperature": spec.temperature,
            "extra_body": extra_body(spec, _OURS),
        }

    def client(self) -> AsyncOpenAI:
        """See `Chat.client`."""
        return AsyncOpenAI(api_key=self.key, base_url=self.url, **self._options)

    async def begin(self, client: AsyncOpenAI, question: Question) -> None:
        """See `Chat.begin`. Models that think know neither `max_tokens` nor `temperature`, and say so."""
        try:
            await client.chat.completions.create(messages=question, **self._fields)  # type: ignore[arg-type]
        except BadRequestError as error:
            if error.param not in ("max_tokens", "temperature") or error.param not in self._fields:
                raise
            left_out = self._fields.pop(error.param)
            if error.param == "max_tokens":
                self._fields["max_completion_tokens"] = left_out
            else:
                self.not_taken = (*self.not_taken, error.param)
            await self.begin(client, question)

    async def complete(self, client: AsyncOpenAI, question: Question) -> Reply:
        """See `Chat.complete`."""
        found = await client.chat.completions.create(messages=question, **self._fields)  # type: ignore[arg-type]
        choice, usage = found.choices[0], found.usage
        return Reply(
            _text(choice.message.content),
            unfinished=_UNFINISHED.get(choice.finish_reason),
            prompt_tokens=count(usage, "prompt_tokens"),
            completion_tokens=count(usage, "completion_tokens"),
        )


def _text(content: Any) -> str:
    """Some compatible servers answer in parts, as questions can be asked; the client checks nothing."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part["type"] == "text")
    if not isinstance(content, str | None):
        raise ValueError(f"its content is {content!r}")
    return content or ""
