"""A real server on loopback that misbehaves on purpose. Waits between attempts are milliseconds here."""

import gzip
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from neat_data.errors import InputError, RunError
from neat_data.models.reward_model import RewardModelSpec, Task
from neat_data.models.reward_models.http import TASKS, HttpRewardModel
from neat_data.models.servers.json_server import Patience, asked_wait, wait_before_next
from neat_data.record import Message, query_id
from tests.support.loopback import Reply

QUICK = Patience(attempts=4, first_wait=0.002, longest_wait=0.01, timeout=60)


def rate(conversations):
    """The reward of the well-behaved server: a number that tells every conversation apart."""
    return [float(sum(map(ord, turn[-1]["content"])) + 1000 * len(turn)) for turn in conversations]


def well_behaved(method, path, body):
    if method == "GET":
        return Reply(404, {"error": "no such page"})
    return Reply(body={"rewards": rate(body["conversations"]), "model": "lengths-1"})


def troubled(*troubles):
    """Every scoring request meets `troubles` one after the other, then is answered. The first one, at load, is not."""
    left: dict[str, list[Reply]] = {}

    def answer(method, path, body):
        key = json.dumps(body)
        if method == "POST" and "Knock" not in key:
            rest = left.setdefault(key, list(troubles))
            if rest:
                return rest.pop(0)
        return well_behaved(method, path, body)

    return answer


TASK_LIST = [
    Task((Message("user", f"Question {i}"),), tuple(f"answer {i} {j}" for j in range(1 + i % 3))) for i in range(40)
]
EXPECTED = [tuple(rate([[None, {"content": text}] for text in task.texts])) for task in TASK_LIST]


def load(server, patience=QUICK, **model_args):
    return HttpRewardModel(RewardModelSpec(server.url, model_args=model_args), patience)


def rewards(model, tasks=TASK_LIST):
    return [one.rewards for one in model.score(tasks)]


def test_each_response_gets_the_reward_that_the_server_gave_its_conversation(serve):
    assert rewards(load(serve(well_behaved))) == EXPECTED


def test_the_json_form_is_what_the_documentation_says(serve):
    server = serve(well_behaved)
    model = load(server)
    server.requests.clear()
    model.score([Task((Message("system", "Be kind."), Message("user", "Hi")), ("Hello", "Go away"))])
    head = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    conversations = [[*head, {"role": "assistant", "content": text}] for text in ("Hello", "Go away")]
    assert server.requests == [("POST", "/", {"conversations": conversations})]


def test_rewards_come_in_the_order_of_the_tasks_whatever_order_the_answers_came_in(serve):
    # The first request is answered only when another one has been: the answers arrive out of order.
    second_done = threading.Event()
    order = []

    def answer(method, path, body):
        text = json.dumps(body)
        if "Question 0" in text:
            assert second_done.wait(600)
        reply = well_behaved(method, path, body)
        if "Question 8" in text:
            second_done.set()
        if "Question" in text:
            order.append(text)
        return reply

    assert rewards(load(serve(answer))) == EXPECTED
    assert "Question 0" not in order[0]


def test_no_more_requests_run_at_once_than_connections_allow(serve):
    gate = threading.Barrier(3, timeout=600)

    def answer(method, path, body):
        if method == "POST" and "Knock" not in json.dumps(body):
            gate.wait()  # passes only when three requests are here together
        return well_behaved(method, path, body)

    server = serve(answer)
    load(server, connections=3).score([*TASK_LIST, *TASK_LIST][: 6 * TASKS])
    assert server.most_at_once == 3


def test_progress_counts_every_task_once(serve):
    steps = []
    load(serve(well_behaved)).score(TASK_LIST, advance=lambda *step: steps.append(step))
    assert sum(tasks for tasks, _ in steps) == len(TASK_LIST)


HALF = Reply(body=b'{"rewards": [1.0', announce=100)


@pytest.mark.parametrize(
    "trouble",
    [
        Reply(429, "slow down"),
        Reply(500, b"<html>"),
        Reply(502),
        Reply(503, headers={"Retry-After": "0"}),
        Reply(504),
        HALF,
        Reply(body=b'{"rewards": [1.0', announce=-1),
        Reply(close=True),
    ],
    ids=["429", "500", "502", "503", "504", "half a body", "half a body without a length", "a broken connection"],
)
def test_a_passing_trouble_costs_nothing_but_time(serve, trouble):
    server = serve(troubled(trouble, trouble))
    assert rewards(load(server)) == EXPECTED
    posts = [request for request in server.requests if request[0] == "POST"]
    assert len(posts) == 1 + 3 * 5  # the question at load, then five requests of eight tasks, three times each


