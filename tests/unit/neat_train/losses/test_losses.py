"""The objective against numbers worked out by hand, an independent float64 numpy version, and finite differences."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, fields

import numpy as np
import pytest
import torch

from neat_train.config.objective import (
    NPO,
    PRESETS,
    Likelihood,
    NoPenalty,
    ObjectiveSettings,
    RankingSettings,
    Unlikelihood,
)
from neat_train.losses import (
    Component,
    Components,
    Layout,
    TermCounts,
    by_response,
    diagnostics,
    objective,
    penalty,
    plan_of,
    ranking,
    sft,
    total,
    unlikelihood,
)

KINDS = [Likelihood(), Unlikelihood(), NPO(inverse_temperature=0.5)]
NAMES = [kind.kind for kind in KINDS]
BOUNDED = KINDS[1:]
TERMS = [field.name for field in fields(Components)]


@dataclass
class Answer:
    """A response of a test: its token log-probabilities, the reference's, its reward, and whether it was negative."""

    logps: list[float]
    reward: float
    negative: bool = False
    reference: list[float] | None = None


def drawn(rng: np.random.Generator, records: int = 6, responses: int = 6) -> list[list[Answer]]:
    """Ragged records; rewards from few values, so that ties and records of equal rewards occur."""

    def answer() -> Answer:
        size = int(rng.integers(1, 8))
        logps, reference = -rng.exponential(1.5, size), -rng.exponential(1.5, size)
        return Answer(logps.tolist(), float(rng.integers(-2, 3)), bool(rng.random() < 0.4), reference.tolist())

    return [[answer() for _ in range(rng.integers(1, responses + 1))] for _ in range(records)]


def laid_out(
    records: list[list[Answer]], *, ids: list[int] | None = None, dtype: torch.dtype = torch.float64
) -> tuple[Layout, torch.Tensor, torch.Tensor]:
    """Layout, log-probabilities and the reference's, token after token."""
    answers = [answer for record in records for answer in record]
    ids = list(range(len(records))) if ids is None else ids
    response = torch.tensor([place for place, answer in enumerate(answers) for _ in answer.logps], dtype=torch.int64)
    layout = Layout(
        response=response,
        mask=torch.ones(len(response), dtype=torch.bool),
        record=torch.tensor(
            [place for place, record in zip(ids, records, strict=True) for _ in record], dtype=torch.int64
        ),
        reward=torch.tensor([answer.reward for answer in answers], dtype=torch.float32),
        negative=torch.tensor([answer.negative for answer in answers], dtype=torch.bool),
        query=torch.full((len(answers),), 4),
    )
    logps = torch.tensor([value for answer in answers for value in answer.logps], dtype=dtype)
    reference = torch.tensor([v for answer in answers for v in answer.reference or answer.logps], dtype=dtype)
    return layout, logps, reference


def scattered(
    rng: np.random.Generator, layout: Layout, logps: torch.Tensor, reference: torch.Tensor
) -> tuple[Layout, torch.Tensor, torch.Tensor]:
    """The same batch with records interleaved, tokens in another order and masked junk in between."""
    responses = torch.as_tensor(rng.permutation(len(layout.record)))  # new index -> old
    for record in layout.record.unique():  # inside a record the order stays: it decides between equal rewards
        mine = layout.record[responses] == record
        responses[mine] = responses[mine].sort().values
    odd = torch.tensor([math.nan, -math.inf, 0.0] * 3, dtype=logps.dtype)
    response = torch.cat([torch.argsort(responses)[layout.response], torch.full((len(odd),), -7)])
    mask = torch.cat([layout.mask, torch.zeros(len(odd), dtype=torch.bool)])
    tokens = torch.as_tensor(rng.permutation(len(mask)))
    assert layout.negative is not None
    moved = Layout(
        response[tokens], mask[tokens], layout.record[responses], layout.reward[responses], layout.negative[responses]
    )
    return moved, torch.cat([logps, odd])[tokens], torch.cat([reference, odd])[tokens]


def settings_of(**changes) -> ObjectiveSettings:
    return ObjectiveSettings(**{"alpha": 0.7, "beta": 0.3, **changes})


def sums(components: Components) -> list[float]:
    return [getattr(components, term).sum.item() for term in TERMS]


def counts(components: Components) -> TermCounts:
    return TermCounts(*[getattr(components, term).count for term in TERMS])


# An independent version: one record at a time, numpy in float64, straight from the equations.


