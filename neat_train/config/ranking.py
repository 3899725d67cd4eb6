"""What can stand in the place of NEAT's ranking term: one kind of settings a loss, its source in the docstring.

s = beta (log pi(y) - log pi_ref(y)) of a response, the sum over its tokens; u its mean log-probability; r its reward.
The functions are in `neat_train.losses`, listed in its `registry`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from neat_train.config.strict import Settings

PairReduction = Literal["mean_pairs", "sum"]
OnePair = Literal["chosen", "best-worst", "mu-2sigma", "random"]
Pairs = Literal[OnePair, "all"]


class Ranking(Settings):
    """What every kind says of itself."""

    @property
    def needs_reference(self) -> bool:
        """Whether the reference's log-probabilities have to be computed."""
        return False

    @property
    def needs_contrast(self) -> bool:
        """Whether a record has to have two different rewards; if not, two responses do."""
        return True

    @property
    def chosen_pairs(self) -> Pairs:
        """Which responses of a record it is shown: all, or those of one pair."""
        return "all"


class AgainstReference(Ranking):
    """A loss on s."""

    beta: float = Field(default=0.1, gt=0)
    """How much a step away from the reference counts."""

    @property
    def needs_reference(self) -> bool:
        """See `Ranking.needs_reference`."""
        return True


class OfPairs(Ranking):
    """A loss on the better and the worse response of a pair."""

    pairs: Pairs = "chosen"
    """What people preferred (a record's first label); the highest and the lowest reward; the highest and what lies
    nearest to two standard deviations below the mean; any two of different rewards; or all pairs of such. But for `all`
    these two responses are trained with alone."""
    reduction: PairReduction = "mean_pairs"
    """Mean over a record's pairs, or their sum."""

    @property
    def chosen_pairs(self) -> Pairs:
        """See `Ranking.chosen_pairs`."""
        return self.pairs


class RankingSettings(Ranking):
    """max(0, p_worse - p_better) over all pairs (NEAT Eq. 5)."""

    kind: Literal["neat"] = "neat"
    """The paper's ranking term."""
    reduction: PairReduction = "mean_pairs"
    """Mean over a record's strictly ordered pairs, so that alpha means the same for any number, or their sum."""


class DPO(OfPairs, AgainstReference):
    """- log sigmoid(s_w - s_l) (Rafailov et al. 2023, arXiv 2305.18290)."""

    kind: Literal["dpo"] = "dpo"
    """Direct preference optimisation."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of labels that are taken to be wrong (conservative DPO, Mitchell 2023)."""


class IPO(OfPairs, AgainstReference):
    """(d - 1 / (2 beta))^2, d the difference of mean log-ratios a token (Azar et al. 2023, arXiv 2310.12036)."""

    kind: Literal["ipo"] = "ipo"
    """Identity preference optimisation: the margin is driven to 1 / (2 beta), not to infinity."""


class Hinge(OfPairs, AgainstReference):
    """max(0, 1 - (s_w - s_l)) (SLiC, Zhao et al. 2023, arXiv 2305.10425; Liu et al. 2023, arXiv 2309.06657)."""

    kind: Literal["hinge"] = "hinge"
    """No pull beyond a margin of 1."""


class DPOP(OfPairs, AgainstReference):
    """- log sigmoid(s_w - s_l - fall * max(0, -s_w)) (Smaug, Pal et al. 2024, arXiv 2402.13228)."""

    kind: Literal["dpop"] = "dpop"
    """DPO-positive: the better response may not become less likely than the reference has it."""
    fall: float = Field(default=50.0, ge=0)
    """lambda: how much that costs."""


class SimPO(OfPairs):
    """- log sigmoid(beta (u_w - u_l) - gamma) (Meng et al. 2024, arXiv 2405.14734, Eq. 6)."""

    kind: Literal["simpo"] = "simpo"
    """Length-normalised, without a reference."""
    beta: float = Field(default=2.0, gt=0)
    """Scale of the mean log-probabilities."""
    gamma: float = Field(default=1.0, ge=0)
    """The margin that is aimed at."""


class AlphaPO(OfPairs):
    """- log sigmoid(beta (f_w - f_l) - gamma), f = (1 - exp(-alpha u)) / alpha (Gupta et al. 2025, arXiv
    2501.03884)."""

    kind: Literal["alphapo"] = "alphapo"
    """SimPO with another shape of reward; alpha 0 is SimPO."""
    alpha: float = 0.25
    """Of the shape: above 0 unlikely responses count more."""
    beta: float = Field(default=2.0, gt=0)
    """Scale of f."""
    gamma: float = Field(default=1.0, ge=0)
    """The margin that is aimed at."""


class Davidson(AgainstReference):
    """DPO with ties (Davidson's model; Chen et al. 2024, arXiv 2409.17431):
    p(i > j) = e^s_i / (e^s_i + e^s_j + 2 ties e^((s_i + s_j) / 2)), the rest of the mass for a tie."""

    kind: Literal["davidson"] = "davidson"
    """Over all pairs of a record; those of nearly equal rewards teach that they are equal."""
    ties: float = Field(default=1.0, gt=0)
    """nu: of two equal responses the share ties / (1 + ties) is taken to be ties."""
    margin: float = Field(default=0.0, ge=0)
    """Rewards no further apart than this are a tie."""
    reduction: PairReduction = "mean_pairs"
    """Mean over a record's pairs, or their sum."""

    @property
    def needs_contrast(self) -> bool:
        """A tie teaches, too."""
        return False


