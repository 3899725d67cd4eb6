"""OpenAI's chat API, of OpenAI itself or of any compatible server, through the official client.

Servers differ in what they take: models that think want `max_completion_tokens` for `max_tokens` and refuse a
temperature or a seed. What a server refuses by name is left out of every request from then on, and logged; who knows
beforehand gives it as null, which leaves it out from the first request.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import httpx2
from openai import (
    APIConnectionError,
    APIStatusError,
    AsyncOpenAI,
    BadRequestError,
    DefaultAsyncHttpxClient,
)

from neat_data.errors import InputError
from neat_data.models.servers.address import checked, shown
from neat_data.models.servers.asking import CUT, Asker, Reply, Request, bounded, count, key_of, wait_for
from neat_data.models.servers.several import Servers, addresses

KEY_NAME = "OPENAI_API_KEY"
URL_NAME = "OPENAI_BASE_URL"
VENDOR = "https://api.openai.com/v1"
ATTEMPTS = 8
TIMEOUT = 600.0  # seconds: nothing comes before the whole answer is written, which takes a slow model minutes
_OPTIONAL = ("max_tokens", "temperature", "top_p", "seed")  # what a server may do without
_RESERVED = ("messages", "model", "n", "stream", "stop")
# Compatible servers have many words for an answer that is whole (eos_token, stop_sequence), and these for one that is
# not.
_UNFINISHED = {"length": CUT, "content_filter": "content_filter"}
_NAMED = re.compile(r"(?i)(?:unsupported|unrecogni[sz]ed|unknown|not support|not permitted)")
_SHOWN = 10  # models in a message
_log = logging.getLogger(__name__)


class OpenAIChat:
    """See `neat_data.models.servers.asking.Api`.

    Attributes:
        name: the model for settings and records, without the path that vLLM calls a local model by.
    """

    client_errors: tuple[type[Exception], type[Exception]] = (APIStatusError, APIConnectionError)
    key_name = KEY_NAME

    def __init__(
        self,
        model: str,
        url: str | None = None,
        *,
        fields: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
        own: Collection[str] = _OPTIONAL,
        attempts: int = ATTEMPTS,
        timeout: float = TIMEOUT,
        extra_name: str = "model_args",
    ) -> None:
        """Args:
            url: None takes it from OPENAI_BASE_URL, else OpenAI's own.
            fields: what every request says, as the client takes it.
            extra: what the user adds to every request; null leaves out what this project says itself.
            own: what this project says itself, which `extra` may not.
            extra_name: the argument that `extra` came by, for messages.

        Raises:
            InputError: no key, an address that is none, an `extra` that is reserved or could be a secret.
        """
        given = url or os.environ.get(URL_NAME)
        self.url = checked(given, KEY_NAME) if given else VENDOR
        self.key = key_of(KEY_NAME, vendors_own=not given)
        self.attempts, self.timeout = attempts, timeout
        self.model = model
        self.name = model.rstrip("/").rpartition("/")[2] if model.startswith("/") else model
        self._left_out: dict[str, None] = {}  # in the order in which it was learned
        self._extra = self._checked(extra or {}, own, extra_name)
        self._fields = dict(fields or {})
        self._told = set(self._left_out)

    @property
    def not_taken(self) -> tuple[str, ...]:
        """See `Api.not_taken`: without what the user left out, and `max_tokens`, which has another name then."""
        return tuple(name for name in self._left_out if name not in self._told and name != "max_tokens")

    def client(self) -> AsyncOpenAI:
        """See `Api.client`."""
        http = DefaultAsyncHttpxClient(timeout=self.timeout, **bounded(self.url))
        return AsyncOpenAI(
            api_key=self.key,
            base_url=self.url,
            max_retries=self.attempts - 1,
            timeout=self.timeout,
            http_client=http,
        )

    async def complete(self, client: AsyncOpenAI, request: Request) -> Reply:
        """See `Api.complete`."""
        while True:
            sent = self._sent({**self._fields, **request.fields})
            try:
                completion = await client.chat.completions.create(
                    model=self.model,
                    messages=request.turns,  # type: ignore[arg-type]
                    extra_body=self._extra,
                    **sent,
                )
            except BadRequestError as error:
                if not self._learn(error, sent):
                    raise
            else:
                return _reply(completion)

    def check_model(self, asker: Asker) -> None:
        """See that the server is there and serves the model, where it lists what it serves; one request.

        Args:
            asker: of this server, for its words.

        Raises:
            InputError: nothing listens, the key is refused, no such model.
        """
        try:
            served = wait_for(self._served())
        except APIConnectionError as error:
            if isinstance(error.__cause__, httpx2.ConnectError):
                raise asker.absent(error.__cause__) from error
            return  # something listens; whether it answers is for the requests to find out
        except APIStatusError as error:
            if error.status_code in (401, 403):
                raise asker.explained(error) from error
            return  # not every server lists them; the first request will tell
        except (AttributeError, TypeError, ValueError, RecursionError, TimeoutError):
            return
        if self.model not in served:
            more = f" and {len(served) - _SHOWN} more" if len(served) > _SHOWN else ""
            names = ", ".join(map(repr, served[:_SHOWN])) + more
            raise InputError(f"{shown(self.url)}: serves no model {self.model!r}; it serves {names or 'none'}")

    async def _served(self) -> list[str]:
        async with self.client() as client, asyncio.timeout(self.timeout):
            models = await client.with_options(max_retries=0).models.list()
        return [str(entry.id) for entry in models.data]

    def _checked(self, extra: Mapping[str, Any], own: Collection[str], argument: str) -> dict[str, Any]:
        taken = {}
        for name, value in extra.items():
            if value is None and name in _OPTIONAL:
                self._left_out[name] = None
            elif name in own or name in _RESERVED or "key" in name.lower() or "auth" in name.lower():
                raise InputError(f"not handed to the server; a key belongs into {KEY_NAME}", field=argument, value=name)
            else:
                taken[name] = value
        if "max_completion_tokens" in taken:
            self._left_out["max_tokens"] = None
        return taken

    def _sent(self, fields: dict[str, Any]) -> dict[str, Any]:
        sent = {name: value for name, value in fields.items() if name not in self._left_out}
        if "max_tokens" in self._left_out and "max_tokens" in fields:
            sent["max_completion_tokens"] = fields["max_tokens"]  # unless the user says so: `extra_body` wins
        return sent

    def _learn(self, error: BadRequestError, sent: Mapping[str, Any]) -> bool:
        """Whether the server refused one setting by its name, which is left out from now on."""
        name = error.param or next((name for name in _OPTIONAL if _refuses(str(error), name)), None)
        if name not in _OPTIONAL or name not in sent:
            return False
        if name not in self._left_out:
            instead = "max_completion_tokens is sent instead" if name == "max_tokens" else "it answers without"
            _log.warning("%s takes no %s: %s", self.name, name, instead)
        self._left_out[name] = None
        return True


def _refuses(message: str, name: str) -> bool:
    return bool(_NAMED.search(message) and re.search(rf"['\"`]{name}['\"`]", message))


def _reply(completion: Any) -> Reply:
    choice, usage = completion.choices[0], completion.usage
    stopped_at = getattr(choice, "stop_reason", None)
    thoughts = [getattr(choice.message, name, None) for name in ("reasoning", "reasoning_content")]  # vLLM, and others
    return Reply(
        _text(choice.message.content),
        unfinished=_UNFINISHED.get(choice.finish_reason),
        prompt_tokens=count(usage, "prompt_tokens"),
        completion_tokens=count(usage, "completion_tokens"),
        stopped_at=stopped_at if isinstance(stopped_at, str) else None,
        thought=next((thought for thought in thoughts if isinstance(thought, str) and thought), None),
    )


def _text(content: Any) -> str:
    """Some compatible servers answer in parts, as questions can be asked; the client checks nothing."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part["type"] == "text")
    if not isinstance(content, str | None):
        raise ValueError(f"its content is {content!r}")
    return content or ""


def chat_servers(model: str, urls: str | None, at_once: int, **options: Any) -> tuple[Servers, list[OpenAIChat]]:
    """The servers at these addresses (`several.addresses`, else OPENAI_BASE_URL's), each seen to be there.

    Args:
        options: of `OpenAIChat`.

    Raises:
        InputError: as `OpenAIChat` and `check_model`, of the first server that it is true of.
    """
    chats = [OpenAIChat(model, url, **options) for url in addresses(urls or os.environ.get(URL_NAME))]
    askers = [Asker(chat) for chat in chats]
    for chat, asker in zip(chats, askers, strict=True):
        chat.check_model(asker)
    return Servers(askers, at_once), chats


def shown_addresses(chats: Sequence[OpenAIChat]) -> str:
    """Where they are, for people."""
    return " and ".join(shown(chat.url) for chat in chats)
