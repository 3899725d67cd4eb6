"""A stand-in for the hub on loopback that keeps what is committed to it. The fixture is `hub`."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

COMMIT = "c0ffee" * 6 + "c0ff"


@dataclass
class Repository:
    """A repository of a dataset or a model: its visibility and its files."""

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
    """The few routes that an upload by `datasets` or `huggingface_hub` needs."""

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
            listed = self.entries(repository, folder)
            return self.say(listed) if listed or not folder else self.say({}, 404, {"X-Error-Code": "EntryNotFound"})
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
            files = [
                {"path": n, "uploadMode": mode[n.endswith((".parquet", ".safetensors"))], "shouldIgnore": False}
                for n in names
            ]
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
        kind = "datasets/" if asked.get("type") == "dataset" else ""
        self.say({"url": f"{self.server.url}/{kind}{name}"}, status)

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
