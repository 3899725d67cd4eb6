"""Scripted judges on loopback. Waits are milliseconds here."""

import threading

import pytest

from neat_data.errors import InputError, RunError
from neat_data.models.load import load_reward_model
from neat_data.models.reward_model import RewardModelSpec, Scored, Task
from neat_data.models.reward_models.judge import JudgeRewardModel
from neat_data.prompts.rubric import DEFAULT, load_rubric
from neat_data.record import Message
from tests.support.loopback import Reply

QUICK = {"attempts": 4, "timeout": 60}
TASKS = [
    Task((Message("user", f"Question {i}"),), tuple(f"an answer worth {1 + (i + j) % 10}." for j in range(1 + i % 3)))
    for i in range(12)
]
WORTH = [tuple(float(text.split()[-1].rstrip(".")) for text in task.texts) for task in TASKS]


def completion(text, finish_reason="stop"):
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    return Reply(body={"choices": [choice], "usage": {"prompt_tokens": 50, "completion_tokens": 4}})


def judge(decide):
    """A server whose completions are `decide(question, body)`: a text, or a whole reply."""

    def answer(method, path, body):
        if method == "GET":
            return Reply(body={"data": [{"id": "wise"}]})
        said = decide(body["messages"][-1]["content"], body)
        return said if isinstance(said, Reply) else completion(said)

    return answer


def by_worth(question, body):
    """Reads the response between the shipped rubric's marks and says what it claims to be worth."""
    response = question.partition("=== the answer to be rated ===\n")[2].partition("\n=== end")[0] or "none 1."
    return f"Score: {response.split()[-1].rstrip('.')}"


def load(server, patience=QUICK, **model_args):
    spec = RewardModelSpec("judge:wise", model_args={"base_url": f"{server.url}/v1", **model_args})
    return JudgeRewardModel(spec, **patience)


