"""The answers under each prompt, read from the datasets, and what is measured of them; files and tables of it.

Every difference is one within a query: the answer under a prompt against the bare query's. An empty answer, or one that
is there already, was not kept by `expand`; where either side is missing the query is left out, and `answers` counts.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neat_data.analysis.measures import wilson
from neat_data.models.sampler import sample_seed
from neat_data.record import Messages, Record, Response
from neat_data.report.tables import MISSING, Table
from neat_data.store.dataset import PreferenceDataset
from neat_train.comparison.markdown import escaped, write_markdown
from neat_train.statistics import Interval, mean_interval, paired_difference
from pipelines.smollm2.agreement import HELD_OUT
from pipelines.smollm2.rows import TESTS
from pipelines.smollm2.rules import Rules, rules_of

PLAIN = "plain"
SEED = 0  # of the round; a record does not name the prompt of an answer, but the answer's seed tells it
SHOWN = 5  # queries of each file whose answers are shown: those with the first ids, which are hashes


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer with what is said of it; `heldout` is the reward of the model that takes no part in anything."""

    response: Response
    heldout: float
    rules: Rules


@dataclass(frozen=True, slots=True)
class Asked:
    """A query with its answers by prompt, and the rewards that people's pair has."""

    kind: str
    query_id: str
    messages: Messages
    source: tuple[float, ...]
    answers: Mapping[str, Answer]


MEASURES: Mapping[str, Callable[[Answer], float]] = {
    "reward": lambda answer: float(answer.response.reward or 0.0),
    "held-out reward": lambda answer: answer.heldout,
    "refusals": lambda answer: answer.rules.refusal,
    "repetitive": lambda answer: answer.rules.repetitive,
    "profane": lambda answer: answer.rules.profane,
    "not English": lambda answer: bool(answer.rules.foreign),
    "words": lambda answer: answer.rules.words,
    "finished": lambda answer: bool(answer.response.finished),
}
_REWARDS = ("reward", "held-out reward", "words")  # the others are shares


