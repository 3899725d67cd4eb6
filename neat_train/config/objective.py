"""What the objective of `losses` leaves open: settings with the project's defaults, and presets of them by name.

Nothing here imports torch: a configuration is checked before anything loads.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field, model_validator

from neat_train.config.ranking import AnyRanking, PairReduction, Ranking, RankingSettings
from neat_train.config.strict import Settings

__all__ = [
    "NPO",
    "PRESETS",
    "AnyPenalty",
    "Context",
    "DPOPPenalty",
    "Likelihood",
    "NoPenalty",
    "Normaliser",
    "ObjectiveSettings",
    "PairReduction",
    "Penalised",
    "Penalty",
    "RankingSettings",
    "Reduction",
    "SFTTerm",
    "Settings",
    "SimNPO",
    "Target",
    "Unlikelihood",
]

Reduction = Literal["token_mean", "token_sum"]
Normaliser = Literal["response", "padded"]
Target = Literal["worst", "negative_prompt", "mu-2sigma"]
Context = Literal["query", "prompted"]
Penalised = Literal["worst", "negative_prompt", "mu-2sigma", "best"]


class SFTTerm(Settings):
    """The SFT term (NEAT Eq. 6)."""

    weight: float = Field(default=1.0, ge=0)
    """Beside alpha and beta; 0 leaves the term out."""
    per: Literal["record", "token"] = "record"
    """A mean over the records of a step, each reduced as `reduction` says, or over all of their tokens."""


class PenaltySettings(Settings):
    """What every kind of penalty has to know."""

    target: Target = "worst"
    """The response to penalise: the lowest reward of all, or of those that were sampled under a negative prompt, or the
    one nearest to the record's mean reward less two standard deviations (arXiv 2502.16825)."""
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


class SimNPO(PenaltySettings):
    """- (2 / b) log sigmoid(-b mean log rho - gamma) (Fan et al. 2024, arXiv 2410.07163), never below 0."""

    kind: Literal["simnpo"] = "simnpo"
    """NPO of the mean over tokens, whatever `reduction` says, without a reference."""
    inverse_temperature: float = Field(default=1.0, gt=0)
    """b, as NPO's."""
    gamma: float = Field(default=0.0, ge=0)
    """A margin: the larger, the longer the pull lasts."""


class DPOPPenalty(Settings):
    """max(0, log rho_ref - log rho) of the best response, half of DPO-positive (arXiv 2402.13228), never below 0."""

    kind: Literal["dpop"] = "dpop"
    """It falls on the best response, where a record has two rewards: that one may not become less likely."""


class NoPenalty(Settings):
    """Ranking and SFT alone (RRHF)."""

    kind: Literal["none"] = "none"
    """No penalty."""


AnyPenalty = Likelihood | Unlikelihood | NPO | SimNPO | DPOPPenalty | NoPenalty
Penalty = Annotated[AnyPenalty, Field(discriminator="kind")]


class ObjectiveSettings(Settings):
    """L = w * L_sft + alpha * L_ranking + beta * L_penalty, every term one to be minimised (NEAT Eq. 8, w = 1)."""

    alpha: float = Field(default=1.0, ge=0)
    """Weight of the ranking term."""
    beta: float = Field(default=0.1, ge=0)
    """Weight of the penalty; 0 leaves it out, whatever its kind."""
    reduction: Reduction = "token_mean"
    """Whether the SFT term and the penalty divide a response's sum over tokens by that response's length."""
    normaliser: Normaliser = "response"
    """What ranking and SFT term divide a response's sum by: its tokens, or, as RRHF's published code does, those of the
    query and the record's longest response together."""
    sft: SFTTerm = SFTTerm()
    """The SFT term's weight, w, and what it is a mean of."""
    ranking: AnyRanking = RankingSettings()
    """The kind of ranking, NEAT's or another preference loss, and what belongs to that kind."""
    penalty: Penalty = NPO()
    """The kind of penalty, and what belongs to that kind."""

    @model_validator(mode="after")
    def _trains_something(self) -> ObjectiveSettings:
        if not (self.sft.weight or self.alpha or self.beta):
            raise ValueError("sft.weight, alpha and beta are all 0: nothing is trained")
        return self

    @property
    def active_penalty(self) -> AnyPenalty:
        """The penalty that has a weight."""
        return self.penalty if self.beta else NoPenalty()

    @property
    def active_ranking(self) -> Ranking:
        """The ranking term that has a weight; NEAT's, which needs nothing, where none has."""
        return self.ranking if self.alpha else RankingSettings()

    @property
    def penalised(self) -> Penalised:
        """The response that the penalty falls on."""
        if isinstance(penalty := self.active_penalty, PenaltySettings):
            return penalty.target
        return "best" if isinstance(penalty, DPOPPenalty) else "worst"

    @property
    def penalised_in_context(self) -> bool:
        """Whether it stands behind the prompt that produced it."""
        penalty = self.active_penalty
        return isinstance(penalty, PenaltySettings) and penalty.context == "prompted"

    @property
    def needs_reference(self) -> bool:
        """Whether the reference's log-probabilities have to be computed."""
        return self.penalty_needs_reference or self.active_ranking.needs_reference

    @property
    def penalty_needs_reference(self) -> bool:
        """Whether the penalty asks for them."""
        return isinstance(self.active_penalty, NPO | DPOPPenalty)


PRESETS: Mapping[str, ObjectiveSettings] = MappingProxyType(
    {
        "recommended": ObjectiveSettings(),
        # The paper gives neither alpha nor beta: the defaults stand.
        "paper": ObjectiveSettings(
            reduction="token_sum", ranking=RankingSettings(reduction="sum"), penalty=Likelihood()
        ),
    }
)
