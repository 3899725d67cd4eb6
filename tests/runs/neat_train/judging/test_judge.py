"""`judge` with scripted judges on loopback: verdicts worked out by hand, both orders, kills, refusals."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from neat_data.errors import InputError, RunError
from neat_data.store.atomic import TEMPORARY
from neat_train.cli import app
from neat_train.evaluation.queries import read_queries
from neat_train.evaluation.subject import answers, named_prompt, open_subject
from neat_train.judging import session as module
from neat_train.judging.clients.client import JudgeSpec
from neat_train.judging.folder import RESULT, SETTINGS, TEXTS, VERDICTS
from neat_train.judging.judge import Judgement, JudgeRequest, in_words, judge
from neat_train.judging.result import Lengths
from neat_train.judging.sides import Answering
from neat_train.judging.terminal import tables
from neat_train.judging.verdicts import JudgedPair, Said, agreement, outcome
from neat_train.statistics import win_rate
from tests.support.judging import AT_ONCE, JSON, Script, always_first, always_longer, at_random, completion, garbage
from tests.support.loopback import Reply

APIS = ["openai", "anthropic"]
# Lengths of chosen and rejected: chosen is longer six times, shorter three times, once they are as long.
LENGTHS = [(40, 10), (35, 12), (90, 80), (33, 9), (50, 49), (12, 11), (10, 40), (20, 21), (5, 60), (30, 30)]


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI", "ANTHROPIC"):
        monkeypatch.setenv(f"{name}_API_KEY", "sk-of-the-test")
        monkeypatch.delenv(f"{name}_BASE_URL", raising=False)


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Ten queries with what people chose and rejected."""
    path = tmp_path / "people.jsonl"
    rows = [
        {"prompt": f"Question {number}?", "chosen": "c" * a, "rejected": "r" * b}
        for number, (a, b) in enumerate(LENGTHS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def request(people: Path, out: Path, url: str, api: str = "openai", **more: Any) -> JudgeRequest:
    address = f"{url}/v1" if api == "openai" else url
    spec = JudgeSpec(f"{api}:scripted", base_url=address, concurrency=3, retries=1, timeout=60)
    fields = {"a": "chosen", "b": "rejected", "judge": spec, "queries": str(people), "out": out, **more}
    return JudgeRequest(**fields)


@pytest.fixture
def judged(serve: Callable[[Any], Any], people: Path, tmp_path: Path) -> Callable[..., Judgement]:
    """`judged(says, api)`: chosen against rejected by a scripted judge."""

    def run(says: Any, api: str = "openai", **more: Any) -> Judgement:
        return judge(request(people, tmp_path / "out", serve(Script(says)).url, api, **more))

    return run


@pytest.mark.parametrize("api", APIS)
def test_a_judge_that_always_prefers_the_first_wins_nothing_for_anybody(judged, api: str) -> None:
    result = judged(always_first, api).result
    assert result.verdicts.to_dict() == {"win": 0, "lose": 0, "tie": 10, "unreadable": 0, "failed": 0}
    assert result.win_rate.value == 0.5
    assert result.sign_test == 1.0
    assert result.position_bias.first_preferred.value == 1.0
    assert result.position_bias.consistent.value == 0.0
    assert result.position_bias.both_first == 10
    assert result.calibration.agreement.value == 0.5
    assert result.calibration.decided is None


@pytest.mark.parametrize("api", APIS)
def test_a_judge_that_always_prefers_the_longer(judged, api: str) -> None:
    result = judged(always_longer, api).result
    assert result.verdicts.to_dict() == {"win": 6, "lose": 3, "tie": 1, "unreadable": 0, "failed": 0}
    assert result.win_rate == win_rate(6, 3, 1)
    assert result.win_rate.value == 0.65
    assert result.sign_test == pytest.approx(2 * (84 + 36 + 9 + 1) / 512)
    assert result.length == Lengths(32.5, 32.2, win_rate(9, 0, 0))
    assert result.length_controlled is None
    assert result.position_bias.first_preferred.value == 0.5
    assert result.calibration.agreement.value == 0.65


@pytest.mark.parametrize("api", APIS)
def test_a_judge_that_throws_dice_ties_where_its_dice_disagree(judged, people: Path, api: str) -> None:
    words: dict[str, Any] = {"Verdict: win": "first", "Verdict: lose": "second", "Verdict: tie": "tie"}
    expected = Counter(
        outcome(words[at_random("c" * a, "r" * b)], words[at_random("r" * b, "c" * a)]) for a, b in LENGTHS
    )
    verdicts = judged(at_random, api).result.verdicts.to_dict()
    assert len(expected) == 3
    assert {verdict: count for verdict, count in verdicts.items() if count} == expected


@pytest.mark.parametrize("api", APIS)
def test_garbage_is_counted_and_never_guessed(judged, api: str) -> None:
    result = judged(garbage, api).result
    assert result.verdicts.to_dict() == {"win": 0, "lose": 0, "tie": 0, "unreadable": 10, "failed": 0}
    assert result.win_rate is None
    assert result.calibration.agreement is None
    assert result.position_bias.pairs == 0


@pytest.mark.slow
def test_three_hundred_pairs_have_a_rate_at_equal_length(serve, tmp_path: Path) -> None:
    """Half of the chosen ones are longer by 20, half are shorter by 20, and the judge sees nothing else."""
    rows = [
        {"prompt": f"Question {number}?", "chosen": "c" * (30 + 10 * side), "rejected": "r" * (30 - 10 * side)}
        for number in range(300)
        for side in [1 if number % 2 else -1]
    ]
    people = tmp_path / "people.jsonl"
    people.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = judge(request(people, tmp_path / "out", serve(Script(always_longer)).url)).result
    assert result.verdicts.win == result.verdicts.lose == 150
    assert result.win_rate == win_rate(150, 150, 0)
    assert result.length_controlled.value == pytest.approx(0.5, abs=1e-6)
    assert result.length_controlled.high - result.length_controlled.low > 0.5


def test_chosen_against_rejected_is_its_own_calibration_and_asked_once(serve, people: Path, tmp_path: Path) -> None:
    script = Script(always_longer)
    judge(request(people, tmp_path / "out", serve(script).url))
    assert len(script.asked) == len(set(script.asked)) == 20
    assert {(second, first) for first, second in script.asked} == set(script.asked)


def test_every_verdict_is_in_the_file_with_both_answers_as_they_came(judged) -> None:
    judgement = judged(always_first)
    rows = [json.loads(line) for line in (judgement.out / VERDICTS).read_text().splitlines()]
    assert len(rows) == 10
    assert all(row["forward"]["answer"] == row["backward"]["answer"] == "The first.\nVerdict: win" for row in rows)
    assert {(row["a_length"], row["b_length"]) for row in rows} == set(LENGTHS)
    assert judgement.result.tokens.completion == 20 * 4
    read = [row[order]["prompt_tokens"] for row in rows for order in ("forward", "backward")]
    assert judgement.result.tokens.prompt == sum(read)


def test_a_judge_sees_answers_without_their_thoughts(serve, tmp_path: Path) -> None:
    """A thought without an end says nothing, so its query has no pair."""
    rows = [
        {"prompt": "One?", "chosen": "<think>\nlong and wise\n</think>\n\nyes", "rejected": "never"},
        {"prompt": "Two?", "chosen": "<think>\nfor ever", "rejected": "no"},
    ]
    people = tmp_path / "people.jsonl"
    people.write_text("".join(json.dumps(row) + "\n" for row in rows))
    script = Script(always_longer)
    result = judge(request(people, tmp_path / "out", serve(script).url, calibrate=0)).result
    assert {frozenset(pair) for pair in script.asked} == {frozenset(("yes", "never"))}
    assert (result.n, result.queries.comparable, result.verdicts.lose) == (1, 1, 1)


def test_the_same_texts_are_a_tie_nobody_is_asked_about(serve, tmp_path: Path) -> None:
    people = tmp_path / "people.jsonl"
    people.write_text(json.dumps({"prompt": "One?", "chosen": "yes", "rejected": "no"}) + "\n")
    script = Script(always_longer)
    judgement = judge(request(people, tmp_path / "out", serve(script).url, b="chosen", calibrate=0))
    assert judgement.result.verdicts.tie == 1
    assert judgement.asked == 0
    assert script.asked == []


def test_a_sample_is_drawn_by_its_seed_and_a_smaller_one_is_part_of_it(serve, people: Path, tmp_path: Path) -> None:
    url = serve(Script(always_longer)).url

    def queries(n: int, seed: int) -> list[str]:
        out = tmp_path / f"{n}-{seed}"
        judge(request(people, out, url, n=n, seed=seed))
        return [json.loads(line)["query_id"] for line in (out / TEXTS).read_text().splitlines()]

    six = queries(6, 0)
    assert queries(3, 0) == six[:3]
    assert queries(6, 1) != six
    people.write_text("".join(reversed(people.read_text().splitlines(keepends=True))))
    assert queries(4, 0) == six[:4]


def test_no_more_questions_are_under_way_than_allowed(serve, people: Path, tmp_path: Path) -> None:
    server = serve(Script(always_longer))
    wanted = request(people, tmp_path / "out", server.url)
    judge(replace(wanted, judge=replace(wanted.judge, concurrency=2)))
    assert server.most_at_once <= 2


def test_done_is_done_and_other_settings_are_refused(serve, people: Path, tmp_path: Path) -> None:
    server = serve(Script(always_longer))
    wanted = request(people, tmp_path / "out", server.url)
    first = judge(wanted)
    count = len(server.requests)
    again = judge(wanted)
    assert (again.result, again.asked, len(server.requests)) == (first.result, 0, count)
    with pytest.raises(InputError, match="n: 300 -> 5"):
        judge(replace(wanted, n=5))
    with pytest.raises(InputError, match=r"judge\.model"):
        judge(replace(wanted, judge=replace(wanted.judge, model="openai:another")))
    people.write_text(people.read_text() + json.dumps({"prompt": "New?", "chosen": "a", "rejected": "b"}) + "\n")
    with pytest.raises(InputError, match="queries"):
        judge(wanted)


@pytest.mark.parametrize("lines", [0, 1, 4])
def test_cut_anywhere_in_its_verdicts_it_goes_on_to_the_same_end(
    serve, people: Path, tmp_path: Path, lines: int
) -> None:
    script = Script(at_random)
    wanted = request(people, tmp_path / "out", serve(script).url)
    out = judge(wanted).out
    whole = {name: (out / name).read_bytes() for name in (VERDICTS, RESULT, TEXTS, SETTINGS)}
    end = sum(map(len, whole[VERDICTS].splitlines(keepends=True)[:lines]))
    for torn in (end, end + 1, end + 100):
        (out / RESULT).unlink()
        (out / VERDICTS).write_bytes(whole[VERDICTS][:torn])
        script.asked.clear()
        assert judge(wanted).asked == 10 - lines
        assert len(script.asked) == 2 * (10 - lines)
        assert {name: (out / name).read_bytes() for name in whole} == whole


def dying(people: str, out: str, url: str, questions: str) -> None:
    """Judge in this process, which is killed when so many verdicts were told."""
    keep, left = module.JudgeFolder.add, [int(questions)]

    def add(folder: Any, judged: Any) -> None:
        keep(folder, judged)
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    module.JudgeFolder.add = add  # type: ignore[method-assign]
    os.environ["OPENAI_API_KEY"] = "sk-of-the-test"
    judge(request(Path(people), Path(out), url))


def test_killed_it_asks_nothing_twice_that_was_judged(serve, people: Path, tmp_path: Path, forks) -> None:
    script = Script(at_random)
    url = serve(script).url
    undisturbed = judge(request(people, tmp_path / "whole", url)).out
    script.asked.clear()
    out = tmp_path / "killed"
    for verdicts in (1, 3):
        assert forks.run(__file__, "dying", people, out, url, verdicts) == [-signal.SIGKILL]
    rows = [json.loads(line) for line in (out / VERDICTS).read_text().splitlines()]
    assert len(rows) == 4
    script.asked.clear()
    done = judge(request(people, out, url))
    assert (done.asked, len(script.asked)) == (6, 12)
    for name in (VERDICTS, TEXTS, SETTINGS, RESULT):
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes()


def test_a_server_that_dies_leaves_what_was_judged_and_the_same_command_goes_on(
    serve, people: Path, tmp_path: Path
) -> None:
    script = Script(lambda first, second: always_longer(first, second) if len(script.asked) <= 9 else on_fire)
    on_fire = Reply(500, {"error": {"message": "on fire"}}, AT_ONCE)
    wanted = request(people, tmp_path / "out", serve(script).url)
    with pytest.raises(RunError, match=r"(?s)no answer after 2 attempts.*on fire.*same command again"):
        judge(wanted)
    kept = len((tmp_path / "out" / VERDICTS).read_text().splitlines())
    assert kept >= 3  # of nine answers with three under way
    assert not (tmp_path / "out" / RESULT).exists()
    script.says = always_longer
    judgement = judge(wanted)
    assert judgement.asked == 10 - kept
    assert judgement.result.win_rate.value == 0.65


def test_a_question_that_is_refused_is_a_failed_pair_and_the_others_go_on(judged) -> None:
    def says(first: str, second: str) -> Any:
        if len(first) == 90:
            return Reply(400, {"error": {"message": "too long"}}, JSON)
        return always_longer(first, second)

    judgement = judged(says)
    assert judgement.result.verdicts.to_dict() == {"win": 5, "lose": 3, "tie": 1, "unreadable": 0, "failed": 1}
    rows = [json.loads(line) for line in (judgement.out / VERDICTS).read_text().splitlines()]
    [failed] = [row for row in rows if row["verdict"] == "failed"]
    assert failed["forward"]["answer"] is None
    assert "too long" in failed["forward"]["refused"]
    assert failed["backward"]["preference"] == "second"
    assert "asks about them again" in printed(judgement)


def printed(judgement: Judgement) -> str:
    """The notes and the words of all rows, as the console has them."""
    return "\n".join(f"{table.note}\n{table.rows}" for table in tables(judgement.result))


def test_a_pair_that_was_not_taken_is_asked_about_again(serve, people: Path, tmp_path: Path) -> None:
    script = Script(lambda first, second: refused if len(first) == 90 else always_longer(first, second))
    refused = Reply(400, {"error": {"message": "try later"}}, JSON)
    wanted = request(people, tmp_path / "out", serve(script).url)
    assert judge(wanted).result.verdicts.failed == 1
    assert judge(wanted).asked == 1  # and is refused again
    script.says = always_longer
    script.asked.clear()
    judgement = judge(wanted)
    assert (judgement.asked, len(script.asked)) == (1, 2)
    assert judgement.result.verdicts.to_dict() == {"win": 6, "lose": 3, "tie": 1, "unreadable": 0, "failed": 0}
    undisturbed = judge(request(people, tmp_path / "other", serve(Script(always_longer)).url)).out
    for name in (VERDICTS, TEXTS, SETTINGS, RESULT):
        assert (judgement.out / name).read_bytes() == (undisturbed / name).read_bytes()


def many(folder: Path, queries: int) -> Path:
    path = folder / "many.jsonl"
    rows = [
        {"prompt": f"Question {number}?", "chosen": "c" * (number + 1), "rejected": "r"} for number in range(queries)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_an_account_that_runs_empty_ends_it_and_what_was_judged_stays(serve, tmp_path: Path) -> None:
    """One vendor says 400 then, as of a question that is too long."""
    empty = Reply(400, {"error": {"message": "Your credit balance is too low"}}, JSON)
    script = Script(lambda first, second: always_longer(first, second) if len(script.asked) <= 12 else empty)
    wanted = request(many(tmp_path, 100), tmp_path / "out", serve(script).url, "anthropic")
    with pytest.raises(RunError, match=r"(?s)refuses 10 questions in a row.*credit balance.*same command again"):
        judge(wanted)
    assert len(script.asked) < 40
    assert not (tmp_path / "out" / RESULT).exists()
    script.says = always_longer
    assert judge(wanted).result.verdicts.to_dict() == {"win": 99, "lose": 0, "tie": 1, "unreadable": 0, "failed": 0}


def test_a_judge_that_takes_no_pair_is_none(serve, people: Path, tmp_path: Path) -> None:
    script = Script(lambda *_: Reply(400, {"error": {"message": "no system turn"}}, JSON))
    with pytest.raises(RunError, match=r"refuses all 3 pairs, the last: .*no system turn"):
        judge(request(people, tmp_path / "out", serve(script).url, n=3))


def test_many_that_were_refused_before_may_be_refused_for_good(serve, tmp_path: Path) -> None:
    long = Reply(400, {"error": {"message": "too long"}}, JSON)
    script = Script(lambda first, second: always_longer(first, second) if max(len(first), len(second)) % 3 else long)
    wanted = request(many(tmp_path, 30), tmp_path / "out", serve(script).url)
    wanted = replace(wanted, judge=replace(wanted.judge, concurrency=1))
    assert judge(wanted).result.verdicts.failed == 10
    assert judge(wanted).asked == 10  # 20 questions in a row


def test_answers_of_the_judge_that_were_cut_are_kept_and_counted_apart(judged) -> None:
    def says(first: str, second: str) -> Any:
        text = always_longer(first, second)
        return completion("/chat/completions", text, stop="length") if len(first) == 90 else text

    judgement = judged(says)
    assert judgement.result.verdicts.to_dict() == {"win": 5, "lose": 3, "tie": 1, "unreadable": 1, "failed": 0}
    assert (judgement.result.cut, judgement.result.calibration.cut) == (1, 1)
    rows = [json.loads(line) for line in (judgement.out / VERDICTS).read_text().splitlines()]
    assert [row["forward"]["unfinished"] for row in rows if row["verdict"] == "unreadable"] == ["max_tokens"]
    assert "of these, cut at max_tokens" in printed(judgement)
    assert "--judge-arg max_tokens=N" in printed(judgement)


def test_a_run_answers_as_it_does_when_it_is_asked_directly(serve, random_policy: Path, people: Path, tmp_path) -> None:
    script = Script(always_longer)
    asked = Answering(max_new_tokens=8)
    wanted = request(people, tmp_path / "out", serve(script).url, a=str(random_policy), b="chosen", answering=asked)
    judgement = judge(wanted)
    texts = [json.loads(line) for line in (judgement.out / TEXTS).read_text().splitlines()]
    by_id = {query.query_id: query for query in read_queries(str(people))}
    queries = [by_id[text["query_id"]] for text in texts]
    plain = answers(
        open_subject(str(random_policy)), queries, prompt=named_prompt("none"), temperature=0.0, max_new_tokens=8
    )
    assert [text["a"] for text in texts] == [sample.text for sample in plain]
    assert [text["b"] for text in texts] == [query.chosen for query in queries]
    assert judgement.result.n == 10
    assert judgement.result.a.label == random_policy.name
    assert judgement.result.calibration.agreement.value == 0.65


def test_a_local_model_judges(random_policy: Path, people: Path, tmp_path: Path) -> None:
    """Random weights say nothing that can be read, in as many tokens as they may."""
    spec = JudgeSpec(str(random_policy), args={"max_tokens": 4})
    result = judge(request(people, tmp_path / "out", "", judge=spec, n=2)).result
    assert result.verdicts.unreadable == 2
    assert result.tokens.completion <= 16
    assert result.tokens.prompt > 400
    assert result.tokens.unreported == 0


def test_two_datasets_are_compared_where_both_have_the_query(serve, people: Path, tmp_path: Path) -> None:
    lines = people.read_text().splitlines(keepends=True)
    other = tmp_path / "other.jsonl"
    other.write_text("".join(lines[:4]))
    result = judge(
        request(people, tmp_path / "out", serve(Script(always_longer)).url, a=f"{people}:chosen", b=f"{other}:rejected")
    ).result
    assert (result.n, result.left_out.to_dict()) == (4, {"a": 0, "b": 0})
    assert (result.queries.count, result.queries.comparable) == (10, 4)
    assert result.verdicts.win == 4
    assert (result.a.label, result.b.label) == ("people:chosen", "other:rejected")


def test_only_what_both_sides_have_is_drawn(serve, people: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text("".join(people.read_text().splitlines(keepends=True)[:4]))
    url = serve(Script(always_longer)).url
    judgement = judge(request(people, tmp_path / "out", url, b=f"{other}:rejected", n=4))
    assert judgement.result.n == 4
    assert "6 queries without the responses that are compared" in printed(judgement)
    other.write_text(json.dumps({"prompt": "Unknown?", "chosen": "a", "rejected": "b"}) + "\n")
    with pytest.raises(InputError, match="none of the 10 queries"):
        judge(request(people, tmp_path / "more", url, b=f"{other}:rejected"))


@pytest.fixture
def two_folders(tmp_path: Path) -> list[Path]:
    """Of one name, with the same queries and chosen responses; what was rejected is longer in the second."""
    folders = [tmp_path / place / "data" for place in ("one", "two")]
    for folder, times in zip(folders, (1, 4), strict=True):
        folder.mkdir(parents=True)
        for split in ("train", "test"):
            rows = [
                {"prompt": f"Question {number} of {split}?", "chosen": "c" * a, "rejected": "r" * b * times}
                for number, (a, b) in enumerate(LENGTHS)
            ]
            (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folders


def test_another_dataset_of_the_same_name_is_another_comparison(
    serve, two_folders: list[Path], people: Path, tmp_path: Path
) -> None:
    one, two = two_folders
    url = serve(Script(always_longer)).url
    judge(request(one, tmp_path / "queries", url))
    with pytest.raises(InputError, match=r"queries\.sha256"):
        judge(request(two, tmp_path / "queries", url))
    judge(request(one, tmp_path / "side", url, b=f"{one}:rejected"))
    with pytest.raises(InputError, match=r"b\.texts_sha256"):
        judge(request(one, tmp_path / "side", url, b=f"{two}:rejected"))


def test_a_dataset_that_is_a_side_is_read_in_the_split_of_the_queries(serve, two_folders, tmp_path: Path) -> None:
    one, two = two_folders
    url = serve(Script(always_longer)).url
    judgement = judge(request(one, tmp_path / "out", url, b=f"{two}:rejected", split="train", calibrate=0))
    assert judgement.result.n == 10
    assert judgement.result.length.b == 4 * sum(b for _, b in LENGTHS) / 10


def test_a_dataset_that_is_not_there_shows_before_anybody_answers(serve, random_policy, people: Path, tmp_path) -> None:
    server = serve(Script(always_longer))
    with pytest.raises(InputError, match=r"^\S*none\.jsonl: no such file"):
        judge(request(people, tmp_path / "out", server.url, a=str(random_policy), b=f"{tmp_path}/none.jsonl:rejected"))
    assert server.requests == []


def test_a_run_that_was_renamed_goes_on(serve, random_policy: Path, people: Path, tmp_path: Path) -> None:
    url = serve(Script(always_longer)).url
    asked = Answering(max_new_tokens=4)
    for name in ("mine", "renamed"):
        shutil.copytree(random_policy, tmp_path / name)
    first = judge(request(people, tmp_path / "out", url, a=str(tmp_path / "mine"), n=3, answering=asked))
    again = judge(request(people, tmp_path / "out", url, a=str(tmp_path / "renamed"), n=3, answering=asked))
    assert (first.asked, again.asked) == (6, 0)
    moved = tmp_path / "moved.jsonl"
    people.rename(moved)
    assert judge(request(moved, tmp_path / "out", url, a=str(tmp_path / "mine"), n=3, answering=asked)).asked == 0


def test_answers_that_were_cut_and_rows_that_cannot_be_used_are_told(
    serve, random_policy: Path, people: Path, tmp_path: Path
) -> None:
    people.write_text(people.read_text() + '{"prompt": "  ", "chosen": "a", "rejected": "b"}\n')
    asked = Answering(max_new_tokens=2)
    url = serve(Script(always_longer)).url
    judgement = judge(request(people, tmp_path / "out", url, a=str(random_policy), n=3, answering=asked))
    assert judgement.result.unfinished.to_dict() == {"a": 3, "b": 0}
    assert judgement.result.queries.left_out == {"empty_query": 1}
    assert f"cut at --max-new-tokens: 3 of {random_policy.name}." in printed(judgement)
    assert "1 rows of people that cannot be used" in printed(judgement)


def test_how_people_answered_cannot_be_asked_for(people: Path, tmp_path: Path) -> None:
    for name, value in (("prompt", "positive"), ("temperature", 1.0), ("max_new_tokens", 9)):
        with pytest.raises(InputError, match=f"{name}: both sides are texts of people"):
            judge(request(people, tmp_path / "out", "http://127.0.0.1:9", answering=Answering(**{name: value})))


def test_the_temperature_that_a_server_does_not_take_is_not_told(serve, people: Path, tmp_path: Path) -> None:
    script = Script(always_longer)

    def respond(method: str, path: str, body: Any) -> Reply:
        error = {"message": "unsupported", "param": "temperature", "type": "invalid_request_error"}
        return Reply(400, {"error": error}, JSON) if "temperature" in body else script(method, path, body)

    wanted = request(people, tmp_path / "out", serve(respond).url)
    judgement = judge(wanted)
    assert "temperature" not in judgement.result.judge
    assert judgement.result.judge["model"] == "scripted"
    (judgement.out / RESULT).unlink()
    again = judge(wanted)  # nobody is asked, and what was learned is not forgotten
    assert (again.asked, again.result) == (0, judgement.result)


def test_what_a_local_judge_answers_with_is_part_of_the_comparison(random_policy: Path, people, tmp_path: Path) -> None:
    spec = JudgeSpec(str(random_policy), args={"max_tokens": 2})
    judge(request(people, tmp_path / "out", "", judge=spec, n=1))
    with pytest.raises(InputError, match=r"judge\.dtype"):
        judge(request(people, tmp_path / "out", "", judge=replace(spec, dtype="bfloat16"), n=1))


def test_a_judge_is_opened_once(serve, random_policy: Path, people: Path, tmp_path: Path, monkeypatch) -> None:
    opened: list[JudgeSpec] = []
    open_judge = module.open_judge

    def counted(spec: JudgeSpec) -> Any:
        opened.append(spec)
        return open_judge(spec)

    monkeypatch.setattr(module, "open_judge", counted)
    judge(request(people, tmp_path / "out", "", judge=JudgeSpec(str(random_policy), args={"max_tokens": 2}), n=1))
    assert len(opened) == 1


def test_the_folder_of_something_else_is_refused_and_stays_as_it_is(people: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / SETTINGS).write_text('{"content": {}, "settings": {}}')
    leftover = run / f".adapter.0000{TEMPORARY}"
    leftover.touch()
    with pytest.raises(InputError, match="holds no comparison"):
        judge(request(people, run, "http://127.0.0.1:9"))
    assert leftover.exists()


def test_agreement_is_told_of_the_pairs_it_was_counted_on() -> None:
    asked = JudgedPair("query", "a", "b", 1, 1, Said("first", "text"), Said("second", "text"))
    unread = JudgedPair("query", "a", "b", 1, 1, Said(None, "text", unfinished="max_tokens"), Said("second", "text"))
    assert "on 100.0 % of 1 pairs" in in_words(agreement([asked, unread]))
    assert "1 cut: --judge-arg max_tokens" in in_words(agreement([unread]))


def test_bare_queries_are_judged_without_calibration(serve, random_policy: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.jsonl"
    bare.write_text('{"prompt": "One?"}\n{"prompt": "Two?"}\n')
    asked = Answering(max_new_tokens=4)
    url = serve(Script(always_longer)).url
    judgement = judge(request(bare, tmp_path / "out", url, a=str(random_policy), b=str(random_policy), answering=asked))
    assert judgement.result.calibration is None
    assert judgement.result.verdicts.tie == 2
    with pytest.raises(InputError, match="none of the 2 queries"):
        judge(request(bare, tmp_path / "other", url))


def test_nothing_is_left_behind_where_it_cannot_begin(people: Path, tmp_path: Path) -> None:
    wanted = request(people, tmp_path / "out", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="nothing answers there"):
        judge(wanted)
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="say queries"):
        judge(replace(wanted, queries=None))
    with pytest.raises(InputError, match="say out"):
        judge(replace(wanted, out=None))


def test_the_console_prints_one_object_or_words_that_no_terminal_obeys(serve, people: Path, tmp_path: Path) -> None:
    url = serve(Script(always_longer)).url
    hostile = tmp_path / "\x1b[31m.jsonl"
    hostile.write_bytes(people.read_bytes())
    arguments = [
        "judge", f"{hostile}:chosen", "rejected", "--judge", "scripted", "--base-url", f"{url}/v1", "--preset", "paper",
        "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    runner = CliRunner()
    result = runner.invoke(app, [*arguments, "--quiet", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["n"] == 10
    shown = runner.invoke(app, arguments)
    assert "6 / 3 / 1" in shown.stdout
    assert "nothing was asked: every pair was judged before" in shown.stdout
    assert "\x1b[31m" not in shown.stdout
    wrong = runner.invoke(app, [*arguments, "--n", "5"])
    assert (wrong.exit_code, "Leave out --n" in wrong.stderr) == (2, True)
