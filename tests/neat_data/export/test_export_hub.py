"""Uploading, against a stand-in hub on loopback that keeps what is committed to it."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import polars as pl
import pytest
from huggingface_hub import DatasetCard

from neat_data.record import Response, response_id

COMMIT = "c0ffee" * 6 + "c0ff"


@dataclass
class Repository:
    """A dataset repository: its visibility and its files."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)


class Hub(ThreadingHTTPServer):
    """Repositories by id, and large files by their sha256."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.repositories: dict[str, Repository] = {}
        self.stored: dict[str, bytes] = {}
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Answers(BaseHTTPRequestHandler):
    """The few routes that an upload by `datasets` needs."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].replace("%2F", "/")
        if path == "/api/whoami-v2":
            known = self.headers.get("Authorization") == "Bearer secret"
            return self.say({"name": "me", "type": "user", "orgs": []}) if known else self.say({}, 401)
        kind, repository, rest = self.split(path)
        if repository is None:
            return self.say({}, 404, {"X-Error-Code": "RepoNotFound"})
        if kind == "files":
            return self.file(repository, rest.partition("/")[2].partition("/")[2])
        if rest.startswith("tree/"):
            folder = rest.split("/", 2)[2] if rest.count("/") > 1 else ""
            found = self.entries(repository, folder)
            return self.say(found) if found or not folder else self.say({}, 404, {"X-Error-Code": "EntryNotFound"})
        siblings = [{"rfilename": name} for name in repository.files]
        return self.say({"id": self.name, "sha": COMMIT, "private": repository.private, "siblings": siblings})

    def do_POST(self) -> None:
        path = self.path.partition("?")[0].replace("%2F", "/")
        length = self.headers.get("Content-Length")
        body = self.chunks() if length is None else self.rfile.read(int(length))
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path == "/api/validate-yaml":
            return self.say({"errors": [], "warnings": []})
        if path.endswith("/info/lfs/objects/batch"):
            return self.batch(json.loads(body)["objects"])
        _, repository, rest = self.split(path)
        assert repository is not None
        if rest.startswith("preupload/"):
            names = [file["path"] for file in json.loads(body)["files"]]
            mode = {True: "lfs", False: "regular"}
            files = [{"path": n, "uploadMode": mode[n.endswith(".parquet")], "shouldIgnore": False} for n in names]
            return self.say({"files": files})
        if rest.startswith("paths-info/"):
            wanted = parse_qs(body.decode())["paths"]
            return self.say([entry for entry in self.entries(repository, "") if entry["path"] in wanted])
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                repository.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "lfsFile":
                repository.files[line["value"]["path"]] = self.server.stored[line["value"]["oid"]]
        return self.say({"commitUrl": f"{self.server.url}/datasets/{self.name}/commit/{COMMIT}", "commitOid": COMMIT})

    def do_PUT(self) -> None:
        self.server.stored[self.path.rpartition("/")[2]] = self.rfile.read(int(self.headers["Content-Length"]))
        self.say({})

    def batch(self, objects: list[dict[str, Any]]) -> None:
        """Where large files are put."""
        places = [{**o, "actions": {"upload": {"href": f"{self.server.url}/stored/{o['oid']}"}}} for o in objects]
        self.say({"objects": places})

    def create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        status = 409 if name in self.server.repositories else 200
        self.server.repositories.setdefault(name, Repository(asked.get("visibility") == "private"))
        self.say({"url": f"{self.server.url}/datasets/{name}"}, status)

    def split(self, path: str) -> tuple[str, Repository | None, str]:
        """(api or files, repository, what follows its id)."""
        parts = path.strip("/").split("/")
        kind = "api" if parts[0] == "api" else "files"
        start = 2 if kind == "api" else 1
        self.name = "/".join(parts[start : start + 2])
        return kind, self.server.repositories.get(self.name), "/".join(parts[start + 2 :])

    def entries(self, repository: Repository, folder: str) -> list[dict[str, Any]]:
        return [
            {"type": "file", "path": path, "size": len(content), "oid": "0" * 40}
            for path, content in repository.files.items()
            if path.startswith(folder)
        ]

    def file(self, repository: Repository, name: str) -> None:
        if name not in repository.files:
            return self.say({}, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        etag = f'"{hash(repository.files[name]):x}"'
        self.say(repository.files[name], headers={"ETag": etag, "X-Repo-Commit": COMMIT})

    def say(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def dataset(record_of, made_dataset):
    """Two records; the first has a response that was sampled under a negative prompt."""
    first = record_of("one", {"a": 2.0, "b": 1.0}, [("a", "b")])
    bad = Response(response_id(first.query_id, "vile"), "vile", -3.0, origin="sampled", polarity="negative")
    return made_dataset(
        [replace(first, responses=(*first.responses, bad)), record_of("two", {"a": 1.0, "b": 0.0}, [("a", "b")])]
    )


@pytest.fixture
def upload(hub: Hub, dataset: Any, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command line in a process of its own: the hub's libraries read their settings when imported."""

    def run(repository: str, *options: str, token: str | None = "secret") -> subprocess.CompletedProcess[str]:
        command = ["export", dataset.path, "--to", "hf", "--out", str(tmp_path / "copy"), "--overwrite"]
        settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | settings
        return subprocess.run(
            [sys.executable, "-m", "neat_data", *command, "--push-to-hub", repository, "--json", *options],
            capture_output=True,
            text=True,
            env=environment | ({"HF_TOKEN": token} if token else {}),
            check=False,
        )

    return run


def texts(repository: Repository) -> list[str]:
    """Every response in the uploaded Parquet files."""
    data = [content for name, content in repository.files.items() if name.endswith(".parquet")]
    rows = pl.concat(pl.read_parquet(io.BytesIO(content)) for content in data)
    return [response["text"] for responses in rows["responses"] for response in responses]


def test_a_new_repository_is_private_and_holds_no_negative_text(hub, upload):
    done = upload("me/pairs", "--license", "mit")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["rows"], told["responses_left_out"], told["negative_responses"]) == (2, 1, 0)
    assert told["url"] == f"{hub.url}/datasets/me/pairs"
    repository = hub.repositories["me/pairs"]
    assert repository.private
    assert texts(repository) == ["a", "b", "a", "b"]
    assert not any(b"vile" in content for content in repository.files.values())
    card = DatasetCard(repository.files["README.md"].decode())
    assert (card.data.license, card.data.size_categories) == ("mit", ["n<1K"])
    assert card.data.configs[0]["data_files"] == [{"split": "train", "path": "data/train-*"}]
    assert "1 responses were left out" in card.text


def test_negative_text_goes_along_where_it_is_said(hub, upload):
    done = upload("me/pairs", "--include-negative")
    assert done.returncode == 0, done.stderr
    assert "vile" in texts(hub.repositories["me/pairs"])
    assert "asks for bad answers on purpose" in hub.repositories["me/pairs"].files["README.md"].decode()


def test_a_public_repository_is_made_only_where_it_is_said(hub, upload):
    assert upload("pairs", "--public").returncode == 0
    assert not hub.repositories["me/pairs"].private  # a bare name is one's own
    again = upload("me/pairs")
    assert again.returncode == 2
    assert "me/pairs: exists on the hub and is public. Say --public" in again.stderr
    hub.repositories["me/pairs"].private = True
    again = upload("me/pairs", "--public")
    assert again.returncode == 2
    assert "me/pairs: exists on the hub and is private. Leave out --public" in again.stderr


def test_what_others_wrote_in_the_readme_stays(hub, upload):
    mine = b"---\nlicense: cc0-1.0\nmine: kept\n---\n# My own words\n"
    hub.repositories["me/pairs"] = Repository(private=True, files={"README.md": mine})
    assert upload("me/pairs").returncode == 0
    card = DatasetCard(hub.repositories["me/pairs"].files["README.md"].decode())
    assert (card.data.license, card.data.mine) == ("cc0-1.0", "kept")
    assert "# My own words" in card.text
    assert "# Preference dataset with rewards" in card.text


@pytest.mark.parametrize(
    ("repository", "token", "words"),
    [
        ("me/pairs", None, "hf auth login"),
        ("me/pairs", "wrong", "the hub refuses"),
        ("a/b/c", "secret", "--push-to-hub a/b/c: Repo id must be"),
    ],
)
def test_what_cannot_be_uploaded_is_said_before_any_work(hub, upload, tmp_path, repository, token, words):
    done = upload(repository, token=token)
    assert (done.returncode, hub.repositories) == (2, {})
    assert words in done.stderr
    assert not (tmp_path / "copy").exists()
