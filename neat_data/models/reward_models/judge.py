"""A language model that rates: `--reward-model judge:MODEL --model-arg base_url=http://…/v1`.

Every response is put to the model by itself, in the words of a rubric (`--model-arg rubric=FILE`), and the number that
it answers is the reward (`prompts.answers`). One that cannot be read is asked for once more, with another seed and,
where the first was greedy, at temperature 1; a response whose second answer cannot be read either is refused, never
given a number that nobody said. A response may try to talk the judge into a score: no rubric rules that out.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from neat_data.errors import InputError
from neat_data.models.reward_model import RewardModelSpec, Scored, Task
from neat_data.models.reward_models.conversations import OF_TOKENS, refuse_options
from neat_data.models.servers.ask_all import positive
from neat_data.models.servers.asking import Reply, Request, Turns, add_usage
from neat_data.models.servers.chat import ATTEMPTS, TIMEOUT, URL_NAME, chat_servers, shown_addresses
from neat_data.prompts.rubric import DEFAULT, load_rubric
from neat_data.store.documents import Arguments

PREFIX = "judge:"
CONNECTIONS = 8
MAX_TOKENS = 1_024  # of an answer; a model that thinks first spends them on that too
SECOND_TEMPERATURE = 1.0  # where the first was 0: a greedy answer would come out the same whatever its seed


@dataclass(slots=True)
class _Asked:
    """One response that is rated. `task` is its task's number; `replies` are the answers that it took."""

    task: int
    question: Turns
    replies: list[Reply] = field(default_factory=list)
    reward: float | None = None
    refused: str | None = None

    @property
    def decided(self) -> bool:
        return self.reward is not None or self.refused is not None

    @property
    def tokens(self) -> int:
        return sum(reply.tokens for reply in self.replies)

    @property
    def detail(self) -> str | None:
        """The answer that could not be read, or why there is none."""
        if self.refused is None:
            return None
        last = self.replies[-1]
        return last.refused if last.text is None else f"the judge's answer: {last.text[:300]!r}"

    def take(self, reply: Reply, score: int | None, last: bool) -> None:
        """Keep a reply; it decides where it was read, and in any case where it is the last."""
        self.replies.append(reply)
        if reply.text is None:
            self.refused = "server_refused"
        elif score is not None:
            self.reward = float(score)
        elif last:
            self.refused = "judge_unreadable"


