"""What the objective of `losses` leaves open: settings with the project's defaults, and presets of them by name.

Nothing here imports torch: a configuration is checked before anything loads.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Reduction = Literal["token_mean", "token_sum"]
Normaliser = Literal["response", "padded"]
PairReduction = Literal["mean_pairs", "sum"]
Target = Literal["worst", "negative_prompt"]
Context = Literal["query", "prompted"]


class Settings(BaseModel):
    """Unknown keys are refused, so that a misspelt one is never a default without a word."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class RankingSettings(Settings):
    """The ranking term (NEAT Eq. 5)."""

    reduction: PairReduction = "mean_pairs"
    """Mean over a record's strictly ordered pairs, so that alpha means the same for any number, or their sum."""


class PenaltySettings(Settings):
    """What every kind of penalty has to know."""

    target: Target = "worst"
    """The response to penalise: the lowest reward of all, or of those that were sampled under a negative prompt."""
    context: Context = "query"
    """What it is conditioned on: the plain query, or the query under the prompt that produced it, where one did."""


class Likelihood(PenaltySettings):
    """+ log rho (NEAT Eq. 7 and 8). It has no lower bound: a run can diverge on it."""

    kind: Literal["likelihood"] = "likelihood"
    """The paper's penalty."""


class Unlikelihood(PenaltySettings):
    """- log(1 - rho) of every token (Welleck et al. 2020, arXiv 1908.04319), never below 0."""

    kind: Literal["unlikelihood"] = "unlikelihood"
    """Bounded by each token's own probability; no reference model."""


class NPO(PenaltySettings):
    """- (2 / b) log sigmoid(-b (log rho - log rho_ref)) (Zhang et al. 2024, arXiv 2404.05868), never below 0."""

    kind: Literal["npo"] = "npo"
    """Bounded by the distance from the reference, whose log-probabilities it needs."""
    inverse_temperature: float = Field(default=1.0, gt=0)
    """b: the pull fades once log rho, reduced over tokens as `reduction` says, has fallen by about 1 / b."""


class NoPenalty(Settings):
    """Ranking and SFT alone (RRHF)."""

    kind: Literal["none"] = "none"
    """No penalty."""


Penalty = Annotated[Likelihood | Unlikelihood | NPO | NoPenalty, Field(discriminator="kind")]


class ObjectiveSettings(Settings):
    """L = L_sft + alpha * L_ranking + beta * L_penalty, every term one to be minimised (NEAT Eq. 8)."""

    alpha: float = Field(default=1.0, ge=0)
    """Weight of the ranking term."""
    beta: float = Field(default=0.1, ge=0)
    """Weight of the penalty; 0 leaves it out, whatever its kind."""
    reduction: Reduction = "token_mean"
    """Whether the SFT term and the penalty divide a response's sum over tokens by that response's length."""
    normaliser: Normaliser = "response"
    """What ranking and SFT term divide a response's sum by: its tokens, or, as RRHF's published code does, those of the
    query and the record's longest response together."""
    ranking: RankingSettings = RankingSettings()
    """How the pairs of a record are put together."""
    penalty: Penalty = NPO()
    """The kind of penalty, and what belongs to that kind."""

    @property
    def active_penalty(self) -> Likelihood | Unlikelihood | NPO | NoPenalty:
        """The penalty that has a weight."""
        return self.penalty if self.beta else NoPenalty()

    @property
    def needs_reference(self) -> bool:
        """Whether the reference's log-probabilities have to be computed."""
        return isinstance(self.active_penalty, NPO)


PRESETS: Mapping[str, ObjectiveSettings] = MappingProxyType(
    {
        "recommended": ObjectiveSettings(),
        # The paper gives neither alpha nor beta: the defaults stand.
        "paper": ObjectiveSettings(
            reduction="token_sum", ranking=RankingSettings(reduction="sum"), penalty=Likelihood()
        ),
    }
)