def numpy_record(record: list[Answer], settings: ObjectiveSettings) -> tuple[float, float | None, float | None]:
    """The three terms of one record; None where one is not defined."""
    logps = [np.asarray(answer.logps) for answer in record]
    p = [values.sum() / len(values) for values in logps]
    rewards = [answer.reward for answer in record]

    def reduced(values: np.ndarray) -> float:
        return float(values.mean() if settings.reduction == "token_mean" else values.sum())

    best = rewards.index(max(rewards))
    pairs = [max(0.0, p[i] - p[j]) for i, j in itertools.permutations(range(len(record)), 2) if rewards[i] < rewards[j]]
    ranked = sum(pairs) / (len(pairs) if settings.ranking.reduction == "mean_pairs" else 1) if pairs else None
    kind = settings.penalty
    candidates = [i for i in range(len(record)) if kind.target == "worst" or record[i].negative]
    worst = max(candidates, key=lambda i: (-rewards[i], i), default=best)
    if rewards[worst] == rewards[best]:
        return -reduced(logps[best]), ranked, None
    if kind.kind == "likelihood":
        term = reduced(logps[worst])
    elif kind.kind == "unlikelihood":
        term = reduced(-np.log(1 - np.exp(logps[worst])))
    else:
        b = kind.inverse_temperature
        term = -2 / b * np.log(1 / (1 + np.exp(b * reduced(logps[worst] - np.asarray(record[worst].reference)))))
    return -reduced(logps[best]), ranked, term


def numpy_terms(records: list[list[Answer]], settings: ObjectiveSettings) -> tuple[list[float], TermCounts]:
    columns = list(zip(*[numpy_record(record, settings) for record in records], strict=True))
    defined = [[value for value in column if value is not None] for column in columns]
    return [sum(column) for column in defined], TermCounts(*[len(column) for column in defined])


@pytest.mark.parametrize("target", ["worst", "negative_prompt"])
@pytest.mark.parametrize("reduction", ["token_mean", "token_sum"])
@pytest.mark.parametrize("pairs", ["mean_pairs", "sum"])
@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_terms_equal_an_independent_numpy_version(kind, pairs, reduction, target):
    kind = kind.model_copy(update={"target": target})
    settings = settings_of(reduction=reduction, ranking=RankingSettings(reduction=pairs), penalty=kind)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        records = drawn(rng)
        expected, defined = numpy_terms(records, settings)
        layout, logps, reference = scattered(rng, *laid_out(records))
        plan = plan_of(layout, target)
        terms = objective(logps, plan, settings, reference)
        assert sums(terms) == pytest.approx(expected, abs=1e-6)
        assert counts(terms) == plan.counts == defined
        weights, numbers = (1, settings.alpha, settings.beta), (defined.sft, defined.ranking, defined.penalty)
        loss = sum(w * value / max(n, 1) for w, value, n in zip(weights, expected, numbers, strict=True))
        assert total(terms, plan.counts, settings).item() == pytest.approx(loss, abs=1e-6)


@pytest.mark.parametrize("reduction", ["token_mean", "token_sum"])
@pytest.mark.parametrize("kind", [*KINDS, NoPenalty()], ids=[*NAMES, "none"])
def test_gradients_equal_finite_differences(kind, reduction):
    settings = settings_of(reduction=reduction, penalty=kind)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        layout, logps, reference = scattered(rng, *laid_out(drawn(rng, records=4)))
        logps = logps.nan_to_num(nan=-1.0, neginf=-1.0)  # finite differences need finite junk
        plan = plan_of(layout)

        def loss(values, plan=plan, reference=reference):
            return total(objective(values, plan, settings, reference), plan.counts, settings)

        assert torch.autograd.gradcheck(loss, logps.requires_grad_())


THREE = [[Answer([-1.0, -2.0], 2.0), Answer([-0.5], 0.5), Answer([-1.0, -1.0, -4.0], -1.0)]]
# p = -1.5, -0.5, -2; the pairs (lower, higher): (2nd, 1st) max(0, -0.5 + 1.5) = 1, (3rd, 1st) 0, (3rd, 2nd) 0


