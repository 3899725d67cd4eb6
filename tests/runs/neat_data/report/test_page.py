"""The report page: complete, self-contained, and dead to whatever a dataset's text tries."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from neat_data.analysis.stats import compute
from neat_data.errors import RunError
from neat_data.report.html import FOLD_CHARACTERS, POLICY
from neat_data.report.page import page, write_report
from tests.support.markup import Elements

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def attack(address: str) -> str:
    """Text that would run a script or fetch `address` if any of it reached the page unescaped."""
    return (
        f"</p></style></title><script>document.title='owned';fetch('{address}/s')</script><img src='{address}/i' "
        f"onerror=\"document.title='owned'\"><svg onload=\"document.title='owned'\">"
        f"<link rel=stylesheet href={address}/l>"
        f"<iframe src='{address}/f'></iframe>\" onmouseover='x' &lt;script&gt; \x1b[31m \u202e <!-- {{{{ x }}}}"
    )


@pytest.fixture
def hostile(record_of, made_dataset):
    """A dataset in which every free text is an attack, as a page."""

    def make(address: str) -> tuple[object, object]:
        text = attack(address)
        record = record_of(
            [text, "r", text, "r", text], {text: 1.0, "b": 2.0}, [(text, "b")], place=(text, text, text), origin=text
        )
        dataset = made_dataset([record], rejected=[text], model=text)
        return dataset, compute(dataset, by="source", where="turns > 0")

    return make


def test_nothing_of_a_hostile_dataset_becomes_markup(hostile):
    elements = Elements(page(*hostile("http://127.0.0.1:9")))
    names = {tag for tag, _ in elements.tags}
    assert not names & {"script", "img", "iframe", "link", "object", "form", "a"}
    attributes = [(name, value or "") for _, attrs in elements.tags for name, value in attrs.items()]
    assert not [name for name, _ in attributes if name.startswith("on")]
    assert not [value for name, value in attributes if "href" in name and not value.startswith("#")]
    assert not [value for name, value in attributes if name == "src"]
    assert "<script>document.title='owned'" in elements.text  # it is shown, as text
    assert r"\x1b[31m \u202e" in elements.text
    assert not set(elements.text) & {"\x1b", "\u202e"}


def test_the_page_may_load_nothing(hostile):
    metas = [attrs for tag, attrs in Elements(page(*hostile("http://127.0.0.1:9"))).tags if tag == "meta"]
    policy = next(attrs["content"] for attrs in metas if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy == POLICY
    assert policy.startswith("default-src 'none'")
    assert "script-src" not in policy


@pytest.fixture
def visited() -> Iterator[tuple[str, list[str]]]:
    """A server on loopback, its address and the paths that were asked of it."""
    paths: list[str] = []

    class Remember(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Remember) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", paths
        server.shutdown()


def dom(file: Path, profile: Path) -> str:
    """The document as headless Chromium sees it once it has loaded."""
    quiet = ["quic", "background-networking", "component-update", "sync", "gpu", "dev-shm-usage"]
    options = [f"--disable-{name}" for name in quiet]
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--no-first-run", *options, f"--user-data-dir={profile}"]
    done = subprocess.run([*command, "--dump-dom", file.as_uri()], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_browser_runs_and_fetches_nothing(hostile, visited, tmp_path):
    address, paths = visited
    bait = tmp_path / "bait.html"  # the same text unescaped, to see that the browser would take it
    bait.write_text(f"<title>bait</title><body>{attack(address + '/bait')}")
    assert "<title>owned</title>" in dom(bait, tmp_path / "profile")
    assert paths
    dataset, stats = hostile(f"{address}/page")
    write_report(dataset, stats, tmp_path / "page.html")
    seen = dom(tmp_path / "page.html", tmp_path / "profile")
    assert "<title>made: score gaps</title>" in seen
    assert not [path for path in paths if path.startswith("/page")]
    assert len([tag for tag, _ in Elements(seen).tags if tag == "svg"]) == 4


def test_the_page_shows_figures_tables_and_the_pairs_worth_reading(record_of, made_dataset):
    records = [record_of(f"question {i}", {"good": i - 2.0, "bad": 0.0}, [("good", "bad")]) for i in range(14)]
    dataset = made_dataset(records, rejected=["bad_unicode"])
    elements = Elements(page(dataset, compute(dataset)))
    for words in ("Widest gaps", "Narrowest gaps", "Most wrongly ordered", "rejected: bad_unicode", "Spearman"):
        assert words in elements.text
    assert "offensive, harmful" in elements.text
    assert "another scale" in elements.text
    assert elements.text.count("gap +11.00") == 1  # the widest, and not among the narrowest
    assert elements.text.count("gap -2.00") == 3  # the tenth widest, the fifth narrowest, the most wrongly ordered
    assert [tag for tag, _ in elements.tags].count("article") == 10 + 10 + 2
    assert [tag for tag, _ in elements.tags].count("svg") == 4


def test_long_dialogues_and_long_texts_are_folded_and_whole(record_of, made_dataset):
    long = " ".join(f"word{i}" for i in range(FOLD_CHARACTERS))
    turns = ["turn one", "turn two", "turn three", "turn four", "last turn"]
    dataset = made_dataset([record_of(turns, {long: 1.0, "b": 0.0}, [(long, "b")])])
    elements = Elements(page(dataset, compute(dataset)))
    summaries = [tag for tag, _ in elements.tags].count("summary")
    assert summaries == 2 * 2  # the dialogue and the response, among the widest and the narrowest
    assert "4 earlier turns" in elements.text
    for turn in turns:
        assert turn in elements.text
    for i in (0, FOLD_CHARACTERS // 2, FOLD_CHARACTERS - 1):
        assert f"word{i}" in elements.text


def test_the_same_dataset_gives_the_same_page_and_no_path(record_of, made_dataset, tmp_path):
    dataset = made_dataset([record_of("q", {"a": 1.0, "b": 0.0}, [("a", "b")])])
    content = page(dataset, compute(dataset))
    assert page(dataset, compute(dataset)) == content
    assert str(tmp_path) not in content


def test_a_dataset_of_nothing_has_a_page(made_dataset):
    dataset = made_dataset([])
    assert "0 records" in page(dataset, compute(dataset))


def test_examples_are_found_again_behind_a_where(record_of, made_dataset):
    records = [record_of(f"question {i}", {"a": float(i), "b": 0.0}, [("a", "b")]) for i in range(5)]
    dataset = made_dataset(records)
    text = Elements(page(dataset, compute(dataset, where="gap BETWEEN 2.5 AND 3.5"))).text
    assert "question 3" in text
    assert "question 4" not in text


def test_a_page_that_cannot_be_written_is_said(record_of, made_dataset, tmp_path):
    dataset = made_dataset([])
    with pytest.raises(RunError, match="cannot write the report"):
        write_report(dataset, compute(dataset), tmp_path)
