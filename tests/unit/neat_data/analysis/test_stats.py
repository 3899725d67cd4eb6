"""The figures of `stats`: worked out by hand on a few records, and by plain numpy and scipy on real data."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
import warnings
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats as scipy_stats

from neat_data import dialogue
from neat_data.analysis.result import Figures, Stats
from neat_data.analysis.stats import PAPER_MODEL, compute
from neat_data.errors import InputError
from neat_data.record import Label, Message, Record, Response, query_id, response_id


@pytest.fixture
def by_hand(record_of) -> list[Record]:
    """Pairs, by record: +2 | -1 | 0 | +1.5, -1.5 | +6, +3, -3 | one without a reward; then two single verdicts."""
    return [
        record_of("one", {"aaaa": 3.0, "b": 1.0}, [("aaaa", "b")], place=("x.jsonl", "helpful", "train")),
        record_of("two", {"a": 0.0, "bb": 1.0}, [("a", "bb")], place=("x.jsonl", "helpful", "train")),
        record_of("three", {"a": 2.0, "b": 2.0}, [("a", "b")], place=("y.jsonl", "harmless", "test")),
        record_of(["q", "r", "four"], {"a": 1.5, "bb": 0.0}, [("a", "bb"), ("bb", "a")], meta='{"hard":"yes"}'),
        record_of("five", {"xxx": 4.0, "yy": 1.0, "z": -2.0}, [("xxx", "z", "yy")]),
        record_of("six", {"a": None, "b": 1.0}, [("a", "b")]),
        record_of("seven", {"good": 1.0}, [("good",)], verdict=True),
        record_of("eight", {"bad": 0.5, "worse": 2.0}, [("bad",)], verdict=False, truncated=True),
    ]


def fraction(share) -> Fraction:
    return Fraction(share.count, share.total)


def test_shares_are_strict_and_count_every_pair_of_every_label(by_hand, made_dataset):
    stats = compute(made_dataset(by_hand), thresholds=(1.0, 1.5, 5.0))
    assert [fraction(t.absolute) for t in stats.thresholds] == [Fraction(6, 8), Fraction(4, 8), Fraction(1, 8)]
    assert [fraction(t.signed) for t in stats.thresholds] == [Fraction(4, 8), Fraction(3, 8), Fraction(1, 8)]
    assert fraction(stats.ties) == Fraction(1, 8)
    assert fraction(stats.disagreement) == Fraction(3, 8)


def test_intervals_allow_for_pairs_that_share_a_query(by_hand, made_dataset):
    beyond = compute(made_dataset(by_hand)).thresholds[0].absolute
    assert beyond.clusters == 5
    assert beyond.effective == pytest.approx(8 * 24 / 35)  # worked out in test_measures
    assert beyond.low < 6 / 8 < beyond.high


def test_counts_of_what_is_there_and_what_is_not(by_hand, made_dataset):
    counts = compute(made_dataset(by_hand, rejected=["bad_unicode", "queries_differ", "bad_unicode"])).counts
    assert (counts.records, counts.responses, counts.labels, counts.pairs) == (8, 16, 9, 8)
    assert (counts.unscored, counts.unscored_pairs, counts.truncated, counts.repeated) == (1, 1, 2, 1)
    assert counts.rejected == {"bad_unicode": 2, "queries_differ": 1}
    assert counts.source_rows == 12


def test_quantiles_of_the_gap_and_of_its_scale_free_forms(by_hand, made_dataset):
    stats = compute(made_dataset(by_hand))
    gaps = np.array([2, -1, 0, 1.5, -1.5, 6, 3, -3])
    assert (stats.gaps.signed.minimum, stats.gaps.signed.median, stats.gaps.signed.maximum) == (-3, 0.75, 6)
    assert stats.gaps.absolute.median == 1.75
    assert stats.gaps.probability.maximum == pytest.approx(1 / (1 + np.exp(-6)))
    rewards = [3, 1, 0, 1, 2, 2, 1.5, 0, 4, 1, -2, 1, 1, 0.5, 2]
    assert stats.rewards[0].rewards.std == pytest.approx(np.std(rewards))
    assert stats.gaps.relative.q25 == pytest.approx(np.quantile(np.abs(gaps), 0.25) / np.std(rewards))
    assert (stats.gaps.best_to_worst.count, stats.gaps.best_to_worst.mean) == (1, 6)


def test_agreement_with_people_by_size_of_the_gap(by_hand, made_dataset):
    bins = compute(made_dataset(by_hand)).gap_bins
    # sizes without the tie: 1 1.5 1.5 2 3 3 6, quintiles 1.5 1.7 2.6 3; bins include their upper edge
    assert [(b.agreement.count, b.agreement.total) for b in bins] == [(1, 3), (1, 1), (1, 2), (1, 1)]
    assert [round(b.high, 9) for b in bins] == [1.5, 2.6, 3.0, 6.0]


def test_rewards_by_origin_polarity_and_round(record_of, made_dataset):
    records = [
        record_of("one", {"a": 1.0, "b": 3.0}, origin="sampled", polarity="negative"),
        record_of("two", {"a": 5.0}, origin="source"),
    ]
    groups = compute(made_dataset(records)).rewards
    rows = [(g.kind, g.name, g.rewards.count, g.rewards.mean) for g in groups]
    assert rows == [
        ("all", None, 3, 3.0),
        ("origin", "sampled", 2, 2.0),
        ("origin", "source", 1, 5.0),
        ("polarity", None, 1, 5.0),
        ("polarity", "negative", 2, 2.0),
        ("round", "0", 3, 3.0),
    ]


def test_length_by_reward_and_by_people(by_hand, made_dataset):
    length = compute(made_dataset(by_hand)).length
    # unequal lengths: one (longer wins both), two (longer wins by reward only), four twice (longer loses by reward;
    # people are of two minds), five: xxx-z and xxx-yy (longer wins both), z over yy (longer wins by reward only)
    assert fraction(length.by_reward) == Fraction(5, 7)
    assert fraction(length.by_people) == Fraction(4, 7)


def test_single_responses_by_verdict(by_hand, made_dataset):
    unpaired = compute(made_dataset(by_hand)).unpaired
    assert (unpaired.accepted.mean, unpaired.refused.mean, unpaired.auc) == (1.0, 0.5, 1.0)


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("source", [("a.jsonl", 5), ("x.jsonl", 2), ("y.jsonl", 1)]),
        ("subset", [(None, 5), ("helpful", 2), ("harmless", 1)]),
        ("split", [("train", 7), ("test", 1)]),
        ("turns", [("1", 6), ("2", 2)]),
        ("meta.hard", [(None, 6), ("yes", 2)]),
    ],
)
def test_pairs_are_grouped_by(by_hand, made_dataset, by, expected):
    stats = compute(made_dataset(by_hand), by=by)
    assert [(group.name, group.pairs) for group in stats.groups] == expected


def test_a_group_has_figures_of_its_own(by_hand, made_dataset):
    group = compute(made_dataset(by_hand), by="source").groups[1]
    assert [fraction(t.absolute) for t in group.thresholds] == [Fraction(1, 2), Fraction(0, 2)]
    assert (fraction(group.disagreement), group.mean_gap, group.median_gap) == (Fraction(1, 2), 0.5, 1.5)


def test_only_the_largest_groups_are_kept(record_of, made_dataset):
    records = [record_of(str(i), {"a": 1.0, "b": 0.0}, [("a", "b")], meta=json.dumps({"k": i})) for i in range(103)]
    stats = compute(made_dataset(records, shard=50), by="meta.k")
    assert (len(stats.groups), stats.groups_left_out) == (100, 3)


def test_where_leaves_out_records_and_keeps_their_numbers(by_hand, made_dataset):
    stats = compute(made_dataset(by_hand), where="n_responses > 2 OR turns = 2")
    assert (stats.counts.records, stats.counts.pairs) == (2, 5)
    assert [(pair.record, pair.gap) for pair in stats.widest] == [(4, 6.0), (3, 1.5)]


def test_a_failure_of_the_expression_on_the_data_is_the_users(by_hand, made_dataset):
    with pytest.raises(InputError, match="columns: query_id"):
        compute(made_dataset(by_hand), where="CAST(source AS INTEGER) > 1")


def test_examples_name_one_pair_a_record_in_order_of_merit(by_hand, made_dataset):
    stats = compute(made_dataset(by_hand))
    assert [(p.record, p.gap) for p in stats.widest] == [(4, 6.0), (0, 2.0), (3, 1.5), (1, -1.0), (2, 0.0)]
    assert [(p.record, p.gap) for p in stats.narrowest] == [(2, 0.0), (1, -1.0), (3, 1.5), (0, 2.0), (4, 3.0)]
    assert [(p.record, p.gap) for p in stats.wrong] == [(4, -3.0), (3, -1.5), (1, -1.0)]
    wrong = stats.wrong[0]
    texts = [response.text for response in by_hand[4].responses]
    assert (texts[wrong.chosen], texts[wrong.rejected]) == ("z", "yy")


@pytest.mark.parametrize("model", [PAPER_MODEL, f"{PAPER_MODEL}@main"])
def test_the_papers_figures_stand_beside_its_own_model_only(by_hand, made_dataset, model):
    own = compute(made_dataset(by_hand, model=model), thresholds=(1.0, 2.0, 5.0))
    assert (own.scale, [t.paper for t in own.thresholds]) == ("paper", ["around 25 %", None, "less than 0.5 %"])
    other = compute(made_dataset(by_hand, model="else", name="other"))
    assert (other.scale, [t.paper for t in other.thresholds]) == ("another", [None, None])


@pytest.mark.parametrize("threshold", [-1.0, float("nan"), float("inf")])
def test_a_threshold_is_a_number_from_0_up(by_hand, made_dataset, threshold):
    with pytest.raises(InputError, match=r"thresholds .*: a gap"):
        compute(made_dataset(by_hand), thresholds=(threshold,))


def test_figures_do_not_depend_on_how_records_are_cut_into_shards(by_hand, made_dataset):
    whole = compute(made_dataset(by_hand, shard=100, name="whole"), by="source")
    assert compute(made_dataset(by_hand, shard=1, name="many"), by="source") == whole


@pytest.mark.parametrize(
    "records",
    [
        [],
        [("one", {"a": 1.0}, [])],
        [("one", {"a": None, "b": None}, [("a", "b")])],
        [("one", {"a": 0.5, "b": 0.5}, [("a", "b")]), ("two", {"a": 0.5, "b": 0.5}, [("b", "a")])],
        [("one", {"": 0.5}, [])],
    ],
    ids=["nothing", "one response", "no rewards", "ties", "empty text"],
)
def test_degenerate_datasets_give_finite_figures_or_none(record_of, made_dataset, records):
    dataset = made_dataset([record_of(*record) for record in records])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stats = compute(dataset, by="source")
    text = json.dumps(stats.to_dict(), allow_nan=False)
    assert Stats.from_dict(json.loads(text)) == replace(stats, figures=Figures())


def made_up_reward(text: str) -> float:
    """A reward in steps of 1/32, as bfloat16 makes them, so that ties and exact thresholds occur."""
    return (hashlib.sha256(text.encode()).digest()[0] - 128) / 32 - min(len(text), 500) // 100 / 4


def real_records(shared_data) -> list[Record]:
    """Harmless-base test and the ranked Chinese lists, rewards made up; a query that repeats has several labels."""
    orders: dict[tuple[Message, ...], list[tuple[str, ...]]] = {}
    with gzip.open(shared_data / "hh-rlhf/harmless-base.test.jsonl.gz", "rt") as file:
        for row in map(json.loads, file):
            sides = [dialogue.messages(dialogue.parse(row[side])) for side in ("chosen", "rejected")]
            if sides[0][:-1] == sides[1][:-1] and sides[0][-1].content != sides[1][-1].content:
                orders.setdefault(sides[0][:-1], []).append(tuple(side[-1].content for side in sides))
    with gzip.open(shared_data / "ranked/oasst_zh.ranked.json.gz", "rt") as file:
        for row in json.load(file):
            orders.setdefault((Message("user", row["instruction"]),), []).append(tuple(dict.fromkeys(row["output"])))
    return [real_record(messages, tuple(lists)) for messages, lists in orders.items()]


def real_record(messages: tuple[Message, ...], lists: tuple[tuple[str, ...], ...]) -> Record:
    query = query_id(messages)
    texts = dict.fromkeys(text for order in lists for text in order)
    responses = tuple(Response(response_id(query, text), text, made_up_reward(text)) for text in texts)
    labels = tuple(
        Label("real", None, None, i, tuple(response_id(query, t) for t in order)) for i, order in enumerate(lists)
    )
    return Record(query, messages, responses, labels).ranked()


def test_real_data_gives_what_plain_loops_give(shared_data, made_dataset):
    records = real_records(shared_data)
    stats = compute(made_dataset(records, shard=400), thresholds=(0.5, 1.0))
    gaps, lengths = [], []
    for record in records:
        reward = {r.response_id: r.reward for r in record.responses}
        chars = {r.response_id: len(r.text) for r in record.responses}
        for label in record.labels:
            for i, better in enumerate(label.order):
                for worse in label.order[i + 1 :]:
                    gaps.append(reward[better] - reward[worse])
                    lengths.append(chars[better] - chars[worse])
    gap, longer = np.array(gaps), np.array(lengths)
    assert len(gap) > 3000
    assert stats.counts.pairs == len(gap)
    assert stats.ties.count == (gap == 0).sum() > 0
    assert [t.absolute.count for t in stats.thresholds] == [(abs(gap) > 0.5).sum(), (abs(gap) > 1).sum()]
    assert [t.signed.count for t in stats.thresholds] == [(gap > 0.5).sum(), (gap > 1).sum()]
    assert stats.disagreement.count == (gap < 0).sum()
    assert stats.gaps.signed.q05 == pytest.approx(np.quantile(gap, 0.05))
    assert stats.length.by_people.count == (longer > 0).sum()
    assert stats.length.by_reward.count == ((longer > 0) == (gap > 0))[(longer != 0) & (gap != 0)].sum()
    pooled = [(r.reward, len(r.text)) for record in records for r in record.responses]
    assert stats.length.spearman == pytest.approx(scipy_stats.spearmanr(pooled).statistic)
    spread = [r.responses[0].reward - r.responses[-1].reward for r in records if len(r.responses) > 2]
    assert (stats.gaps.best_to_worst.count, stats.gaps.best_to_worst.mean) == (
        len(spread),
        pytest.approx(np.mean(spread)),
    )
    assert sum(b.agreement.count for b in stats.gap_bins) == (gap > 0).sum()


def test_people_who_prefer_the_first_are_half_right_when_half_of_the_labels_are_turned(record_of, made_dataset):
    records = [record_of(str(i), {"a": 2.0, "b": 1.0}, [("a", "b")[:: 1 if i % 2 else -1]]) for i in range(20)]
    assert fraction(compute(made_dataset(records)).disagreement) == Fraction(1, 2)


def test_turning_every_label_turns_the_sign_of_the_gap(by_hand, made_dataset):
    turned = [
        replace(record, labels=tuple(replace(label, order=label.order[::-1]) for label in record.labels))
        for record in by_hand
    ]
    there, back = compute(made_dataset(by_hand)), compute(made_dataset(turned, name="turned"))
    assert back.gaps.signed.mean == -there.gaps.signed.mean
    assert back.gaps.absolute == there.gaps.absolute


def test_stats_import_nothing_heavy():
    heavy = "{'torch', 'transformers', 'datasets', 'matplotlib', 'scipy'}"
    modules = "neat_data.analysis.stats, neat_data.report.terminal, neat_data.report.card"
    code = f"import sys, {modules}; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
