import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from neat_data.errors import InputError, RunError
from neat_train.config.reading import read_settings
from pipelines.table2_small.__main__ import main
from pipelines.table2_small.arms import ARMS, CONTROLS, DIFFERS, METHODS, ORDER, QUESTIONS, Arm
from pipelines.table2_small.experiment import Experiment
from pipelines.table2_small.jobs import Job, Workers
from pipelines.table2_small.plans import SMOLLM2, TINY, Models
from pipelines.table2_small.rows import rows_of
from pipelines.table2_small.sizes import SIZES
from pipelines.table2_small.table import write_table
from pipelines.table2_small.tuning import Trial, best, read_trial, trials
from tests.support.evaluations import write_evaluation, write_run
from tests.support.killing import ROOT


def trial(number: int, reward: float | None, perplexity: float | None = 50.0, kl: float | None = 0.1) -> Trial:
    return Trial("neat", number, {}, False, reward, perplexity, kl)


FAILED = Trial("neat", 9, {}, failed=True)


def test_the_highest_reward_under_both_caps_is_taken() -> None:
    trials_of = [trial(0, 0.1), trial(1, 0.9, perplexity=80), trial(2, 0.8, kl=0.6), trial(3, 0.3), FAILED]
    assert best(trials_of, start=50.0).number == 3


def test_where_no_trial_stays_under_the_caps_the_least_far_is_taken() -> None:
    assert best([trial(0, 0.1, perplexity=90), trial(1, 0.0, perplexity=70)], start=50.0).number == 1


def test_a_trial_that_could_not_be_measured_is_not_taken() -> None:
    assert best([trial(0, None), trial(1, -0.3), trial(2, -0.5)], start=50.0).number == 1
    assert best([trial(0, None, perplexity=60), trial(1, 0.1, None), trial(2, 0.0, 90)], start=50.0).number == 2


@pytest.mark.parametrize("tried", [FAILED, trial(0, None)])
def test_an_arm_none_of_whose_trials_could_be_measured_has_none_to_take(tried: Trial) -> None:
    with pytest.raises(RunError, match="every trial of neat failed or has no reward"):
        best([tried], start=50.0)


def test_figures_that_an_evaluation_lacks_are_none(tmp_path: Path) -> None:
    sampled = {"rewards": {"tiny": {"mean": {"value": None}}}}
    (tmp_path / "eval.json").write_text(json.dumps({"decodings": {"sampled": sampled}, "perplexity": None}))
    assert read_trial("neat", 0, {}, tmp_path, "tiny") == trial(0, None, None, None)
    assert read_trial("neat", 0, {}, tmp_path / "nothing", "tiny").failed


def test_every_arm_has_as_many_trials_with_the_same_learning_rates_inside_the_range() -> None:
    rates = {arm.name: [one["learning_rate"] for one in trials(arm, 4, TINY.learning_rates)] for arm in METHODS}
    assert len({tuple(rates_of) for rates_of in rates.values()}) == 1
    assert all(2e-4 < rate < 5e-3 for rate in rates["sft"])
    assert [round(later / earlier, 1) for earlier, later in pairwise(rates["sft"])] == [2.2] * 3


def test_trials_try_several_values_of_what_else_is_tuned() -> None:
    tried = trials(ARMS["neat-pp"], 4, TINY.learning_rates)
    for name in ARMS["neat-pp"].tuned:
        assert len({one[name] for one in tried}) > 1


def small(folder: Path) -> Experiment:
    models = Models("policy", "plain", "reward", "held-out")
    return Experiment(folder, folder, SIZES["small"], models, Workers(folder, 1, print))


def test_kl_is_measured_from_the_policy_in_every_evaluation(tmp_path: Path) -> None:
    experiment = small(tmp_path)
    for arm in METHODS:
        run = tmp_path / "tune" / arm.name / "0"
        run.mkdir(parents=True)
        (run / "result.json").touch()
        for job in (experiment._trial_evaluation(arm, 0), experiment._evaluation(arm, 1)):
            flags = dict(pairwise(job.commands[0]))
            assert flags.get("--start") == ("policy" if arm.after else None), "None: the start of the run, the policy"


def test_a_trial_s_figures_are_read_where_its_evaluation_leaves_them(tmp_path: Path) -> None:
    """DPO's have a folder of their own: one that measured KL from its SFT run may lie in the usual one."""
    experiment, (sft, dpo, *_) = small(tmp_path), METHODS
    (tmp_path / "tune" / "dpo" / "0").mkdir(parents=True)
    (tmp_path / "tune" / "dpo" / "0" / "result.json").touch()
    (command,) = experiment._trial_evaluation(dpo, 0).commands
    assert dict(pairwise(command))["--out"] == str(experiment._trial_measured(dpo, 0))
    assert experiment._trial_measured(dpo, 0).name == "validation-from-policy"
    assert experiment._trial_measured(sft, 0).name == "validation", "where eval itself puts it"


