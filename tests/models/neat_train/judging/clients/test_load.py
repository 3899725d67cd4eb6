"""What the back ends of a judge make of servers in all their moods, through the official clients."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neat_data.errors import InputError, RunError
from neat_train.judging.clients.client import CUT, JudgeSpec, Reply
from neat_train.judging.clients.load import open_judge
from tests.support import loopback
from tests.support.judging import AT_ONCE, JSON, Script, completion

APIS = ["openai", "anthropic"]
PLAIN = "Reply with the word OK."
KEY = "sk-of-the-test"


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI", "ANTHROPIC"):
        monkeypatch.setenv(f"{name}_API_KEY", KEY)
        monkeypatch.delenv(f"{name}_BASE_URL", raising=False)


def ask(url: str, api: str, *texts: str, **more: Any) -> list[Reply]:
    address = f"{url}/v1" if api == "openai" else url
    judge = open_judge(JudgeSpec(f"{api}:m", **{"base_url": address, "retries": 2, "timeout": 60, **more}))
    replies: dict[int, Reply] = {}
    judge.ask([[{"role": "user", "content": text}] for text in texts], replies.__setitem__)
    judge.close()
    return [replies[number] for number in range(len(texts))]


def real(answer: Callable[[str, str], Any]) -> Callable[..., Any]:
    """A server's answer to what is not the plain question that comes first: `answer(path, text)`."""

    def respond(method: str, path: str, body: Any) -> Any:
        text = body["messages"][-1]["content"]
        return completion(path, "OK") if text == PLAIN else answer(path, text)

    return respond


@pytest.mark.parametrize("api", APIS)
def test_an_answer_comes_with_its_tokens_and_the_key_goes_in_the_header(serve, api: str) -> None:
    server = serve(real(lambda path, text: completion(path, f"{text} too", 7)))
    assert ask(server.url, api, "a", "b") == [Reply("a too", None, None, 7, 2), Reply("b too", None, None, 7, 2)]
    seen = [{name.lower(): value for name, value in headers.items()} for headers in server.headers_seen]
    assert {headers["authorization"] for headers in seen} == {f"Bearer {KEY}"}


@pytest.mark.parametrize("api", APIS)
def test_headers_that_drip_end_the_run(serve, api: str) -> None:
    with pytest.raises(RunError, match="no answer after 1 attempts"):
        ask(serve(lambda *_: loopback.Reply(drip=True)).url, api, "a", retries=0, timeout=0.5)


