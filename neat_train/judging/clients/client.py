"""What a judge is to the rest of the project: `openai:NAME`, `anthropic:NAME`, or a local model.

A back end takes questions (chat messages) and gives texts. It knows nothing of answers, orders or verdicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from neat_data.errors import InputError
from neat_data.models.servers.asking import CUT, Reply, Tell, Turns
from neat_data.store.documents import Arguments, Settings

__all__ = ["CUT", "Api", "Judge", "JudgeSpec", "Question", "Reply", "Tell"]

Question = Turns
Api = Literal["openai", "anthropic", "local"]
MAX_TOKENS = 1_024


@dataclass(frozen=True, slots=True)
class JudgeSpec:
    """What the user asked for.

    Attributes:
        model: `openai:NAME`, `anthropic:NAME`, a model's or a run's folder, or a hub id; with a `base_url`, a bare name
            is one of an OpenAI-compatible server.
        base_url: of the server, or of several with commas between; None takes it from OPENAI_BASE_URL or
            ANTHROPIC_BASE_URL, else the vendor's.
        concurrency: questions under way at once at each server; of a local model, those of one batch at most.
        retries: of a request, with a growing wait, by the official client.
        timeout: seconds that one attempt may take.
        args: `max_tokens` and `temperature`, null to leave it out; anything else goes into every request, or to the
            local back end.
    """

    model: str
    base_url: str | None = None
    concurrency: int = 8
    retries: int = 6
    timeout: float = 600.0
    device: str = "auto"
    dtype: str = "auto"
    trust_remote_code: bool = False
    base: str | None = None
    args: Arguments = field(default_factory=dict)

    @property
    def api(self) -> Api:
        """What is talked to."""
        prefix, colon, _ = self.model.partition(":")
        if colon and prefix in ("openai", "anthropic"):
            return "openai" if prefix == "openai" else "anthropic"
        return "openai" if self.base_url else "local"

    @property
    def name(self) -> str:
        """The model, without the prefix that names the API."""
        return self.model.removeprefix(f"{self.api}:")

    @property
    def max_tokens(self) -> int:
        """Of an answer; a model that thinks first spends them on that too."""
        if (value := self.args.get("max_tokens", MAX_TOKENS)) is None:
            return MAX_TOKENS
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError("a whole number from 1 on", field="judge_args", value=f"max_tokens={value}")
        return value

    @property
    def temperature(self) -> float:
        if (value := self.args.get("temperature", 0.0)) is None:
            return 0.0
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            raise InputError("a number from 0 on", field="judge_args", value=f"temperature={value}")
        return float(value)

    @property
    def extra(self) -> Arguments:
        """The arguments that this project does not know, and those of its own that are to be left out (null)."""
        own = ("max_tokens", "temperature")
        return {name: value for name, value in self.args.items() if value is None or name not in own}


class Judge(Protocol):
    """A back end that answers questions.

    Attributes:
        settings: JSON-able; all that can change an answer of a local model, without paths; of a server's nothing is
            known.
        not_taken: arguments that the server turned out not to take, so that it answers without; known after `check`.
    """

    @property
    def settings(self) -> Settings: ...

    @property
    def not_taken(self) -> tuple[str, ...]: ...

    def check(self) -> None:
        """Ask something plain, so that a wrong address, key or name shows before anything else is done.

        Raises:
            InputError, RunError: as `ask`.
        """
        ...

    def ask(self, questions: Sequence[Question], tell: Tell) -> None:
        """Ask all of them, and tell of each reply with its question's number, in the order in which they come.

        Raises:
            InputError: no such model or address, or the key is refused.
            RunError: the server is gone or answers with something else; what was told is not taken back.
        """
        ...

    def close(self) -> None:
        """Free the model's memory; the judge is of no use afterwards."""
        ...
