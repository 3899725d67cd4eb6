"""Listening: a socket that is bound before anything is promised, and the server that answers on it until Ctrl-C."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass

import uvicorn

from neat_data.errors import InputError
from neat_data.review.app import Review, application
from neat_data.review.guard import Guard


@dataclass(frozen=True)
class Address:
    """Where to listen. `remote`: whether others than this machine may come; port 0: any free one."""

    host: str = "127.0.0.1"
    port: int = 0
    remote: bool = False


def serve(review: Review, place: Address, ready: Callable[[str], None]) -> None:
    """Answer until the process is told to end.

    Args:
        ready: is given the address to open, token included, once the server listens.

    Raises:
        InputError: the address is not of this machine, is in use, or is no loopback and `remote` was not said.
    """
    with _listening(place) as listener:
        port = listener.getsockname()[1]
        token = secrets.token_urlsafe()
        guard = Guard(application(review), place.host, port, token)
        settings = uvicorn.Config(
            guard, log_level="warning", access_log=False, server_header=False, lifespan="off", limit_concurrency=64
        )
        ready(f"http://{_in_url(place.host)}:{port}/?token={token}")
        uvicorn.Server(settings).run(sockets=[listener])


def _listening(place: Address) -> socket.socket:
    if not place.remote and not _is_loopback(place.host):
        raise InputError(
            "others could come in", field="host", value=place.host, advice="say {allow_remote} if they shall"
        )
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    try:
        return socket.create_server((place.host, place.port), family=family)
    except OSError as error:
        raise InputError(
            f"cannot listen there on port {place.port} ({error.strerror})", field="host", value=place.host
        ) from error


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _in_url(host: str) -> str:
    """A host as a browser takes it; what stands for every address is told as loopback."""
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1" if host == "0.0.0.0" else "[::1]"
    return f"[{host}]" if ":" in host else host
