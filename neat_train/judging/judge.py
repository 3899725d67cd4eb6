"""Two sides compared by a judging model: `neat-train judge A B`.

A seeded sample of queries is drawn, both sides' texts are fetched, and a judge says of each pair, in both orders,
which is better. First it is asked about what people chose and rejected on the same queries: how far it agrees with
people says what its verdicts are worth. `clients` talk to the model, `verdicts` holds the arithmetic, `folder`
what is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from neat_data.errors import InputError, RunError
from neat_data.progress import Silent, Watcher
from neat_data.record import response_id
from neat_train.evaluation.queries import EvalQuery, Queries, open_queries
from neat_train.judging.clients.client import Judge, JudgeSpec, Question, Reply
from neat_train.judging.clients.load import open_judge
from neat_train.judging.folder import JudgeFolder, Texts
from neat_train.judging.prompt import DEFAULT, JudgePrompt, load_judge_prompt
from neat_train.judging.sides import Answering, Contender, People, open_contender
from neat_train.judging.verdicts import JudgedPair, Said, agreement, figures, position_bias, tokens

FORMAT = 1
IN_A_ROW = 10  # questions refused that end a run: some vendors refuse like this where an account is empty


@dataclass(frozen=True)
class JudgeRequest:
    """What `neat-train judge` was asked for.

    Attributes:
        a, b: runs, models, `chosen`, `rejected`, or either of these behind `DATASET:`.
        queries: a source of queries; None takes the dataset that a or b names.
        split: of the queries, and of the datasets that a and b name.
        n: queries compared at most, drawn at random by `seed`.
        calibrate: pairs that people judged, asked about first, at most, of the same queries; None: of all, 0: none.
        out: None: A/judge/B-by-JUDGE where A is a folder of a run or a model.
    """

    a: str
    b: str
    judge: JudgeSpec
    queries: str | None = None
    where: str | None = None
    split: str | None = None
    n: int = 300
    seed: int = 0
    calibrate: int | None = None
    prompt_file: Path = DEFAULT
    out: Path | None = None
    answering: Answering = field(default_factory=Answering)


@dataclass(frozen=True)
class Judgement:
    """What came of it.

    Attributes:
        result: judge.json.
        asked: pairs that were asked about just now.
    """

    out: Path
    result: dict[str, Any]
    asked: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"out": str(self.out), "asked": self.asked, **self.result}


@dataclass(frozen=True)
class _Pair:
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


def judge(request: JudgeRequest, watch: Watcher | None = None) -> Judgement:
    """Compare two sides; the same call again goes on where an earlier one was killed, or says that it is done.

    Pairs that the judge did not take are asked about again by the same call.

    Raises:
        InputError: a side, the queries, the judge or its key is not there, the folder holds another comparison, or
            something is said of how a and b answer where both are texts of people.
        RunError: the judge's server is gone, or refuses everything; the verdicts so far stay.
    """
    watch = watch or Silent()
    prompt = load_judge_prompt(request.prompt_file)
    a, b = (open_contender(side, request.answering, request.split) for side in (request.a, request.b))
    sides = a, b
    _check_answering(request.answering, sides)
    out = request.out or _default_out(request, *sides)
    with JudgeFolder.claim(out) as folder:
        queries = open_queries(_source(request, sides), where=request.where, split=request.split)
        session = _Session(request.judge, prompt, folder, watch)
        try:
            settings = _settings(request, sides, queries, session)
            folder.require(settings)
            if (result := folder.result()) is not None and not _failed(result):
                return Judgement(out, result, 0)
            texts = folder.texts()
            if texts is None:
                session.check()
                if session.not_taken:
                    watch.say(f"the judge's server takes no {', '.join(session.not_taken)}: it answers without")
                texts = _texts(request, sides, _sample(queries, sides, request), watch)
                folder.begin(settings, texts, session.not_taken)
            asked_for = _asked_for(request, sides, queries, settings, folder.not_taken())
            result = {"format": FORMAT, **asked_for, **_judged(request, texts, session, watch)}
        finally:
            session.close()
        folder.finish(session.all, result)
        return Judgement(out, result, session.asked)


def _failed(result: dict[str, Any]) -> bool:
    """Whether a pair is left that the judge did not take."""
    of_people = result["calibration"]
    return bool(result["verdicts"]["failed"] or (of_people and of_people["verdicts"]["failed"]))


def _judged(request: JudgeRequest, texts: Sequence[Texts], session: _Session, watch: Watcher) -> dict[str, Any]:
    """What judge.json says of the verdicts, once everything is judged."""
    compared = [_Pair(at, at.a, at.b) for at in texts if at.a is not None and at.b is not None]
    known = [_Pair(at, at.chosen, at.rejected) for at in texts if at.chosen is not None and at.rejected is not None]
    known = known[: request.n if request.calibrate is None else request.calibrate]
    of_people = session.verdicts(known, "judging what people judged")
    calibration = agreement(of_people) if of_people else None
    if request.calibrate != 0:
        watch.say(in_words(calibration))
    judged = session.verdicts(compared, "judging")
    session.require_some()
    return {
        "n": len(compared),
        "left_out": {"a": sum(at.a is None for at in texts), "b": sum(at.b is None for at in texts)},
        "unfinished": {"a": sum(at.texts.a_cut for at in compared), "b": sum(at.texts.b_cut for at in compared)},
        **figures(judged),
        "position_bias": position_bias(judged),
        "calibration": calibration,
        "tokens": tokens(session.all),
    }


class _Session:
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
    def settings(self) -> dict[str, Any]:
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

    def verdicts(self, pairs: Sequence[_Pair], phase: str) -> list[JudgedPair]:
        """What the judge says of the pairs, in their order."""
        missing = [pair for pair in pairs if pair.key not in self._known]
        self._watch.phase(phase, len(pairs))
        self._watch.advance(len(pairs) - len(missing))
        for pair in missing:
            if pair.a == pair.b:
                self._keep(pair.said(None, None))
        self._ask([pair for pair in missing if pair.a != pair.b])
        found = [self._known[pair.key] for pair in pairs]
        self._used |= {pair.key: judged for pair, judged in zip(pairs, found, strict=True)}
        return found

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

    def _ask(self, pairs: Sequence[_Pair]) -> None:
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

    def _bear(self, pair: _Pair, reply: Reply) -> None:
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
        self._watch.advance(1, sum((one.prompt_tokens or 0) + (one.completion_tokens or 0) for one in said))


def _refuses(what: str, why: str | None) -> RunError:
    return RunError(
        f"the judge refuses {what}, the last: {why}\n"
        "what was judged stays: run the same command again once that is mended"
    )


def _refusal(pair: JudgedPair) -> str | None:
    return next((said.refused for said in (pair.forward, pair.backward) if said and said.refused), None)


def in_words(calibration: dict[str, Any] | None) -> str:
    """How far the judge agrees with people, in a sentence."""
    if calibration is None:
        return "not calibrated: no pair of these queries was judged by people"
    found = calibration["agreement"]
    if found is None:
        cut = f" ({calibration['cut']} cut: --judge-arg max_tokens=N gives it more)" if calibration["cut"] else ""
        return f"not calibrated: no verdict on what people judged could be read{cut}"
    decided = sum(calibration["verdicts"][verdict] for verdict in ("win", "lose", "tie"))
    words = (
        f"agrees with people on {100 * found['value']:.1f} % of {decided} pairs "
        f"(95 %: {100 * found['low']:.1f} to {100 * found['high']:.1f}, a tie is half)"
    )
    return words if found["low"] > 0.5 else f"{words}: not better than chance, so its verdicts say little"


def _check_answering(answering: Answering, sides: Sequence[Contender]) -> None:
    if all(isinstance(side, People) for side in sides):
        for name in ("prompt", "temperature", "max_new_tokens"):
            if getattr(answering, name) != getattr(Answering(), name):
                raise InputError("both sides are texts of people; leave it out", field=name)


def _default_out(request: JudgeRequest, a: Contender, b: Contender) -> Path:
    if isinstance(a, People) or not Path(a.spec).is_dir():
        raise InputError(f"say --out FOLDER: {a.spec} is no folder to put the verdicts into")
    name = f"{b.label}-by-{_judge_label(request.judge)}"
    return Path(a.spec) / "judge" / "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)


def _judge_label(spec: JudgeSpec) -> str:
    path = Path(spec.name)
    return path.resolve().name if spec.api == "local" and path.exists() else spec.name


def _source(request: JudgeRequest, sides: Sequence[Contender]) -> str:
    named = [request.queries, *(side.dataset for side in sides)]
    for source in named:
        if source is not None:
            return source
    raise InputError("say --queries SOURCE: which queries shall the two sides be compared on?")


def _settings(request: JudgeRequest, sides: Sequence[Contender], queries: Queries, session: _Session) -> dict[str, Any]:
    """Everything that can change a figure, without paths and names: what is renamed is the same."""
    return {
        "a": sides[0].settings,
        "b": sides[1].settings,
        "queries": {"sha256": queries.preferences_sha256},
        "judge": session.settings,
        "n": request.n,
        "seed": request.seed,
        "calibrate": request.n if request.calibrate is None else request.calibrate,
    }


def _asked_for(
    request: JudgeRequest,
    sides: tuple[Contender, Contender],
    queries: Queries,
    settings: dict[str, Any],
    not_taken: Sequence[str],
) -> dict[str, Any]:
    """What judge.json says of the question: the settings, with names, and without what the judge did not take."""
    judged_by = {name: value for name, value in settings["judge"].items() if name not in not_taken}
    counts = {"count": len(queries.queries), "comparable": len(_comparable(queries, sides))}
    return {
        "a": sides[0].to_dict(),
        "b": sides[1].to_dict(),
        "judge": {**judged_by, "model": _judge_label(request.judge)},
        "queries": {"name": queries.name, **settings["queries"], **counts, "left_out": queries.left_out},
        "settings": {name: value for name, value in settings.items() if name not in ("judge", "queries")},
    }


def _comparable(queries: Queries, sides: Sequence[Contender]) -> list[EvalQuery]:
    return [query for query in queries.queries if all(side.may_answer(query) for side in sides)]


def _sample(queries: Queries, sides: Sequence[Contender], request: JudgeRequest) -> list[EvalQuery]:
    """`n` of the queries that both sides can answer, at random; the order of the source does not matter, and a smaller
    `n` takes the first ones of a larger one.
    """
    able = _comparable(queries, sides)
    if not able:
        count = len(queries.queries)
        raise InputError(f"none of the {count} queries has the responses that {request.a} and {request.b} need")
    ordered = sorted(able, key=lambda query: query.query_id)
    order = np.random.default_rng(request.seed).permutation(len(ordered))
    return [ordered[at] for at in order[: request.n]]


def _texts(
    request: JudgeRequest, sides: tuple[Contender, Contender], queries: Sequence[EvalQuery], watch: Watcher
) -> list[Texts]:
    if len(queries) < request.n:
        watch.say(f"{len(queries)} queries are compared: there are no more")
    a, b = (side.texts(queries, watch) for side in sides)
    texts = [
        Texts(query.query_id, query.messages, of_a.text, of_b.text, query.chosen, query.rejected, of_a.cut, of_b.cut)
        for query, of_a, of_b in zip(queries, a, b, strict=True)
    ]
    if not any(at.a is not None and at.b is not None for at in texts):
        raise InputError(f"no query was answered by both, {request.a} and {request.b}")
    return texts
