"""An OpenAI-compatible chat server: one request in, one completion out, tokens counted.

`json_server` copes with one in trouble; this module knows the form of `/chat/completions` and `/models`, says which
models there are when the one asked for is missing, and tells a request that this server will not take from a server
that takes none. What a completion means is the caller's.
"""

from __future__ import annotations

import os
import reprlib
import threading
from dataclasses import dataclass
from typing import Any

from neat_data.errors import InputError, RunError
from neat_data.models.servers.json_server import BadReply, JsonServer, NotThere, Patience, Refused

KEY_NAME = "OPENAI_API_KEY"
URL_NAME = "OPENAI_BASE_URL"
# Nothing comes before the whole answer is written, which takes a slow model minutes.
PATIENCE = Patience(timeout=600.0)
# What this project says itself, and what would put a secret into the settings.
_RESERVED = ("messages", "model", "n", "seed", "stream", "temperature", "top_p", "max_tokens", "stop", "api_key")
_PLAIN_QUESTION = [{"role": "user", "content": "Knock knock."}]
_SHOWN = 10  # models in a message


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer of the server.

    Attributes:
        text: as it came.
        finish_reason: `stop` where the model ended by itself or at a stop string, `length` where it was cut.
        stop_reason: the stop string that ended it; only vLLM says so.
        usage: tokens of the question and of the answer, None where the server leaves them out.
    """

    text: str
    finish_reason: str | None
    stop_reason: Any
    usage: tuple[int, int] | None


class ChatServer:
    """One model of one server.

    Attributes:
        model: its name there.
        name: the same for settings and records, without the path that vLLM calls a local model by.
        usage: `prompt_tokens` and `completion_tokens` so far, and `unreported`, the answers that came without them.
    """

    def __init__(
        self,
        url: str | None,
        model: str,
        connections: int,
        patience: Patience | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        """`url` ends in `/v1` with most servers; None takes it from OPENAI_BASE_URL. `extra` goes into every request.

        Raises:
            InputError: no address, nothing listens there, the key is refused, no such model, a reserved `extra`.
        """
        for key in extra or {}:
            if key in _RESERVED or "key" in key.lower() or "auth" in key.lower():
                raise InputError(
                    f"not handed to the server; a key belongs into {KEY_NAME}", field="model_args", value=key
                )
        url = url or os.environ.get(URL_NAME)
        if not url:
            raise InputError(f"{model}: at which address?", advice=f"give it: {{base_url}} URL, or set {URL_NAME}")
        self.server = JsonServer(url, patience or PATIENCE, connections, KEY_NAME)
        self.server.check_alive()
        self.model = model
        self.name = model.rstrip("/").rpartition("/")[2] if model.startswith("/") else model
        self.usage = {"prompt_tokens": 0, "completion_tokens": 0, "unreported": 0}
        self._extra = extra or {}
        self._trusted = threading.Event()
        self._check_model()

    def complete(self, messages: list[dict[str, str]], **fields: Any) -> Completion | None:
        """The answer to `messages`; None where the server does not take this request. Called from several threads.

        Raises:
            InputError: there is no such model or address, or the key is refused.
            RunError: no answer after all attempts, an answer of another form, or nothing at all is taken.
        """
        body = {"model": self.model, "messages": messages, **fields, **self._extra}
        try:
            reply = self.server.post("/chat/completions", body)
        except Refused as error:
            self._check_takes_anything(body, error)
            return None
        self._trusted.set()
        return _completion(reply, self.server.url)

    def count(self, completion: Completion | None) -> int:
        """Add the completion's tokens to `usage`; returns those of the answer. For one thread."""
        if completion is None:
            return 0
        if completion.usage is None:
            self.usage["unreported"] += 1
            return 0
        asked, answered = completion.usage
        self.usage["prompt_tokens"] += asked
        self.usage["completion_tokens"] += answered
        return answered

    def _check_model(self) -> None:
        """Raises InputError where the server lists its models and this one is not among them."""
        try:
            reply = self.server.get("/models")
            served = [str(entry["id"]) for entry in reply["data"]]
        except (NotThere, BadReply, TypeError, KeyError):
            return  # not every server lists them; the first request will tell
        if self.model not in served:
            more = f" and {len(served) - _SHOWN} more" if len(served) > _SHOWN else ""
            names = ", ".join(map(repr, served[:_SHOWN])) + more
            raise InputError(f"{self.server.url}: serves no model {self.model!r}; it serves {names or 'none'}")

    def _check_takes_anything(self, body: dict[str, Any], error: Refused) -> None:
        """One request may be too long. A server that refuses a short one as well does not take these settings."""
        if self._trusted.is_set():
            return
        try:
            self.server.post("/chat/completions", {**body, "messages": _PLAIN_QUESTION})
        except Refused:
            raise RunError(f"{error}\na plain question is refused as well: it is not this one query") from error
        self._trusted.set()


def _completion(reply: Any, url: str) -> Completion:
    try:
        choice = reply["choices"][0]
        text = choice["message"].get("content") or ""  # null where there is none
        if not isinstance(text, str):
            raise TypeError
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise BadReply(f"{url}/chat/completions: no completion came but {reprlib.repr(reply)}") from error
    return Completion(text, choice.get("finish_reason"), choice.get("stop_reason"), _usage(reply.get("usage")))


def _usage(usage: Any) -> tuple[int, int] | None:
    try:
        return int(usage["prompt_tokens"]), int(usage["completion_tokens"])
    except (TypeError, KeyError, ValueError):
        return None
