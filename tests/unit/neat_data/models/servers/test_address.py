"""Addresses of servers: which are taken, and what of them people see."""

from __future__ import annotations

import pytest

from neat_data.errors import InputError
from neat_data.models.servers.address import checked, shown, with_path


def test_secrets_of_an_address_are_not_shown() -> None:
    assert shown("https://me:sesame@h:1/v1?key=k#f") == "https://h:1/v1"
    assert with_path("https://h/v1/?key=k", "/models") == "https://h/v1/models?key=k"
    for url in ("http://me:sesame@h:1/", "http://me@h/?key=sesame"):
        with pytest.raises(InputError, match="put the key in SOME_KEY") as raised:
            checked(url, "SOME_KEY")
        assert "sesame" not in str(raised.value)
    for url in (
        "h:1?key=sesame",
        "ftp://h?key=sesame",
        "http://?key=sesame",
        "http://h:port?key=sesame",
        "http://[?key=sesame",
    ):
        with pytest.raises(InputError, match="not an address") as raised:
            checked(url, "SOME_KEY")
        assert "sesame" not in str(raised.value)