def write_figures(out: Path, prompts: Sequence[str]) -> None:
    """Write prompts.json, prompts.md and samples.md under `out`, of the datasets there.

    Args:
        prompts: their names.
    """
    asked = [one for kind in TESTS for one in read(out / kind, kind, prompts)]
    figures = figures_of(asked, prompts)
    content = {"settings": {kind: _settings(out / kind) for kind in TESTS}, **figures}
    (out / "prompts.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    write_markdown(tables(figures), out / "prompts.md")
    (out / "samples.md").write_text("\n".join(samples(asked, prompts)) + "\n", encoding="utf-8")


def _settings(folder: Path) -> dict[str, Any]:
    """How a dataset's answers were sampled and scored, what the held-out model is, and what was installed."""
    dataset = PreferenceDataset.open(str(folder))
    (expanded,) = (round for round in dataset.manifest.rounds if round.round)
    return {
        "source": dataset.manifest.settings["source"],
        **expanded.settings,
        HELD_OUT: dataset.scores(HELD_OUT).settings["reward_model"],
        "versions": dataset.manifest.versions,
    }


def read(folder: Path, kind: str, prompts: Sequence[str]) -> list[Asked]:
    """The queries of a dataset in order of their ids, with the answers of its first round."""
    dataset = PreferenceDataset.open(str(folder))
    heldout = {r.response_id: r.reward for record in dataset.records(rank_by=HELD_OUT) for r in record.responses}
    made = [_asked(record, kind, prompts, heldout) for record in dataset.records()]
    return sorted(made, key=lambda one: one.query_id)


def _asked(record: Record, kind: str, prompts: Sequence[str], heldout: Mapping[str, float | None]) -> Asked:
    by_seed = {sample_seed(SEED, 1, record.query_id, prompt, 0): prompt for prompt in prompts}
    sampled = {by_seed[r.seed]: r for r in record.responses if r.seed is not None}
    answers = {
        prompt: Answer(response, float(heldout[response.response_id] or 0.0), rules_of(response.text))
        for prompt, response in sampled.items()
    }
    source = tuple(float(r.reward or 0.0) for r in record.responses if not r.round)
    return Asked(kind, record.query_id, record.messages, source, answers)


def figures_of(asked: Sequence[Asked], prompts: Sequence[str]) -> dict[str, Any]:
    """By scope (each test file, and both): every prompt's figures, and how far the rewards of a query lie apart."""
    scopes = {**{kind: [one for one in asked if one.kind == kind] for kind in TESTS}, "both": list(asked)}
    return {
        scope: {
            "queries": len(members),
            "deviation": float(np.std([reward for one in members for reward in one.source])),
            "prompts": {prompt: _of_prompt(members, prompt) for prompt in prompts},
            "negative_against_positive": _differences(_both(members, "negative", "positive")),
            "gaps": gaps(members, prompts),
        }
        for scope, members in scopes.items()
    }


def _of_prompt(asked: Sequence[Asked], prompt: str) -> dict[str, Any]:
    own = [one.answers[prompt] for one in asked if prompt in one.answers]
    both = _both(asked, prompt, PLAIN)
    differences = _differences(both) if prompt != PLAIN else {}
    measures = {}
    for name, measure in MEASURES.items():
        mean = mean_interval(np.array([measure(answer) for answer in own]))
        measures[name] = {"mean": mean and mean.to_dict(), **differences.get(name, {})}
    return {"answers": len(own), "measures": measures, "below_plain": _below(both)}


def _both(asked: Sequence[Asked], prompt: str, other: str) -> list[tuple[Answer, Answer]]:
    """The answers under two prompts to the queries that have both."""
    return [(one.answers[prompt], one.answers[other]) for one in asked if {prompt, other} <= one.answers.keys()]


def _differences(both: Sequence[tuple[Answer, Answer]]) -> dict[str, dict[str, Any]]:
    """Every measure's mean difference within queries, first less second, with its p; none where it cannot be had."""
    made = {}
    for name, measure in MEASURES.items():
        sides = np.array([[measure(one), measure(other)] for one, other in both]).reshape(-1, 2)
        compared = paired_difference(sides[:, 0], sides[:, 1])
        if compared is not None:
            made[name] = {"difference": compared[0].to_dict(), "p": compared[1]}
    return made


def _below(both: Sequence[tuple[Answer, Answer]]) -> dict[str, float] | None:
    """The share of queries whose answer has less reward than the bare query's; a tie is half."""
    if not both or all(one is other for one, other in both):
        return None
    reward = MEASURES["reward"]
    hits = sum((reward(one) < reward(other)) + 0.5 * (reward(one) == reward(other)) for one, other in both)
    low, high = wilson(hits / len(both), len(both))
    return {"value": hits / len(both), "low": low, "high": high}


def gaps(asked: Sequence[Asked], prompts: Sequence[str]) -> dict[str, dict[str, float]]:
    """Best less worst reward of a query, before and after the answer under one prompt joins people's pair.

    Any third response widens it: the bare query's says by how much.

    Returns:
        For `people's pair` and each prompt the mean, and the shares above 1, above 5 and above one and two standard
        deviations of the pairs' rewards.
    """
    deviation = float(np.std([reward for one in asked for reward in one.source]))
    widths = {"people's pair": [_width(one.source) for one in asked]}
    for prompt in prompts:
        joined = [(*one.source, MEASURES["reward"](one.answers[prompt])) for one in asked if prompt in one.answers]
        widths[f"with {prompt}"] = [_width(rewards) for rewards in joined]
    bounds = {"above 1": 1.0, "above 5": 5.0, "above 1 sd": deviation, "above 2 sd": 2 * deviation}
    return {
        name: {
            "mean": float(np.mean(values)),
            **{bound: float(np.mean(np.array(values) > limit)) for bound, limit in bounds.items()},
        }
        for name, values in widths.items()
        if values
    }


def _width(rewards: Sequence[float]) -> float:
    return max(rewards) - min(rewards)


def tables(figures: Mapping[str, Any]) -> list[Table]:
    """For a page: each scope's prompts, their differences from the bare query, and the gaps."""
    return [table for scope, content in figures.items() for table in _of_scope(scope, content)]


def _of_scope(scope: str, content: Mapping[str, Any]) -> Iterable[Table]:
    named = content["prompts"]
    yield Table(
        f"Answers, {scope}",
        ("prompt", "answers", *MEASURES),
        tuple((name, str(of["answers"]), *_figures(of["measures"], "mean")) for name, of in named.items()),
        f"{content['queries']} queries; a standard deviation of people's pairs' rewards is {content['deviation']:.2f}.",
    )
    yield Table(
        f"Against the bare query, {scope}",
        ("prompt", "less reward than it", *MEASURES),
        (
            *(
                (name, _cell("share", of["below_plain"]), *_figures(of["measures"], "difference"))
                for name, of in named.items()
                if name != PLAIN
            ),
            ("negative, against positive", MISSING, *_figures(content["negative_against_positive"], "difference")),
        ),
        "Differences within queries with 95 % intervals.",
    )
    columns = list(next(iter(content["gaps"].values())))
    yield Table(
        f"Best less worst reward of a query, {scope}",
        ("responses", *columns),
        tuple((name, *(_plain(c, values[c]) for c in columns)) for name, values in content["gaps"].items()),
    )


def _figures(measures: Mapping[str, Mapping[str, Any]], which: str) -> Iterable[str]:
    return (_cell(name, measures.get(name, {}).get(which)) for name in MEASURES)


def _cell(measure: str, figure: Mapping[str, float] | None) -> str:
    if figure is None:
        return MISSING
    of = Interval(**figure)
    if measure in _REWARDS:
        return f"{of.value:.2f} ({of.low:.2f} to {of.high:.2f})"
    return f"{100 * of.value:.1f} % ({100 * of.low:.1f} to {100 * of.high:.1f})"


def _plain(column: str, value: float) -> str:
    return f"{value:.2f}" if column == "mean" else f"{100 * value:.1f} %"


def samples(asked: Sequence[Asked], prompts: Sequence[str]) -> Iterable[str]:
    """Markdown: the queries with the first ids of each file, each with its answer under every prompt."""
    by_kind: dict[str, list[Asked]] = defaultdict(list)
    for one in asked:
        by_kind[one.kind].append(one)
    for kind, members in by_kind.items():
        for one in members[:SHOWN]:
            yield from (f"### {kind}: {_line(one.messages[-1].content)}", "")
            yield from (_sample(prompt, one.answers.get(prompt)) for prompt in prompts)
            yield ""


def _sample(prompt: str, answer: Answer | None) -> str:
    if answer is None:
        return f"- *{prompt}*: nothing"
    rewards = f"{MEASURES['reward'](answer):.2f}, held-out {answer.heldout:.2f}"
    return f"- *{prompt}* ({rewards}): {_line(answer.response.text)}"


def _line(text: str) -> str:
    return escaped(" ".join(text.split()))
