"""The pages to look with: what they answer, and that text stays text on each of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import neat_data
from neat_data.review.app import Review, application
from neat_data.review.guard import Guard
from neat_data.review.tasks import Tasks
from neat_data.store.dataset import PreferenceDataset
from tests.support.growing import add_round
from tests.support.markup import Elements
from tests.support.reviewing import HOSTILE

Open = Callable[[PreferenceDataset], TestClient]


def _browser(opened: PreferenceDataset) -> TestClient:
    guard = Guard(application(Review(Tasks.choose(opened, polarities=["all"]))), "127.0.0.1", 80, "secret")
    browser = TestClient(guard, base_url="http://127.0.0.1")
    browser.get("/", params={"token": "secret"}, follow_redirects=False)
    return browser


@pytest.fixture
def hostile(made_dataset: Any, record_of: Any) -> PreferenceDataset:
    """Scripts, markup and control characters wherever a dataset has text."""
    records = [
        record_of(
            [HOSTILE, HOSTILE, f"{n} {HOSTILE}"],
            {f"first {n} {HOSTILE}": 1.0, f"second {n} {HOSTILE}": float(n)},
            [(f"first {n} {HOSTILE}", f"second {n} {HOSTILE}")],
            place=(HOSTILE, HOSTILE, HOSTILE),
            meta=f'{{"a": {n}}}',
            model=HOSTILE,
        )
        for n in range(3)
    ]
    return made_dataset(records, rejected=[HOSTILE, "not_json", "not_json"], model=HOSTILE)


def _addresses(opened: PreferenceDataset) -> list[str]:
    query = next(opened.records()).query_id
    record = f"/record?id={query}"
    compared, markdown = f"{record}&first=1&second=2", f"{record}&shown=markdown"
    return ["/", "/records", "/records?text=first&sort=gap", record, compared, markdown, "/rejects"]


def test_text_of_a_dataset_stays_text_on_every_page(hostile: PreferenceDataset):
    browser = _browser(hostile)
    for address in _addresses(hostile):
        answer = browser.get(address)
        assert answer.status_code == 200, address
        found = Elements(answer.text)
        sources = [attributes.get("src") for name, attributes in found.tags if name in ("script", "img", "iframe")]
        assert sources == ["/static/look.js"], address
        events = [
            name for _, attributes in found.tags for name in attributes if name.startswith("on") or name == "style"
        ]
        assert events == [], address
        assert "\u202e" not in answer.text


def test_what_is_typed_comes_back_as_text(hostile: PreferenceDataset):
    answer = _browser(hostile).get("/records", params={"where": '"><script>alert(1)</script>', "text": HOSTILE})
    assert answer.status_code == 400
    assert "<script>alert" not in answer.text


def test_a_wrong_expression_is_told_beside_the_form_that_keeps_it(hostile: PreferenceDataset):
    answer = _browser(hostile).get("/records", params={"where": "gapp > 1"})
    assert answer.status_code == 400
    assert "there is no column &#39;gapp&#39;" in answer.text
    assert 'value="gapp &gt; 1"' in answer.text


def test_pages_of_a_list_go_on_where_the_one_before_ended(made_dataset: Any, record_of: Any):
    browser = _browser(made_dataset([record_of(f"q{n}", {"a": n}) for n in range(60)], shard=20))
    pages = [browser.get("/records", params={"sort": "reward_best", "page": page}).text for page in (1, 2, 3)]
    queries = [line for page in pages for line in page.split("\n") if 'class="preview"' in line]
    shown = [line.split(">q")[1].split("<")[0] for line in queries]
    assert shown == [str(n) for n in reversed(range(60))]
    assert "Next page" not in pages[-1]
    assert "ends before" in browser.get("/records", params={"page": 4}).text


def test_a_record_leads_to_its_neighbours_in_the_list(made_dataset: Any, record_of: Any):
    records = [record_of(f"q{n}", {"a": n}) for n in range(3)]
    ids = [record.query_id for record in records]
    answer = _browser(made_dataset(records)).get(f"/record?id={ids[1]}&sort=reward_best")
    links = {
        dict(attributes).get("id"): attributes["href"] for name, attributes in Elements(answer.text).tags if name == "a"
    }
    assert links["before"] == f"/record?id={ids[2]}&sort=reward_best"
    assert links["after"] == f"/record?id={ids[0]}&sort=reward_best"
    assert links["list"] == "/records?sort=reward_best"


def test_a_record_that_its_list_does_not_hold_is_shown_without_neighbours(made_dataset: Any, record_of: Any):
    records = [record_of(f"q{n}", {"a": n}) for n in range(3)]
    answer = _browser(made_dataset(records)).get(f"/record?id={records[0].query_id}&where=reward_best>1")
    assert answer.status_code == 200
    assert "Next record" not in answer.text


@pytest.mark.parametrize(
    "query", ["", "id=nobody", "id={}&first=1", "id={}&first=1&second=9", "id={}&first=x&second=1"]
)
def test_a_record_that_is_not_there_is_told(hostile: PreferenceDataset, query: str):
    identifier = next(hostile.records()).query_id
    answer = _browser(hostile).get(f"/record?{query.format(identifier)}")
    assert answer.status_code == 400
    assert "cannot be done" in answer.text


def test_a_thought_is_folded_away_from_its_answer(made_dataset: Any, record_of: Any):
    texts = {"<think>\nTwo and two.\n</think>\n\nFour.": 2.0, "<think>\nOn and on": 1.0, "Five.": 0.0}
    record = record_of("q", texts)
    page = _browser(made_dataset([record])).get(f"/record?id={record.query_id}").text
    first, second, third = page.split("<article")[1:]
    folded, shown = first.split("</details>")
    assert "Two and two." in folded
    assert "Four." not in folded
    assert "Four." in shown
    assert ", without an end</summary>" in second
    assert "<details" not in third


def test_rejects_are_counted_by_reason_and_shown_by_page(made_dataset: Any, record_of: Any):
    opened = made_dataset([record_of("q", {"a": 1.0})], rejected=["not_json"] * 30 + ["bad_unicode"])
    browser = _browser(opened)
    assert "31 source rows rejected" in browser.get("/rejects").text
    assert browser.get("/rejects", params={"page": 2}).text.count("<article") == 6
    assert browser.get("/rejects", params={"reason": "bad_unicode"}).text.count("<article") == 1


def test_a_round_that_comes_while_people_look_is_told_and_read_on_demand(made_dataset: Any, record_of: Any):
    opened = made_dataset([record_of("q", {"a": 1.0, "b": 0.0})])
    browser = _browser(opened)
    assert "has changed" not in browser.get("/records").text
    add_round(Path(opened.path), {"q": {"later": 9.0}})
    before = browser.get("/records").text
    assert "has changed" in before
    assert "2 responses" in before
    assert browser.post("/again", follow_redirects=False).headers["location"] == "/"
    after = browser.get("/records").text
    assert "has changed" not in after
    assert "3 responses" in after


def test_a_dataset_without_a_record_has_pages(made_dataset: Any):
    opened = made_dataset([])
    guard = Guard(application(Review(Tasks(opened, {}))), "127.0.0.1", 80, "secret")
    browser = TestClient(guard, base_url="http://127.0.0.1")
    browser.get("/", params={"token": "secret"}, follow_redirects=False)
    assert [browser.get(address).status_code for address in ("/", "/records", "/rejects", "/start")] == [200] * 4


def test_nobody_looks_without_the_cookie(hostile: PreferenceDataset):
    guard = Guard(application(Review(Tasks(hostile, {}))), "127.0.0.1", 80, "secret")
    stranger = TestClient(guard, base_url="http://127.0.0.1")
    for address in _addresses(hostile):
        assert stranger.get(address).status_code == 403
    assert stranger.post("/again").status_code == 403


def test_opening_needs_no_write(made_dataset: Any, record_of: Any):
    opened = made_dataset([record_of("q", {"a": 1.0})])
    before = sorted(path.name for path in Path(opened.path).rglob("*"))
    _browser(opened).get("/")
    assert sorted(path.name for path in Path(opened.path).rglob("*")) == before
    assert neat_data.open(opened.path).manifest == opened.manifest


def test_a_thought_is_folded_away_as_text_and_as_markdown(made_dataset: Any, record_of: Any):
    text = "<think>\n<b>Hm</b>\n</think>\n\nYes."
    opened = made_dataset([record_of("Why?", {text: 1.0, "<think>\nHm": 0.0}, [(text, "<think>\nHm")])])
    address = f"/record?id={next(opened.records()).query_id}"
    for page in (_browser(opened).get(address).text, _browser(opened).get(f"{address}&shown=markdown").text):
        assert page.count('<details class="thought"><summary>Thought of 9 characters</summary>') == 1
        assert page.count('<details class="thought"><summary>Thought of 2 characters, without an end</summary>') == 1
        assert "&lt;b&gt;Hm&lt;/b&gt;" in page
        assert "&lt;think&gt;" not in page
