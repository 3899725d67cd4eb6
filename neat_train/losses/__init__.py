"""The objective as pure functions of tensors: L = w * L_sft + alpha * L_ranking + beta * L_penalty (NEAT Eq. 8, w = 1).

Two steps. `plan_of` (in `plan`) takes what is known before a model is asked and settles everything the rewards decide.
`objective` takes the log-probabilities and that plan and returns each term as a sum over records with its count;
`total` weighs them. In the place of NEAT's ranking any loss of `registry` can stand: `pairs`, `listwise` and `rewards`
hold them, a family a file, each a function of `lists.Lists`; `own` runs a user's.

Terms are sums, so that micro-batches, accumulation and ranks change nothing: a caller adds the plans' counts over the
whole optimiser step first, and gives them to `total` in every micro-batch.

Log-probabilities are flat, (tokens,), in any order and with any positions masked out; a padded batch is flattened, its
row being the response. One mask decides which positions count and how long a response is. Inputs are never written to.
Left to the caller: undoing the mean over ranks of distributed data parallelism, and stopping a run that diverges.
"""

from neat_train.losses.objective import Components, Diagnostics, diagnostics, objective, total
from neat_train.losses.plan import Layout, LossPlan, TermCounts, plan_for, plan_of
from neat_train.losses.terms import Component, by_response, penalty, ranking, sft, unlikelihood

__all__ = [
    "Component",
    "Components",
    "Diagnostics",
    "Layout",
    "LossPlan",
    "TermCounts",
    "by_response",
    "diagnostics",
    "objective",
    "penalty",
    "plan_for",
    "plan_of",
    "ranking",
    "sft",
    "total",
    "unlikelihood",
]
