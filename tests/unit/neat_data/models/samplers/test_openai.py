"""The OpenAI sampler against a real server on loopback that misbehaves on purpose. Waits are milliseconds here."""

import asyncio
import gzip
import json
import re
import signal
import threading

import polars as pl
import pytest

from neat_data.errors import InputError, RunError
from neat_data.models.load import load_sampler
from neat_data.models.sampler import Ask, Sample, SamplerSpec, Sampling
from neat_data.models.samplers.openai import HUMAN, OpenAISampler
from neat_data.record import Message
from tests.support.loopback import Reply

QUICK = {"attempts": 4, "timeout": 600}
ASKS = [
    Ask((Message("user", f"Question {i}"),), seed=2**62 + i, sampling=Sampling(max_new_tokens=9)) for i in range(20)
]
EXPECTED = [Sample(f"answer to Question {i}", None, finished=True) for i in range(20)]


def completion(text, finish_reason="stop", usage=(7, 3), **more):
    """What `/chat/completions` answers."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason, **more}
    reply = {"object": "chat.completion", "model": "parrot", "choices": [choice]}
    if usage:
        reply["usage"] = dict(zip(("prompt_tokens", "completion_tokens"), usage, strict=True))
    return Reply(body=reply)


def parrot(method, path, body):
    if path == "/v1/models":
        return Reply(body={"object": "list", "data": [{"id": "parrot"}, {"id": "/srv/models/crow"}]})
    if path == "/v1/chat/completions":
        return completion(f" answer to {body['messages'][-1]['content']}\n")
    return Reply(404, {"error": "no such page"})


def says(*args, **options):
    """A server whose every completion is this one."""
    return lambda method, path, body: completion(*args, **options) if method == "POST" else parrot(method, path, body)


def troubled(*troubles):
    """Every request for a completion meets `troubles` one after the other, then is answered."""
    left: dict[str, list[Reply]] = {}

    def answer(method, path, body):
        rest = left.setdefault(json.dumps(body), list(troubles))
        return rest.pop(0) if method == "POST" and rest else parrot(method, path, body)

    return answer


def load(server, patience=QUICK, **options):
    return OpenAISampler(SamplerSpec("parrot", base_url=f"{server.url}/v1", **options), **patience)


def posts(server):
    return [body for method, _, body in server.requests if method == "POST"]


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
    """The client waits half a second and more before it asks again."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.01)


def test_every_ask_gets_its_own_answer_in_order(serve):
    assert load(serve(parrot)).sample(ASKS) == EXPECTED


def test_headers_that_drip_end_the_run(serve):
    with pytest.raises(RunError, match="no answer after 1 attempts"):
        load(serve(lambda *_: Reply(drip=True)), {"attempts": 1, "timeout": 0.5}).sample(ASKS[:1])


def test_answers_are_in_the_order_of_the_asks_whatever_order_they_came_in(serve):
    second_done = threading.Event()  # the first ask is answered only when another one has been

    def answer(method, path, body):
        content = body["messages"][-1]["content"] if body else ""
        if content == "Question 0":
            assert second_done.wait(5)
        if content == "Question 1":
            second_done.set()
        return parrot(method, path, body)

    assert load(serve(answer)).sample(ASKS) == EXPECTED


def test_a_request_holds_messages_seed_and_sampling_and_nothing_else(serve):
    server = serve(parrot)
    messages = (Message("system", "Be kind."), Message("user", "Hi"))
    load(server).sample([Ask(messages, 2**63 - 1, Sampling(temperature=0.5, top_p=0.9, max_new_tokens=17))])
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    wanted = {"temperature": 0.5, "top_p": 0.9, "max_tokens": 17, "seed": 2**63 - 1}
    assert posts(server) == [{"model": "parrot", "messages": turns, **wanted}]


def test_model_arguments_go_into_every_request_and_into_the_settings(serve):
    server = serve(parrot)
    sampler = load(server, model_args={"top_k": 50})
    sampler.sample(ASKS[:1])
    assert posts(server)[0]["top_k"] == 50
    assert sampler.settings["model_args"] == {"top_k": 50}


@pytest.mark.parametrize("name", ["seed", "messages", "temperature", "api_key", "Authorization"])
def test_a_model_argument_that_would_overrule_the_run_or_hold_a_secret_is_refused(serve, name):
    with pytest.raises(InputError, match=f"model_args {name}: "):
        load(serve(parrot), model_args={name: "x"})