ARMS_OF_PLANS = [(plan, arm) for plan in (TINY, SMOLLM2) for arm in (*plan.methods, *plan.controls)]


@pytest.mark.parametrize(("plan", "arm"), ARMS_OF_PLANS, ids=lambda one: getattr(one, "name", ""))
def test_the_settings_of_every_run_are_settings_of_fit(plan, arm, tmp_path: Path) -> None:
    experiment = replace(small(tmp_path), plan=plan)
    tuned = {
        method.name: {"settings": trials(method, 4, plan.learning_rates)[2], "taken": 2} for method in plan.methods
    }
    (tmp_path / "tune.json").write_text(json.dumps(tuned))
    (command,) = experiment._final(arm, 1).commands
    sets = [value for flag, value in pairwise(command) if flag == "--set"]
    settings = read_settings(plan.settings, {"method": arm.method, "seed": 1}, sets, "")
    assert settings.training["learning_rate"] == tuned[arm.of or arm.name]["settings"]["learning_rate"]
    assert settings.limit == 2_000
    assert settings.held_out.data == str(tmp_path / "validation")


def test_a_plan_without_a_policy_that_was_never_taught_evaluates_one_start(tmp_path: Path) -> None:
    experiment = replace(small(tmp_path), plan=SMOLLM2, models=SMOLLM2.models)
    assert [job.name for job in experiment._starts()] == ["start-policy"]
    assert not any(arm.plain for arm in (*SMOLLM2.methods, *SMOLLM2.controls))


def test_the_hypotheses_are_the_papers_order() -> None:
    reward = [(worse, better) for worse, better, figure in ORDER if figure == "reward"]
    assert reward == [("sft", "dpo"), ("dpo", "rrhf"), ("rrhf", "neat"), ("neat", "neat-pp")]
    assert set(ORDER) - {(*pair, "reward") for pair in reward} == {
        ("dpo", "neat", "perplexity"),
        ("rrhf", "neat", "perplexity"),
    }


def differs(control: Arm, arm: Arm) -> set[str]:
    """As the settings of the two arms have it."""
    no_penalty = control.method.startswith("rrhf") or control.settings.get("loss.beta") == 0.0
    differences = {
        "prompts": control.method == "rrhf-online",
        "penalty": no_penalty,
        "loss": control.method in ("dpo-trl", "sft-trl"),
        "tuning": (control.of or control.name) != arm.name,
        "offline": control.on is not None,
        "start": (control.after, control.plain) != (arm.after, arm.plain),
    }
    return {name for name, true in differences.items() if true}


def test_everything_in_which_a_control_differs_is_named() -> None:
    assert [question.control for question in QUESTIONS] == [arm.name for arm in CONTROLS]
    for question in QUESTIONS:
        assert set(question.differs) == differs(ARMS[question.control], ARMS[question.arm]), question.control
    assert {name for question in QUESTIONS for name in question.differs} == set(DIFFERS)


def test_the_controls_and_what_they_differ_in_are_in_every_form_of_the_table(tmp_path: Path) -> None:
    for name, rewards in {"neat": [0.2, 0.5, 0.9, 0.4], "neat-beta-0": [0.1, 0.2, 0.3, 0.4]}.items():
        run = write_run(tmp_path / "runs" / name / "1", method="neat", seed=1)
        write_evaluation(run / "eval" / "test", {"tiny": rewards}, method="neat", seed=1)
    *_, asked = write_table(small(tmp_path))
    assert (asked.rows[0][0], asked.rows[0][-1]) == ("neat-beta-0 → neat", "penalty")
    assert "has instead: penalty: none. Where" in asked.note
    for file in ("table.md", "table.html"):
        text = (tmp_path / file).read_text()
        assert "Does the arm do better than its controls?" in text
        assert "they differ in" in text
    (row,) = json.loads((tmp_path / "table.json").read_text())["controls"]
    assert row["differ_in"] == ["penalty"]


def test_no_query_is_in_two_of_train_validation_and_test(shared_data: Path) -> None:
    queries = {
        name: {json.loads(line)["chosen"].rsplit("\n\nAssistant:", 1)[0] for line in text.splitlines()}
        for name, text in rows_of(shared_data, SIZES["tiny"]).items()
    }
    assert {name: len(ids) for name, ids in queries.items()} == {
        "train.jsonl": 48,
        "validation.jsonl": 6,
        "test/helpful/test.jsonl": 6,
        "test/harmless/test.jsonl": 6,
    }
    together = [query for ids in queries.values() for query in ids]
    assert len(set(together)) == len(together)


def test_missing_test_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"helpful-base\.test\.jsonl\.gz: no such file"):
        rows_of(tmp_path, SIZES["tiny"])


def test_no_worker_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path), "--out", str(tmp_path), "--workers", "0"]) == 2
    assert capsys.readouterr().err == "error: --workers 0: at least 1\n"