@pytest.mark.parametrize("api", APIS)
def test_of_several_servers_a_stuck_one_holds_nothing_up(serve, api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def stuck(path: str, text: str) -> Any:
        released.wait()
        return completion(path, "late")

    quick, slow = serve(real(lambda path, text: completion(path, f"{text} too"))), serve(real(stuck))
    monkeypatch.setenv(f"{api.upper()}_BASE_URL", f"{slow.url}, {quick.url}")
    try:
        replies = ask("", api, *"abcdef", base_url=None, concurrency=2)
    finally:
        released.set()
    assert [reply.text for reply in replies] == [f"{text} too" for text in "abcdef"]
    assert len(slow.requests) == 3  # the plain question, and two that were asked again elsewhere


def test_what_is_sent(serve) -> None:
    server = serve(Script(None))
    for api in APIS:
        judge = open_judge(JudgeSpec(f"{api}:m", base_url=server.url, args={"max_tokens": 9, "top_p": 0.5}, retries=0))
        judge.ask([[{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]], lambda *_: None)
    bodies = [body for _, _, body in server.requests if body["messages"][-1]["content"] == "U"]
    turns = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    assert bodies == [
        {"model": "m", "max_tokens": 9, "top_p": 0.5, "temperature": 0.0, "messages": turns},
        {"model": "m", "max_tokens": 9, "top_p": 0.5, "system": "S", "messages": turns[1:]},
    ]


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("mood", ["500", "429", "dropped", "slow"])
def test_a_server_in_trouble_is_asked_again(serve, api: str, mood: str) -> None:
    """The third attempt is the first that is answered; a slow one lets the client's time-out pass."""
    tried: list[str] = []
    released = threading.Event()

    def answer(path: str, text: str) -> Any:
        tried.append(text)
        if len(tried) >= 3:
            return completion(path, "at last")
        if mood == "dropped":
            return loopback.Reply(close=True)
        if mood == "slow":
            released.wait()
            return loopback.Reply(close=True)
        return loopback.Reply(int(mood), {"error": {"message": "busy"}}, AT_ONCE)

    try:
        [reply] = ask(serve(real(answer)).url, api, "q", **({"timeout": 1.0, "retries": 29} if mood == "slow" else {}))
    finally:
        released.set()
    assert reply.text == "at last"
    assert len(tried) == 3 or mood == "slow"  # a machine under load may be slow once more


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [(500, "no answer after 3 attempts", RunError), (401, "refuses access", InputError), (404, "check", InputError)],
)
def test_a_server_that_stays_so_ends_it_in_words(serve, api: str, status: int, words: str, kind: Any) -> None:
    said = {"error": {"message": f"you sent {KEY}"}}
    server = serve(real(lambda path, text: loopback.Reply(status, said, AT_ONCE)))
    with pytest.raises(kind, match=words) as caught:
        ask(server.url, api, "q")
    assert KEY not in str(caught.value)
    if status == 401:
        assert f"{api.upper()}_API_KEY" in str(caught.value)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_setting_that_no_question_survives_shows_in_the_first_request(serve, api: str, status: int) -> None:
    server = serve(lambda *_: loopback.Reply(status, {"error": {"message": "no"}}, AT_ONCE))
    with pytest.raises(InputError):
        ask(server.url, api, *"abcdef")
    assert len(server.requests) == 1


@pytest.mark.parametrize("api", APIS)
def test_one_question_that_is_not_taken_is_told_and_the_others_go_on(serve, api: str) -> None:
    def answer(path: str, text: str) -> Any:
        too_long = loopback.Reply(413, {"error": {"message": "too long"}}, JSON)
        return too_long if text == "long" else completion(path, text)

    replies = ask(serve(real(answer)).url, api, "a", "long", "b")
    assert [reply.text for reply in replies] == ["a", None, "b"]
    assert "too long" in str(replies[1].refused)


@pytest.mark.parametrize("api", APIS)
def test_nothing_listens(api: str) -> None:
    with pytest.raises(InputError, match="nothing answers there"):
        ask("http://127.0.0.1:9", api, "q", retries=0)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    "body", [{"hello": 1}, b"<html>", {"choices": []}, {"content": 1, "choices": 1}, b'{"choices": ['], ids=str
)
def test_what_is_no_answer_of_the_api_ends_it(serve, api: str, body: Any) -> None:
    headers = JSON if body != b"<html>" else {"Content-Type": "text/html"}
    with pytest.raises(RunError, match="no answer"):
        ask(serve(real(lambda *_: loopback.Reply(200, body, headers))).url, api, "q", retries=0)


@pytest.mark.parametrize(("api", "stop"), [("openai", "length"), ("anthropic", "max_tokens")])
def test_an_answer_that_was_cut_is_not_finished(serve, api: str, stop: str) -> None:
    [reply] = ask(serve(real(lambda path, text: completion(path, "Verdict: win", stop=stop))).url, api, "q")
    assert (reply.text, reply.unfinished) == ("Verdict: win", CUT)


@pytest.mark.parametrize(
    ("api", "stop", "unfinished"),
    [
        ("openai", "eos_token", None),
        ("openai", "content_filter", "content_filter"),
        ("anthropic", "stop_sequence", None),
        ("anthropic", "refusal", "refusal"),
    ],
)
def test_what_else_servers_say_of_the_end(serve, api: str, stop: str, unfinished: str | None) -> None:
    [reply] = ask(serve(real(lambda path, text: completion(path, "Verdict: win", stop=stop))).url, api, "q")
    assert reply.unfinished == unfinished