class JudgeRewardModel:
    """Scores by asking a chat model. Same attributes and methods as `reward_model.RewardModel`, and `usage` in tokens.

    `--model-arg` takes `base_url` (or OPENAI_BASE_URL; several with commas between), `rubric`, `temperature`,
    `max_tokens` and `connections` (requests at a time, to each); anything else goes into every request. The key is
    OPENAI_API_KEY's.
    """

    def __init__(self, spec: RewardModelSpec, attempts: int = ATTEMPTS, timeout: float = TIMEOUT) -> None:
        """Raises InputError: nothing listens there, the key is refused, no such model, a rubric that is none."""
        refuse_options(spec, "a judge reads text", *OF_TOKENS)
        args = dict(spec.model_args)
        url, path = args.pop("base_url", None), Path(str(args.pop("rubric", DEFAULT))).resolve()
        self._rubric = load_rubric(path)
        connections = positive(args, "connections", CONNECTIONS)
        self._attempts = _attempts(args)
        if not url and not os.environ.get(URL_NAME):
            raise InputError(
                f"{spec.model}: at which address?", advice=f"give it: {{model_args}} base_url=URL, or set {URL_NAME}"
            )
        name = spec.model.removeprefix(PREFIX)
        options: dict[str, Any] = {"extra": args, "attempts": attempts, "timeout": timeout}
        self._servers, chats = chat_servers(name, url and str(url), connections, **options)
        self.usage = {"prompt_tokens": 0, "completion_tokens": 0, "unreported": 0}
        self.spec = replace(spec, model_args={**spec.model_args, "rubric": str(path)})
        self.settings = {
            "backend": "judge",
            "model": PREFIX + chats[0].name,
            "rubric": self._rubric.sha256,
            "rubric_name": self._rubric.name,
            "scale": [self._rubric.min, self._rubric.max],
            "attempts": self._attempts,
            "model_args": args,
        }
        self.notes = [
            f"scores from {self._rubric.min} to {self._rubric.max} by {chats[0].name} at {shown_addresses(chats)}, "
            f"rubric {self._rubric.name}"
        ]

    @property
    def not_taken(self) -> tuple[str, ...]:
        """See `RewardModel.not_taken`."""
        return self._servers.not_taken

    def score(
        self,
        tasks: Sequence[Task],
        *,
        token_budget: int | None = None,
        advance: Callable[[int, int], None] | None = None,
    ) -> list[Scored]:
        """See `RewardModel.score`. Tokens are those that the server counted, of questions and answers.

        Raises:
            RunError: the server is gone for good, answers with something else than completions, or takes no request.
        """
        progress = _Progress(tasks, advance)
        asked = [
            _Asked(number, self._rubric.question(task.messages, text))
            for number, task in enumerate(tasks)
            for text in task.texts
        ]
        for number, sampling in enumerate(self._attempts, 1):
            self._attempt(asked, sampling, number == len(self._attempts), progress)
        return [_scored([entry for entry in asked if entry.task == number]) for number in range(len(tasks))]

    def close(self) -> None:
        """Nothing is held between calls."""

    def _attempt(self, asked: Sequence[_Asked], sampling: Arguments, last: bool, progress: _Progress) -> None:
        pending = [entry for entry in asked if not entry.decided]

        def tell(number: int, reply: Reply) -> None:
            add_usage(self.usage, reply)
            # An answer cut at its length may have lost a digit.
            whole = reply.text if reply.unfinished is None else None
            pending[number].take(reply, None if whole is None else self._rubric.read(whole), last)
            if pending[number].decided:
                progress.add(pending[number])

        self._servers.ask([Request(entry.question, sampling) for entry in pending], tell)


class _Progress:
    """Tells of a task when the last of its responses has its verdict."""

    def __init__(self, tasks: Sequence[Task], advance: Callable[[int, int], None] | None) -> None:
        self._left = Counter({number: len(task.texts) for number, task in enumerate(tasks)})
        self._advance = advance

    def add(self, asked: _Asked) -> None:
        self._left[asked.task] -= 1
        if self._advance:
            self._advance(int(self._left[asked.task] == 0), asked.tokens)


def _scored(asked: Sequence[_Asked]) -> Scored:
    tokens = sum(entry.tokens for entry in asked)
    rewards, refused = tuple(entry.reward for entry in asked), tuple(entry.refused for entry in asked)
    details = tuple(entry.detail for entry in asked)
    return Scored(rewards, refused, 0, tokens, tokens, details if any(details) else ())


def _attempts(args: Arguments) -> list[Arguments]:
    """How the first answer is sampled, and how the second; without what the user says is not taken (null)."""
    temperature = _temperature(args)
    most = MAX_TOKENS if args.get("max_tokens", 0) is None else positive(args, "max_tokens", MAX_TOKENS)
    temperatures = (temperature, temperature or SECOND_TEMPERATURE)
    attempts = [{"seed": seed, "temperature": t, "max_tokens": most} for seed, t in enumerate(temperatures)]
    left_out = {name for name in ("seed", "temperature") if args.get(name, 0) is None}
    return [{name: v for name, v in sampling.items() if name not in left_out} for sampling in attempts]


def _temperature(args: Arguments) -> float:
    if args.get("temperature", 0.0) is None:
        return 0.0
    value = args.pop("temperature", 0.0)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise InputError("a number from 0 on", field="model_args", value=f"temperature={value}")
    return float(value)
