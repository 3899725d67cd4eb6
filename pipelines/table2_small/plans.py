"""What is trained on which models: the tiny ones with every control, or SmolLM2 with the controls that say most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from pipelines.table2_small.arms import ARMS, CONTROLS, METHODS, Arm

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Models:
    """Folders or hub ids: the two policies, the reward model that trains, and the one that only measures.

    `plain` was never taught the two prompts; None: there is no such policy, and no arm starts from it.
    """

    policy: str
    plain: str | None
    reward: str
    held_out: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The arms of an experiment, how they are tuned, and the models that are meant for it.

    Attributes:
        methods, controls: as in `arms`.
        learning_rates: what trials lie between.
        settings: what every run shares.
    """

    models: Models
    methods: tuple[Arm, ...]
    controls: tuple[Arm, ...]
    learning_rates: tuple[float, float]
    settings: Path


def _without_rounds(arm: Arm) -> Arm:
    """The size of a round is not tuned but one of the settings that all share."""
    return replace(arm, tuned={name: choices for name, choices in arm.tuned.items() if name != "rounds.queries"})


TINY = Plan(
    Models(*(f"data/models/tiny-{name}" for name in ("policy", "policy-plain", "reward", "reward-heldout"))),
    METHODS,
    CONTROLS,
    (2e-4, 5e-3),
    _HERE / "settings.yaml",
)
SMOLLM2 = Plan(
    Models("data/real/smollm2", None, "data/models/smollm2-reward", "data/models/smollm2-reward-heldout"),
    tuple(map(_without_rounds, METHODS)),
    (ARMS["neat-beta-0"], ARMS["best-of-n"]),
    (1e-4, 2e-3),
    _HERE / "smollm2.yaml",
)
PLANS: Mapping[str, Plan] = MappingProxyType({"smollm2": SMOLLM2, "smollm2-tiny": SMOLLM2})


def plan_of(size: str) -> Plan:
    """The plan of a size of `sizes`."""
    return PLANS.get(size, TINY)
