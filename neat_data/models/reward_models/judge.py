"""A language model that rates: `--reward-model judge:MODEL --model-arg base_url=http://…/v1`.

Every response is put to the model by itself, in the words of a rubric (`--model-arg rubric=FILE`), and the number that
it answers is the reward. Answers are read strictly. One that cannot be read is asked for once more, with another seed
and, where the first was greedy, at temperature 1; a response whose second answer cannot be read either is refused,
never given a number that nobody said. A response may try to talk the judge into a score: no rubric rules that out.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neat_data.errors import InputError
from neat_data.models.reward_model import RewardSpec, Scored, Task
from neat_data.models.reward_models.conversations import refuse_options
from neat_data.models.servers.ask_all import ask_all, positive
from neat_data.models.servers.chat import URL_NAME, ChatServer, Completion
from neat_data.models.servers.json_server import Patience
from neat_data.prompts.rubric import DEFAULT, load_rubric

PREFIX = "judge:"
CONNECTIONS = 8
MAX_TOKENS = 16
SECOND_TEMPERATURE = 1.0  # where the first was 0: a greedy answer would come out the same whatever its seed


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What came of one response. `task` is its task's number; `completions` are the answers that it took."""

    task: int
    reward: float | None
    refused: str | None
    completions: tuple[Completion, ...]


class JudgeRewardModel:
    """Scores by asking a chat model. Same attributes and methods as `reward_model.RewardModel`, and `usage` in tokens.

    `--model-arg` takes `base_url` (or OPENAI_BASE_URL), `rubric`, `temperature`, `max_tokens` and `connections`
    (requests at a time); anything else goes into every request. The key is OPENAI_API_KEY's.
    """

    def __init__(self, spec: RewardSpec, patience: Patience | None = None) -> None:
        """Raises InputError: nothing listens there, the key is refused, no such model, a rubric that is none."""
        refuse_options(spec, "a judge reads text", "chat_template", "max_length", "max_response")
        args = dict(spec.model_args)
        url, path = args.pop("base_url", None), Path(str(args.pop("rubric", DEFAULT))).resolve()
        self._rubric = load_rubric(path)
        self._connections = positive(args, "connections", CONNECTIONS)
        self._attempts = _attempts(_temperature(args), positive(args, "max_tokens", MAX_TOKENS))
        if not url and not os.environ.get(URL_NAME):
            raise InputError(
                f"{spec.model}: at which address?", advice=f"give it: {{model_args}} base_url=URL, or set {URL_NAME}"
            )
        self._chat = ChatServer(url, spec.model.removeprefix(PREFIX), self._connections, patience, args)
        self.usage = self._chat.usage
        self.spec = replace(spec, model_args={**spec.model_args, "rubric": str(path)})
        self.settings = {
            "backend": "judge",
            "model": PREFIX + self._chat.name,
            "rubric": self._rubric.sha256,
            "rubric_name": self._rubric.name,
            "scale": [self._rubric.min, self._rubric.max],
            "attempts": self._attempts,
            "model_args": args,
        }
        self.notes = [
            f"scores from {self._rubric.min} to {self._rubric.max} by {self._chat.name} at {self._chat.server.url}, "
            f"rubric {self._rubric.name}"
        ]

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

        def tell(verdict: _Verdict) -> None:
            for completion in verdict.completions:
                self._chat.count(completion)
            progress.add(verdict)

        asked = [(number, text) for number, task in enumerate(tasks) for text in task.texts]
        verdicts = ask_all(
            self._chat.server, lambda one: self._judge(one[0], tasks[one[0]], one[1]), asked, self._connections, tell
        )
        rest = iter(verdicts)
        return [_scored([next(rest) for _ in task.texts]) for task in tasks]

    def close(self) -> None:
        """Ends the connections."""
        self._chat.server.close()

    def _judge(self, number: int, task: Task, text: str) -> _Verdict:
        question = self._rubric.question(task.messages, text)
        answers: list[Completion] = []
        for sampling in self._attempts:
            answer = self._chat.complete(question, **sampling)
            if answer is None:
                return _Verdict(number, None, "server_refused", tuple(answers))
            answers.append(answer)
            # An answer cut at its length may have lost a digit.
            score = self._rubric.read(answer.text) if answer.finish_reason == "stop" else None
            if score is not None:
                return _Verdict(number, float(score), None, tuple(answers))
        return _Verdict(number, None, "judge_unreadable", tuple(answers))


class _Progress:
    """Tells of a task when the last of its responses has its verdict."""

    def __init__(self, tasks: Sequence[Task], advance: Callable[[int, int], None] | None) -> None:
        self._left = Counter({number: len(task.texts) for number, task in enumerate(tasks)})
        self._advance = advance

    def add(self, verdict: _Verdict) -> None:
        self._left[verdict.task] -= 1
        if self._advance:
            self._advance(int(self._left[verdict.task] == 0), _tokens(verdict))


def _scored(verdicts: Sequence[_Verdict]) -> Scored:
    tokens = sum(map(_tokens, verdicts))
    rewards, refused = tuple(v.reward for v in verdicts), tuple(v.refused for v in verdicts)
    details = tuple(
        f"the judge's answer: {v.completions[-1].text[:300]!r}" if v.refused and v.completions else None
        for v in verdicts
    )
    return Scored(rewards, refused, 0, tokens, tokens, details if any(details) else ())


def _tokens(verdict: _Verdict) -> int:
    return sum(sum(completion.usage or ()) for completion in verdict.completions)


def _attempts(temperature: float, max_tokens: int) -> list[dict[str, Any]]:
    """How the first answer is sampled, and how the second."""
    temperatures = (temperature, temperature or SECOND_TEMPERATURE)
    return [{"seed": seed, "temperature": t, "max_tokens": max_tokens} for seed, t in enumerate(temperatures)]


def _temperature(args: dict[str, Any]) -> float:
    value = args.pop("temperature", 0.0)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise InputError("a number from 0 on", field="model_args", value=f"temperature={value}")
    return float(value)