def test_the_paper_s_preset_is_equation_8():
    settings = PRESETS["paper"].model_copy(update={"alpha": 0.5, "beta": 0.25})
    layout, logps, _ = laid_out(THREE)
    logps.requires_grad_()
    plan = plan_of(layout, settings.penalty.target)
    terms = objective(logps, plan, settings)
    assert sums(terms) == [3.0, 1.0, -6.0]  # L_sft, L_ranking, - L_pen
    loss = total(terms, plan.counts, settings)
    assert loss.item() == 3.0 + 0.5 * 1.0 - 0.25 * 6.0
    loss.backward()
    # best: -1 of the SFT term and alpha * -1/2 of the ranking; second: alpha * 1; worst: beta
    assert logps.grad.tolist() == [-1.25, -1.25, 0.5, 0.25, 0.25, 0.25]


def test_the_recommended_preset_takes_means():
    settings = PRESETS["recommended"]
    layout, logps, _ = laid_out(THREE)
    plan = plan_of(layout)
    terms = objective(logps, plan, settings, reference=logps)
    # at the reference, npo is 2 log 2 / b
    assert sums(terms) == pytest.approx([1.5, 1 / 3, 2 * math.log(2) / settings.penalty.inverse_temperature])


def test_the_independent_version_agrees_with_the_hand():
    settings = PRESETS["paper"]
    assert numpy_terms(THREE, settings) == ([3.0, 1.0, -6.0], TermCounts(1, 1, 1))


# Penalties


@pytest.mark.parametrize("target", ["worst", "negative_prompt"])
@pytest.mark.parametrize("reduction", ["token_mean", "token_sum"])
@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_one_gradient_step_on_a_penalty_alone_makes_its_target_less_likely(kind, reduction, target):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        records = drawn(rng)
        layout, _, reference = laid_out(records)
        plan = plan_of(layout, target)
        tokens = torch.as_tensor(rng.integers(0, 5, len(layout.mask)))
        logits = torch.as_tensor(rng.normal(0, 2, (len(tokens), 5))).requires_grad_()  # a policy that is a table

        def logps(logits, tokens=tokens):
            return logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0]

        term = penalty(logps(logits), plan, kind, reduction, reference)
        (step,) = torch.autograd.grad(term.sum, logits)
        before = by_response(logps(logits), plan, "token_sum")
        after = by_response(logps(logits - 1e-3 * step), plan, "token_sum")
        assert term.count > 0
        assert (after < before)[plan.target].all()
        others = torch.ones_like(before, dtype=torch.bool).index_fill(0, plan.target, False)
        assert torch.equal(after[others], before[others])


def penalised_alone(kind, value: float) -> float:
    """The penalty where the worst response is one token of this log-probability, its reference's being -1."""
    layout, logps, reference = laid_out([[Answer([-1.0], 1.0), Answer([value], 0.0, reference=[-1.0])]])
    return penalty(logps, plan_of(layout), kind, "token_mean", reference).sum.item()


@pytest.mark.parametrize("kind", BOUNDED, ids=NAMES[1:])
def test_bounded_penalties_end_at_zero_with_a_slope_that_vanishes(kind):
    depths = [-2.0, -8.0, -32.0, -128.0]
    values = [penalised_alone(kind, x) for x in depths]
    slopes = [(penalised_alone(kind, x + 1e-4) - penalised_alone(kind, x - 1e-4)) / 2e-4 for x in depths]
    assert values == sorted(values, reverse=True)
    assert slopes == sorted(slopes, reverse=True)
    assert slopes[0] > 0.1
    assert 0 <= values[-1] < 1e-9
    assert 0 <= slopes[-1] < 1e-9
    assert penalised_alone(kind, -1e4) >= 0


def test_the_paper_s_penalty_falls_without_end():
    assert penalised_alone(Likelihood(), -1e4) == -1e4


def test_npo_pulls_like_the_paper_s_penalty_at_the_reference():
    layout, logps, _ = laid_out(THREE)
    logps.requires_grad_()
    plan = plan_of(layout)
    for reduction in ("token_mean", "token_sum"):
        kinds = (NPO(inverse_temperature=0.3), Likelihood())
        terms = [penalty(logps, plan, kind, reduction, reference=logps).sum for kind in kinds]
        npo, likelihood = (torch.autograd.grad(term, logps)[0] for term in terms)
        assert torch.allclose(npo, likelihood)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_certain_token_has_a_finite_unlikelihood_and_gradient(dtype):
    logps = torch.tensor([0.0, -0.0, -1e-7, -1.0, -math.inf], dtype=dtype, requires_grad=True)
    values = unlikelihood(logps)
    values.sum().backward()
    assert values.isfinite().all()
    assert logps.grad.isfinite().all()
    assert values[-1] == 0
    assert values[0].item() == pytest.approx(-math.log(1e-6), abs=0.1)


