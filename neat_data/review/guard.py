"""Who is let in, and what a browser may do with an answer: middleware around the whole application.

The printed address holds a token, new with every start. It is exchanged for a cookie that scripts cannot read and other
sites cannot send. A Host header that names neither this machine nor an address is refused, since a page elsewhere may
point a name of its own at loopback (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 2**21  # bytes: an edited response may be long
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Guard:
    """Middleware that lets in whoever has the token.

    Attributes:
        host: the name or address that the server was told to listen on.
        port: which it listens on; cookies do not tell ports apart, so their name does.
    """

    app: ASGIApp
    host: str
    port: int
    token: str = field(repr=False)
    _session: str = field(default_factory=secrets.token_urlsafe, repr=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = self._refused(scope) or self._entered(scope) or self._unknown(scope)
        await (answer or self.app)(scope, receive, _guarded(send))

    @property
    def cookie(self) -> str:
        return f"neat-review-{self.port}"

    def _refused(self, scope: Scope) -> Response | None:
        if is_own_host(Headers(scope=scope).get("host", ""), self.host):
            return None
        return PlainTextResponse("This server does not go by that name.\n", 421)

    def _entered(self, scope: Scope) -> Response | None:
        """The answer to the printed address: a cookie, and the same page without the token."""
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["method"] != "GET" or scope["path"] != "/" or not _same(given, self.token):
            return None
        answer = RedirectResponse("/", 303)
        answer.set_cookie(self.cookie, self._session, httponly=True, samesite="strict")
        return answer

    def _unknown(self, scope: Scope) -> Response | None:
        if _same(_cookie(scope, self.cookie), self._session):
            return None
        return PlainTextResponse("Open the address that `neat-data review` printed: it lets this browser in.\n", 403)


def is_own_host(header: str, host: str) -> bool:
    """Whether a Host header names this machine: an address, localhost, its own name or what `host` says.

    >>> is_own_host("127.0.0.1:80", "127.0.0.1"), is_own_host("evil.example:80", "127.0.0.1")
    (True, False)
    """
    name = header.rsplit(":", 1)[0] if not header.endswith("]") else header
    name = name.strip("[]").lower()
    if name in {"localhost", host.lower(), socket.gethostname().lower()}:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same(given: str, known: str) -> bool:
    return secrets.compare_digest(given.encode(), known.encode())


def _cookie(scope: Scope, name: str) -> str:
    jar = SimpleCookie()
    try:
        jar.load(Headers(scope=scope).get("cookie", ""))
    except CookieError:
        return ""
    return jar[name].value if name in jar else ""


def _guarded(send: Send) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return with_headers