def test_no_more_requests_run_at_once_than_were_allowed(serve):
    gate = threading.Barrier(3, timeout=600)

    def answer(method, path, body):
        if method == "POST":
            gate.wait()  # passes only when three requests are here together
        return parrot(method, path, body)

    server = serve(answer)
    load(server, concurrency=3).sample(ASKS[:18])
    assert server.most_at_once == 3


@pytest.mark.parametrize(
    ("reply", "sample"),
    [
        (completion("cut sho", "length"), Sample("cut sho", None, finished=False)),
        (completion(None), Sample("", None, finished=True)),
        (completion("withheld", "content_filter"), Sample("withheld", None, finished=False)),
        (completion("Yes.", "eos_token"), Sample("Yes.", None, finished=True)),
        (completion("Yes.", "stop_sequence"), Sample("Yes.", None, finished=True)),
        (completion(f"Yes.{HUMAN} And"), Sample(f"Yes.{HUMAN} And", None, finished=True)),
    ],
    ids=["cut", "no text", "filtered", "TGI", "Anthropic's word", "a stop string that was not asked for"],
)
def test_how_an_answer_ended_is_kept(serve, reply, sample):
    assert load(serve(lambda *request: reply if request[0] == "POST" else parrot(*request))).sample(ASKS[:1]) == [
        sample
    ]


@pytest.mark.parametrize(
    "reply",
    [completion("Yes.", stop_reason=HUMAN), completion(f"Yes.{HUMAN} And", "length")],
    ids=["a server that stops there", "a server that does not know stop strings"],
)
def test_the_plain_form_stops_where_the_next_turn_begins(serve, reply):
    server = serve(lambda *request: reply if request[0] == "POST" else parrot(*request))
    sampler = load(server, chat_template="hh")
    assert sampler.sample(ASKS[:1]) == [Sample("Yes.", None, finished=True, cut=True)]
    assert posts(server)[0]["stop"] == sampler.settings["stop"] == [HUMAN]


def test_an_end_by_itself_under_the_plain_form_cuts_nothing(serve):
    sampler = load(serve(says("Yes.", stop_reason=None)), chat_template="hh")
    assert sampler.sample(ASKS[:1]) == [Sample("Yes.", None, finished=True)]


def test_tokens_are_summed_over_calls_and_told_as_they_come(serve):
    sampler, steps = load(serve(parrot)), []
    sampler.sample(ASKS, advance=lambda *step: steps.append(step))
    sampler.sample(ASKS[:2])
    assert steps == [(1, 3)] * 20
    assert sampler.usage == {"prompt_tokens": 22 * 7, "completion_tokens": 22 * 3, "unreported": 0}


@pytest.mark.parametrize("usage", [None, (None, None)])
def test_answers_that_leave_out_their_tokens_are_counted(serve, usage):
    sampler = load(serve(says("Yes.", usage=usage)))
    sampler.sample(ASKS[:5])
    assert sampler.usage == {"prompt_tokens": 0, "completion_tokens": 0, "unreported": 5}


@pytest.mark.parametrize(
    "trouble",
    [
        Reply(429, "slow down"),
        Reply(500, b"<html>"),
        Reply(body=b'{"choices": [', announce=100),
        Reply(close=True),
    ],
    ids=["429", "500", "half a body", "a broken connection"],
)
def test_a_passing_trouble_costs_nothing_but_time(serve, trouble):
    server = serve(troubled(trouble, trouble))
    assert load(server).sample(ASKS) == EXPECTED
    assert len(posts(server)) == 3 * len(ASKS)


def test_a_server_that_says_nothing_for_a_while_is_asked_again(serve):
    released, asked = threading.Event(), []

    def answer(method, path, body):
        if method == "POST":
            asked.append(body)
            if len(asked) == 1:
                released.wait(600)
        return parrot(method, path, body)

    sampler = load(serve(answer), {"attempts": 100, "timeout": 1.0})
    assert sampler.sample(ASKS[:1]) == EXPECTED[:1]
    released.set()
    assert len(asked) >= 2


@pytest.mark.parametrize(
    "body",
    [b"<html>hello</html>", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"text": 1}]}', b"[" * 200_000],
    ids=lambda body: body[:20].decode(),
)
def test_garbage_is_an_error_in_words(serve, body):
    with pytest.raises(RunError, match="what came is no answer of this API"):
        load(serve(troubled(Reply(body=body, headers={"Content-Type": "application/json"})))).sample(ASKS)


def test_a_server_that_is_gone_for_good_ends_the_run_and_says_what_to_do(serve):
    server = serve(parrot)
    sampler = load(server)
    server.shutdown()
    server.server_close()
    with pytest.raises(RunError, match=r"no answer after 4 attempts, .*\nwhat was committed stays: run the same"):
        sampler.sample(ASKS)


