"""Hub datasets, against a stand-in server on loopback that speaks the few routes a download needs."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from neat_data.errors import InputError, RunError
from neat_data.replies import LARGEST
from neat_data.sources import Row, open_source
from neat_data.sources.files.hub import Repository, select

COMMIT = "c0ffee" * 6 + "c0ff"


def pair(number: int) -> str:
    query = f"\n\nHuman: Question {number}?\n\nAssistant:"
    return json.dumps({"chosen": f"{query} Good.", "rejected": f"{query} Bad."}) + "\n"


FILES = {
    "README.md": b"# A dataset\n",
    "helpful-base/train.jsonl.gz": gzip.compress("".join(map(pair, range(3))).encode(), mtime=0),
    "helpful-base/test.jsonl.gz": gzip.compress(pair(9).encode(), mtime=0),
    "harmless-base/train.jsonl.gz": gzip.compress("".join(map(pair, range(10, 12))).encode(), mtime=0),
    "notes/unmarked.jsonl": b'{"transcript": "not a pair"}\n',
}
REFUSALS: dict[str, tuple[int, dict[str, str]]] = {
    "someone/private": (401, {}),
    "someone/hidden": (401, {"X-Error-Code": "RepoNotFound"}),
    "someone/gated": (403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."}),
    "someone/forbidden": (403, {}),
    "someone/missing": (404, {"X-Error-Code": "RepoNotFound"}),
    "someone/busy": (429, {"Retry-After": "3600"}),
    "someone/broken": (500, {}),
}


BOMB = gzip.compress(bytes(LARGEST + 1), mtime=0)
OVER = threading.Event()  # the tests


class Hub(BaseHTTPRequestHandler):
    """`someone/pairs` is there; `someone/late` refuses once its files are asked for; others refuse at once."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        for name, refusal in REFUSALS.items():
            if path.startswith(f"/api/datasets/{name}"):
                return self.answer(*refusal)
        if path.startswith("/api/datasets/someone/bomb"):
            return self.answer(200, {"Content-Encoding": "gzip"}, BOMB)
        if path.startswith("/datasets/someone/swollen/"):
            more = {"Content-Encoding": "gzip"} if self.command == "GET" else {}
            return self.answer(200, {"ETag": '"0"', "X-Repo-Commit": COMMIT, **more}, BOMB)
        if path.startswith("/api/datasets/someone/dripping"):
            return self.drip()
        if path.startswith("/datasets/someone/late/"):
            return self.answer(429, {"Retry-After": "3600"})
        if path.startswith("/api/datasets/"):
            return self.answer_info(path)
        return self.answer_file(path)

    def answer_info(self, path: str) -> None:
        if "/revision/" in path and path.rpartition("/")[2] not in ("main", "v1", COMMIT):
            return self.answer(404, {"X-Error-Code": "RevisionNotFound"})
        siblings = [{"rfilename": name} for name in FILES]
        body = json.dumps({"id": "someone/pairs", "sha": COMMIT, "siblings": siblings}).encode()
        return self.answer(200, {"Content-Type": "application/json"}, body)

    def answer_file(self, path: str) -> None:
        body = FILES[path.removeprefix(f"/datasets/someone/pairs/resolve/{COMMIT}/")]
        etag = hashlib.sha256(body).hexdigest()
        self.answer(200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, body)

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def drip(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        with suppress(OSError):  # until nobody reads any more
            while not OVER.wait(0.01):
                self.wfile.write(b"a")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    OVER.set()
    server.shutdown()
    thread.join()


@pytest.fixture
def hub(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.chdir(tmp_path)
    return endpoint


def rows(*args: Any, **options: Any) -> list[Row]:
    made = list(open_source(*args, **options).rows())
    assert all(isinstance(row, Row) for row in made)
    return [row for row in made if isinstance(row, Row)]


def test_a_dataset_is_downloaded_and_every_row_knows_its_file(hub: str) -> None:
    places = [row.place for row in rows("someone/pairs")]
    assert [(p.name, p.subset, p.split, p.row) for p in places] == [
        ("someone/pairs", "harmless-base", "train", 0),
        ("someone/pairs", "harmless-base", "train", 1),
        ("someone/pairs", "helpful-base", "train", 0),
        ("someone/pairs", "helpful-base", "train", 1),
        ("someone/pairs", "helpful-base", "train", 2),
    ]


def test_subset_split_and_revision_are_honoured_and_the_commit_is_recorded(hub: str) -> None:
    source = open_source("someone/pairs@v1", subset="helpful-base", split="test")
    assert [row.messages[0].content for row in source.rows() if isinstance(row, Row)] == ["Question 9?"]
    assert source.fingerprint["revision"] == COMMIT
    digest = hashlib.sha256(FILES["helpful-base/test.jsonl.gz"]).hexdigest()
    assert source.fingerprint["files"] == {"helpful-base/test.jsonl.gz": digest}


def test_an_unknown_split_or_subset_lists_those_that_exist(hub: str) -> None:
    with pytest.raises(InputError, match="split test or train or all"):
        open_source("someone/pairs", split="validation")
    with pytest.raises(InputError, match="harmless-base, helpful-base"):
        open_source("someone/pairs", subset="online")


def test_a_local_path_wins_over_the_hub(hub: str, tmp_path: Path) -> None:
    folder = tmp_path / "someone" / "pairs"
    folder.mkdir(parents=True)
    (folder / "mine.jsonl").write_text(pair(77))
    assert [row.messages[0].content for row in rows("someone/pairs")] == ["Question 77?"]


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("someone/private", InputError, ["401", "HF_TOKEN"]),
        ("someone/hidden", InputError, ["401", "HF_TOKEN"]),
        ("someone/gated", InputError, ["gated", "hf auth login"]),
        ("someone/forbidden", InputError, ["403", "HF_TOKEN"]),
        ("someone/missing", InputError, ["404", "Check the name"]),
        ("someone/pairs@nowhere", InputError, ["no revision 'nowhere'", "branch, tag or commit"]),
        ("someone/busy", RunError, ["429", "Wait 3600 seconds"]),
        ("someone/late", RunError, ["429", "Wait 3600 seconds"]),
        ("someone/broken", RunError, ["500", "again later"]),
        ("not a name", InputError, ["no hub id"]),
    ],
)
def test_a_refusal_is_two_lines_with_what_to_do(hub: str, name: str, error: type, says: list[str]) -> None:
    with pytest.raises(error) as raised:
        open_source(name)
    message = str(raised.value)
    assert message.startswith(name.partition("@")[0])
    assert len(message.splitlines()) <= 2
    for words in says:
        assert words in message


