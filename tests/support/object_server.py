"""A real S3 server on loopback, moto's, behind a proxy that a test tells to misbehave. The fixture is `bucket`."""

from __future__ import annotations

import http.client
import itertools
import logging
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest

ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
CONDITIONS = ("if-none-match", "if-match")
Fault = str | Callable[[], object] | None
"""What a proxy does with a request instead of passing it on and back, or what it calls before it passes it on."""
_numbers = itertools.count()


class Proxy(ThreadingHTTPServer):
    """Passes requests on to the server; `fault(method, name)` says what goes wrong, `requests` what came.

    `500`: an error in the place of the answer; `cut`: the connection ends before the request is passed on, `lost`:
    after it; `hang`: no answer comes; `expired`: the credentials have; `unconditional`: conditions are dropped.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, upstream: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Relay)
        self.upstream, self.ended = upstream, threading.Event()
        self.fault: Callable[[str, str], Fault] = lambda method, name: None
        self.requests: list[tuple[str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address) -> None:
        """A client that went away is part of the tests."""


class _Relay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def relay(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        name = re.sub(r"\?.*", "", self.path).partition("/")[2].partition("/")[2]
        self.server.requests.append((self.command, name))
        fault = self.server.fault(self.command, name)
        if callable(fault):
            fault()
        if fault == "hang":
            self.server.ended.wait()
        if fault in ("cut", "hang"):
            self.close_connection = True
            return
        if fault in ("500", "expired"):
            self.answer(500, "InternalError") if fault == "500" else self.answer(400, "ExpiredToken")
            return
        self.forward(body, dropped=CONDITIONS if fault == "unconditional" else (), lost=fault == "lost")

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = relay

    def forward(self, body: bytes, dropped: tuple[str, ...], lost: bool) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
        upstream = http.client.HTTPConnection(*self.server.upstream)
        upstream.request(self.command, self.path, body, headers)
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        if lost:
            self.close_connection = True
            return
        self.send_response(answer.status)
        passed = {"content-length": str(len(content))} | {name.lower(): value for name, value in answer.getheaders()}
        for name, value in passed.items():
            if name not in ("connection", "transfer-encoding", "server", "date"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def answer(self, status: int, code: str) -> None:
        content = f"<Error><Code>{code}</Code></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Silence."""


@dataclass
class Bucket:
    """A bucket of its own a test.

    Attributes:
        proxy: between it and every client.
        name: of the bucket.
    """

    proxy: Proxy
    name: str

    def url(self, below: str = "made") -> str:
        return f"s3://{self.name}/{below}"

    def files(self, below: str = "made") -> dict[str, bytes]:
        """Every object below a URL with its content, read behind the proxy's back."""
        client = boto3.client("s3", endpoint_url="http://{}:{}".format(*self.proxy.upstream))
        listed = client.list_objects_v2(Bucket=self.name, Prefix=f"{below}/").get("Contents", [])
        content = {each["Key"]: client.get_object(Bucket=self.name, Key=each["Key"])["Body"].read() for each in listed}
        return {key.removeprefix(f"{below}/"): content[key] for key in content}

    def asked(self, method: str, ending: str = "") -> list[str]:
        """Names that were asked for in this way."""
        return [name for how, name in self.proxy.requests if how == method and name.endswith(ending)]


@pytest.fixture(scope="session")
def s3_server() -> Iterator[tuple[str, int]]:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture
def bucket(s3_server: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket, and the environment that leads there."""
    proxy = Proxy(s3_server)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": proxy.url}.items():
        monkeypatch.setenv(name, value)
    made = Bucket(proxy, f"bucket-{next(_numbers)}")
    boto3.client("s3", endpoint_url="http://{}:{}".format(*s3_server)).create_bucket(Bucket=made.name)
    yield made
    proxy.ended.set()
    proxy.shutdown()
    proxy.server_close()
