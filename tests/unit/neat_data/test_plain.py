"""Results as JSON and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from neat_data.plain import WHERE_KNOWN, Plain


@dataclass(frozen=True, slots=True)
class Inner(Plain):
    value: float
    low: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer(Plain):
    name: str
    known: Inner | None = field(default=None, metadata=WHERE_KNOWN)
    by_name: Mapping[str, Inner]
    several: tuple[Inner, ...] = ()
    nothing: int | None = None


def test_a_result_is_its_json_and_back_in_the_order_of_its_fields() -> None:
    result = Outer(name="a", by_name={"x": Inner(1.0, 0.5)}, several=(Inner(2.0),))
    text = json.dumps(result.to_dict())
    assert text == (
        '{"name": "a", "by_name": {"x": {"value": 1.0, "low": 0.5}}, "several": [{"value": 2.0, "low": null}], '
        '"nothing": null}'
    )
    assert Outer.from_dict(json.loads(text)) == result
    known = Outer(name="a", known=Inner(3.0), by_name={})
    assert list(known.to_dict()) == ["name", "known", "by_name", "several", "nothing"]
    assert Outer.from_dict(known.to_dict()) == known


def test_what_a_later_version_added_is_passed_over() -> None:
    assert Inner.from_dict({"value": 1.0, "more": 2}) == Inner(1.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"name": "a"}, "by_name: field required"),
        ({"name": "a", "by_name": {"x": {}}}, "by_name.x.value: field required"),
        ({"name": "a", "by_name": {"x": {"value": "much"}}}, "by_name.x.value: input should be a valid number"),
        ([], ": input should be a dictionary or an instance of Outer"),
    ],
)
def test_what_is_no_such_result_is_told_by_its_place(content: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Outer.from_dict(content)  # type: ignore[arg-type]
