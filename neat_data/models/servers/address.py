"""The address of a server: checked when it is given, and shown without the secrets that it may carry."""

from __future__ import annotations

from urllib.parse import urlsplit

from neat_data.errors import InputError


def shown(url: str) -> str:
    """An address for people: without user, query and fragment, where keys are.

    >>> shown("https://me:secret@host:8000/v1?key=secret#there")
    'https://host:8000/v1'
    """
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def checked(url: str, key_name: str) -> str:
    """An address without a slash at its end.

    Raises:
        InputError: it carries a password, which `key_name` is for, or is no address.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InputError(f"{shown_or_nothing(url)}: not an address ({error})") from error
    if parts.username is not None or parts.password is not None:
        raise InputError(f"{parts.hostname}: leave the password out of the address and put the key in {key_name}")
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise InputError(f"{shown_or_nothing(url)}: not an address of the form http://HOST:PORT/…")
    return url.rstrip("/")


def shown_or_nothing(url: str) -> str:
    """`shown`, also of what is no address."""
    try:
        return shown(url)
    except ValueError:
        return "the URL"


def with_path(url: str, path: str) -> str:
    """`path` behind that of an address, in front of its query.

    >>> with_path("http://host/v1?key=secret", "/models")
    'http://host/v1/models?key=secret'
    """
    if not path:
        return url
    parts = urlsplit(url)
    return parts._replace(path=parts.path.rstrip("/") + path).geturl()
