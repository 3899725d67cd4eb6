"""The policy that a run began from, and the model that an adapter belongs to: found by the hashes that a run records.

A run's folder may come from anybody, so no path in it is followed. Where a folder lies is noted in the user's cache
when `fit` loads it; what is found there is held against the run's hashes. Names on the hub are followed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neat_data.errors import InputError
from neat_data.models import places
from neat_data.models.adapter import adapter_config
from neat_data.models.base_model import noted_base, noted_place, require_base
from neat_data.models.weights import ModelSource
from neat_data.store import recorded
from neat_data.store.documents import Settings
from neat_train.documents import PolicyContent
from neat_train.run_folder import SETTINGS, run_of

_NOTED_BY = ("weights", "revision", "adapter")


def remember(policy: Settings, place: str, base: ModelSource) -> None:
    """Note where a run's policy was loaded from, for `start_of`, and its base model, for `base_of`.

    Args:
        policy: what identifies the policy, as settings.json has it.
        place: as the user gave it.
        base: the model without an adapter.
    """
    places.note("policy", _key(policy), {"model": places.absolute(place)})
    remember_base(policy, base)


def remember_base(identity: Mapping[str, Any], base: ModelSource) -> None:
    """Note where a base model lies, by its weights; one of the hub needs no note."""
    if base.local and "weights" in identity:
        places.note("policy", {"weights": identity["weights"]}, {"model": places.absolute(base.path)})


def _key(policy: Mapping[str, Any]) -> Settings:
    return {name: policy[name] for name in _NOTED_BY if policy.get(name)}


def start_of(policy: PolicyContent) -> str | None:
    """What loads the policy that a run began from; None where that is not noted, or no longer there.

    Args:
        policy: what settings.json says that the run began with. Whether the policy found has these hashes is for the
            caller to see.
    """
    if "revision" in policy and not policy.get("adapter"):
        return str(policy["model"]) if recorded.is_hub_id(policy.get("model")) else None
    noted = places.noted("policy", _key(policy)).get("model")
    return noted if noted is not None and Path(noted).is_dir() else None


def base_of(adapter: str, named: str | None = None) -> str:
    """The model that an adapter belongs to: the one of the hub that it names, a folder noted before, or `named`.

    Args:
        adapter: a folder; of a run, of one of its checkpoints, or of anybody.
        named: by the user, for an adapter of a model in a folder.

    Raises:
        InputError: it says none, it lies in a folder that the user did not name, or that is another model.
    """
    config = adapter_config(adapter, "policy")
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not base and named is None:
        raise InputError(
            "its adapter_config.json names no base model",
            field="policy",
            value=adapter,
            advice="name it: {base} FOLDER",
        )
    full = f"{base}@{revision}" if revision else base
    if recorded.is_hub_id(full):
        return str(full)
    weights = _began_with(Path(adapter)).get("weights")
    if (own := noted_base(weights)) is not None:
        return own
    if named is None:
        raise InputError(
            f"its base model is the folder {base}, and no path is followed on a file's word{_lost(weights)}",
            field="policy",
            value=adapter,
            advice="name the base model, if you trust it: {base} FOLDER",
        )
    require_base(adapter, named, weights)
    return named


def _began_with(adapter: Path) -> PolicyContent:
    """What settings.json says that the adapter's run began with; empty for an adapter of no run."""
    run = run_of(adapter)
    try:
        return PolicyContent(**json.loads((run / SETTINGS).read_bytes())["content"]["policy"]) if run else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{adapter}: its run's {SETTINGS} cannot be read ({error!r})") from error


def _lost(weights: str | None) -> str:
    noted = noted_place(weights)
    return f" (what `fit` found at {noted} is gone, or has other weights)" if noted else ""
