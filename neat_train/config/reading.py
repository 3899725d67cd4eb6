"""Defaults of the method and the preset, a settings file, options and `--set a.b=c` -> `FitSettings`.

Later ones win over earlier ones. What is misspelt, of the wrong type or contradicts something else is an `InputError`
of one or two lines. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from neat_data.errors import InputError
from neat_data.options.file import meant, parse, read_file
from neat_train.config import trainer_arguments
from neat_train.config.contradictions import refuse_contradictions
from neat_train.config.objective import PRESETS, AnyPenalty, RankingSettings, Settings
from neat_train.config.ranking import KINDS, OwnLoss
from neat_train.config.settings import ALONE, METHODS, OWN, PRESET_SETTINGS, TRAINING, FitSettings

Tree = dict[str, Any]
_UNIONS = (["loss", "penalty"], ["loss", "ranking"])
_KINDS: Mapping[str, Sequence[type[Settings]]] = {"penalty": get_args(AnyPenalty), "ranking": (RankingSettings, *KINDS)}


def read_settings(
    file: Path | None = None,
    options: Mapping[str, Any] | None = None,
    sets: Iterable[str] = (),
    preset: str = "",
    own: OwnLoss | None = None,
) -> FitSettings:
    """The settings of a run.

    Args:
        file: YAML; settings by their names.
        options: what flags of the command line set, by dotted name.
        sets: `a.b=c`, values read as YAML.
        preset: `recommended` or `paper`; "" leaves it to the file, and then to the default.
        own: the user's loss, which the command line named; it is the method.

    Raises:
        InputError: what is wrong, where, and what to do.
    """
    said: Tree = read_file(file) if file else {}
    preset = preset or said.pop("preset", "recommended")
    said.pop("preset", None)
    if preset not in PRESETS:
        raise InputError(f"preset {preset!r}: unknown; choose {' or '.join(PRESETS)}")
    spoken = _spoken(options or {}, sets)
    serves_all = "method" not in said  # a file that names no method may set what only some of them use
    _lay(said, spoken)
    return resolve(said, preset, spoken if serves_all else said, own)


def resolve(
    said: Tree, preset: str = "recommended", for_method: Tree | None = None, own: OwnLoss | None = None
) -> FitSettings:
    """What was said, over the defaults of its method and of the preset.

    Args:
        for_method: the part of it that was said with the method in view; None: all.
        own: the user's loss, which is the method then.
    """
    method = OWN if own else said.get("method", "neat")
    if method not in METHODS and own is None:
        raise InputError(f"method {method!r}: unknown; choose {', '.join(METHODS)}.{meant(method, METHODS)}")
    said = _with_trainer_s_gathered(said)
    base: Tree = {"training": dict(TRAINING), "loss": PRESETS[preset].model_dump(mode="json")}
    _lay(base, PRESET_SETTINGS.get(preset, {}))
    _lay(base, METHODS[method] if own is None else {"loss": ALONE})
    _lay(base, said)
    if own is not None:
        _lay(base, {"method": OWN, "loss": {"ranking": own.model_dump(mode="json")}})
    try:
        settings = FitSettings.model_validate(base)
    except ValidationError as error:
        raise InputError(_explained(error)) from error
    refuse_contradictions(settings, said, for_method)
    return settings


def _spoken(options: Mapping[str, Any], sets: Iterable[str]) -> Tree:
    """Options and `--set` together, of which the last one counts; an option and a `--set` may not disagree."""
    pairs = dict(map(_pair, sets))
    tree: Tree = {}
    for name, value in {**options, **pairs}.items():
        if name in options and options[name] != value:
            raise InputError(f"contradicts {name}={value}; leave one out", field=name, value=options[name])
        _lay(tree, _nested(name, value))
    return tree


def _pair(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not all(name.split(".")):
        raise InputError("takes NAME=VALUE, say loss.beta=0.2", field="set", value=repr(text))
    try:
        return name, parse(value)
    except yaml.YAMLError as error:
        raise InputError(f"the value is no YAML ({' '.join(str(error).split())})", field="set", value=text) from error


def _nested(name: str, value: Any) -> Tree:
    for part in reversed(name.split(".")):
        value = {part: value}
    return value


def _lay(under: Tree, over: Mapping[str, Any]) -> None:
    """Put `over` onto `under`, mapping into mapping; one of another `kind` takes the place of the whole."""
    for key, value in over.items():
        old = under.get(key)
        if not isinstance(value, Mapping):
            under[key] = value
        elif not isinstance(old, dict) or value.get("kind", old.get("kind")) != old.get("kind"):
            under[key] = dict(value)
        else:
            under[key] = dict(old)
            _lay(under[key], value)


def _with_trainer_s_gathered(said: Tree) -> Tree:
    """The same with the names of TrainingArguments under `training`; each is checked here."""
    own = set(FitSettings.model_fields) - {"training"}
    if "training" in said:
        raise InputError("training: these settings stand at the top level, by their own names: max_steps: 4")
    gathered: Tree = {}
    for name in sorted(set(said) - own):
        if name not in trainer_arguments.kinds():
            raise InputError(f"{name}: there is no such setting.{meant(name, [*own, *trainer_arguments.kinds()])}")
        trainer_arguments.check(name, said[name])
        gathered[name] = said[name]
    kept = {name: value for name, value in said.items() if name in own}
    return {**kept, "training": gathered} if gathered else kept


def _explained(error: ValidationError) -> str:
    """pydantic's first complaint, by the setting's dotted name."""
    first = error.errors(include_url=False)[0]
    place = [str(part) for part in first["loc"]]
    kind = place.pop(2) if place[:2] in _UNIONS and len(place) > 3 else None  # pydantic says: loss.penalty.npo.target
    name = ".".join(part for part in place if not part.startswith(("constrained-", "literal[", "int", "str", "list[")))
    if first["type"] == "extra_forbidden":
        if kind is not None:
            return f"{name}: there is no such setting of {kind}.{_of_other_kinds(place[1], place[2])}"
        return f"{name}: there is no such setting.{meant(place[-1], _siblings(place))}"
    return f"{name}: {first['msg'][0].lower()}{first['msg'][1:]}, not {first['input']!r}"


def _of_other_kinds(union: str, name: str) -> str:
    """Which kinds have a setting of this name, or nearly."""
    kinds: dict[str, type[Settings]] = {kind.model_fields["kind"].default: kind for kind in _KINDS[union]}
    if having := [kind for kind, settings in kinds.items() if name in settings.model_fields]:
        return f" It is one of {', '.join(having)}."
    return meant(name, {field for settings in kinds.values() for field in settings.model_fields})


def _siblings(place: list[str]) -> list[str]:
    """The settings that stand beside the last part of a place."""
    fields: Any = FitSettings(training={}).model_dump()
    for part in place[:-1]:
        fields = fields.get(part, {})
    return [name for name in fields if name != place[-1]]
