"""The verdicts on pairs that are there, and a judge that is asked for those that are not.

A pair is known by its ids and is asked about in both orders; each verdict is in the folder before the next is waited
for, so a kill loses the pairs under way and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from neat_data.errors import RunError
from neat_data.progress import Watcher
from neat_data.record import response_id
from neat_data.store.documents import Settings
from neat_train.judging.clients.client import Judge, JudgeSpec, Question, Reply
from neat_train.judging.clients.load import open_judge
from neat_train.judging.folder import JudgeFolder, Texts
from neat_train.judging.prompt import JudgePrompt
from neat_train.judging.verdicts import JudgedPair, Said

IN_A_ROW = 10  # questions refused that end a run: some vendors refuse like this where an account is empty


@dataclass(frozen=True)
class TextPair:
    """Two texts to be compared; a pair is known by its ids, so none is asked about twice."""

    texts: Texts
    a: str
    b: str

    @property
    def key(self) -> tuple[str, str, str]:
        query = self.texts.query_id
        return query, response_id(query, self.a), response_id(query, self.b)

    def said(self, forward: Said | None, backward: Said | None) -> JudgedPair:
        return JudgedPair(*self.key, len(self.a), len(self.b), forward, backward)

    def questions(self, prompt: JudgePrompt) -> list[Question]:
        """In both orders, a first."""
        messages = self.texts.messages
        return [prompt.question(messages, self.a, self.b), prompt.question(messages, self.b, self.a)]


class Session:
    """The verdicts that are there, and the judge that is asked for those that are not, opened when there is need."""

    def __init__(self, spec: JudgeSpec, prompt: JudgePrompt, folder: JudgeFolder, watch: Watcher) -> None:
        self._spec, self._prompt, self._folder, self._watch = spec, prompt, folder, watch
        self._judge: Judge | None = None
        self._used: dict[tuple[str, str, str], JudgedPair] = {}
        self._refused_in_a_row = 0
        self.asked = 0

    @cached_property
    def _known(self) -> dict[tuple[str, str, str], JudgedPair]:
        return {pair.key: pair for pair in self._folder.judged() if pair.verdict != "failed"}

    @cached_property
    def _refused_before(self) -> set[tuple[str, str, str]]:
        return {pair.key for pair in self._folder.judged() if pair.verdict == "failed"}

    @property
    def settings(self) -> Settings:
        """All of the judge that can change a figure, without names of a local one's folder."""
        spec = self._spec
        # Anthropic's API takes no temperature.
        temperature = {} if spec.api == "anthropic" else {"temperature": spec.temperature}
        local = spec.api == "local"
        return {
            "api": spec.api,
            **(self._open().settings if local else {"model": spec.name, "args": spec.extra}),
            "max_tokens": spec.max_tokens,
            **temperature,
            "prompt_sha256": self._prompt.sha256,
        }

    @property
    def not_taken(self) -> tuple[str, ...]:
        """Arguments that the judge does not take."""
        return self._open().not_taken

    @property
    def all(self) -> list[JudgedPair]:
        """Every pair that `verdicts` gave, once, in that order."""
        return list(self._used.values())

    def verdicts(self, pairs: Sequence[TextPair], phase: str) -> list[JudgedPair]:
        """What the judge says of the pairs, in their order."""
        missing = [pair for pair in pairs if pair.key not in self._known]
        self._watch.phase(phase, len(pairs))
        self._watch.advance(len(pairs) - len(missing))
        for pair in missing:
            if pair.a == pair.b:
                self._keep(pair.said(None, None))
        self._ask([pair for pair in missing if pair.a != pair.b])
        verdicts = [self._known[pair.key] for pair in pairs]
        self._used |= {pair.key: judged for pair, judged in zip(pairs, verdicts, strict=True)}
        return verdicts

    def check(self) -> None:
        """Find out now whether the judge can be asked."""
        self._open().check()

    def require_some(self) -> None:
        """Raise RunError where the judge was asked and took no pair at all."""
        asked = [pair for pair in self.all if pair.forward is not None]
        if asked and all(pair.verdict == "failed" for pair in asked):
            raise _refuses(f"all {len(asked)} pairs", _refusal(asked[-1]))

    def close(self) -> None:
        if self._judge is not None:
            self._judge.close()

    def _ask(self, pairs: Sequence[TextPair]) -> None:
        if not pairs:
            return
        halves: dict[int, Said] = {}

        def tell(number: int, reply: Reply) -> None:
            halves[number] = said = self._read(reply)
            pair, first = divmod(number, 2)
            other = halves.get(2 * pair + 1 - first)
            if other is not None:
                forward, backward = (said, other) if first == 0 else (other, said)
                self._keep(pairs[pair].said(forward, backward))
            self._bear(pairs[pair], reply)

        questions = [question for pair in pairs for question in pair.questions(self._prompt)]
        self._open().ask(questions, tell)
        self.asked += len(pairs)

    def _bear(self, pair: TextPair, reply: Reply) -> None:
        """What was refused before may be refused for good, as a text too long for the judge is."""
        if reply.refused is None:
            self._refused_in_a_row = 0
        elif pair.key not in self._refused_before:
            self._refused_in_a_row += 1
        if self._refused_in_a_row == IN_A_ROW:
            raise _refuses(f"{IN_A_ROW} questions in a row", reply.refused)

    def _open(self) -> Judge:
        if self._judge is None:
            self._judge = open_judge(self._spec)
        return self._judge

    def _read(self, reply: Reply) -> Said:
        # An answer that was cut may lack the words that would have changed its verdict.
        whole = reply.text if reply.unfinished is None else None
        read = None if whole is None else self._prompt.read(whole)
        return Said(
            read, reply.text, reply.refused, reply.prompt_tokens, reply.completion_tokens, unfinished=reply.unfinished
        )

    def _keep(self, judged: JudgedPair) -> None:
        self._folder.add(judged)
        self._known[judged.key] = judged
        said = [order for order in (judged.forward, judged.backward) if order is not None]
        self._watch.advance(1, sum((answer.prompt_tokens or 0) + (answer.completion_tokens or 0) for answer in said))


def _refuses(what: str, why: str | None) -> RunError:
    return RunError(
        f"the judge refuses {what}, the last: {why}\n"
        "what was judged stays: run the same command again once that is mended"
    )


def _refusal(pair: JudgedPair) -> str | None:
    return next((said.refused for said in (pair.forward, pair.backward) if said and said.refused), None)
