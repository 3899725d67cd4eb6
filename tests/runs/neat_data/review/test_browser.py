"""Judging in a real browser: by keyboard, over reloads and lost connections, by two people, whatever the text holds."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import neat_data
from neat_data.store.reviews import standing
from tests.support.reviewing import HOSTILE, Reviewer, reviewed, reviewing

PATIENCE = 300_000  # milliseconds for any step, on however slow a machine
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,  # a browser without a card draws every page on the CPU
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: `apt-get install chromium` brings it"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def _begin(browser: Any, server: Reviewer, rater: str, **context: Any) -> Any:
    page = browser.new_context(**context).new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(server.address)
    page.get_by_role("link", name="Judge").click()
    page.get_by_label("Your name").fill(rater)
    page.keyboard.press("Enter")
    page.wait_for_selector("article")
    return page


def _judged(page: Any, count: int) -> None:
    page.wait_for_selector(f"progress[value='{count}']")


def _press(page: Any, key: str, count: int) -> None:
    """Give the verdict that makes them `count` (two a record), and wait for the page to say that it is saved."""
    page.wait_for_selector(f"main[data-place='{(count - 1) // 2}'] article:focus")
    page.keyboard.press(key)
    _judged(page, count)


def test_twenty_responses_by_keyboard_with_undo_and_reload(browser: Any, tmp_path: Path):
    folder = reviewed(tmp_path / "data")
    with reviewing(folder) as server:
        page = _begin(browser, server, "ann")
        for count in range(1, 11):
            _press(page, "2" if count % 2 else "1", count)
        page.wait_for_selector("main[data-place='5'] article:focus")
        page.keyboard.press("u")
        page.wait_for_selector("main[data-place='4'] article:focus")
        page.reload()
        _judged(page, 9)
        for count in range(10, 21):
            _press(page, "3", count)
        page.get_by_role("heading", name="All judged").wait_for()
    (events,) = neat_data.open(folder).reviews.values()
    assert len(events) == 22
    assert len({event.event for event in events}) == 22
    verdicts = [event.verdict for event in standing(events).values()]
    assert {verdict: verdicts.count(verdict) for verdict in verdicts} == {"drop": 5, "keep": 4, "off_prompt": 11}


def test_two_raters_do_not_see_each_other(browser: Any, tmp_path: Path):
    folder = reviewed(tmp_path / "data", records=2)
    with reviewing(folder) as server:
        ann, bob = _begin(browser, server, "ann"), _begin(browser, server, "bob")
        _press(ann, "1", 1)
        _press(bob, "2", 1)
    events_of = neat_data.open(folder).reviews
    assert {rater: [event.verdict for event in events] for rater, events in events_of.items()} == {
        "ann": ["keep"],
        "bob": ["drop"],
    }


def test_hostile_text_is_shown_and_does_nothing(browser: Any, tmp_path: Path):
    with reviewing(reviewed(tmp_path / "data", records=1, text=HOSTILE)) as server:
        page = _begin(browser, server, "ann")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("dialog", lambda dialog: asked.append("a dialog"))
        page.reload()
        page.wait_for_selector("article:focus")
        assert page.title() == "0 of 2 judged"
        assert '<script>document.title="owned"</script>' in page.locator("article .text").first.inner_text()
        assert page.locator("article img, article script").count() == 0
        assert {urlsplit(url).netloc for url in asked} == {urlsplit(server.root).netloc}


def test_a_lost_connection_is_shown_and_the_verdict_sent_again_once(browser: Any, tmp_path: Path):
    folder = reviewed(tmp_path / "data", records=2)
    with reviewing(folder) as server:
        page = _begin(browser, server, "ann")
        page.route("**/verdict", lambda route: (route.fetch(), route.abort()))  # it arrives, and the answer is lost
        page.wait_for_selector("article:focus")
        page.keyboard.press("2")
        page.get_by_text("Not saved yet").wait_for()
        page.unroute("**/verdict")
        _judged(page, 1)
        server.process.send_signal(signal.SIGKILL)
    (event,) = neat_data.open(folder).reviews["ann"]
    assert event.verdict == "drop"


def test_texts_are_blurred_until_a_key_lifts_it_and_help_tells_the_keys(browser: Any, tmp_path: Path):
    with reviewing(reviewed(tmp_path / "data", records=1)) as server:
        page = _begin(browser, server, "ann", bypass_csp=True)  # evaluate is an eval
        blur = "getComputedStyle(document.querySelector('article .text')).filter"
        assert re.match(r"blur\(", page.evaluate(blur))
        page.keyboard.press("b")
        assert page.evaluate(blur) == "none"
        page.keyboard.press("?")
        page.get_by_role("heading", name="Keys").wait_for()
        page.keyboard.press("1")  # keys rest while the dialog is open
        page.keyboard.press("Escape")
        _judged(page, 0)


def test_a_grade_and_a_note_go_with_the_verdict(browser: Any, tmp_path: Path):
    folder = reviewed(tmp_path / "data", records=1)
    with reviewing(folder) as server:
        page = _begin(browser, server, "ann")
        card = page.locator("article").first
        card.get_by_text("Grade and note").click()
        card.get_by_label("2", exact=True).check()
        card.get_by_label("Note").fill("1 u b")  # no keys of the page while one writes
        card.get_by_role("button", name="Keep").click()
        _judged(page, 1)
    (event,) = neat_data.open(folder).reviews["ann"]
    assert (event.verdict, event.scale, event.note) == ("keep", 2, "1 u b")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("mode", ["verdicts", "pairs", "edits"])
def test_the_pages_are_accessible_and_fit_the_width(browser: Any, tmp_path: Path, mode: str, scheme: Any, width: int):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python")
    text = "word " * (1 if width == 1280 else 40)
    folder, labels = reviewed(tmp_path / "data", records=2, text=text), tmp_path / "labels.yaml"
    labels.write_text("advice: Be strict.\nlabels: [rude, made up]")
    with reviewing(folder, "--mode", mode, "--labels", str(labels)) as server:
        context = browser.new_context(
            color_scheme=scheme, viewport={"width": width, "height": 800}, bypass_csp=True, reduced_motion="reduce"
        )
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(server.address)
        page.get_by_role("link", name="Judge").click()
        for ready in ("form", "article:focus"):
            page.wait_for_selector(ready)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            audit = axe.Axe().run(page)
            assert audit.violations_count == 0, audit.generate_report()
            if ready == "form":
                page.get_by_label("Your name").fill("ann")
                page.keyboard.press("Enter")
                page.wait_for_selector("article:focus")
                head, answers = page.locator("article h2").first, page.locator("article .answers").first
                assert answers.bounding_box()["y"] > head.bounding_box()["y"]  # a short answer too stands below it
                page.keyboard.press("b")
                page.keyboard.press("2")
                _judged(page, 1)
        page.goto(f"{server.root}/report")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        audit = axe.Axe().run(page)
        assert audit.violations_count == 0, audit.generate_report()


def test_which_of_two_is_worse_by_keyboard(browser: Any, tmp_path: Path):
    folder = reviewed(tmp_path / "data", records=1)
    with reviewing(folder, "--mode", "pairs") as server:
        page = _begin(browser, server, "ann")
        pairs = page.locator("article").count()
        second = page.locator("article .answer").nth(1).get_attribute("data-id")
        page.keyboard.press("2")
        _judged(page, 1)
        for count in range(2, pairs + 1):
            page.wait_for_selector("article:focus")
            page.keyboard.press("3")
            _judged(page, count)
        page.get_by_role("heading", name="All judged").wait_for()
    events = neat_data.open(folder).reviews["ann"]
    assert [event.verdict for event in events] == ["worse", *["same"] * (pairs - 1)]
    assert events[0].response_id == second


def test_a_response_is_rewritten_and_labelled_by_keyboard(browser: Any, tmp_path: Path):
    folder, labels = reviewed(tmp_path / "data", records=1), tmp_path / "labels.yaml"
    labels.write_text("labels: [rude, made up]")
    with reviewing(folder, "--mode", "edits", "--labels", str(labels)) as server:
        page = _begin(browser, server, "ann")
        page.wait_for_selector("article:focus")
        page.keyboard.press("4")
        page.get_by_text("Nothing was changed.").wait_for()
        page.keyboard.press("Escape")
        page.keyboard.press("6")
        page.keyboard.press("e")
        page.keyboard.press("End")
        page.keyboard.type(" 12 u")  # letters, while one writes
        page.keyboard.press("Control+Enter")
        _judged(page, 1)
    (event,) = neat_data.open(folder).reviews["ann"]
    assert (event.verdict, event.labels) == ("edit", ("made up",))
    assert event.text is not None
    assert event.text.endswith(" 12 u")