def test_a_table_of_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path), "--out", str(tmp_path), "--table-only"]) == 2
    assert "holds no evaluated run" in capsys.readouterr().err


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that appends its arguments to a file and ends with the status that it is told."""
    (tmp_path / "echoing.py").write_text(
        "import sys\nopen(sys.argv[1], 'a').write(' '.join(sys.argv[2:]) + '\\n')\nsys.exit(int(sys.argv[-1]))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "echoing"


def test_a_job_that_ended_is_not_run_again_and_one_with_other_commands_is(tmp_path: Path, module: str) -> None:
    log = tmp_path / "told"
    workers = Workers(tmp_path / "out", 2, lambda line: None)
    for argument in ("a", "a", "b"):
        workers.run([Job("one", ((module, str(log), argument, "0"),))])
    assert log.read_text() == "a 0\nb 0\n"


def test_a_job_stops_at_the_command_that_fails_and_is_run_again(tmp_path: Path, module: str) -> None:
    log = tmp_path / "told"
    job = Job("one", ((module, str(log), "3"), (module, str(log), "never", "0")))
    for _ in range(2):
        with pytest.raises(RunError, match="one failed with status 3"):
            Workers(tmp_path / "out", 1, lambda line: None).run([job])
    assert log.read_text() == "3\n3\n"


def test_a_trial_that_diverges_is_an_outcome_and_every_other_failure_is_tried_again(
    tmp_path: Path, module: str
) -> None:
    log = tmp_path / "told"
    workers = Workers(tmp_path / "out", 1, lambda line: None)
    diverges = Job("diverges", ((module, str(log), "3"),), may_diverge=True)
    for _ in range(2):
        workers.run([diverges])
    assert log.read_text() == "3\n"
    with pytest.raises(RunError, match="diverges failed with status 3"):
        workers.run([replace(diverges, commands=((module, str(log), "again", "3"),), may_diverge=False)])
    for status in ("1", "1", "2"):
        with pytest.raises(RunError, match=f"ends failed with status {status}"):
            workers.run([Job("ends", ((module, str(log), status),), may_diverge=True)])


def test_after_a_failure_no_other_job_begins(tmp_path: Path, module: str) -> None:
    log = tmp_path / "told"
    jobs = [Job("fails", ((module, str(log), "2"),)), *(Job(f"job-{n}", ((module, str(log), "0"),)) for n in "123")]
    with pytest.raises(RunError, match=r"^fails failed with status 2; [^\n]*$"):
        Workers(tmp_path / "out", 1, lambda line: None).run(jobs)
    assert log.read_text() == "2\n"


SLEEPS = """
import sys, time
with open(sys.argv[1], "w") as fifo:
    fifo.write("x")
    fifo.flush()
    time.sleep(600)
    fifo.write("y")
"""
WORKS = """
import sys
from pathlib import Path
from pipelines.processes import exit_status_of
from pipelines.table2_small.jobs import Job, Workers

out = Path(sys.argv[1])
jobs = [Job(name, (("sleeping", str(out / name)), ("sleeping", "never"))) for name in ("one", "two", "three")]
sys.exit(exit_status_of(lambda: Workers(out, 2, print).run(jobs)))
"""


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_jobs_end_with_the_experiment(tmp_path: Path, sent: signal.Signals, status: int) -> None:
    (tmp_path / "sleeping.py").write_text(SLEEPS)
    for name in ("one", "two"):
        os.mkfifo(tmp_path / name)
    process = subprocess.Popen(
        [sys.executable, "-c", WORKS, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    with (tmp_path / "one").open() as one, (tmp_path / "two").open() as two:
        assert one.read(1) + two.read(1) == "xx"
        if sent == signal.SIGINT:
            os.killpg(process.pid, sent)  # as a terminal does, to the whole group
        else:
            process.send_signal(sent)
        assert one.read() + two.read() == "", "neither came to its end"
    assert process.communicate() == ("", "stopped; the same command again goes on from there.\n")
    assert process.returncode == status
    assert not list((tmp_path / "jobs").glob("*.done"))
    assert not (tmp_path / "jobs" / "three.log").exists()


def test_each_job_has_its_share_of_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "threads"
    (tmp_path / "telling.py").write_text(f"import os; open({str(log)!r}, 'w').write(os.environ['OMP_NUM_THREADS'])")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(os, "sched_getaffinity", lambda of: set(range(6)), raising=False)
    Workers(tmp_path / "out", 2, lambda line: None).run([Job("one", (("telling",),))])
    assert log.read_text() == "3"


@pytest.mark.slow
def test_a_missing_model_stops_the_experiment_with_one_line(shared_data: Path, tmp_path: Path) -> None:
    arguments = [
        "--data",
        str(shared_data),
        "--out",
        str(tmp_path),
        "--size",
        "tiny",
        "--reward-model",
        str(tmp_path / "none"),
    ]
    assert main(arguments) == 1
    log = next((tmp_path / "jobs").glob("score-train.log")).read_text()
    assert "none" in log