class ListDPO(AgainstReference):
    """w log(1 + exp(s_j - s_i)) over all pairs with r_i > r_j (LiPO, Liu et al. 2024, arXiv 2402.01878)."""

    kind: Literal["list-dpo"] = "list-dpo"
    """Every ordered pair of the list."""
    weights: Literal["uniform", "lambda"] = "uniform"
    """1, or LiPO's |2^g_i - 2^g_j| |1 / log(1 + rank_i) - 1 / log(1 + rank_j)|, ranks by s, g the record's rewards
    brought to [0, 1]."""
    reduction: PairReduction = "mean_pairs"
    """Mean over a record's pairs, or their sum."""


class InfoNCA(AgainstReference):
    """- sum q log softmax(s), q = softmax(r / temperature) (Chen et al. 2024, arXiv 2402.05369)."""

    kind: Literal["infonca"] = "infonca"
    """Cross entropy between the rewards' distribution and the policy's over the list."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the rewards: the smaller, the more the best response counts alone."""

    @property
    def needs_contrast(self) -> bool:
        """Equal rewards ask for equal likelihoods."""
        return False


class NCA(AgainstReference):
    """- sum (q log sigmoid(s) + log sigmoid(-s) / k), q = softmax(r / temperature) (Chen et al. 2024, arXiv
    2402.05369)."""

    kind: Literal["nca"] = "nca"
    """Noise contrastive alignment: absolute where InfoNCA is relative, so that the best does not become unlikely."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the rewards: the smaller, the more the best response counts alone."""

    @property
    def needs_contrast(self) -> bool:
        """Equal rewards ask for equal likelihoods."""
        return False


class PlackettLuce(AgainstReference):
    """- sum_i log(e^s_i / sum over i and what is worse of e^s_j) (Rafailov et al. 2023, arXiv 2305.18290, A.3)."""

    kind: Literal["plackett-luce"] = "plackett-luce"
    """The likelihood of the whole order; responses of equal rewards are not held against each other."""


class D2O(AgainstReference):
    """- log sigmoid(mean of s over all others - alpha (log pi - log pi_ref)(worst)) (Duan et al. 2024, arXiv
    2403.03419)."""

    kind: Literal["d2o"] = "d2o"
    """Distributional dispreference optimisation: away from the worst response, against the mean of the others."""
    alpha: float = Field(default=0.1, gt=0)
    """Scale of the worst response's log-ratio."""


class PolicyGradient(Ranking):
    """A loss that weighs log-probabilities by an advantage."""

    negative_weight: float = Field(default=1.0, ge=0)
    """Of advantages below 0, beside 1 for those above (arXiv 2506.01347)."""
    responses: Literal["sampled", "all"] = "sampled"
    """Online, those that the policy sampled, or those of the dataset with them: they were drawn by somebody else, and
    nothing corrects for it."""


class RLOO(PolicyGradient):
    """- mean of A log pi, A = r - mean of the others' r (Ahmadian et al. 2024, arXiv 2402.14740)."""

    kind: Literal["rloo"] = "rloo"
    """REINFORCE with the other responses as baseline; sums over tokens."""


class GRPO(PolicyGradient):
    """- mean of A u, A = (r - mean) / (standard deviation + 1e-4) (Shao et al. 2024, arXiv 2402.03300), at ratio 1."""

    kind: Literal["grpo"] = "grpo"
    """Group-relative advantages, means over tokens, one step a round: no ratio, no clipping, no KL term."""


class REBEL(Ranking):
    """(d / eta - (r_i - r_j))^2 over all pairs, d the difference of log-ratios (Gao et al. 2024, arXiv 2404.16767)."""

    kind: Literal["rebel"] = "rebel"
    """Regression of reward differences."""
    eta: float = Field(default=1.0, gt=0)
    """Step size: a log-ratio of eta is worth a reward of 1."""
    reduction: PairReduction = "mean_pairs"
    """Mean over a record's pairs, or their sum."""

    @property
    def needs_reference(self) -> bool:
        """See `Ranking.needs_reference`."""
        return True

    @property
    def needs_contrast(self) -> bool:
        """Equal rewards ask for equal log-ratios."""
        return False


class OwnLoss(Ranking):
    """A function in a Python file, named on the command line: `--method FILE.py:FUNCTION`."""

    kind: Literal["own"] = "own"
    """What `losses.own` runs."""
    function: str
    """FILE.py:FUNCTION, without the way to the file."""
    sha256: str
    """Of the file."""
    parameters: tuple[str, ...]
    """What the function takes."""

    @property
    def needs_reference(self) -> bool:
        """See `Ranking.needs_reference`."""
        return "reference" in self.parameters

    @property
    def needs_contrast(self) -> bool:
        """What it makes of equal rewards is its affair."""
        return False


def _named(given: Any) -> Any:
    """Before there were kinds, NEAT's was the only one."""
    return {"kind": "neat", **given} if isinstance(given, dict) else given


AnyRanking = Annotated[
    Annotated[
        RankingSettings
        | DPO
        | IPO
        | Hinge
        | DPOP
        | SimPO
        | AlphaPO
        | Davidson
        | ListDPO
        | InfoNCA
        | NCA
        | PlackettLuce
        | D2O
        | RLOO
        | GRPO
        | REBEL
        | OwnLoss,
        Field(discriminator="kind"),
    ],
    BeforeValidator(_named),
]
KINDS: tuple[type[Ranking], ...] = (
    *(DPO, IPO, Hinge, DPOP, SimPO, AlphaPO, Davidson, ListDPO),
    *(InfoNCA, NCA, PlackettLuce, D2O, RLOO, GRPO, REBEL),
)
METHOD_KINDS: dict[str, type[Ranking]] = {kind.model_fields["kind"].default: kind for kind in KINDS}
