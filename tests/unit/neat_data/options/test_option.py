"""Options as they are declared: their order, what they take, and how errors and helps name them."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ValidationError

from neat_data.errors import InputError
from neat_data.options.file import read_file
from neat_data.options.keywords import keywords
from neat_data.options.option import Argument, Option, checked, named, options_of


@dataclass(frozen=True, kw_only=True)
class Baking:
    heat: Annotated[int | None, Option("Degrees of {oven}.", min=50, max=300, unset="the oven's")] = None


@dataclass(frozen=True, kw_only=True)
class Cake(Baking):
    name: Annotated[str, Argument("What it is called.")] = field(kw_only=False)
    oven: Annotated[Literal["gas", "wood"], Option("What heats.")] = "gas"
    extras: Annotated[Mapping[str, Any] | None, Option("KEY=VALUE.", flag="--extra")] = None


@keywords(Cake)
def bake(options: Cake) -> Cake:
    """Bake.

    Raises:
        InputError: it cannot be.
    """
    return options


def test_own_options_stand_before_those_of_groups() -> None:
    name, oven, extras, heat = options_of(Cake)
    assert [name.flag, oven.flag, extras.flag, heat.flag] == ["NAME", "--oven", "--extra", "--heat"]
    assert (name.default, oven.default) == (MISSING, "gas")
    assert (oven.choices, heat.choices) == (("gas", "wood"), ())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heat": 49}, "heat 49: must be at least 50"),
        ({"heat": 301}, "heat 301: must be at most 300"),
        ({"oven": "sun"}, "oven 'sun': choose one of 'gas', 'wood'"),
    ],
)
def test_what_is_out_of_bounds_is_refused(options: dict[str, Any], message: str) -> None:
    for call in (bake, lambda name, **said: checked(Cake(name, **said))):
        with pytest.raises(InputError, match=f"^{message}$"):
            call("a", **options)


def test_a_function_of_keywords_says_what_was_declared() -> None:
    assert bake("a", heat=50) == Cake("a", heat=50)
    assert bake.__doc__ == (
        "Bake.\n\nArgs:\n    name: What it is called.\n    oven: What heats.\n    extras: KEY=VALUE.\n"
        "    heat: Degrees of `oven`. None: the oven's.\n\nRaises:\n    InputError: it cannot be."
    )
    with pytest.raises(TypeError, match="missing a required argument: 'name'"):
        bake()  # type: ignore[call-arg]


def test_a_field_of_pydantic_has_the_bounds_of_its_option() -> None:
    class Settings(BaseModel):
        heat: Annotated[int, Option("Degrees.", min=50, max=300)] = 180

    for heat in (49, 301):
        with pytest.raises(ValidationError):
            Settings(heat=heat)


def test_only_names_of_options_are_put_in_their_place() -> None:
    assert named("of {oven}, not {fire}", {"oven": "--oven"}) == "of --oven, not fire"


def test_numbers_of_a_file_are_read_as_in_yaml_1_2(tmp_path) -> None:
    (tmp_path / "a.yaml").write_text("rate: 5e-5\nstrategy: no\nfull: true\n")
    assert read_file(tmp_path / "a.yaml") == {"rate": 5e-5, "strategy": "no", "full": True}
    (tmp_path / "a.yaml").write_text("- a\n")
    with pytest.raises(InputError, match="holds no settings"):
        read_file(tmp_path / "a.yaml")
