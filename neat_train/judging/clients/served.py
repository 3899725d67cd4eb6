"""A model of one server, or of several that serve the same one, as a judge: through OpenAI's API or Anthropic's."""

from __future__ import annotations

from collections.abc import Sequence

from neat_data.models.servers.asking import Api, Asker, Request
from neat_data.models.servers.several import Servers
from neat_data.store.documents import Settings
from neat_train.judging.clients.client import Question, Tell


class ServedJudge:
    """See `neat_train.judging.clients.client.Judge`."""

    def __init__(self, apis: Sequence[Api], concurrency: int) -> None:
        self._askers = [Asker(api, "what was judged stays") for api in apis]
        self._servers = Servers(self._askers, concurrency)

    @property
    def settings(self) -> Settings:
        """See `Judge.settings`."""
        return {}

    @property
    def not_taken(self) -> tuple[str, ...]:
        """See `Judge.not_taken`."""
        return self._servers.not_taken

    def check(self) -> None:
        """See `Judge.check`; done once, of each server."""
        for asker in self._askers:
            asker.check()

    def ask(self, questions: Sequence[Question], tell: Tell) -> None:
        """See `Judge.ask`."""
        self.check()
        self._servers.ask([Request(question) for question in questions], tell)

    def close(self) -> None:
        """Nothing is held between calls."""