TOO_LONG = Reply(400, {"error": {"message": "This model's maximum context length is 16 tokens."}})


@pytest.mark.parametrize("first", [0, 13])
def test_one_refused_request_is_one_refused_ask(serve, first):
    refused = {f"Question {first}", "Question 15"}

    def answer(method, path, body):
        return TOO_LONG if body and body["messages"][-1]["content"] in refused else parrot(method, path, body)

    samples = load(serve(answer), concurrency=1).sample(ASKS)
    nothing = Sample("", None, finished=False, refused="server_refused")
    assert samples == [nothing if ask.messages[0].content in refused else EXPECTED[i] for i, ask in enumerate(ASKS)]


def test_a_server_that_refuses_everything_ends_the_run_with_its_own_words(serve):
    def answer(method, path, body):
        return Reply(400, {"error": {"message": "broken"}}) if method == "POST" else parrot(method, path, body)

    with pytest.raises(RunError, match=r"does not take the question: .*broken\na plain question is refused as"):
        load(serve(answer)).sample(ASKS)


def test_a_wrong_name_is_answered_with_the_names_there_are(serve):
    url = serve(parrot).url
    with pytest.raises(InputError, match=r"serves no model 'parot'; it serves 'parrot', '/srv/models/crow'"):
        OpenAISampler(SamplerSpec("parot", base_url=f"{url}/v1"), **QUICK)


def test_a_server_that_lists_no_models_is_believed(serve):
    server = serve(lambda *request: Reply(404) if request[1] == "/v1/models" else parrot(*request))
    assert load(server).sample(ASKS[:3]) == EXPECTED[:3]


def test_a_wrong_address_is_bad_input(serve):
    with pytest.raises(InputError, match=r"the server says 404: .*; check the address"):
        OpenAISampler(SamplerSpec("parrot", base_url=serve(parrot).url), **QUICK).sample(ASKS)


def test_the_key_comes_from_its_own_variable_and_goes_nowhere_else(serve, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "open-sesame\n")
    monkeypatch.setenv("NEAT_REWARD_API_KEY", "another")

    def answer(method, path, body):
        repeating = Reply(400, {"error": {"message": "open-sesame is a nice key"}})
        return repeating if method == "POST" else parrot(method, path, body)

    server = serve(answer)
    sampler = load(server)
    with pytest.raises(RunError, match="… is a nice key") as raised:
        sampler.sample(ASKS[:1])
    assert {headers["authorization"] for headers in server.headers_seen} == {"Bearer open-sesame"}
    assert "sesame" not in repr((sampler.settings, sampler.spec, sampler.notes, sampler.label, str(raised.value)))


def test_a_refused_key_names_its_variable(serve):
    with pytest.raises(InputError, match=re.escape("refuses access (401); set OPENAI_API_KEY to its key")):
        load(serve(lambda *_: Reply(401))).sample(ASKS)


def test_a_key_that_cannot_be_sent_is_refused_without_being_repeated(serve, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "ses\name")
    with pytest.raises(InputError, match="OPENAI_API_KEY holds characters") as raised:
        load(serve(parrot))
    assert "ses" not in str(raised.value)


def test_settings_name_the_model_and_not_the_host(serve):
    here, there = load(serve(parrot)), load(serve(parrot), concurrency=2)
    assert here.settings == there.settings == {"backend": "openai", "model": "parrot", "stop": [], "model_args": {}}
    assert (here.label, here.tokenizer) == ("parrot", None)


def test_a_model_that_is_called_by_its_folder_is_named_without_it(serve):
    sampler = OpenAISampler(SamplerSpec("/srv/models/crow", base_url=f"{serve(parrot).url}/v1"), **QUICK)
    assert "/srv" not in repr((sampler.settings, sampler.label))
    assert sampler.label == "crow"


def test_a_base_url_alone_chooses_this_sampler(serve):
    assert isinstance(load_sampler(SamplerSpec("parrot", base_url=f"{serve(parrot).url}/v1")), OpenAISampler)


def test_the_address_may_come_from_the_environment(serve, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", f"{serve(parrot).url}/v1")
    assert load_sampler(SamplerSpec("parrot", backend="openai")).sample(ASKS[:2]) == EXPECTED[:2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "bfloat16"}, "dtype"),
        ({"max_length": 100}, "max_length"),
        ({"adapter": "x"}, "adapter"),
        ({"chat_template": "x.jinja"}, "chat_template"),
        ({"concurrency": 0}, "concurrency 0: "),
    ],
)
def test_options_that_mean_nothing_to_a_server_are_refused(serve, options, message):
    with pytest.raises(InputError, match=message):
        load(serve(parrot), **options)