def test_a_slow_answer_is_asked_for_again(serve):
    asked = []

    def answer(method, path, body):
        if "Question" in json.dumps(body):
            asked.append(body)
            if len(asked) == 1:
                released.wait(600)
        return well_behaved(method, path, body)

    released = threading.Event()
    model = load(serve(answer), Patience(attempts=100, first_wait=0.002, longest_wait=0.01, timeout=1.0))
    assert rewards(model, TASK_LIST[:1]) == EXPECTED[:1]
    released.set()
    assert len(asked) >= 2


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_headers_that_drip_end_the_run(serve, method):
    dripping = serve(lambda asked, path, body: Reply(drip=True) if asked == method else well_behaved(asked, path, body))
    with pytest.raises(RunError, match=r"the reply has not ended after 0\.3 seconds"):
        load(dripping, Patience(timeout=60, longest=0.3))


SECONDS = Patience(first_wait=1.0, longest_wait=30.0)


def test_waits_double_up_to_the_longest_and_chance_is_half_of_them():
    assert [wait_before_next(n, 0, SECONDS, 0.0) for n in range(1, 8)] == [0.5, 1, 2, 4, 8, 15, 15]
    assert [wait_before_next(n, 0, SECONDS, 1.0) for n in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]


def test_the_servers_wish_is_honoured_up_to_the_longest_wait():
    assert wait_before_next(1, 20, SECONDS, 0.0) == 20
    assert wait_before_next(1, 3600, SECONDS, 0.0) == 30
    assert wait_before_next(5, 1, SECONDS, 0.0) == 8  # never less than without it


def test_a_date_gone_by_asks_for_no_wait():
    assert asked_wait("Wed, 21 Oct 2015 07:28:00 GMT", datetime(2020, 1, 1, tzinfo=UTC)) == 0


def test_a_server_that_is_gone_for_good_ends_the_run_and_says_what_to_do(serve):
    server = serve(troubled(*[Reply(503, "loading")] * 10))
    message = r"no answer after 4 attempts, the last: status 503: '\"loading\"'\nwhat was committed stays: run the same"
    with pytest.raises(RunError, match=message):
        load(server).score(TASK_LIST)


def test_a_server_that_died_ends_the_run(serve):
    server = serve(well_behaved)
    model = load(server)
    server.shutdown()
    server.server_close()
    with pytest.raises(RunError, match=r"no answer after 4 attempts, the last: ConnectError"):
        model.score(TASK_LIST)


def test_the_other_requests_end_with_the_one_that_failed(serve):
    def answer(method, path, body):
        if "Question 0" in json.dumps(body):
            return Reply(400, "no")
        return troubled(*[Reply(503, headers={"Retry-After": "3600"})] * 99)(method, path, body)

    model = load(serve(answer), Patience(attempts=12, first_wait=0.0, longest_wait=30.0, timeout=60))
    with ThreadPoolExecutor(1) as pool, pytest.raises(RunError, match="the server says 400"):
        pool.submit(model.score, TASK_LIST).result(timeout=60)  # not after eleven waits of half a minute


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>hello</html>", "answered with what is not JSON: '<html>hello</html>'"),
        (b"\xff\xfe\xfd", "answered with what is not JSON"),
        ([1.0, 2.0], '{"rewards": […]} was expected and [1.0, 2.0] came'),
        ({"reward": 1}, "{\"rewards\": […]} was expected and {'reward': 1} came"),
        ({"rewards": [1.0], "model": "lengths-1"}, "3 rewards were asked for and 1 came"),
        ({"rewards": {"a": 1}, "model": "lengths-1"}, "3 rewards were asked for and {'a': 1} came"),
        ({"rewards": [1, None, 2], "model": "lengths-1"}, "the reward is None, not a number (conversation 2 of"),
        ({"rewards": [1, "2", 2], "model": "lengths-1"}, "the reward is '2', not a number"),
        (b'{"rewards": [1, NaN, 2], "model": "lengths-1"}', "the reward is nan, not a finite float32 number"),
        (b'{"rewards": [1, 1e60, 2], "model": "lengths-1"}', "the reward is 1e+60, not a finite float32 number"),
        (
            {"rewards": [1, 2, 3], "model": "lengths-2"},
            "came from model 'lengths-2', and this run began with 'lengths-1'",
        ),
    ],
)
def test_an_answer_that_holds_no_rewards_is_an_error_that_quotes_it(serve, body, message):
    server = serve(troubled(*[Reply(body=body)] * 10))
    with pytest.raises(RunError, match=re.escape(message)):
        load(server).score(TASK_LIST[:2])
    assert sum("Question" in json.dumps(request) for request in server.requests) == 1  # not tried again


def test_an_error_names_the_queries_it_is_about(serve):
    first, last = query_id(TASK_LIST[0].messages), query_id(TASK_LIST[2].messages)
    with pytest.raises(RunError, match=f"the request was for queries {first} to {last}"):
        load(serve(troubled(Reply(body={"rewards": [], "model": "lengths-1"})))).score(TASK_LIST[:3])


def test_control_characters_of_an_answer_do_not_reach_the_terminal(serve):
    with pytest.raises(RunError) as raised:
        load(serve(troubled(Reply(400, b"\x1b[2J gone")))).score(TASK_LIST)
    assert "\x1b" not in str(raised.value)


