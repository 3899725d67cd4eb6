"""Every loss in the place of the ranking term against an independent numpy version, and against finite differences.

The numpy versions take one record at a time, responses in any order, and are written from the papers' formulas.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from neat_train.config.objective import NoPenalty, ObjectiveSettings, SFTTerm
from neat_train.config.ranking import (
    D2O,
    DPO,
    DPOP,
    GRPO,
    IPO,
    METHOD_KINDS,
    NCA,
    REBEL,
    RLOO,
    AlphaPO,
    Davidson,
    Hinge,
    InfoNCA,
    ListDPO,
    PlackettLuce,
    Ranking,
    SimPO,
)
from neat_train.losses import Layout, TermCounts, objective, plan_for, total
from neat_train.losses.registry import RANKINGS


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x)) if x > 0 else x - math.log1p(math.exp(x))


class Record:
    """Token log-probabilities, the reference's, and rewards of one record's responses."""

    def __init__(self, logps: list[list[float]], reference: list[list[float]], rewards: list[float]) -> None:
        self.logps, self.tokens_reference = logps, reference
        self.r = np.array(rewards)
        self.pi = np.array([sum(one) for one in logps])
        self.ref = np.array([sum(one) for one in reference])
        self.n = np.array([len(one) for one in logps])
        self.u = self.pi / self.n
        self.h = self.pi - self.ref
        self.k = len(rewards)

    def ordered(self) -> list[tuple[int, int]]:
        """(better, worse) of every pair with two different rewards."""
        return [(i, j) for i in range(self.k) for j in range(self.k) if self.r[i] > self.r[j]]


def over(record: Record, reduction: str, loss) -> float:
    values = [loss(i, j) for i, j in record.ordered()]
    return float(np.mean(values) if reduction == "mean_pairs" else np.sum(values))


def dpo(x: Record, c: DPO) -> float:
    def one(w, b):
        d, e = c.beta * (x.h[w] - x.h[b]), c.label_smoothing
        return -(1 - e) * log_sigmoid(d) - e * log_sigmoid(-d)

    return over(x, c.reduction, one)


def ipo(x: Record, c: IPO) -> float:
    return over(x, c.reduction, lambda w, b: (x.h[w] / x.n[w] - x.h[b] / x.n[b] - 0.5 / c.beta) ** 2)


def hinge(x: Record, c: Hinge) -> float:
    return over(x, c.reduction, lambda w, b: max(0.0, 1 - c.beta * (x.h[w] - x.h[b])))


def dpop(x: Record, c: DPOP) -> float:
    def one(w, b):
        return -log_sigmoid(c.beta * (x.h[w] - x.h[b] - c.fall * max(0.0, x.ref[w] - x.pi[w])))

    return over(x, c.reduction, one)


def simpo(x: Record, c: SimPO) -> float:
    return over(x, c.reduction, lambda w, b: -log_sigmoid(c.beta * (x.u[w] - x.u[b]) - c.gamma))


def alphapo(x: Record, c: AlphaPO) -> float:
    def shaped(i):
        return (1 - math.exp(x.u[i]) ** -c.alpha) / c.alpha

    return over(x, c.reduction, lambda w, b: -log_sigmoid(c.beta * (shaped(w) - shaped(b)) - c.gamma))


def davidson(x: Record, c: Davidson) -> float:
    values = []
    for i, j in itertools.combinations(range(x.k), 2):
        w, b = (i, j) if x.r[i] >= x.r[j] else (j, i)
        first, second = math.exp(c.beta * x.h[w]), math.exp(c.beta * x.h[b])
        tie = 2 * c.ties * math.sqrt(first * second)
        values.append(-math.log((tie if x.r[w] - x.r[b] <= c.margin else first) / (first + second + tie)))
    return float(np.mean(values) if c.reduction == "mean_pairs" else np.sum(values))


def list_dpo(x: Record, c: ListDPO) -> float:
    g = (x.r - x.r.min()) / (x.r.max() - x.r.min())
    s = c.beta * x.h
    rank = np.empty(x.k)
    rank[np.argsort(-s)] = np.arange(1, x.k + 1)

    def one(i, j):
        weight = abs(2 ** g[i] - 2 ** g[j]) * abs(1 / math.log(1 + rank[i]) - 1 / math.log(1 + rank[j]))
        return (weight if c.weights == "lambda" else 1) * math.log1p(math.exp(s[j] - s[i]))

    return over(x, c.reduction, one)


def soft(r: np.ndarray) -> np.ndarray:
    e = np.exp(r - r.max())
    return e / e.sum()


def infonca(x: Record, c: InfoNCA) -> float:
    return float(-(soft(x.r / c.temperature) * np.log(soft(c.beta * x.h))).sum())


def nca(x: Record, c: NCA) -> float:
    q, s = soft(x.r / c.temperature), c.beta * x.h
    return float(-sum(q[i] * log_sigmoid(s[i]) + log_sigmoid(-s[i]) / x.k for i in range(x.k)))


def plackett_luce(x: Record, c: PlackettLuce) -> float:
    s = c.beta * x.h
    worse = [[j for j in range(x.k) if x.r[j] < x.r[i]] for i in range(x.k)]
    return float(-sum(s[i] - math.log(sum(math.exp(s[j]) for j in [i, *worse[i]])) for i in range(x.k)))


def d2o(x: Record, c: D2O) -> float:
    worst = max(i for i in range(x.k) if x.r[i] == x.r.min())
    others = [x.h[i] for i in range(x.k) if i != worst]
    return -log_sigmoid(c.beta * float(np.mean(others)) - c.alpha * x.h[worst])


def gradient(advantages: np.ndarray, values: np.ndarray, negative: float) -> float:
    return float(-np.mean([(a if a > 0 else negative * a) * v for a, v in zip(advantages, values, strict=True)]))


def rloo(x: Record, c: RLOO) -> float:
    a = np.array([x.r[i] - np.mean([x.r[j] for j in range(x.k) if j != i]) for i in range(x.k)])
    return gradient(a, x.pi, c.negative_weight)


def grpo(x: Record, c: GRPO) -> float:
    return gradient((x.r - x.r.mean()) / (x.r.std(ddof=1) + 1e-4), x.u, c.negative_weight)


def rebel(x: Record, c: REBEL) -> float:
    pairs = list(itertools.combinations(range(x.k), 2))
    values = [((x.h[i] - x.h[j]) / c.eta - (x.r[i] - x.r[j])) ** 2 for i, j in pairs]
    return float(np.mean(values) if c.reduction == "mean_pairs" else np.sum(values))


NUMPY = {
    "dpo": dpo,
    "ipo": ipo,
    "hinge": hinge,
    "dpop": dpop,
    "simpo": simpo,
    "alphapo": alphapo,
    "davidson": davidson,
    "list-dpo": list_dpo,
    "infonca": infonca,
    "nca": nca,
    "plackett-luce": plackett_luce,
    "d2o": d2o,
    "rloo": rloo,
    "grpo": grpo,
    "rebel": rebel,
}
CASES: list[Ranking] = [
    *(DPO(beta=0.3), DPO(beta=0.3, label_smoothing=0.2, reduction="sum")),
    *(IPO(beta=0.4), Hinge(beta=0.5), DPOP(beta=0.2, fall=3), SimPO(beta=1.5, gamma=0.4)),
    *(AlphaPO(alpha=0.3, beta=1.5, gamma=0.2), AlphaPO(alpha=-0.4)),
    *(Davidson(beta=0.2, ties=0.7), Davidson(beta=0.2, margin=1.0, reduction="sum")),
    *(ListDPO(beta=0.3), ListDPO(beta=0.3, weights="lambda"), ListDPO(reduction="sum")),
    *(InfoNCA(beta=0.3, temperature=0.7), NCA(beta=0.3, temperature=0.7), PlackettLuce(beta=0.3)),
    D2O(beta=0.3, alpha=0.2),
    *(RLOO(), RLOO(negative_weight=2.5), GRPO(), GRPO(negative_weight=0.1), REBEL(eta=2), REBEL(reduction="sum")),
]
IDS = [f"{kind.kind}-{number}" for number, kind in enumerate(CASES)]  # type: ignore[attr-defined]


def drawn(rng: np.random.Generator, records: int = 12) -> list[Record]:
    """Ragged records; rewards from few values, so that ties and records of equal rewards occur."""
    made = []
    for _ in range(records):
        k = int(rng.integers(1, 6))
        sizes = rng.integers(1, 7, k)
        logps, reference = ([(-rng.exponential(1.0, size)).tolist() for size in sizes] for _ in range(2))
        made.append(Record(logps, reference, sorted(rng.integers(-2, 3, k).astype(float).tolist(), reverse=True)))
    return made


def laid_out(records: list[Record], rng: np.random.Generator) -> tuple[Layout, torch.Tensor, torch.Tensor]:
    """All records in one batch, with junk under the mask, and a filler that belongs to no record."""
    answers = [(number, i) for number, record in enumerate(records) for i in range(record.k)]
    tokens = [place for place, (number, i) in enumerate(answers) for _ in records[number].logps[i]]
    values = [v for number, i in answers for v in records[number].logps[i]]
    reference = [v for number, i in answers for v in records[number].tokens_reference[i]]
    junk = 5
    order = torch.as_tensor(rng.permutation(len(tokens) + junk))
    layout = Layout(
        response=torch.tensor([*tokens, *[-3] * junk])[order],
        mask=torch.tensor([*[True] * len(tokens), *[False] * junk])[order],
        record=torch.tensor([*[number for number, _ in answers], -1]),
        reward=torch.tensor([*[float(records[number].r[i]) for number, i in answers], 9.0]),
    )
    odd = [math.nan] * junk
    return layout, *(torch.tensor([*v, *odd], dtype=torch.float64)[order] for v in (values, reference))


def alone(kind: Ranking) -> ObjectiveSettings:
    return ObjectiveSettings(sft=SFTTerm(weight=0), beta=0, penalty=NoPenalty(), ranking=kind)


def defined(record: Record, kind: Ranking) -> bool:
    return len(set(record.r)) > 1 if kind.needs_contrast else record.k > 1


def step(records: list[Record], kind: Ranking, rng: np.random.Generator, counts: TermCounts | None = None):
    settings = alone(kind)
    layout, logps, reference = laid_out(records, rng)
    logps.requires_grad_()
    plan = plan_for(layout, settings)
    terms = objective(logps, plan, settings, reference if kind.needs_reference else None)
    return total(terms, counts or plan.counted(settings), settings), logps, layout, terms


def test_every_kind_has_a_function_and_a_test():
    kinds = set(METHOD_KINDS.values())
    assert set(RANKINGS) == kinds == {type(case) for case in CASES}
    assert set(NUMPY) == set(METHOD_KINDS)


@pytest.mark.parametrize("kind", CASES, ids=IDS)
def test_a_loss_equals_numpy_s_mean_over_the_records_that_define_it(kind):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        records = drawn(rng)
        loss, _, _, terms = step(records, kind, rng)
        wanted = [NUMPY[kind.kind](record, kind) for record in records if defined(record, kind)]
        assert terms.ranking.count == len(wanted)
        assert loss.item() == pytest.approx(float(np.mean(wanted)), rel=1e-9)


@pytest.mark.parametrize("kind", CASES, ids=IDS)
def test_gradients_equal_finite_differences(kind):
    rng = np.random.default_rng(3)
    records = [record for record in drawn(rng, 8) if record.k > 1][:4]
    settings = alone(kind)
    layout, logps, reference = laid_out(records, rng)
    plan = plan_for(layout, settings)

    def loss(values: torch.Tensor) -> torch.Tensor:
        terms = objective(values, plan, settings, reference if kind.needs_reference else None)
        return total(terms, plan.counted(settings), settings)

    leaf = logps.clone().requires_grad_()
    loss(leaf).backward()
    assert leaf.grad is not None
    assert leaf.grad.abs().sum() > 0
    assert not leaf.grad[~layout.mask].any()
    for place in layout.mask.nonzero()[:, 0]:
        ahead, behind = logps.clone(), logps.clone()
        ahead[place] += 1e-6
        behind[place] -= 1e-6
        slope = float(loss(ahead) - loss(behind)) / 2e-6
        assert float(leaf.grad[place]) == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("kind", CASES, ids=IDS)
def test_micro_batches_add_up_to_the_step(kind):
    rng = np.random.default_rng(5)
    records = drawn(rng)
    whole, *_ = step(records, kind, rng)
    settings = alone(kind)
    counts = plan_for(laid_out(records, rng)[0], settings).counted(settings)
    parts = [step([record], kind, rng, counts)[0].item() for record in records]
    assert sum(parts) == pytest.approx(whole.item(), rel=1e-9)


@pytest.mark.parametrize("kind", CASES, ids=IDS)
def test_records_that_define_nothing_give_a_zero_with_a_gradient_of_zero(kind):
    rng = np.random.default_rng(1)
    loss, logps, *_ = step([Record([[-1.0, -2.0]], [[-1.0, -1.0]], [0.5])], kind, rng)
    loss.backward()
    assert loss.item() == 0
    assert not logps.grad.any()


@pytest.mark.parametrize("kind", [kind for kind in CASES if kind.needs_reference], ids=lambda kind: kind.kind)
def test_a_missing_reference_is_told(kind):
    rng = np.random.default_rng(1)
    settings, (layout, logps, _) = alone(kind), laid_out(drawn(rng), rng)
    with pytest.raises(ValueError, match="needs the reference"):
        objective(logps, plan_for(layout, settings), settings)


@pytest.mark.parametrize("kind", [RLOO(), GRPO()])
def test_a_step_down_raises_what_is_rewarded(kind):
    rng = np.random.default_rng(2)
    record = Record([[-1.0, -2.0], [-1.0], [-3.0]], [[0.0] * 2, [0.0], [0.0]], [2.0, 1.0, -1.0])
    loss, logps, layout, _ = step([record], kind, rng)
    loss.backward()
    best, worst = (logps.grad[layout.mask & (layout.response == place)] for place in (0, 2))
    assert (best < 0).all()
    assert (worst > 0).all()


def test_alphapo_becomes_simpo():
    rng = np.random.default_rng(4)
    records = drawn(rng)
    simpo_loss = step(records, SimPO(beta=1.5, gamma=0.3), rng)[0].item()
    assert step(records, AlphaPO(alpha=0, beta=1.5, gamma=0.3), rng)[0].item() == pytest.approx(simpo_loss)
    assert step(records, AlphaPO(alpha=1e-7, beta=1.5, gamma=0.3), rng)[0].item() == pytest.approx(simpo_loss, rel=1e-5)


def test_of_two_responses_lists_are_pairs():
    rng = np.random.default_rng(6)
    records = [record for record in drawn(rng, 60) if record.k == 2]
    pair = step(records, DPO(beta=0.3), rng)[0].item()
    for kind in (ListDPO(beta=0.3), PlackettLuce(beta=0.3), InfoNCA(beta=0.3, temperature=1e-3)):
        kept = [record for record in records if len(set(record.r)) == 2]
        assert step(kept, kind, rng)[0].item() == pytest.approx(pair, rel=1e-6)


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "ipo", "label_smoothing": 0.1},
        {"kind": "simpo", "temperature": 1},
        {"kind": "dpo", "beta": 0},
        {"kind": "dpo", "label_smoothing": 0.5},
        {"kind": "list-dpo", "pairs": "all"},
        {"kind": "other"},
        {"kind": "grpo", "negative_weight": -1},
    ],
)
def test_settings_of_another_loss_are_refused(given):
    with pytest.raises(ValidationError):
        ObjectiveSettings.model_validate({"ranking": given})
