"""What `compare` says of evaluations whose figures are known, and what it refuses to set beside each other."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from neat_data.errors import InputError
from neat_train import statistics
from neat_train.comparison.compare import compare
from neat_train.comparison.result import Comparison, Hypothesis, Published
from tests.support.evaluations import A, B, query_ids, write_evaluation, write_judge, write_run

LOW, HIGH = [0.0, 1.0, 2.0, 3.0], [1.0, 2.5, 3.0, 5.5]  # means 1.5 and 3.0
MANY = np.random.default_rng(0).normal(0, 1, 40)


@pytest.fixture
def arm(tmp_path):
    """`arm("neat", rewards, seed=0, …)`: a run with an evaluation called `test`."""

    def make(name: str, rewards, *, seed: int = 0, method: str | None = None, folder: str = "test", **figures) -> Path:
        run = write_run(tmp_path / name / str(seed), method=method or name, seed=seed)
        given = rewards if isinstance(rewards, dict) else {A: rewards}
        write_evaluation(run / "eval" / folder, given, method=method or name, seed=seed, **figures)
        return run

    return make


def test_figures_of_one_run_are_those_of_its_answers(arm):
    run = arm(
        "neat",
        {A: LOW, B: HIGH},
        greedy={A: HIGH},
        chosen={A: [0.0, 2.0, 1.0, 0.0]},
        kl=[1.0, 2.0, 3.0, 6.0],
        tokens=[10, 10, 20, 20],
        nll=[10.0, 30.0, 8.0, 12.0],
        nll_tokens=[5, 15, 4, 6],
    )
    (row,) = compare({"neat": [run]}).arms
    figures = {name: figure.value for name, figure in row.figures.items()}
    assert figures[f"sampled/reward/{A}"] == 1.5
    assert figures[f"sampled/reward/{B}"] == figures[f"greedy/reward/{A}"] == 3.0
    assert figures["kl_per_response"] == 3.0
    assert figures["kl_per_token"] == pytest.approx(12 / 60)  # of sums, not the mean of ratios
    assert figures["perplexity"] == pytest.approx(math.exp(60 / 30))
    assert figures["sampled/length"] == 15
    assert figures[f"sampled/difference/{A}"] == pytest.approx((0 - 1 + 1 + 3) / 4)
    assert figures[f"sampled/win_rate/{A}"] == pytest.approx((2 + 0.5) / 4)  # two wins, a loss, a tie
    assert f"negative/reward/{A}" not in figures  # nothing was asked under the negative prompt
    assert (row.members[0].reward, row.members[0].kl) == (1.5, 3.0)


def test_whether_a_run_obeys_the_negative_prompt_is_told_query_by_query(arm):
    negative = [-3.0, math.nan, 2.0, 2.0]
    comparison = compare(
        {"neat": [arm("neat", LOW, negative={A: negative}), arm("neat", HIGH, seed=1, negative={A: LOW})]}
    )
    # Of the queries that both seeds have: -3, 0 and -1, then -1, -1 and -2.5.
    assert comparison.arms[0].figures[f"negative/against_sampled/{A}"].value == pytest.approx((-4 / 3 - 4.5 / 3) / 2)
    assert comparison.negative == "negative"


def test_negative_answers_without_a_prompt_are_called_so(arm):
    run = arm("neat", LOW, negative={A: HIGH}, settings={"negative": {"name": "plain", "text": None}})
    assert compare({"neat": [run]}).negative is None


def test_one_run_is_resampled_over_queries_and_several_over_seeds_too(arm):
    seeds = [MANY, MANY + 0.5, MANY - 0.2]
    by_id = np.argsort(query_ids(40))  # what is resampled depends on the order
    single = compare({"neat": [arm("neat", MANY)]}).arms[0].figures[f"sampled/reward/{A}"]
    expected = statistics.mean_interval(MANY[by_id])
    assert (single.value, single.low, single.high) == (expected.value, expected.low, expected.high)
    comparison = compare({"neat": [arm("neat", values, seed=seed) for seed, values in enumerate(seeds)]})
    three = comparison.arms[0].figures[f"sampled/reward/{A}"]
    both = statistics.two_level([values[by_id] for values in seeds])
    assert three.value == pytest.approx(MANY.mean() + 0.1)
    assert (three.low, three.high) == pytest.approx((both.low, both.high))
    assert three.high - three.low > single.high - single.low
    assert [member.seed for member in comparison.arms[0].members] == [0, 1, 2]


def test_a_linearised_ratio_has_the_interval_of_the_ratio(arm):
    draws = np.random.default_rng(1)
    nll, tokens = draws.gamma(4, 10, 300), draws.integers(5, 40, 300)
    run = arm("sft", draws.normal(size=300), nll=nll.tolist(), nll_tokens=tokens.tolist())
    figure = compare({"sft": [run]}).arms[0].figures["perplexity"]
    taken = draws.integers(0, 300, (4_000, 300))
    resampled = np.exp(nll[taken].sum(axis=1) / tokens[taken].sum(axis=1))
    low, high = np.quantile(resampled, (0.025, 0.975))
    assert figure.value == pytest.approx(np.exp(nll.sum() / tokens.sum()))
    assert (figure.low, figure.high) == pytest.approx((low, high), rel=0.02)


def test_answers_are_paired_by_query_whatever_the_order_of_their_rows(arm):
    runs = {"worse": [arm("worse", MANY)], "better": [arm("better", MANY + 0.1)]}
    path = runs["better"][0] / "eval" / "test" / "answers.arrow"
    pl.read_ipc(path).sample(fraction=1, shuffle=True, seed=1).write_ipc(path)
    (difference,) = compare(runs).differences
    assert difference.hypothesis == Hypothesis("worse", "better", "reward")
    assert (difference.difference.value, difference.difference.low, difference.difference.high) == pytest.approx(
        (0.1, 0.1, 0.1)
    )
    assert difference.p < 0.001
    assert difference.detectable == pytest.approx(0, abs=1e-12)
    assert (difference.queries, difference.verdict) == (40, "holds")


def test_neighbours_are_tested_as_one_family(arm):
    noise = np.random.default_rng(5).normal(0, 1, (3, 40))
    levels = {"a": noise[0], "b": noise[1] + 0.2, "c": noise[2] - 2.0}
    differences = compare({name: [arm(name, values)] for name, values in levels.items()}).differences
    assert [tuple(one.hypothesis)[:2] for one in differences] == [("a", "b"), ("b", "c")]
    expected = [statistics.paired_difference(levels[b], levels[a]) for a, b in (("a", "b"), ("b", "c"))]
    assert [one.difference.value for one in differences] == pytest.approx([interval.value for interval, _ in expected])
    assert [one.adjusted for one in differences] == statistics.holm([one.p for one in differences])
    assert differences[1].verdict == "the opposite"
    assert differences[0].verdict == ("open" if differences[0].adjusted >= 0.05 else "holds")


def test_less_perplexity_is_what_is_expected_of_the_better(arm):
    runs = {
        "dpo": [arm("dpo", MANY, nll=(30 + MANY).tolist())],
        "neat": [arm("neat", MANY, nll=(20 + MANY).tolist())],
    }
    hypotheses = [("dpo", "neat", "perplexity"), ("neat", "dpo", "perplexity")]
    lower, higher = compare(runs, hypotheses=hypotheses).differences
    assert lower.difference.value == pytest.approx(-higher.difference.value)
    assert lower.difference.value < 0
    assert (lower.verdict, higher.verdict) == ("holds", "the opposite")
    assert lower.held_out is None


def test_several_seeds_are_compared_on_two_levels(arm):
    worse = [arm("a", MANY + shift, seed=seed) for seed, shift in enumerate((0.0, 0.3))]
    better = [arm("b", MANY + 1 + shift, seed=seed) for seed, shift in enumerate((0.0, 0.4, -0.1))]
    (difference,) = compare({"a": worse, "b": better}).differences
    assert difference.difference.value == pytest.approx(1 + 0.1 - 0.15)
    assert difference.difference.low < difference.difference.value < difference.difference.high
    assert difference.detectable > 0


def test_the_held_out_model_stands_beside_the_reward(arm):
    runs = {"a": [arm("a", {A: MANY, B: MANY})], "b": [arm("b", {A: MANY + 1, B: MANY - 1})]}
    comparison = compare(runs)
    assert comparison.reward_models == (A, B)
    assert comparison.differences[0].difference.value == pytest.approx(1)
    assert comparison.differences[0].held_out.value == pytest.approx(-1)


def test_what_is_detectable_is_so_in_holms_first_step(arm):
    draws = np.random.default_rng(2)
    runs = {name: [arm(name, draws.normal(size=40))] for name in "ab"}
    pair = ("a", "b")
    alone = compare(runs, hypotheses=[pair]).differences[0].detectable
    first = compare(runs, hypotheses=[pair, ("b", "a"), pair, pair]).differences[0].detectable
    # 2.802 and 3.339 standard errors: the normal quantiles of 1 - 0.05 / 2, of 1 - 0.0125 / 2, and 0.842 of 0.8
    assert first / alone == pytest.approx((2.4977 + 0.8416) / (1.9600 + 0.8416), rel=1e-4)
    several = {name: [*seeds, arm(name, MANY, seed=1)] for name, seeds in runs.items()}
    alone = compare(several, hypotheses=[pair]).differences[0].detectable
    first = compare(several, hypotheses=[pair, pair, pair, pair]).differences[0].detectable
    assert first / alone == pytest.approx(3.3393 / 2.8016, rel=1e-4)


@pytest.mark.parametrize(
    ("hypothesis", "words"),
    [(("a", "x"), "no arm is called x"), (("a", "b", "beauty"), "the figure is one of reward")],
)
def test_a_hypothesis_about_nothing_is_refused(arm, hypothesis, words):
    runs = {"a": [arm("a", LOW)], "b": [arm("b", HIGH)]}
    with pytest.raises(InputError, match=words):
        compare(runs, hypotheses=[hypothesis])


def test_other_queries_are_refused(arm):
    runs = {"a": [arm("a", LOW)], "b": [arm("b", HIGH, queries="harmless")]}
    with pytest.raises(InputError, match=r"other queries \(harmless, 4 of them"):
        compare(runs)


def test_another_reward_model_of_the_same_name_is_refused(arm):
    runs = {"a": [arm("a", LOW)], "b": [arm("b", HIGH, reward_models={A: "other weights"})]}
    with pytest.raises(InputError, match=f"its reward model {A} is not that of"):
        compare(runs)


def test_a_reward_model_under_another_template_is_refused(arm):
    runs = {"a": [arm("a", LOW)], "b": [arm("b", HIGH, reward_template="hh")]}
    with pytest.raises(InputError, match=f"its reward model {A} is not that of .* its own -> hh"):
        compare(runs)


def test_a_reward_model_that_one_arm_lacks_leaves_its_cells_empty_and_says_so(arm):
    comparison = compare({"a": [arm("a", {A: LOW, B: LOW})], "b": [arm("b", {A: HIGH})]})
    assert f"sampled/reward/{B}" not in comparison.arms[1].figures
    assert any(note == f"b was not scored by {B}: those cells are empty." for note in comparison.notes)
    assert comparison.differences[0].held_out is None


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"method": "dpo"}, "differ in method"),
        ({"prompt": "positive"}, "differ in prompt"),
        ({"weights": "w0"}, "the same weights are given twice"),
        ({"subject": {"tokenizer": "another"}}, "differ in tokenizer"),
        ({"subject": {"template": "another"}}, "differ in chat template"),
    ],
)
def test_runs_that_are_not_seeds_of_one_arm_are_refused(arm, second, words):
    first = arm("neat", LOW, weights="w0")
    other = arm("other", LOW, seed=1, **{"method": "neat", **second})
    with pytest.raises(InputError, match=words):
        compare({"neat": [first, other]})


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"training": {"learning_rate": 0.01}}, r"training\.learning_rate: \(not set\) -> 0\.01"),
        ({"policy": {"dtype": "bfloat16"}}, r'policy\.dtype: \(not set\) -> "bfloat16"'),
        ({"reward_model": "another"}, r"reward_model\.weights"),
    ],
)
def test_runs_that_differ_in_more_than_the_seed_are_refused_by_what_differs(arm, tmp_path, second, words):
    seeds = [arm("neat", LOW), arm("neat", HIGH, seed=1)]
    write_run(tmp_path / "neat/1", seed=1, **second)
    with pytest.raises(InputError, match=f"{words}.*, so they are not seeds of one arm"):
        compare({"neat": seeds})
    (seeds[1] / "eval/test/eval.json").unlink()  # what it cost would be in the means all the same
    with pytest.raises(InputError, match=words):
        compare({"neat": seeds})


def test_what_follows_from_the_seed_may_differ(arm, tmp_path):
    seeds = [arm("neat", LOW), arm("neat", HIGH, seed=1), arm("neat", LOW, seed=2)]
    started = {"model": "sft/1", "weights": "of base", "adapter": "of sft/1", "device": "cuda"}
    write_run(tmp_path / "neat/1", seed=1, policy=started, dataset="of another run", training={"data_seed": 4})
    write_run(tmp_path / "neat/2", seed=0)  # the same number, other weights
    assert compare({"neat": seeds}).arms[0].seeds == 3


def test_the_same_run_twice_is_refused(arm):
    run = arm("neat", LOW)
    with pytest.raises(InputError, match="the same run is given twice"):
        compare({"neat": [run, run.parent / "." / run.name]})


def test_files_of_two_evaluations_are_noticed(arm):
    run, other = arm("a", LOW), arm("b", HIGH)
    (run / "eval/test/answers.arrow").write_bytes((other / "eval/test/answers.arrow").read_bytes())
    with pytest.raises(InputError, match="two evaluations"):
        compare({"a": [run]})


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 2}', '{"format": 1}'])
def test_a_damaged_evaluation_is_refused(arm, content):
    run = arm("a", LOW)
    (run / "eval/test/eval.json").write_text(content)
    with pytest.raises(InputError, match=r"eval\.json"):
        compare({"a": [run]})


def test_a_run_without_an_evaluation_has_empty_cells_and_a_note(arm, tmp_path):
    bare = write_run(tmp_path / "bare", method="sft")
    comparison = compare({"sft": [bare], "neat": [arm("neat", LOW)]})
    assert comparison.arms[0].figures == {}
    assert comparison.arms[0].costs["steps"] == 100
    assert f"{bare} has no evaluation test: its cells are empty." in comparison.notes
    assert "sft and neat cannot be compared in reward: one of them lacks it." in comparison.notes
    assert comparison.differences == ()


def test_a_seed_without_an_evaluation_leaves_the_figures_of_the_others(arm, tmp_path):
    bare = write_run(tmp_path / "neat" / "1", seed=1)
    comparison = compare({"neat": [arm("neat", LOW), bare]})
    assert comparison.arms[0].figures[f"sampled/reward/{A}"].value == 1.5
    assert f"{bare} has no evaluation test: its arm's figures are of the other 1." in comparison.notes
    assert (len(comparison.arms[0].members), comparison.arms[0].seeds) == (2, 1)


def test_runs_that_nobody_evaluated_are_refused(tmp_path):
    run = write_run(tmp_path / "a")
    with pytest.raises(InputError, match=f"neat-train eval {run} --queries"):
        compare({"a": [run]})


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="is no run of neat-train fit"):
        compare({"a": [tmp_path]})


def test_which_of_several_evaluations_must_be_said(arm):
    runs = {"a": [arm("a", LOW)], "b": [arm("b", LOW)]}
    arm("b", HIGH, folder="test-positive", prompt="positive")
    with pytest.raises(InputError, match="several evaluations: test, test-positive\nsay which"):
        compare(runs)
    with pytest.raises(InputError, match="evaluation other: no run has it; there is test, test-positive"):
        compare(runs, evaluation="other")
    assert compare(runs, evaluation="test").arms[1].figures[f"sampled/reward/{A}"].value == 1.5


def test_an_evaluation_that_is_named_for_no_run_is_refused(arm):
    folder = arm("a", LOW) / "eval/test"
    with pytest.raises(InputError, match="evaluation nonsense: every path is that of an evaluation itself"):
        compare({"a": [folder]}, evaluation="nonsense")


def test_one_run_under_two_prompts_is_two_arms_and_one_curve(arm):
    run = arm("neat", LOW)
    arm("neat", HIGH, folder="test-positive", prompt="positive")
    comparison = compare({"neat": [run / "eval/test"], "prompted": [run / "eval/test-positive"]})
    assert [one.figures[f"sampled/reward/{A}"].value for one in comparison.arms] == [1.5, 3.0]
    assert "prompted was evaluated with the prompt positive around every query." in comparison.notes
    assert [curve.arm for curve in comparison.curves] == ["neat"]
    assert comparison.arms[1].costs["steps"] == 100


@pytest.mark.parametrize(
    "settings", [{"max_new_tokens": 64}, {"temperature": 0.7}, {"top_p": 0.9}, {"negative": {"text": "Be evil. " * 99}}]
)
def test_answers_that_were_drawn_in_another_way_are_refused(arm, settings):
    runs = {"a": [arm("a", LOW)], "b": [arm("b", HIGH, settings=settings)]}
    with pytest.raises(InputError, match=f"was evaluated in another way .*{next(iter(settings))}") as refused:
        compare(runs)
    assert max(map(len, str(refused.value).splitlines())) < 500


def test_other_ways_to_compute_and_other_starts_are_said(arm):
    subject = {"dtype": "bfloat16", "device": "cuda", "max_length": 512}
    runs = {
        "a": [arm("a", LOW, subject={"device": "cpu"})],
        "b": [arm("b", LOW, settings={"seed": 7}, subject=subject, start="weights of sft")],
    }
    notes = " ".join(compare(runs).notes)
    assert (
        "b was evaluated with other settings than the first arm: "
        'device: "cpu" -> "cuda"; dtype: "float32" -> "bfloat16"; max_length: 2048 -> 512; seed: 0 -> 7.'
    ) in notes
    assert "KL is measured from different policies: that of a from base; that of b from base." in notes
    assert "tokenizer" not in notes


@pytest.mark.parametrize("other", [{"tokenizer": "another"}, {"template": "another"}])
def test_figures_a_token_are_not_tested_between_tokenizers(arm, other):
    runs = {"a": [arm("a", MANY)], "b": [arm("b", MANY + 1, subject=other)], "c": [arm("c", MANY, subject=other)]}
    hypotheses = [("a", "b"), ("a", "b", "perplexity"), ("b", "c", "perplexity"), ("a", "b", "kl")]
    comparison = compare(runs, hypotheses=hypotheses)
    assert [tuple(one.hypothesis) for one in comparison.differences] == [
        ("a", "b", "reward"),
        ("b", "c", "perplexity"),
        ("a", "b", "kl"),
    ]
    assert "a and b cannot be compared in perplexity: they do not count the same tokens." in comparison.notes
    assert any(note.startswith("b, c: another tokenizer or chat template than a") for note in comparison.notes)


def test_answers_without_a_reward_are_counted(arm):
    lacking = [math.nan, 1.0, math.nan, 3.0]
    seeds = [arm("neat", {A: LOW, B: lacking}), arm("neat", {A: LOW, B: LOW}, seed=1)]
    (row,) = compare({"neat": seeds}).arms
    assert row.unscored == {B: (2, 8)}
    assert row.figures[f"sampled/reward/{B}"].value == 2.0  # of the second query and the fourth


def test_an_arm_of_unknown_origin_has_no_kl_and_that_is_said(arm):
    run = arm("dpo", LOW)
    content = json.loads((run / "eval/test/eval.json").read_text())
    (run / "eval/test/eval.json").write_text(json.dumps({**content, "start": None}))
    assert any(note.startswith("dpo: no KL") for note in compare({"dpo": [run]}).notes)


def test_costs_are_means_over_seeds_and_extra_columns_take_their_place(arm, tmp_path):
    seeds = [arm("neat", LOW, seed=0), arm("neat", LOW, seed=1)]
    write_run(tmp_path / "neat/0", sampled=(300, 20))
    write_run(tmp_path / "neat/1", seed=1, sampled=(310, 30))
    costs = compare({"neat": seeds}, extra={"neat": {"steps": 250.0, "trained before": "sft"}}).arms[0].costs
    assert costs == {
        "records": 1600,
        "steps": 250.0,
        "response_tokens": 48_000,
        "tokens": 64_000,
        "sampled": 330,
        "sampled_tokens": 9_900,
        "reward_calls": 305,
        "seconds": 90,
        "trained before": "sft",
    }


def test_the_time_of_a_run_that_was_interrupted_is_not_told(arm, tmp_path):
    run = arm("neat", LOW)
    for session in ({"session": 20}, {"session": 99}):
        write_run(tmp_path / "neat/0", **session)
        comparison = compare({"neat": [run]})
        assert "seconds" not in comparison.arms[0].costs
        assert any("was interrupted: its last session took 90 s" in note for note in comparison.notes)


@pytest.mark.parametrize(("seconds", "interrupted"), [(90.0, False), (6_900.0, False), (450.0, True)])
def test_of_a_run_that_does_not_tell_where_its_last_session_began_the_speed_does(arm, tmp_path, seconds, interrupted):
    """transformers rounds 100 steps in 6,900 s to 0.014 a second, which would be 97 of them."""
    run = arm("neat", LOW)
    write_run(tmp_path / "neat/0", session=None, seconds=seconds)
    if interrupted:
        rows = (run / "metrics.jsonl").read_text()
        (run / "metrics.jsonl").write_text(rows.replace(str(round(100 / seconds, 3)), str(round(20 / seconds, 3))))
    costs = compare({"neat": [run]}).arms[0].costs
    assert costs.get("seconds") == (None if interrupted else seconds)


def test_a_run_that_has_not_finished_has_no_costs(arm, tmp_path):
    run = arm("neat", LOW)
    (run / "result.json").unlink()
    comparison = compare({"neat": [run]})
    assert comparison.arms[0].costs == {}
    assert any("has not finished" in note for note in comparison.notes)


def test_curves_that_do_not_compare_are_said(arm, tmp_path):
    runs = {name: [arm(name, LOW)] for name in ("a", "b", "c")}
    write_run(tmp_path / "b/0", method="b", reward_model="another")
    write_run(tmp_path / "c/0", method="c", curve=[0.2])
    comparison = compare(runs)
    assert [(curve.arm, curve.rewards) for curve in comparison.curves] == [
        ("a", (0.0, 0.1, 0.3)),
        ("b", (0.0, 0.1, 0.3)),
    ]
    assert comparison.curves[0].epochs == (0.0, 0.5, 1.0)
    assert any(note.startswith("The curves of b were measured on other held-out queries") for note in comparison.notes)
    assert any(note.startswith("No curve of c:") for note in comparison.notes)


def test_the_paper_stands_beside_the_arm_that_is_called_as_its_method(arm):
    runs = {
        "beta 0": [arm("beta 0", LOW, method="neat")],
        "neat": [arm("neat", LOW)],
        "ours": [arm("ours", LOW, method="dpo")],
        "best-of-n": [arm("best-of-n", LOW, method="unknown")],
    }
    papers = {row.name: row.paper for row in compare(runs).arms}
    assert papers == {
        "beta 0": None,
        "neat": Published(14.45, -3.432),
        "ours": Published(18.62, -4.045),
        "best-of-n": None,
    }


def test_judged_pairs_are_called_as_the_arms_are(arm, tmp_path):
    run = arm("neat", LOW)
    folders = [write_judge(tmp_path / "j1", 18, 9, 3, unreadable=2, a=str(run)), write_judge(tmp_path / "j2", 1, 2, 3)]
    one, other = compare({"NEAT, ours": [run]}, judged=[folders[0], folders[1] / "judge.json"]).judged
    assert (one.a, one.b, one.win, one.lose, one.tie, one.unread) == ("NEAT, ours", "chosen", 18, 9, 3, 2)
    assert one.win_rate.value == pytest.approx(19.5 / 30)
    assert (one.judge, one.first.value, one.agreement.value) == ("a-judge", 0.61, 0.66)
    assert other.a == "neat"


def test_a_judged_run_is_called_as_the_arm_that_its_evaluation_is_given_for(arm, tmp_path):
    run = arm("x", LOW, method="neat")
    arm("x", HIGH, method="neat", folder="test-positive", prompt="positive")
    judge = [write_judge(tmp_path / "judge", 1, 2, 3, a=str(run))]
    plain, positive = [run / "eval/test"], [run / "eval/test-positive"]
    assert compare({"NEAT": plain}, judged=judge).judged[0].a == "NEAT"
    assert compare({"NEAT": plain, "NEAT+": positive}, judged=judge).judged[0].a == "0"  # it could be either


@pytest.mark.parametrize("content", ["{", "{}", '{"format": 7}', '{"format": 1, "a": {}}'])
def test_a_damaged_judge_file_is_refused(arm, tmp_path, content):
    (tmp_path / "judge.json").write_text(content)
    with pytest.raises(InputError, match=r"judge\.json"):
        compare({"a": [arm("a", LOW)]}, judged=[tmp_path / "judge.json"])


def test_an_evaluation_is_of_its_run_from_wherever_it_is_named(arm, monkeypatch):
    run = arm("neat", LOW)
    monkeypatch.chdir(run / "eval")
    for path in (Path("test"), Path("../eval/test"), run / "eval" / "test"):
        comparison = compare({"neat": [path]})
        assert comparison.arms[0].costs["steps"] == 100
        assert len(comparison.curves) == 1


def test_brackets_in_a_folders_name_are_no_pattern(arm, tmp_path):
    run = arm("neat", LOW).rename(tmp_path / "seed[1]")
    assert compare({"neat": [run]}).arms[0].figures[f"sampled/reward/{A}"].value == 1.5


def test_answers_side_by_side_are_those_of_the_lowest_ids(arm):
    texts = {name: [f"{name} to {number}" for number in range(4)] for name in "ab"}
    runs = {name: [arm(name, LOW, texts=texts[name])] for name in "ab"}
    samples = compare(runs, examples=2).samples
    ids = query_ids(4)
    assert [sample.query_id for sample in samples] == sorted(ids)[:2]
    first = ids.index(samples[0].query_id)
    assert [answer.text for answer in samples[0].answers] == [f"a to {first}", f"b to {first}"]
    assert samples[0].answers[0].rewards == {A: LOW[first]}


def test_a_comparison_is_json(arm):
    comparison = compare({"a": [arm("a", MANY)], "b": [arm("b", MANY + 1)]})
    document = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert document["differences"][0]["hypothesis"] == {"worse": "a", "better": "b", "figure": "reward"}
    assert document["differences"][0]["verdict"] == "holds"
    assert Comparison.from_dict(document) == comparison
    assert document["arms"][0]["figures"][f"sampled/reward/{A}"]["value"] == pytest.approx(MANY.mean())


def test_comparing_needs_no_torch():
    heavy = "{'torch', 'transformers', 'matplotlib', 'openai', 'anthropic'}"
    modules = "neat_train.comparison.compare, neat_train.comparison.tables"
    code = f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_columns_that_are_read_of_answers_are_written():
    from neat_train.evaluation import folder

    assert set(folder.ANSWERS) >= {"decoding", "query_id", "source", "query", "text", "tokens", "finished", "kl"}
