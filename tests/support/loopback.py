"""A real HTTP server on loopback that does what a test tells it to, misbehaving included. The fixture is `serve`."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Reply:
    """What the server does with one request: status, body, headers, or worse."""

    def __init__(self, status=200, body=b"", headers=None, *, announce=None, close=False, drip=False):
        self.status = status
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.headers = headers or {}
        self.announce = len(self.body) if announce is None else announce  # the length it claims; -1: none
        self.close = close  # break the connection without a word
        self.drip = drip  # send headers byte by byte, up to a few thousand of them


class Server(ThreadingHTTPServer):
    """Answers with `answer(method, path, body)`; `requests` holds what came, `most_at_once` how many ran together."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.requests, self.headers_seen = answer, [], []
        self.lock, self.now, self.most_at_once = threading.Lock(), 0, 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        """A client that went away is part of the tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.respond("POST", json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def do_GET(self):
        self.respond("GET", None)

    def respond(self, method, body):
        server = self.server
        with server.lock:
            server.requests.append((method, self.path, body))
            server.headers_seen.append(dict(self.headers))
            server.now += 1
            server.most_at_once = max(server.most_at_once, server.now)
        try:
            self.send(server.answer(method, self.path, body))
        finally:
            with server.lock:
                server.now -= 1

    def send(self, reply):
        self.close_connection = True
        if reply.close:
            return
        if reply.drip:
            return self.send_by_drops()
        self.send_response(reply.status)
        if reply.announce >= 0:
            self.send_header("Content-Length", str(reply.announce))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(reply.body)

    def send_by_drops(self):
        """A client that waits for the end of these headers waits for half a minute, never long for a byte."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        for _ in range(3000):
            self.wfile.write(b"x")
            time.sleep(0.01)

    def log_message(self, *_):
        """Silence."""
