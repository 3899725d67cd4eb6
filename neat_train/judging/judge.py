"""Two sides compared by a judging model: `neat-train judge A B`.

A seeded sample of queries is drawn, both sides' texts are fetched, and a judge says of each pair, in both orders,
which is better. First it is asked about what people chose and rejected on the same queries: how far it agrees with
people says what its verdicts are worth. `clients` talk to the model, `verdicts` holds the arithmetic, `folder`
what is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from neat_data.errors import InputError
from neat_data.plain import parts
from neat_data.progress import Silent, Watcher
from neat_data.store.documents import Settings
from neat_train.evaluation.queries import EvalQuery, Queries, open_queries
from neat_train.judging.clients.client import JudgeSpec
from neat_train.judging.folder import FORMAT, JudgeFolder, Texts
from neat_train.judging.prompt import DEFAULT, load_judge_prompt
from neat_train.judging.result import BySide, Calibration, JudgedQueries, JudgeResult
from neat_train.judging.session import Session, TextPair
from neat_train.judging.sides import Answering, Contender, People, open_contender
from neat_train.judging.verdicts import JudgedPair, agreement, figures, position_bias, tokens


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
    result: JudgeResult
    asked: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"out": str(self.out), "asked": self.asked, **self.result.to_dict()}

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return self.result._repr_html_()


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
        session = Session(request.judge, prompt, folder, watch)
        try:
            settings = _settings(request, sides, queries, session)
            folder.require(settings)
            if (result := folder.result()) is not None and not result.failed:
                return Judgement(out, result, 0)
            texts = folder.texts()
            if texts is None:
                session.check()
                if session.not_taken:
                    watch.say(f"the judge's server takes no {', '.join(session.not_taken)}: it answers without")
                texts = _texts(request, sides, _sample(queries, sides, request), watch)
                folder.begin(settings, texts, session.not_taken)
            result = _result(request, sides, queries, settings, folder.not_taken(), texts, session, watch)
        finally:
            session.close()
        folder.finish(session.all, result)
        return Judgement(out, result, session.asked)


def _judged(
    request: JudgeRequest, texts: Sequence[Texts], session: Session, watch: Watcher
) -> tuple[list[JudgedPair], Calibration | None]:
    """The verdicts on what is compared, and before these how the judge does on what people judged."""
    compared = [TextPair(text, text.a, text.b) for text in texts if text.a is not None and text.b is not None]
    known = [
        TextPair(text, text.chosen, text.rejected)
        for text in texts
        if text.chosen is not None and text.rejected is not None
    ]
    known = known[: request.n if request.calibrate is None else request.calibrate]
    of_people = session.verdicts(known, "judging what people judged")
    calibration = agreement(of_people) if of_people else None
    if request.calibrate != 0:
        watch.say(in_words(calibration))
    judged = session.verdicts(compared, "judging")
    session.require_some()
    return judged, calibration


def in_words(calibration: Calibration | None) -> str:
    """How far the judge agrees with people, in a sentence."""
    if calibration is None:
        return "not calibrated: no pair of these queries was judged by people"
    agreement = calibration.agreement
    if agreement is None:
        cut = f" ({calibration.cut} cut: --judge-arg max_tokens=N gives it more)" if calibration.cut else ""
        return f"not calibrated: no verdict on what people judged could be read{cut}"
    words = (
        f"agrees with people on {100 * agreement.value:.1f} % of {calibration.verdicts.decided} pairs "
        f"(95 %: {100 * agreement.low:.1f} to {100 * agreement.high:.1f}, a tie is half)"
    )
    return words if agreement.low > 0.5 else f"{words}: not better than chance, so its verdicts say little"


def _check_answering(answering: Answering, sides: Sequence[Contender]) -> None:
    if all(isinstance(side, People) for side in sides):
        for name in ("prompt", "temperature", "max_new_tokens"):
            if getattr(answering, name) != getattr(Answering(), name):
                raise InputError("both sides are texts of people; leave it out", field=name)


def _default_out(request: JudgeRequest, a: Contender, b: Contender) -> Path:
    if isinstance(a, People) or not Path(a.spec).is_dir():
        raise InputError(f"{a.spec} is no folder to put the verdicts into", advice="say {out} FOLDER")
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
    raise InputError("which queries shall the two sides be compared on?", advice="say {queries} SOURCE")


def _settings(request: JudgeRequest, sides: Sequence[Contender], queries: Queries, session: Session) -> Settings:
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


def _result(
    request: JudgeRequest,
    sides: tuple[Contender, Contender],
    queries: Queries,
    settings: Settings,
    not_taken: Sequence[str],
    texts: Sequence[Texts],
    session: Session,
    watch: Watcher,
) -> JudgeResult:
    """What judge.json says: the question, with names and without what the judge did not take, and all verdicts."""
    judged, calibration = _judged(request, texts, session, watch)
    compared = [text for text in texts if text.a is not None and text.b is not None]
    judged_by = {name: value for name, value in settings["judge"].items() if name not in not_taken}
    return JudgeResult(
        format=FORMAT,
        a=sides[0].name,
        b=sides[1].name,
        judge={**judged_by, "model": _judge_label(request.judge)},
        queries=_judged_queries(queries, sides),
        settings={name: value for name, value in settings.items() if name not in ("judge", "queries")},
        n=len(compared),
        left_out=BySide(sum(text.a is None for text in texts), sum(text.b is None for text in texts)),
        unfinished=BySide(sum(text.a_cut for text in compared), sum(text.b_cut for text in compared)),
        **parts(figures(judged)),
        position_bias=position_bias(judged),
        calibration=calibration,
        tokens=tokens(session.all),
    )


def _judged_queries(queries: Queries, sides: Sequence[Contender]) -> JudgedQueries:
    return JudgedQueries(
        name=queries.name,
        sha256=queries.preferences_sha256,
        count=len(queries.queries),
        comparable=len(_comparable(queries, sides)),
        left_out=queries.left_out,
    )


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
    return [ordered[place] for place in order[: request.n]]


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
    if not any(text.a is not None and text.b is not None for text in texts):
        raise InputError(f"no query was answered by both, {request.a} and {request.b}")
    return texts