def test_no_address_is_bad_input(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(InputError, match="OPENAI_BASE_URL"):
        OpenAISampler(SamplerSpec("parrot"), **QUICK)


def test_ctrl_c_ends_the_run_while_answers_are_awaited(serve):
    pl.LazyFrame({"a": [1]}).collect()  # from here on polars handles the signal, and lets waits go on after it
    released, arrived, gave_up = threading.Event(), threading.Barrier(4), []

    def answer(method, path, body):
        if method == "POST":
            if arrived.wait(600) == 0:
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            gave_up.append(not released.wait(600))
        return parrot(method, path, body)

    sampler = load(serve(answer), concurrency=4)
    with pytest.raises(KeyboardInterrupt):
        sampler.sample(ASKS)
    assert not gave_up  # the answers are still awaited at the server
    released.set()


def picky(*refused, said=None):
    """A server that takes none of these settings, and says so as OpenAI does, or as `said` says it."""

    def answer(method, path, body):
        name = next((name for name in refused if body and name in body), None)
        if name is None:
            return parrot(method, path, body)
        message = said or f"Unsupported parameter: '{name}' is not supported with this model."
        error = {"message": message.format(name), "type": "invalid_request_error", "param": None if said else name}
        return Reply(400, {"error": error}, {"Content-Type": "application/json"})

    return answer


@pytest.mark.parametrize("said", [None, "[{{'loc': 'body'}}] Unrecognized request argument supplied: '{}'"])
def test_what_a_server_refuses_by_name_is_left_out_from_then_on(serve, caplog, said):
    server = serve(picky("seed", "temperature", "max_tokens", said=said))
    sampler = load(server, concurrency=1)
    assert sampler.sample(ASKS[:3]) == EXPECTED[:3]
    bodies = posts(server)
    assert [sorted(body)[1:] for body in bodies[3:]] == [["messages", "model", "top_p"]] * 3
    assert {body.get("max_completion_tokens") for body in bodies[3:]} == {9}
    assert [record.getMessage() for record in caplog.records if record.name.startswith("neat_data")] == [
        "parrot takes no seed: it answers without",
        "parrot takes no temperature: it answers without",
        "parrot takes no max_tokens: max_completion_tokens is sent instead",
    ]


def test_a_refusal_that_names_no_setting_is_no_lesson(serve):
    said = "The temperature in Paris and its seed are not supported."
    with pytest.raises(RunError, match="a plain question is refused as well"):
        load(serve(picky("seed", said=said)), concurrency=1).sample(ASKS[:1])


def test_what_the_user_gives_as_null_is_never_sent(serve):
    server = serve(picky("seed", "temperature", "max_tokens"))
    load(server, model_args={"seed": None, "temperature": None, "max_tokens": None}).sample(ASKS[:1])
    (body,) = posts(server)
    assert set(body) == {"model", "messages", "top_p", "max_completion_tokens"}
    server.requests.clear()
    load(server, model_args={"seed": None, "temperature": None, "max_completion_tokens": 5}).sample(ASKS[:1])
    assert [body["max_completion_tokens"] for body in posts(server)] == [5]


def test_a_redirect_is_not_followed(serve):
    elsewhere = serve(parrot)

    def away(method, path, body):
        there = Reply(307, headers={"Location": f"{elsewhere.url}{path}"})
        return there if method == "POST" else parrot(method, path, body)

    with pytest.raises(RunError):
        load(serve(away)).sample(ASKS[:1])
    assert elsewhere.requests == []


def test_a_reply_without_end_is_cut_off(serve, monkeypatch):
    monkeypatch.setattr("neat_data.models.servers.asking.LARGEST", 10_000)
    bomb = gzip.compress(b" " * 5_000_000)
    assert len(bomb) < 10_000
    reply = Reply(body=bomb, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})
    with pytest.raises(RunError, match="larger than 10,000 bytes"):
        load(serve(troubled(reply))).sample(ASKS[:1])


def test_a_reply_that_is_compressed_is_read(serve):
    def answer(method, path, body):
        reply = parrot(method, path, body)
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        return Reply(reply.status, gzip.compress(reply.body), headers)

    assert load(serve(answer)).sample(ASKS[:2]) == EXPECTED[:2]