def posts(server):
    return [body for method, _, body in server.requests if method == "POST"]


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
    """The client waits half a second and more before it asks again."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.01)


@pytest.mark.parametrize(
    "form",
    ["{}.", "**{}**", "**Score:** {:.0}{}", "{}/10", "<think>\nScore: 1? No.\n</think>\n\n{}", "It is kind.\n\n{}"],
)
def test_a_score_is_read_in_the_forms_that_models_give_it(serve, form):
    def decide(question, body):
        said = by_worth(question, body)
        return form.replace("{:.0}{}", said.removeprefix("Score: ")).replace("{}", said)

    server = serve(judge(decide))
    assert [one.rewards for one in load(server).score(TASKS)] == WORTH
    assert len(posts(server)) == sum(map(len, WORTH)), "at the first time of asking"


def test_a_judge_that_takes_no_temperature_and_no_seed_is_asked_without(serve):
    def decide(question, body):
        for name in ("temperature", "seed", "max_tokens"):
            if name in body:
                error = {"message": f"'{name}' does not support this", "param": name, "code": "unsupported_value"}
                return Reply(400, {"error": error}, {"Content-Type": "application/json"})
        return by_worth(question, body)

    server = serve(judge(decide))
    assert [one.rewards for one in load(server, connections=1).score(TASKS)] == WORTH
    assert len(posts(server)) == 3 + sum(map(len, WORTH))


def test_each_response_gets_its_own_score_in_order(serve):
    scored = load(serve(judge(by_worth))).score(TASKS)
    assert [one.rewards for one in scored] == WORTH
    assert all(one.refused == (None,) * len(one.rewards) for one in scored)


def test_ten_is_not_one(serve):
    (scored,) = load(serve(judge(lambda *_: "Score: 10"))).score([Task(TASKS[0].messages, ("a", "b"))])
    assert scored.rewards == (10.0, 10.0)


def test_a_judge_that_always_says_the_same_prefers_nobody(serve):
    scored = load(serve(judge(lambda *_: "Score: 5"))).score(TASKS)
    assert {reward for one in scored for reward in one.rewards} == {5.0}


def test_the_judge_is_asked_in_the_rubrics_words_greedily_at_first(serve):
    server = serve(judge(by_worth))
    load(server).score(TASKS[:1])
    (body,) = posts(server)
    question = load_rubric(DEFAULT).question(TASKS[0].messages, TASKS[0].texts[0])
    assert body == {"model": "wise", "messages": question, "seed": 0, "temperature": 0.0, "max_tokens": 1024}


@pytest.mark.parametrize("said", ["I like it.", "Score: 11", "Score: 0", "Score: 7 or 8", "7", "", None])
def test_an_answer_that_cannot_be_read_is_asked_for_once_more_with_another_seed(serve, said):
    server = serve(judge(lambda question, body: by_worth(question, body) if body["seed"] else said))
    assert [one.rewards for one in load(server).score(TASKS[:2])] == WORTH[:2]
    assert sorted((body["seed"], body["temperature"]) for body in posts(server)) == [(0, 0.0)] * 3 + [(1, 1.0)] * 3


@pytest.mark.parametrize("said", ["I like it.", "Score: 11", "Score: 7\nScore: 8", completion("Score: 1", "length")])
def test_two_answers_that_cannot_be_read_refuse_the_response_and_no_other(serve, said):
    def decide(question, body):
        return said if "worth 2." in question else by_worth(question, body)

    server = serve(judge(decide))
    (scored,) = load(server).score([Task(TASKS[0].messages, ("a 1.", "b worth 2.", "c 3."))])
    text = said if isinstance(said, str) else "Score: 1"
    details = (None, f"the judge's answer: {text!r}", None)
    assert scored == Scored((1.0, None, 3.0), (None, "judge_unreadable", None), 0, 4 * 54, 4 * 54, details)
    assert len(posts(server)) == 4


def test_an_own_temperature_holds_for_both_answers(serve):
    server = serve(judge(lambda *_: "hm"))
    load(server, temperature=0.3, max_tokens=5).score(TASKS[:1])
    assert [(body["seed"], body["temperature"], body["max_tokens"]) for body in posts(server)] == [
        (0, 0.3, 5),
        (1, 0.3, 5),
    ]


def test_a_response_that_the_server_does_not_take_is_refused(serve):
    def decide(question, body):
        return Reply(400, "too long") if "worth 2." in question else by_worth(question, body)

    scored = load(serve(judge(decide))).score([Task(TASKS[0].messages, ("a 1.", "b worth 2."))])
    assert [(one.rewards, one.refused) for one in scored] == [((1.0, None), (None, "server_refused"))]


def test_a_slow_judge_is_asked_again(serve):
    released, asked = threading.Event(), []

    def decide(question, body):
        asked.append(body)
        if len(asked) == 1:
            released.wait(600)
        return by_worth(question, body)

    patience = {"attempts": 100, "timeout": 1.0}
    assert load(serve(judge(decide)), patience).score(TASKS[:1])[0].rewards == WORTH[0]
    released.set()


@pytest.mark.parametrize("trouble", [Reply(429), Reply(500), Reply(close=True)], ids=["429", "500", "broken"])
def test_a_judge_in_passing_trouble_costs_nothing_but_time(serve, trouble):
    seen = set()

    def decide(question, body):
        first = question not in seen
        seen.add(question)
        return trouble if first else by_worth(question, body)

    assert [one.rewards for one in load(serve(judge(decide))).score(TASKS)] == WORTH


def test_a_judge_whose_headers_drip_ends_the_run(serve):
    with pytest.raises(RunError, match="no answer after 1 attempts"):
        load(serve(lambda *_: Reply(drip=True)), {"attempts": 1, "timeout": 0.5}).score(TASKS[:1])


def test_a_judge_that_fails_for_good_ends_the_run(serve):
    with pytest.raises(RunError, match=r"no answer after 4 attempts, the last: .*503"):
        load(serve(judge(lambda *_: Reply(503)))).score(TASKS)


def test_a_judge_that_answers_garbage_ends_the_run(serve):
    with pytest.raises(RunError, match="what came is no answer"):
        load(serve(judge(lambda *_: Reply(body=b"<html>")))).score(TASKS)


def test_progress_counts_every_task_once_and_all_tokens(serve):
    steps, model = [], load(serve(judge(by_worth)))
    scored = model.score(TASKS, advance=lambda *step: steps.append(step))
    responses = sum(len(task.texts) for task in TASKS)
    assert sum(tasks for tasks, _ in steps) == len(TASKS)
    assert sum(tokens for _, tokens in steps) == sum(one.tokens_run for one in scored) == 54 * responses
    assert model.usage == {"prompt_tokens": 50 * responses, "completion_tokens": 4 * responses, "unreported": 0}


def test_no_tasks_ask_nothing(serve):
    assert load(serve(judge(by_worth))).score([]) == []


def test_settings_hold_model_rubric_and_sampling_and_neither_address_nor_key_nor_path(serve, monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    copied = tmp_path / "copied.yaml"
    copied.write_text(DEFAULT.read_text())
    server = serve(judge(by_worth))
    model = load(server, top_k=1)
    model.score(TASKS[:1])
    assert model.settings == {
        "backend": "judge",
        "model": "judge:wise",
        "rubric": load_rubric(DEFAULT).sha256,
        "rubric_name": "helpful_harmless",
        "scale": [1, 10],
        "attempts": [
            {"seed": 0, "temperature": 0.0, "max_tokens": 1024},
            {"seed": 1, "temperature": 1.0, "max_tokens": 1024},
        ],
        "model_args": {"top_k": 1},
    }
    assert load(serve(judge(by_worth)), rubric=str(copied), top_k=1, connections=2).settings == model.settings
    assert {headers["authorization"] for headers in server.headers_seen} == {"Bearer sesame"}
    assert "sesame" not in repr((model.spec, model.notes))


def test_the_resolved_spec_loads_the_same_judge_elsewhere(serve, tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text(DEFAULT.read_text().replace("name: helpful_harmless", "name: mine"))
    monkeypatch.chdir(tmp_path)
    model = load(serve(judge(by_worth)), rubric="mine.yaml")
    monkeypatch.chdir("/")
    assert load_reward_model(model.spec).settings == model.settings
    assert model.settings["rubric_name"] == "mine"


@pytest.mark.parametrize(
    ("model_args", "message"),
    [
        ({"temperature": -1}, "temperature=-1"),
        ({"temperature": "hot"}, "temperature=hot"),
        ({"max_tokens": 0}, "max_tokens=0"),
        ({"connections": "many"}, "connections=many"),
        ({"rubric": "none.yaml"}, r"none\.yaml"),
        ({"api_key": "x"}, "api_key"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(serve, model_args, message):
    with pytest.raises(InputError, match=message):
        load(serve(judge(by_worth)), **model_args)


def test_options_of_other_back_ends_are_refused(serve):
    url = f"{serve(judge(by_worth)).url}/v1"
    with pytest.raises(InputError, match="max_length: has no meaning"):
        load_reward_model(RewardModelSpec("judge:wise", max_length=99, model_args={"base_url": url}))


def test_a_wrong_name_is_answered_with_the_names_there_are(serve):
    url = f"{serve(judge(by_worth)).url}/v1"
    with pytest.raises(InputError, match="serves no model 'wize'; it serves 'wise'"):
        load_reward_model(RewardModelSpec("judge:wize", model_args={"base_url": url}))


def test_several_servers_judge_together(serve):
    servers = [serve(judge(by_worth)) for _ in range(2)]
    urls = ",".join(f"{server.url}/v1" for server in servers)
    model = JudgeRewardModel(RewardModelSpec("judge:wise", model_args={"base_url": urls}), **QUICK)
    assert [scored.rewards for scored in model.score(TASKS)] == WORTH
    assert all(posts(server) for server in servers)
