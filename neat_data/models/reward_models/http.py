"""A reward model behind an address: `--reward-model http://…`.

Requests carry a few tasks each and run several at a time; rewards come back in the order of the tasks whatever order
the answers came in. `json_server` copes with one in trouble, `server_forms` knows what is said to it. The address is
no setting: a dataset begun with one host can be finished with another that serves the same model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from neat_data.errors import InputError
from neat_data.models.reward_model import RewardModelSpec, Scored, Task
from neat_data.models.reward_models.server_forms import choose_form
from neat_data.models.servers.ask_all import ask_all, positive
from neat_data.models.servers.json_server import JsonServer, Patience

TASKS = 8  # in one request
CONNECTIONS = 16


class HttpRewardModel:
    """Scores by asking a server. Same attributes and methods as `reward_model.RewardModel`.

    `--model-arg` takes `form` (auto, vllm or json), `tokenizer` (folder or hub id, for vLLM) and `connections`
    (requests at a time).
    """

    not_taken: tuple[str, ...] = ()

    def __init__(self, spec: RewardModelSpec, patience: Patience | None = None) -> None:
        """Raises InputError: nothing listens there, the key is refused, or it serves no reward model."""
        args = dict(spec.model_args)
        form, self._connections = str(args.pop("form", "auto")), positive(args, "connections", CONNECTIONS)
        args.pop("tokenizer", None)
        if args:
            raise InputError(
                "a reward server takes form, tokenizer and connections", field="model_args", value=next(iter(args))
            )
        self._server = JsonServer(spec.model, patience or Patience(), self._connections)
        self._server.check_alive()
        self._form = choose_form(self._server, spec, form)
        self.spec = self._form.spec
        self.settings = self._form.settings
        self.notes = [
            f"rewards from {self.settings['model']} at {self._server.url} ({self.settings['form']} form)",
            *self._form.notes,
        ]

    def score(
        self,
        tasks: Sequence[Task],
        *,
        token_budget: int | None = None,
        advance: Callable[[int, int], None] | None = None,
    ) -> list[Scored]:
        """See `RewardModel.score`; how the server batches is its own affair, so the budget is not used.

        Raises:
            RunError: the server is gone for good, or answers with something else than rewards.
        """
        parts = [tasks[start : start + TASKS] for start in range(0, len(tasks), TASKS)]

        def tell(part: list[Scored]) -> None:
            if advance:
                advance(len(part), sum(scored.tokens_run for scored in part))

        answers = ask_all(self._server, self._form.score, parts, self._connections, tell)
        return [scored for part in answers for scored in part]

    def close(self) -> None:
        """Ends the connections."""
        self._server.close()
