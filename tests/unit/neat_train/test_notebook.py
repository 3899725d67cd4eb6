"""What a notebook shows of results of neat_train: short, and escaped, since labels may be anybody's."""

from __future__ import annotations

import pytest

from neat_data.plain import Plain
from neat_train.comparison.result import Arm, ComparedQueries, Comparison, Figure, Hypothesis, HypothesisTest
from neat_train.evaluation.result import (
    AskedQueries,
    DecodingFigures,
    Estimate,
    EvalResult,
    EvaluatedPolicy,
    Length,
    RewardFigures,
)
from neat_train.judging.result import (
    BySide,
    JudgedQueries,
    JudgeResult,
    Lengths,
    PeoplesTexts,
    PositionBias,
    TokenCounts,
    VerdictCounts,
)
from neat_train.reports.summary import FitResult, HeldOutFigures, TrainedCounts
from neat_train.statistics import win_rate

POLICY = EvaluatedPolicy("<b>p</b>", "<b>p</b>", "model", None, None, "w")
REWARDS = RewardFigures(
    mean=Estimate(1.5, 1.25, 1.75),
    scored=6,
    unscored=0,
    chosen=None,
    difference=None,
    win_rate=None,
    length_correlation=None,
    by_source={},
)
GREEDY = DecodingFigures(
    answers=6,
    unanswered=0,
    length=Length(4.0, 4.0, 4.0),
    finished=1.0,
    empty=0.0,
    refusals=0.0,
    distinct={},
    rewards={"rm": REWARDS},
)
EVALUATED = EvalResult(
    format=1,
    subject=POLICY,
    queries=AskedQueries("s", "<i>s</i>", 6, "h", 0, {}),
    prompt="none",
    seed=0,
    settings={},
    decodings={"greedy": GREEDY},
)
JUDGED = JudgeResult(
    format=1,
    a=POLICY,
    b=PeoplesTexts("chosen", "people:chosen"),
    judge={},
    queries=JudgedQueries("s", "h", 10, 10, {}),
    settings={},
    n=10,
    left_out=BySide(0, 0),
    unfinished=BySide(0, 0),
    verdicts=VerdictCounts(6, 3, 1),
    cut=0,
    win_rate=win_rate(6, 3, 1),
    sign_test=0.5,
    length_controlled=None,
    length=Lengths(),
    position_bias=PositionBias(None, None, 0, 0, 0),
    calibration=None,
    tokens=TokenCounts(1, 1, 0),
)
FITTED = FitResult(
    steps=1200,
    epochs=2.0,
    held_out=HeldOutFigures({"step": 0, "perplexity": 50.0}, {"step": 1200, "reward": 0.5}, {}),
    trained=TrainedCounts(4800, 1, 1, 1),
    encoded={},
    sampled=0,
    dropped={},
    seconds=None,
)
ARM = Arm(
    "<b>neat</b>", "neat-pp", "none", (), (), {"sampled/reward/rm": Figure(1.0, 0.5, 1.5)}, {}, {"steps": 3}, None
)
COMPARED = Comparison(
    queries=ComparedQueries("q", 300, "h"),
    reward_models=("rm",),
    negative=None,
    chosen={},
    arms=(ARM,),
    differences=(HypothesisTest(Hypothesis("sft", "neat"), Figure(0.5), 0.01, 0.02, None, None, 300, True),),
    judged=(),
    curves=(),
    samples=(),
    notes=(),
)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (EVALUATED, ("on 6 queries of &lt;i&gt;s&lt;/i&gt;", "greedy, rm", "1.500 (1.250 to 1.750)")),
        (JUDGED, ("against people:chosen on 10 queries", "6, 3, 1", "0.650 (", "at equal length", "–")),
        (FITTED, ("1,200 steps", "2.000", "4,800", "perplexity, start", "50.000", "reward, end", "0.500")),
        (COMPARED, ("1 arms on 300 queries", "1.000 (0.500 to 1.500)", "neat − sft, reward", "0.500, holds")),
    ],
    ids=["eval", "judge", "fit", "compare"],
)
def test_a_notebook_shows_the_main_figures_of_a_result_escaped(result: Plain, words: tuple[str, ...]) -> None:
    shown = result._repr_html_()  # type: ignore[attr-defined]
    assert all(word in shown for word in words), shown
    assert not any(markup in shown for markup in ("<b>", "<i>"))
    assert len(shown) < 2_000
    assert type(result).from_dict(result.to_dict()) == result