def said(content: Any, usage: Any) -> loopback.Reply:
    """An OpenAI-compatible server's answer, however odd."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
    return loopback.Reply(200, {"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage}, JSON)


@pytest.mark.parametrize(
    ("content", "text"), [([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"), (None, "")], ids=str
)
def test_an_answer_in_parts_or_without_content_is_an_answer(serve, content: Any, text: str) -> None:
    usage = {"prompt_tokens": "many", "completion_tokens": 2, "total_tokens": True}
    [reply] = ask(serve(real(lambda *_: said(content, usage))).url, "openai", "q")
    assert reply == Reply(text, prompt_tokens=None, completion_tokens=2)


@pytest.mark.parametrize("content", [5, [5], [{"text": "a"}], {"text": "a"}], ids=str)
def test_content_that_is_no_text_ends_it_in_words(serve, content: Any) -> None:
    with pytest.raises(RunError, match="what came is no answer of this API"):
        ask(serve(real(lambda *_: said(content, None))).url, "openai", "q", retries=0)


@pytest.mark.parametrize("api", APIS)
def test_a_server_that_wants_payment_says_so_once(serve, api: str) -> None:
    server = serve(real(lambda path, text: loopback.Reply(402, {"error": {"message": "pay first"}}, JSON)))
    with pytest.raises(RunError, match=r"(?s)the server says 402: .*pay first.*same command again") as caught:
        ask(server.url, api, "q")
    assert "attempts" not in str(caught.value)


@pytest.mark.parametrize("api", APIS)
def test_a_server_that_is_in_trouble_from_the_first_is_no_judge(serve, api: str) -> None:
    server = serve(lambda *_: loopback.Reply(503, {"error": {"message": "busy"}}, AT_ONCE))
    with pytest.raises(RunError, match="no answer after 3 attempts"):
        ask(server.url, api, "q")


@pytest.mark.parametrize("busy", [False, True], ids=["at once", "after a 503"])
def test_fields_that_a_thinking_model_does_not_know_are_left_out(serve, busy: bool) -> None:
    def respond(method: str, path: str, body: Any) -> Any:
        if busy and len(server.requests) == 1:
            return loopback.Reply(503, {"error": {"message": "busy"}}, AT_ONCE)
        for name in ("temperature", "max_tokens"):
            if name in body:
                error = {"message": f"unsupported: {name}", "param": name, "type": "invalid_request_error"}
                return loopback.Reply(400, {"error": error}, JSON)
        return completion(path, f"{body['max_completion_tokens']}")

    server = serve(respond)
    assert [reply.text for reply in ask(server.url, "openai", "a", "b", args={"max_tokens": 7})] == ["7", "7"]
    assert len(server.requests) == 5 + busy  # two that tell, one that is taken, two questions


def test_what_was_not_taken_is_told(serve) -> None:
    def respond(method: str, path: str, body: Any) -> Any:
        error = {"message": "unsupported", "param": "temperature", "type": "invalid_request_error"}
        return loopback.Reply(400, {"error": error}, JSON) if "temperature" in body else completion(path, "OK")

    judge = open_judge(JudgeSpec("openai:m", base_url=serve(respond).url, retries=0))
    judge.check()
    assert judge.not_taken == ("temperature",)


def test_a_local_judge_throws_other_dice_for_every_question_and_the_same_for_the_same(random_policy: Path) -> None:
    """So hot that the dice alone decide: were they the same, all answers would be."""
    judge = open_judge(JudgeSpec(str(random_policy), args={"temperature": 1e6, "max_tokens": 8}, concurrency=3))
    replies: dict[int, Reply] = {}
    turns = ["a", "b", "c", "a"]
    judge.ask([[{"role": "user", "content": turn}] for turn in turns], replies.__setitem__)
    texts = [replies[number].text for number in range(4)]
    assert texts[0] == texts[3]
    assert len(set(texts)) == 3
    assert judge.settings["dtype"] == "float32"
    assert {"max_length", "template", "weights"} <= set(judge.settings)
    judge.close()


def test_as_many_questions_are_under_way_as_allowed_and_no_more(serve) -> None:
    together = threading.Barrier(3, timeout=600)

    def answer(path: str, text: str) -> Any:
        together.wait()
        return completion(path, text)

    server = serve(real(answer))
    assert [reply.text for reply in ask(server.url, "openai", *"abcdefghi", concurrency=3)] == [*"abcdefghi"]
    assert server.most_at_once == 3


def test_without_a_key_the_vendors_own_server_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, api in (("OPENAI_API_KEY", "openai"), ("ANTHROPIC_API_KEY", "anthropic")):
        monkeypatch.delenv(name)
        with pytest.raises(InputError, match=name):
            open_judge(JudgeSpec(f"{api}:m"))


def test_a_server_of_ones_own_needs_no_key(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    assert ask(serve(real(lambda path, text: completion(path, "yes"))).url, "openai", "q")[0].text == "yes"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (JudgeSpec("openai:m", base_url="http://user:word@127.0.0.1:1/v1"), "leave the password out"),
        (JudgeSpec("openai:m", base_url="127.0.0.1:1"), "not an address"),
        (JudgeSpec("openai:m", base_url="http://x/v1", args={"api_key": "k"}), "belongs into OPENAI_API_KEY"),
        (JudgeSpec("openai:m", base_url="http://x/v1", args={"max_tokens": 0}), "max_tokens"),
        (JudgeSpec("openai:m", base_url="http://x/v1", args={"temperature": "hot"}), "temperature"),
        (JudgeSpec("anthropic:m", base_url="http://x", args={"temperature": 1}), "takes none"),
        (JudgeSpec("no/such/folder/at-all"), "no such folder"),
        (JudgeSpec("gpt-x"), "say openai:gpt-x"),
        (JudgeSpec("openai:", base_url="http://x/v1"), "name the model"),
    ],
    ids=lambda value: None if isinstance(value, str) else value.model,
)
def test_what_cannot_be_is_refused_before_anything_is_asked(spec: JudgeSpec, words: str) -> None:
    with pytest.raises(InputError, match=words):
        open_judge(spec)
