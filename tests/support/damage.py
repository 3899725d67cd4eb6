"""Files that once were good JSON: one value replaced or removed, or bytes that are no JSON of any use."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

_PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.floats(),
    st.text(max_size=8),
    st.just("\ud800"),
    st.just("9" * 5000),
)
_VALUES = st.recursive(
    _PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_BYTES = st.sampled_from(
    [b"", b"\xff\xfe", b"[" * 200_000, b'{"a":' * 200_000, b"null", b"[]", b"0", b'"x"', b"{}", b"{\n", b"\x00" * 9]
) | st.binary(max_size=20)
_GONE = object()


def damaged(good: Any) -> st.SearchStrategy[bytes]:
    """The bytes of a file that held `good`."""
    paths = list(_paths(good))
    values = st.just(_GONE) | _VALUES
    return _BYTES | st.builds(_replaced, st.just(good), st.sampled_from(paths), values)


def _paths(value: Any, above: tuple[Any, ...] = ()) -> Any:
    yield above
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        yield from _paths(below, (*above, key))


def _replaced(good: Any, path: tuple[Any, ...], value: Any) -> bytes:
    if not path:
        return json.dumps({} if value is _GONE else value).encode()
    made = copy.deepcopy(good)
    place = made
    for key in path[:-1]:
        place = place[key]
    if value is _GONE:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(made).encode()