def test_a_key_in_the_query_of_the_address_is_sent_and_not_shown(serve):
    server = serve(lambda *_: Reply(401))
    with pytest.raises(InputError, match="refuses access") as raised:
        OpenAISampler(SamplerSpec("parrot", base_url=f"{server.url}/v1?code=sesame"), **QUICK)
    assert "code=sesame" in server.requests[0][1]
    assert "sesame" not in str(raised.value)


def test_samples_are_drawn_inside_a_running_loop_too(serve):
    sampler = load(serve(parrot))

    async def cell():
        return sampler.sample(ASKS[:2])

    assert asyncio.run(cell()) == EXPECTED[:2]


def test_a_thought_that_the_server_took_out_is_put_back(serve):
    for name in ("reasoning", "reasoning_content"):
        message = {"role": "assistant", "content": "\n\nYes.", name: "\nLet me see.\n"}
        sampler = load(serve(says("", message=message)))
        assert sampler.sample(ASKS[:1])[0].text == "<think>\nLet me see.\n</think>\n\nYes."


def test_a_thought_that_filled_the_answer_has_no_end(serve):
    message = {"role": "assistant", "content": None, "reasoning": "Let me see"}
    sample = load(serve(says("", "length", message=message))).sample(ASKS[:1])[0]
    assert (sample.text, sample.finished) == ("<think>\nLet me see", False)


def test_a_server_is_asked_for_a_thought_or_for_none(serve):
    server = serve(parrot)
    sampler = load(server, thinking="off", template_args={"reasoning_effort": "low"})
    sampler.sample(ASKS[:1])
    asked = {"enable_thinking": False, "thinking": False, "reasoning_effort": "low"}
    assert posts(server)[0]["chat_template_kwargs"] == asked
    assert sampler.settings["chat_template_kwargs"] == asked
    assert "chat_template_kwargs" not in load(server).settings


def load_all(*servers, patience=QUICK, **options):
    urls = ", ".join(f"{server.url}/v1/" for server in servers)
    return OpenAISampler(SamplerSpec("parrot", base_url=urls, **options), **patience)


def test_several_servers_share_the_asks(serve):
    both_at_work = threading.Barrier(2)  # the first ask of each is answered only when the other has one as well

    def answer(seen):
        def reply(method, path, body):
            if method == "POST" and not seen:
                seen.append(body)
                both_at_work.wait(20)
            return parrot(method, path, body)

        return reply

    first, second = serve(answer([])), serve(answer([]))
    sampler = load_all(first, second, concurrency=1)
    assert sampler.sample(ASKS) == EXPECTED
    assert len(posts(first)) + len(posts(second)) >= len(ASKS)
    assert posts(first)
    assert posts(second)
    assert f"at {first.url}/v1 and {second.url}/v1, 1 requests at a time at each" in sampler.notes[0]
    assert sampler.settings == load(first).settings  # where the servers are changes nothing of what they are asked


def test_the_slowest_server_is_not_waited_for(serve):
    over = threading.Event()

    def stuck(method, path, body):
        if method == "POST":
            assert over.wait(60)
        return parrot(method, path, body)

    slow, quick = serve(stuck), serve(parrot)
    try:
        sampler = load_all(slow, quick, concurrency=3)
        assert sampler.sample(ASKS) == EXPECTED
        assert sampler.usage == {"prompt_tokens": 7 * 20, "completion_tokens": 3 * 20, "unreported": 0}
    finally:
        over.set()
    assert len(posts(quick)) == len(ASKS)


def test_the_asks_of_a_server_that_fails_go_to_the_others(serve, caplog):
    broken, good = serve(lambda method, *rest: Reply(503) if method == "POST" else parrot(method, *rest)), serve(parrot)
    sampler = load_all(broken, good, concurrency=2)
    assert sampler.sample(ASKS) == EXPECTED
    assert f"{broken.url}/v1: no answer after 4 attempts" in caplog.text
    assert "the other servers go on without it" in caplog.text
    before = len(posts(broken))
    assert sampler.sample(ASKS) == EXPECTED
    assert len(posts(broken)) == before


def test_the_last_server_that_fails_ends_the_run(serve):
    def broken(method, *rest):
        return Reply(503) if method == "POST" else parrot(method, *rest)

    with pytest.raises(RunError, match="no answer after 4 attempts"):
        load_all(serve(broken), serve(broken)).sample(ASKS)


def test_every_server_of_a_list_has_to_be_there(serve):
    there = serve(parrot)
    gone = serve(parrot)
    gone.server_close()
    with pytest.raises(InputError, match=f"{gone.url}/v1: nothing answers there"):
        load_all(there, gone)
    with pytest.raises(InputError, match=r"base_url .*: one address stands there twice"):
        load_all(there, there)
