"""The pages and what they take: who is let in, what is refused, what is hidden, and that all text stays text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import neat_data
from neat_data.errors import InputError
from neat_data.review.app import Review, application
from neat_data.review.guard import MAX_BODY, Guard, is_own_host
from neat_data.review.serve import Address, serve
from neat_data.review.tasks import Tasks
from tests.support.reviewing import HOSTILE, reviewed

Client = Callable[..., TestClient]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return reviewed(tmp_path / "data", records=3)


@pytest.fixture
def client(folder: Path) -> Client:
    """`client(entered=False, show_rewards=True, path=…)`: a browser before the pages."""

    def make(*, entered: bool = True, path: Path = folder, **options: Any) -> TestClient:
        review = Review(Tasks.choose(neat_data.open(path)), **options)
        guard = Guard(application(review), "127.0.0.1", 80, "secret")
        browser = TestClient(guard, base_url="http://127.0.0.1", follow_redirects=False)
        if entered:
            browser.get("/", params={"token": "secret"})
        return browser

    return make


def _first(folder: Path, rater: str = "ann") -> str:
    tasks = Tasks.choose(neat_data.open(folder))
    query = tasks.order(rater)[0]
    return tasks.record(query, rater)[1][0]


def _event(folder: Path, **more: Any) -> dict[str, Any]:
    return {"rater": "ann", "event": "e1", "response_id": _first(folder), "verdict": "drop", **more}


def test_the_printed_address_lets_a_browser_in_by_a_cookie_that_scripts_cannot_read(client: Client):
    browser = client(entered=False)
    assert browser.get("/").status_code == 403
    assert browser.get("/", params={"token": "wrong"}).status_code == 403
    assert browser.get("/static/review.css").status_code == 403
    entered = browser.get("/", params={"token": "secret"})
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "secret" not in cookie
    assert browser.get("/").status_code == 200


@pytest.mark.parametrize("cookie", ["", "neat-review-80=wrong", "neat-review-80=\u00e9", "=;;a=b", "x" * 5000])
def test_a_wrong_cookie_lets_nobody_in(client: Client, cookie: str):
    headers = {"cookie": cookie.encode("latin-1")}
    assert client(entered=False).get("/judge", params={"rater": "a"}, headers=headers).status_code == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::1].evil"])
def test_another_name_for_this_machine_is_refused(client: Client, host: str):
    assert client().get("/", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("header", ["localhost:8000", "127.0.0.1", "[::1]:80", "[::1]", "192.168.1.4:80", "Box:80"])
def test_addresses_and_own_names_are_taken(header: str):
    assert is_own_host(header, "box")


def test_every_answer_forbids_scripts_and_requests_from_elsewhere(client: Client):
    for browser, path in ((client(), "/"), (client(), "/nowhere"), (client(entered=False), "/")):
        policy = browser.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


def test_no_file_but_the_pages_own_can_be_read(client: Client):
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/static/..%2f..%2fapi.py"):
        assert client().get(path).status_code == 404


def test_the_start_warns_and_does_not_tell_where_the_dataset_lies(client: Client, folder: Path):
    page = client().get("/start").text
    assert "data · 6 responses to judge" in page
    assert "distressing" in page
    assert str(folder.parent) not in page


def test_text_of_a_dataset_stays_text(client: Client, tmp_path: Path):
    hostile = reviewed(tmp_path / "hostile", records=1, text=HOSTILE)
    page = client(path=hostile).get("/judge", params={"rater": "ann"}).text
    assert "<script>document" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page
    assert "{{ 7 * 7 }} \\u202egnp\\x07 &amp;amp; **b**" in page


def test_rewards_and_origins_are_hidden_until_judged(client: Client, folder: Path):
    browser = client()
    before = browser.get("/judge", params={"rater": "ann"}).text
    assert "reward" not in before
    assert "negative" not in before
    answer = browser.post("/verdict", json=_event(folder)).json()
    assert "negative prompt" in answer["facts"][_first(folder)]
    page = browser.get("/judge", params={"rater": "ann", "at": 0}).text
    assert page.count("negative prompt") == 1
    assert client(show_rewards=True).get("/judge", params={"rater": "bob"}).text.count("negative prompt") == 2


def test_a_verdict_is_in_the_file_when_it_is_answered_and_leaves_the_response_out(client: Client, folder: Path):
    answer = client().post("/verdict", json=_event(folder, scale=2, note="rude")).json()
    assert (answer["saved"], answer["done"]) == ("e1", 1)
    opened = neat_data.open(folder)
    (event,) = opened.reviews["ann"]
    assert (event.verdict, event.scale, event.note) == ("drop", 2, "rude")
    assert opened.dropped == {event.response_id}
    assert event.response_id not in opened.scan().collect()["response_id"]


def test_a_verdict_that_is_sent_twice_counts_once(client: Client, folder: Path):
    browser = client()
    answers = [browser.post("/verdict", json=_event(folder)).json() for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(neat_data.open(folder).reviews["ann"]) == 1


def test_undo_is_another_event(client: Client, folder: Path):
    browser = client()
    last = browser.post("/verdict", json=_event(folder)).json()["last"]
    assert last["place"] == 0
    undo = {"rater": "ann", "event": "e2", "response_id": last["response_id"], "undoes": last["event"]}
    assert browser.post("/verdict", json=undo).json()["last"] is None
    opened = neat_data.open(folder)
    assert len(opened.reviews["ann"]) == 2
    assert opened.dropped == frozenset()


@pytest.mark.parametrize(
    "wrong",
    [
        {"response_id": "0" * 16},
        {"response_id": 3},
        {"verdict": "burn"},
        {"verdict": None},
        {"verdict": ["drop"]},
        {"scale": 6},
        {"scale": True},
        {"scale": "3"},
        {"event": ""},
        {"event": "x" * 65},
        {"note": "x" * 4001},
        {"note": 7},
        {"rater": "../ann"},
        {"rater": ""},
        {"undoes": "e9"},
    ],
)
def test_what_is_no_verdict_is_refused_and_written_nowhere(client: Client, folder: Path, wrong: dict[str, Any]):
    answer = client().post("/verdict", json=_event(folder, **wrong))
    assert answer.status_code == 400
    assert "\n" not in answer.json()["error"]
    assert neat_data.open(folder).reviews.get("ann", ()) == ()


def test_a_body_that_is_too_big_or_no_json_is_refused(client: Client):
    browser, kind = client(), {"content-type": "application/json"}
    assert browser.post("/verdict", content=b"x" * (MAX_BODY + 1), headers=kind).status_code == 413
    for content in (b"{", b"[]", b"\xff", b"[" * 60_000):
        assert browser.post("/verdict", content=content, headers=kind).status_code == 400
    assert browser.post("/verdict", content=b"{}", headers={"content-type": "text/plain"}).status_code == 415
    assert browser.get("/verdict").status_code == 405


def test_a_body_of_100_megabytes_is_refused_by_what_it_says_of_itself(client: Client):
    headers = {"content-type": "application/json", "content-length": str(100 * 2**20)}
    assert client().post("/verdict", content=b"{}", headers=headers).status_code == 413


def test_a_place_that_cannot_be_written_is_told_and_nothing_is_acknowledged(client: Client, folder: Path):
    event = _event(folder)
    (folder / "reviews").write_text("no folder")
    answer = client().post("/verdict", json=event)
    assert answer.status_code == 500
    assert "is not saved" in answer.json()["error"]
    assert "saved" not in answer.json()


def test_a_place_that_cannot_be_written_is_told_before_anybody_judges(client: Client, folder: Path):
    assert "Your name" in client().get("/start").text
    (folder / "reviews").write_text("no folder")
    start = client().get("/start").text
    assert "no verdict can be saved" in start
    assert "Your name" not in start


def test_the_report_is_a_page_and_says_when_there_is_none(client: Client, folder: Path):
    browser = client()
    assert browser.get("/report").status_code == 400
    browser.post("/verdict", json=_event(folder))
    page = browser.get("/report").text
    assert "Who judged" in page
    assert "ann" in page


def test_a_bad_name_or_place_is_told_on_a_page(client: Client):
    browser = client()
    for query in ({"rater": "../ann"}, {"rater": "ann", "at": "-1"}, {"rater": "ann", "at": "3"}):
        answer = browser.get("/judge", params=query)
        assert answer.status_code == 400
        assert "cannot be done" in answer.text


def test_who_gives_no_name_is_asked_for_it(client: Client):
    answer = client().get("/judge")
    assert (answer.status_code, answer.headers["location"]) == (303, "/start")


def test_each_rater_has_an_order_of_their_own_that_stays(tmp_path: Path):
    tasks = Tasks.choose(neat_data.open(reviewed(tmp_path / "many", records=30)))
    assert tasks.order("ann") == tasks.order("ann") != tasks.order("bob")
    assert sorted(tasks.order("ann")) == sorted(tasks.order("bob"))
    orders = {tuple(tasks.record(query, rater)[1]) for query in list(tasks.items)[:1] for rater in "abcdefgh"}
    assert len(orders) == 2


def test_what_is_judged_can_be_chosen(tmp_path: Path):
    opened = neat_data.open(reviewed(tmp_path / "many", records=30))
    assert len(Tasks.choose(opened).query_of) == 60
    assert len(Tasks.choose(opened, polarities=["none"]).query_of) == 30
    assert len(Tasks.choose(opened, polarities=["all"]).query_of) == 90
    assert len(Tasks.choose(opened, where="n_responses > 3 or query_id < '8'").query_of) % 2 == 0
    assert set(Tasks.choose(opened, sample=4).items) < set(Tasks.choose(opened, sample=9).items)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"polarities": ["positive"]}, "nothing to judge"),
        ({"polarities": ["bad"]}, "polarity 'bad'"),
        ({"where": "nothing > 1"}, "no column 'nothing'"),
        ({"where": "n_responses > 9"}, "nothing to judge"),
        ({"where": "gap > (SELECT a FROM read_csv('/etc/passwd'))"}, "has no place"),
    ],
)
def test_nothing_to_judge_is_told(folder: Path, options: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        Tasks.choose(neat_data.open(folder), **options)


def test_others_are_let_in_on_demand_only_and_a_port_in_use_is_told(folder: Path):
    review = Review(Tasks.choose(neat_data.open(folder)))
    with pytest.raises(InputError, match="say allow_remote"):
        serve(review, Address("0.0.0.0"), lambda _: None)
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InputError, match="cannot listen"):
        serve(review, Address("127.0.0.1", taken.getsockname()[1]), lambda _: None)


def test_a_thought_is_folded_away(tmp_path: Path, client: Client):
    folder = reviewed(tmp_path / "thinks", records=1, text="<think>\n<b>Hm</b>\n</think>\n\n")
    page = client(path=folder).get("/judge?rater=ann").text
    assert page.count('<details class="thought"><summary>Thought of 9 characters</summary>') == 2
    assert '<p class="text" dir="auto">&lt;b&gt;Hm&lt;/b&gt;</p></details>' in page
    assert '<p class="text" dir="auto">First answer to 0.</p>' in page
    assert "&lt;think&gt;" not in page
