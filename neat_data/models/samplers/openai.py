"""OpenAI-compatible servers as a sampler: `--sampler openai --base-url http://…/v1`, the model's name as the policy.

Several addresses, with commas between, share the work: see `neat_data.models.servers.several`.

Messages go out and text comes back, so the server's own template and window apply, and token ids are unknown: training
makes them from the text. A seed is sent with every request; what a server makes of it is its own affair, so samples
need not come out alike a second time. The address is no setting and the key (OPENAI_API_KEY) is in nothing that is
written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from neat_data.errors import InputError
from neat_data.models.reward_models.conversations import refuse_options
from neat_data.models.sampler import Ask, Sample, SamplerSpec
from neat_data.models.servers.asking import Reply, Request, add_usage
from neat_data.models.servers.chat import ATTEMPTS, TIMEOUT, URL_NAME, chat_servers, shown_addresses
from neat_data.thought import SWITCHES, in_marks

HUMAN = "\n\nHuman:"  # where the plain dialogue form goes on with the next turn
_REFUSED = Sample("", None, finished=False, refused="server_refused")


class OpenAISampler:
    """See `neat_data.models.sampler.Sampler`. `--model-arg` goes into every request (`top_k`, `min_p`, …).

    `usage` also counts, as `unreported`, answers of a server that leaves their tokens out.
    """

    tokenizer: str | None = None

    def __init__(self, spec: SamplerSpec, attempts: int = ATTEMPTS, timeout: float = TIMEOUT) -> None:
        """Raises InputError: nothing listens there, the key is refused, no such model, an option without a meaning."""
        refuse_options(spec, "a server has its own", "adapter", "max_length")
        if spec.chat_template not in ("auto", "hh"):
            raise InputError("a server has its own; hh makes it stop where the next turn begins", field="chat_template")
        if spec.concurrency < 1:
            raise InputError("must be at least 1", field="concurrency", value=spec.concurrency)
        if not spec.base_url and not os.environ.get(URL_NAME):
            raise InputError(f"{spec.model}: at which address?", advice=f"give it: {{base_url}} URL, or set {URL_NAME}")
        self._stop = [HUMAN] if spec.chat_template == "hh" else []
        self._servers, chats = chat_servers(
            spec.model,
            spec.base_url,
            spec.concurrency,
            fields={"stop": self._stop} if self._stop else {},
            extra={**_template_fields(spec), **spec.model_args},
            attempts=attempts,
            timeout=timeout,
        )
        self.spec = spec
        self.label = chats[0].name
        self.usage = {"prompt_tokens": 0, "completion_tokens": 0, "unreported": 0}
        self.settings = {
            "backend": "openai",
            "model": self.label,
            "stop": self._stop,
            "model_args": spec.model_args,
            **_template_fields(spec),
        }
        each = " at each" if len(chats) > 1 else ""
        self.notes = [
            f"samples from {self.label} at {shown_addresses(chats)}, {spec.concurrency} requests at a time{each}"
        ]

    @property
    def not_taken(self) -> tuple[str, ...]:
        """See `Sampler.not_taken`."""
        return self._servers.not_taken

    def sample(
        self,
        asks: Sequence[Ask],
        *,
        token_budget: int | None = None,
        advance: Callable[[int, int], None] | None = None,
    ) -> list[Sample]:
        """See `Sampler.sample`; how the server batches is its own affair, so the budget is not used.

        Raises:
            RunError: the server is gone for good, answers with something else than completions, or takes no request.
        """
        samples = [_REFUSED] * len(asks)

        def tell(number: int, reply: Reply) -> None:
            add_usage(self.usage, reply)
            samples[number] = self._sample(reply)
            if advance:
                advance(1, reply.completion_tokens or 0)

        self._servers.ask([_request(ask) for ask in asks], tell)
        return samples

    def close(self) -> None:
        """Nothing is held between calls."""

    def _sample(self, reply: Reply) -> Sample:
        """A server that does not know stop strings writes on behind them."""
        if reply.text is None:
            return _REFUSED
        text, marker = _whole(reply.text, reply.thought), ""
        if self._stop:
            text, marker, _ = text.partition(HUMAN)
        finished = bool(marker) or reply.unfinished is None
        return Sample(text.strip(), None, finished, cut=bool(marker) or reply.stopped_at in self._stop)


def _whole(text: str, thought: str | None) -> str:
    """A response with the thought that its server took out of it."""
    return in_marks(thought.strip(), text.strip() or None) if thought else text


def _template_fields(spec: SamplerSpec) -> dict[str, Any]:
    """What vLLM, SGLang and others hand to the chat template; one that has no such argument leaves it unread."""
    switched = {} if spec.thinking is None else dict.fromkeys(SWITCHES, spec.thinking == "on")
    arguments = {**switched, **spec.template_args}
    return {"chat_template_kwargs": arguments} if arguments else {}


def _request(ask: Ask) -> Request:
    fields: dict[str, Any] = {
        "temperature": ask.sampling.temperature,
        "top_p": ask.sampling.top_p,
        "max_tokens": ask.sampling.max_new_tokens,
        "seed": ask.seed,
    }
    return Request([{"role": message.role, "content": message.content} for message in ask.messages], fields)