@pytest.mark.parametrize(
    ("status", "message"), [(401, "refuses access (401); set NEAT_REWARD_API_KEY"), (403, "(403)")]
)
def test_a_refused_key_is_bad_input(serve, status, message):
    with pytest.raises(InputError, match=re.escape(message)):
        load(serve(lambda *_: Reply(status)))


def test_an_address_without_anything_is_bad_input(serve):
    with pytest.raises(InputError, match="the server says 404"):
        load(serve(lambda *_: Reply(404, "nothing here")))


def test_an_address_where_nothing_listens_is_bad_input(serve):
    server = serve(well_behaved)
    server.shutdown()
    server.server_close()
    with pytest.raises(InputError, match=r"nothing answers there .* is the server running"):
        load(server)


def test_a_server_made_with_the_standard_library_need_not_answer_get(serve):
    # Its GET is answered with 501, which is no reason to try again.
    server = serve(lambda method, *rest: Reply(501) if method == "GET" else well_behaved(method, *rest))
    assert rewards(load(server)) == EXPECTED


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(serve, monkeypatch):
    monkeypatch.setenv("NEAT_REWARD_API_KEY", "sesame")
    server = serve(well_behaved)
    model = load(server)
    model.score(TASK_LIST[:1])
    assert {headers["Authorization"] for headers in server.headers_seen} == {"Bearer sesame"}
    assert "sesame" not in repr((model.settings, model.spec, model.notes))


def test_a_password_in_the_address_is_refused_without_being_repeated():
    with pytest.raises(InputError, match="NEAT_REWARD_API_KEY") as raised:
        HttpRewardModel(RewardModelSpec("http://me:sesame@127.0.0.1:1/"), QUICK)
    assert "sesame" not in str(raised.value)


def test_a_key_in_the_query_of_the_address_is_sent_and_not_shown(serve):
    server = serve(troubled(Reply(400, "no")))
    model = HttpRewardModel(RewardModelSpec(f"{server.url}/rate?code=sesame"), QUICK)
    with pytest.raises(RunError, match=re.escape(f"{server.url}/rate: the server says 400")) as raised:
        model.score(TASK_LIST[:1])
    assert {path for method, path, _ in server.requests if method == "POST"} == {"/rate?code=sesame"}
    assert "/rate/v1/models?code=sesame" in {path for _, path, _ in server.requests}
    assert "sesame" not in repr((model.settings, model.notes, str(raised.value)))
    with pytest.raises(InputError, match="dtype: has no meaning") as raised:
        HttpRewardModel(replace(model.spec, dtype="bfloat16"), QUICK)
    assert "sesame" not in str(raised.value)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(body=b"[" * 200_000), "JSON that is nested too deeply"),
        (
            Reply(body=gzip.compress(bytes(3_000_000)), headers={"Content-Encoding": "gzip"}),
            "larger than 1,000,000 bytes",
        ),
        (Reply(body=bytes(3_000_000), announce=-1), "larger than 1,000,000 bytes"),
        (Reply(body=b"{}", headers={"Content-Encoding": "zstd"}), "compressed as 'zstd', which was not asked for"),
    ],
    ids=["nested", "a gzip bomb", "no end", "another compression"],
)
def test_a_reply_beyond_measure_ends_the_run_in_words(serve, monkeypatch, reply, message):
    monkeypatch.setattr("neat_data.models.servers.json_server.LARGEST", 1_000_000)
    with pytest.raises(RunError, match=message):
        load(serve(troubled(reply))).score(TASK_LIST[:1])


def test_settings_name_the_model_and_not_the_host(serve):
    here, there = load(serve(well_behaved)), load(serve(well_behaved))
    assert here.settings == there.settings == {"backend": "http", "form": "json", "model": "lengths-1"}


def test_another_process_finds_the_same_form_by_the_resolved_spec(serve):
    model = load(serve(well_behaved))
    again = HttpRewardModel(model.spec, QUICK)
    assert (again.spec, again.settings) == (model.spec, model.settings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "bfloat16"}, "dtype: has no meaning"),
        ({"max_length": 100}, "max_length: has no meaning"),
        ({"chat_template": "hh"}, "chat_template: has no meaning"),
        ({"model_args": {"temperature": 1}}, "model_args temperature: "),
        ({"model_args": {"form": "xml"}}, "choose auto, vllm or json"),
        ({"model_args": {"form": "vllm"}}, "is not a vLLM server's"),
        ({"model_args": {"connections": 0}}, "model_args connections=0: "),
        ({"model_args": {"tokenizer": "x"}}, "model_args tokenizer: "),
    ],
)
def test_options_that_mean_nothing_to_this_server_are_refused(serve, options, message):
    with pytest.raises(InputError, match=re.escape(message)):
        HttpRewardModel(RewardModelSpec(serve(well_behaved).url, **options), QUICK)