@pytest.mark.parametrize("name", ["someone/bomb", "someone/swollen"])
def test_a_reply_of_the_hub_has_a_bound(hub: str, name: str) -> None:
    """What the hub says of a dataset, and a file that is larger than its head said, opened."""
    with pytest.raises(RunError, match=f"{name}: the reply is larger than {LARGEST:,} bytes"):
        open_source(name)


def test_headers_of_the_hub_that_drip_end_the_run(hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neat_data.sources.files.hub.HEAD_SECONDS", 0.2)
    with pytest.raises(RunError, match=r"someone/dripping: the hub's reply has not begun after 0\.2 seconds"):
        open_source("someone/dripping")


def test_being_offline_is_two_lines_with_what_to_do(hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RunError, match=r"cannot be reached[^\n]*\n[^\n]*path of a copy") as offline:
        open_source("someone/pairs")
    assert len(str(offline.value).splitlines()) == 2
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(RunError, match="cannot be reached"):
        open_source("someone/pairs")


def test_the_environment_variable_chooses_the_hub(endpoint: str, tmp_path: Path) -> None:
    program = "from neat_data.sources import open_source; print(len(list(open_source('someone/pairs').rows())))"
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.stdout.strip() == "5", done.stderr


def test_the_cards_configs_decide_where_there_are_any() -> None:
    names = ("data/train_prefs-00000-of-00001.parquet", "data/test_sft-00000-of-00001.parquet", "extra/all.jsonl")
    default = {
        "config_name": "default",
        "data_files": [
            {"split": "train_prefs", "path": "data/train_prefs-*"},
            {"split": "test_sft", "path": ["data/test_sft-*"]},
        ],
    }
    extra = {"config_name": "more", "data_files": "extra/*.jsonl"}
    repository = Repository("a/b", COMMIT, names, (default, extra))
    assert [(f.key, f.subset, f.split) for f in select(repository, None)] == [
        (names[0], None, "train_prefs"),
        (names[1], None, "test_sft"),
    ]
    assert [(f.key, f.subset, f.split) for f in select(repository, "more")] == [("extra/all.jsonl", "more", None)]
    two = Repository("a/b", COMMIT, names, ({"config_name": "en"}, {"config_name": "de"}))
    with pytest.raises(InputError, match="subset en or de"):
        select(two, None)


def test_a_repository_without_data_files_says_so() -> None:
    with pytest.raises(InputError, match="no data file"):
        select(Repository("a/b", COMMIT, ("loader.py", "README.md"), ()), None)