# Batches


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_a_padded_batch_with_anything_in_its_padding_is_the_flat_one(kind):
    layout, logps, reference = laid_out(drawn(np.random.default_rng(3)))
    rows, width = len(layout.record), 20
    columns = torch.arange(width).expand(rows, width)
    mask = columns < plan_of(layout).length[:, None]
    padded = [torch.full((rows, width), junk, dtype=torch.float64) for junk in (math.nan, math.inf)]
    padded[0][mask], padded[1][mask] = logps, reference
    wide = Layout(
        torch.arange(rows)[:, None].expand(rows, width).flatten(), mask.flatten(), layout.record, layout.reward
    )
    settings = settings_of(penalty=kind)
    gradients = []
    for batch, values, base in ((layout, logps, reference), (wide, padded[0].flatten(), padded[1].flatten())):
        values = values.clone().requires_grad_()
        terms = objective(values, plan_of(batch), settings, base)
        loss = total(terms, plan_of(batch).counts, settings)
        gradients.append((sums(terms), torch.autograd.grad(loss, values)[0]))
    (flat, by_token), (wide_sums, by_place) = gradients
    assert wide_sums == pytest.approx(flat, rel=1e-12)
    assert torch.allclose(by_place[mask.flatten()], by_token, rtol=1e-12)
    assert not by_place[~mask.flatten()].any()


def test_a_longer_sibling_leaves_the_scores_of_the_others_alone():
    def scores(length: int) -> torch.Tensor:
        record = [Answer([-1.0, -3.0], 2.0), Answer([-0.25] * length, 1.0), Answer([-4.0], 0.0)]
        layout, logps, _ = laid_out([record])
        return by_response(logps, plan_of(layout), "token_mean")

    assert scores(1).tolist() == scores(500).tolist() == [-2.0, -0.25, -4.0]


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_a_batch_is_the_sum_of_its_queries(kind):
    settings = settings_of(penalty=kind)
    rng = np.random.default_rng(5)
    records = drawn(rng, records=12)
    layout, logps, reference = scattered(rng, *laid_out(records))
    together = objective(logps, plan_of(layout), settings, reference)
    alone = []
    for record in records:
        layout, logps, reference = laid_out([record], ids=[41])
        alone.append(objective(logps, plan_of(layout), settings, reference))
    assert sums(together) == pytest.approx(np.sum([sums(one) for one in alone], axis=0), abs=1e-12)
    assert counts(together) == sum(map(counts, alone), TermCounts(0, 0, 0))


class Step:
    """One optimiser step over eight ragged records with a small policy whose parameters every token shares."""

    def __init__(self) -> None:
        self.records = drawn(np.random.default_rng(8), records=8)
        generator = torch.Generator().manual_seed(0)
        sizes = [sum(len(answer.logps) for answer in record) for record in self.records]
        self.inputs = [torch.randn(size, 4, generator=generator) for size in sizes]
        self.weight = torch.randn(4, generator=generator)

    def backward(self, ids: list[int], settings: ObjectiveSettings, counts: TermCounts, weight: torch.Tensor) -> None:
        layout, _, reference = laid_out([self.records[number] for number in ids], ids=ids, dtype=torch.float32)
        logps = -torch.nn.functional.softplus(torch.cat([self.inputs[number] for number in ids]) @ weight)
        total(objective(logps, plan_of(layout), settings, reference), counts, settings).backward()

    def gradient(self, size: int, accumulation: int, ranks: int, settings: ObjectiveSettings) -> torch.Tensor:
        """As distributed data parallelism would have it: the ranks' mean, times their number."""
        batches = torch.arange(8).view(ranks, accumulation, size).tolist()
        layouts = [laid_out([self.records[number] for number in ids])[0] for rank in batches for ids in rank]
        counts = sum((plan_of(layout).counts for layout in layouts), TermCounts(0, 0, 0))
        gradients = []
        for rank in batches:
            weight = self.weight.clone().requires_grad_()
            for ids in rank:
                self.backward(ids, settings, counts, weight)
            gradients.append(weight.grad)
        return torch.stack(gradients).mean(0) * ranks


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
@pytest.mark.parametrize("weights", [(0.0, 0.0), (1e4, 0.0), (0.0, 1e4), (1.0, 0.5)])
def test_micro_batches_accumulation_and_ranks_change_no_gradient(weights, kind):
    step = Step()
    alpha, beta = weights  # 1e4 leaves next to nothing but that term
    settings = ObjectiveSettings(alpha=alpha, beta=beta, penalty=kind)
    whole = step.gradient(8, 1, 1, settings)
    assert whole.norm() > 0.01
    for split in ((1, 8, 1), (2, 2, 2), (1, 1, 8), (4, 2, 1)):
        assert torch.allclose(step.gradient(*split, settings), whole, rtol=1e-6, atol=1e-6 * whole.norm().item())


