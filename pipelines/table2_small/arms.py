"""The arms of the experiment: what is trained, by what, from what, and which of its settings are tuned.

The five methods of the paper's Table 2 are tuned each by itself. A control is not tuned: it takes what the arm it is
`of` was tuned to, so far as that means something to it. QUESTIONS has which arm it is compared with, and everything in
which the two differ: a difference between them has one cause only where one thing is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple

Settings = Mapping[str, Any]

ONLINE = {
    "loss.alpha": (0.3, 1.0, 3.0),
    "loss.beta": (0.03, 0.1, 0.3),
    "loss.penalty.kind": ("npo", "unlikelihood"),
    "rounds.queries": ("step", 64, 256),
}


@dataclass(frozen=True, slots=True)
class Arm:
    """
    Attributes:
        settings: what makes the arm, laid over the tuned ones.
        tuned: choices of each setting that is tuned beside the learning rate.
        of: the arm whose tuned settings a control takes; None: tuned itself.
        after: the arm whose run of the same seed is the start; None: the policy.
        on: the arm on whose run's dataset, sampled responses included, it is trained; None: the source's.
        plain: starts from the policy that was never taught the two prompts.
    """

    name: str
    method: str
    settings: Settings = field(default_factory=dict)
    tuned: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    of: str | None = None
    after: str | None = None
    on: str | None = None
    plain: bool = False


METHODS = (
    Arm("sft", "sft-trl"),
    Arm("dpo", "dpo-trl", tuned={"dpo.beta": (0.03, 0.1, 0.3)}, after="sft"),
    Arm("rrhf", "rrhf", tuned={"loss.alpha": ONLINE["loss.alpha"]}),
    Arm("neat", "neat", tuned=ONLINE),
    Arm("neat-pp", "neat-pp", tuned=ONLINE),
)

# Two plain samples a query, as many as NEAT-PP draws.
CONTROLS = (
    Arm("rrhf-online", "rrhf-online", {"rounds.samples": 2}, of="neat-pp"),
    Arm("neat-beta-0", "neat", {"loss.beta": 0.0}, of="neat"),
    Arm("dpo-best-worst", "dpo-trl", {"dpo.pairs": "best-worst"}, of="dpo", after="sft", on="neat-pp"),
    Arm("best-of-n", "sft-trl", {"sft.target": "best"}, of="sft", on="neat-pp"),
    Arm("neat-pp-plain", "neat-pp", of="neat-pp", plain=True),
)

ARMS: Mapping[str, Arm] = MappingProxyType({arm.name: arm for arm in (*METHODS, *CONTROLS)})

# Stated before anything was run: what the paper says of Table 2, (worse, better, figure).
ORDER = (
    *((worse.name, better.name, "reward") for worse, better in pairwise(METHODS)),
    ("dpo", "neat", "perplexity"),
    ("rrhf", "neat", "perplexity"),
)


class Question(NamedTuple):
    """What a control is there to ask: has the arm more reward than the control, which differs from it in so much?"""

    control: str
    arm: str
    differs: tuple[str, ...]  # names of DIFFERS


# What a control has where it differs from the arm that it is compared with.
DIFFERS: Mapping[str, str] = MappingProxyType(
    {
        "prompts": "samples under the plain query alone",
        "penalty": "none",
        "loss": "DPO's or SFT's own",
        "tuning": "the settings that dpo or sft was tuned to",
        "offline": "the samples of the arm's run of the same seed, all from the beginning, and none of its own",
        "start": "an SFT run (dpo-best-worst), or the policy that was never taught the prompts (neat-pp-plain)",
    }
)

QUESTIONS = (
    Question("rrhf-online", "neat-pp", ("prompts", "penalty")),
    Question("neat-beta-0", "neat", ("penalty",)),
    Question("dpo-best-worst", "neat-pp", ("loss", "tuning", "offline", "start")),
    Question("best-of-n", "neat-pp", ("loss", "tuning", "offline")),
    Question("neat-pp-plain", "neat-pp", ("start",)),
)
