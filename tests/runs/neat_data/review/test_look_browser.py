"""Looking through a dataset in a real browser: filter, sort, open, compare, by mouse and by keyboard."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.reviewing import HOSTILE, Reviewer, reviewing

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


@pytest.fixture
def folder(made_dataset: Any, record_of: Any) -> Path:
    """Thirty records, the gap of number n is n - 10; text that would like to be markup."""
    records = [
        record_of(
            [HOSTILE, "An answer.", f"Question {n}?"],
            {f"Good {n}. {HOSTILE}": n - 10.0, f"Bad {n}. **b** {HOSTILE}": 0.0},
            [(f"Good {n}. {HOSTILE}", f"Bad {n}. **b** {HOSTILE}")],
            meta=HOSTILE,
        )
        for n in range(30)
    ]
    return Path(made_dataset(records, shard=20, rejected=["not_json", HOSTILE]).path)


def _entered(browser: Any, server: Reviewer, **context: Any) -> Any:
    page = browser.new_context(**context).new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(server.address)
    page.get_by_role("heading", name="Records by gap").wait_for()
    return page


def test_filter_sort_search_and_open(browser: Any, folder: Path):
    with reviewing(folder) as server:
        page = _entered(browser, server)
        page.get_by_role("link", name="Records", exact=True).click()
        page.get_by_role("heading", name="30 records").wait_for()
        page.get_by_label("Where").fill("gap >= 0 AND gap < 15")
        page.get_by_label("Sorted by").select_option("gap")
        page.get_by_role("button", name="Show").click()
        page.get_by_role("heading", name="15 records").wait_for()
        assert page.locator("a.row").first.locator(".preview").inner_text() == "Question 24?"
        page.keyboard.press("/")
        page.keyboard.insert_text('"good 12."')
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="1 record", exact=True).wait_for()
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Response 1 of 2").wait_for()
        assert "Good 12." in page.locator("article .text").first.inner_text()
        shared = page.url
        other = browser.new_context(storage_state=page.context.storage_state()).new_page()
        other.goto(shared)  # a link sent to a colleague shows the same
        assert other.locator("article").count() == 2


def test_a_bar_and_a_cell_open_their_records(browser: Any, folder: Path):
    with reviewing(folder) as server:
        page = _entered(browser, server)
        bar = page.locator(".histogram a").last
        count = int(str(bar.get_attribute("aria-label")).split()[0])
        bar.locator(".hit").click()
        page.get_by_role("heading", name=f"{count} record").wait_for()
        page.go_back()
        cell = page.locator(".cells td a").last
        page_of_cell = cell.inner_text()
        cell.click()
        page.get_by_role("heading", name="records").wait_for()
        assert page.locator("a.row").count() <= int(page_of_cell)
        page.get_by_role("link", name="quarter 4").click()
        page.get_by_role("heading", name="30 records").wait_for()


def test_records_are_walked_and_shown_as_markdown_by_keyboard(browser: Any, folder: Path):
    with reviewing(folder) as server:
        page = _entered(browser, server)
        page.goto(f"{server.root}/records?sort=gap")
        page.locator("a.row").first.click()
        page.get_by_text("1 of 30").wait_for()
        page.keyboard.press("n")
        page.get_by_text("2 of 30").wait_for()
        assert page.locator("article strong").count() == 0
        page.keyboard.press("m")
        page.locator("article .markdown strong").first.wait_for()
        assert page.locator("article a, article img, article script").count() == 0
        page.keyboard.press("m")
        page.locator("article .text").first.wait_for()
        page.keyboard.press("l")
        page.get_by_role("heading", name="30 records").wait_for()


def test_two_responses_word_by_word(browser: Any, folder: Path):
    with reviewing(folder) as server:
        page = _entered(browser, server)
        page.goto(f"{server.root}/records?where=gap=5")
        page.locator("a.row").first.click()
        page.get_by_role("button", name="Word by word").click()
        compared = page.locator("#compared .text")
        compared.wait_for()
        assert compared.locator("del").first.inner_text().strip() == "Good"
        assert compared.locator("ins").first.inner_text().strip() == "Bad"


def test_hostile_text_is_shown_and_does_nothing(browser: Any, folder: Path):
    with reviewing(folder) as server:
        page = _entered(browser, server)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("dialog", lambda dialog: asked.append("a dialog"))
        page.goto(f"{server.root}/records")
        page.locator("a.row").first.click()
        page.get_by_role("heading", name="Response 1 of 2").wait_for()
        assert '<script>document.title="owned"</script>' in page.locator("article .text").first.inner_text()
        page.goto(f"{server.root}/rejects")
        page.get_by_role("heading", name="2 source rows").wait_for()
        assert page.title() == "Rejects"
        assert {urlsplit(url).netloc for url in asked} == {urlsplit(server.root).netloc}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_pages_are_accessible_and_fit_the_width(browser: Any, folder: Path, scheme: Any, width: int):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python")
    size = {"width": width, "height": 800}
    with reviewing(folder) as server:
        page = _entered(browser, server, color_scheme=scheme, viewport=size, bypass_csp=True, reduced_motion="reduce")
        page.goto(f"{server.root}/records?sort=gap")
        record = str(page.locator("a.row").first.get_attribute("href"))
        shown = ["/", "/records?polarity=none&quarter=1", "/records?where=gapp", record, f"{record}&first=1&second=2"]
        for address in (*shown, f"{record}&shown=markdown", "/rejects"):
            page.goto(server.root + address)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
            found = axe.Axe().run(page)
            assert found.violations_count == 0, (address, found.generate_report())