def test_a_batch_of_fillers_has_a_loss_of_zero_that_reaches_the_graph():
    settings = settings_of(penalty=Unlikelihood())
    layout = Layout(torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.bool), -torch.ones(1), torch.zeros(1))
    logps = torch.tensor([math.nan, 0.0, -1.0], requires_grad=True)
    plan = plan_of(layout)
    assert plan.counts == TermCounts(0, 0, 0)
    assert by_response(logps, plan, "token_mean").tolist() == [0]
    loss = total(objective(logps, plan, settings), TermCounts(5, 4, 3), settings)
    loss.backward()
    assert loss.item() == 0
    assert logps.grad.tolist() == [0, 0, 0]


def test_inputs_are_never_written_to():
    layout, logps, reference = laid_out(drawn(np.random.default_rng(1)))
    tensors = [layout.response, layout.mask, layout.record, layout.reward, layout.negative, layout.query]
    tensors += [logps, reference]
    before = [tensor.clone() for tensor in tensors]
    for kind in KINDS:
        plan = plan_of(layout)
        kept = [getattr(plan, field.name).clone() for field in fields(plan)]
        objective(logps, plan, settings_of(penalty=kind), reference)
        diagnostics(logps, plan)
        assert all(torch.equal(getattr(plan, f.name), old) for f, old in zip(fields(plan), kept, strict=True))
    assert all(torch.equal(now, old) for now, old in zip(tensors, before, strict=True))
    assert all(tensor._version == 0 for tensor in tensors)


def test_half_precision_is_added_up_in_float32():
    layout, logps, _ = laid_out([[Answer([-0.001] * 4000, 1.0)]], dtype=torch.bfloat16)
    values = by_response(logps, plan_of(layout), "token_sum")
    assert values.dtype == torch.float32
    assert values.item() == pytest.approx(4000 * logps[0].item(), rel=1e-5)


# Which responses


@pytest.mark.parametrize("record", [[Answer([-1.0], 1.0)], [Answer([-1.0], 1.0), Answer([-9.0], 1.0)]])
def test_one_response_or_equal_rewards_give_sft_alone(record):
    layout, logps, _ = laid_out([record])
    terms = objective(logps, plan_of(layout), settings_of(penalty=Likelihood()))
    assert sums(terms) == [1.0, 0.0, 0.0]
    assert counts(terms) == TermCounts(1, 0, 0)


def test_a_tied_pair_inside_a_record_gives_nothing():
    # p = -1, -5, -2 with the last two tied: of their order nothing is said, whichever is likelier
    layout, logps, _ = laid_out([[Answer([-3.0], 2.0), Answer([-5.0], 1.0), Answer([-2.0], 1.0)]])
    plan = plan_of(layout)
    assert ranking(by_response(logps, plan, "token_mean"), plan, "sum").sum.item() == 1.0
    assert ranking(by_response(logps, plan, "token_mean"), plan, "mean_pairs").sum.item() == 0.5


def test_of_equal_rewards_the_first_is_best_and_the_last_worst():
    layout, _, _ = laid_out([[Answer([-1.0], reward) for reward in (1.0, 3.0, 3.0, 1.0, 2.0)]])
    plan = plan_of(layout)
    assert (plan.best.tolist(), plan.bottom.tolist()) == ([1], [3])


NEGATIVES = [
    [Answer([-1.0], 3.0), Answer([-2.0], 2.0, True), Answer([-3.0], 1.0, True), Answer([-4.0], 0.0)],
    [Answer([-1.0], 0.0), Answer([-2.0], 2.0, True)],  # the negative-prompted one is the best: not penalised
    [Answer([-1.0], 1.0), Answer([-2.0], 0.0)],  # none
    [Answer([-1.0], 1.0), Answer([-2.0], 0.0, True)],
]


