"""Any OpenAI-compatible server as a sampler: `--sampler openai --base-url http://…/v1`, the model's name as the policy.

Messages go out and text comes back, so the server's own template and window apply, and token ids are unknown: training
makes them from the text. A seed is sent with every request; what a server makes of it is its own affair, so samples
need not come out alike a second time. The address is no setting and the key (OPENAI_API_KEY) is in nothing that is
written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from neat_data.errors import InputError
from neat_data.models.reward_models.conversations import refuse_options
from neat_data.models.sampler import Ask, Sample, SamplerSpec
from neat_data.models.servers.ask_all import ask_all
from neat_data.models.servers.chat import ChatServer, Completion
from neat_data.models.servers.json_server import Patience

HUMAN = "\n\nHuman:"  # where the plain dialogue form goes on with the next turn
_REFUSED = Sample("", None, finished=False, refused="server_refused")


class OpenAISampler:
    """See `neat_data.models.sampler.Sampler`. `--model-arg` goes into every request (`top_k`, `min_p`, …).

    `usage` also counts, as `unreported`, answers of a server that leaves their tokens out.
    """

    tokenizer: str | None = None

    def __init__(self, spec: SamplerSpec, patience: Patience | None = None) -> None:
        """Raises InputError: nothing listens there, the key is refused, no such model, an option without a meaning."""
        refuse_options(spec, "a server has its own", "adapter", "max_length")
        if spec.chat_template not in ("auto", "hh"):
            raise InputError("a server has its own; hh makes it stop where the next turn begins", field="chat_template")
        if spec.concurrency < 1:
            raise InputError("must be at least 1", field="concurrency", value=spec.concurrency)
        self._chat = ChatServer(spec.base_url, spec.model, spec.concurrency, patience, spec.model_args)
        self._stop = [HUMAN] if spec.chat_template == "hh" else []
        self.spec = spec
        self.label = self._chat.name
        self.usage = self._chat.usage
        self.settings = {
            "backend": "openai",
            "model": self.label,
            "stop": self._stop,
            "model_args": spec.model_args,
        }
        self.notes = [f"samples from {self.label} at {self._chat.server.url}, {spec.concurrency} requests at a time"]

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

        def tell(completion: Completion | None) -> None:
            tokens = self._chat.count(completion)
            if advance:
                advance(1, tokens)

        completions = ask_all(self._chat.server, self._ask, asks, self.spec.concurrency, tell)
        return [_REFUSED if completion is None else self._sample(completion) for completion in completions]

    def close(self) -> None:
        """Ends the connections."""
        self._chat.server.close()

    def _ask(self, ask: Ask) -> Completion | None:
        fields: dict[str, Any] = {
            "temperature": ask.sampling.temperature,
            "top_p": ask.sampling.top_p,
            "max_tokens": ask.sampling.max_new_tokens,
            "seed": ask.seed,
        }
        if self._stop:
            fields["stop"] = self._stop
        turns = [{"role": message.role, "content": message.content} for message in ask.messages]
        return self._chat.complete(turns, **fields)

    def _sample(self, completion: Completion) -> Sample:
        """A server that does not know stop strings writes on behind them."""
        text, found = completion.text, ""
        if self._stop:
            text, found, _ = completion.text.partition(HUMAN)
        finished = bool(found) or completion.finish_reason == "stop"
        return Sample(text.strip(), None, finished, cut=bool(found) or completion.stop_reason in self._stop)