def test_the_target_can_be_the_worst_of_the_negative_prompted():
    layout, logps, _ = laid_out(NEGATIVES)
    plan = plan_of(layout, "negative_prompt")
    assert plan.target.tolist() == [2, 9]
    assert plan.counts == TermCounts(4, 4, 2)
    assert penalty(logps, plan, Likelihood(), "token_sum").sum.item() == -5.0
    assert plan_of(layout).target.tolist() == [3, 4, 7, 9]


def test_no_negative_prompted_response_can_be_named_where_they_are_not_known():
    layout, _, _ = laid_out(NEGATIVES)
    unknown = Layout(layout.response, layout.mask, layout.record, layout.reward)
    with pytest.raises(ValueError, match="negative_prompt"):
        plan_of(unknown, "negative_prompt")


def test_a_copy_behind_its_prompt_is_penalised_in_its_stead_and_counts_nowhere_else():
    layout, logps, _ = laid_out([[Answer([-1.0], 1.0), Answer([-2.0], 0.0, True)], [Answer([-7.0, -7.0], math.nan)]])
    record = torch.tensor([0, 0, -1])
    copied = Layout(
        layout.response, layout.mask, record, layout.reward, layout.negative, prompted=torch.tensor([0, 2, 2])
    )
    plan = plan_of(copied)
    assert sums(objective(logps, plan, settings_of(reduction="token_sum", penalty=Likelihood()))) == [1.0, 0.0, -14.0]
    assert plan.counts == TermCounts(1, 1, 1)


# What to watch


def test_diagnostics_by_hand():
    layout, logps, _ = laid_out([*THREE, [Answer([-1.0], 0.0, True)], [Answer([-1.0], 0.0, True), Answer([-3.0], 1.0)]])
    logps.requires_grad_()
    figures = diagnostics(logps, plan_of(layout))

    def of(component: Component) -> tuple[float, int]:
        assert not component.sum.requires_grad
        return component.sum.item(), component.count

    assert of(figures.best_logp) == (-1.5 - 3.0, 2)
    assert of(figures.worst_logp) == (-2.0 - 1.0, 2)
    assert of(figures.accuracy) == (2.0, 4)  # two of the three pairs, not the last record's
    assert of(figures.negative_worst) == (1.0, 2)


# Weights and input


def test_a_weight_of_zero_leaves_its_term_out_even_where_it_is_infinite():
    layout, logps, _ = laid_out([[Answer([-1.0], 1.0), Answer([-math.inf], 0.0), Answer([-2.0], -1.0)]])
    settings = ObjectiveSettings(alpha=0, beta=0, penalty=NPO())
    plan = plan_of(layout)
    terms = objective(logps, plan, settings)  # and no reference is asked for
    assert terms.penalty.count == 0
    assert total(terms, plan.counts, settings).item() == 1.0


def test_npo_without_a_reference_is_refused():
    layout, logps, _ = laid_out(THREE)
    with pytest.raises(ValueError, match="reference"):
        penalty(logps, plan_of(layout), NPO(), "token_mean")


def changed(**changes) -> Layout:
    layout, _, _ = laid_out([[Answer([-1.0], 1.0), Answer([-2.0], 0.0)]])
    return Layout(**{**{field.name: getattr(layout, field.name) for field in fields(layout)}, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": torch.tensor([True, False])}, "response 1 has no token"),
        ({"reward": torch.tensor([1.0, math.nan])}, "not a finite number"),
        ({"mask": torch.tensor([1, 1])}, "bool"),
        ({"response": torch.tensor([0, 1, 1])}, "shapes differ"),
        ({"negative": torch.tensor([True])}, "shapes differ"),
        (
            {"record": torch.tensor([0, -1]), "mask": torch.tensor([True, False]), "prompted": torch.tensor([1, 1])},
            None,
        ),
    ],
)
def test_a_layout_that_cannot_be_is_refused(changes, message):
    if message is None:  # a copy without tokens that nothing is penalised by
        assert plan_of(changed(**changes)).counts == TermCounts(1, 0, 0)
        return
    with pytest.raises(ValueError, match=message):
        plan_of(changed(**changes))


def test_log_probabilities_of_another_batch_are_refused():
    layout, logps, _ = laid_out(THREE)
    with pytest.raises(ValueError, match="for a mask"):
        sft(logps[1:], plan_of(layout), "token_mean")
    with pytest.raises(ValueError, match="for a mask"):
        penalty(logps, plan_of(layout), NPO(), "token_mean", reference=logps[:1])
