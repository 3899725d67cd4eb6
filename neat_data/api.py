"""The verbs of `neat-data` as functions: `import neat_data as nd`, then `nd.score(…)`.

Each makes a request of its options, hands it to the verb, and returns what came of it. They print nothing: progress is
a bar on stderr or in the notebook, and what the command line says goes to the logger `neat_data`. What a verb needs is
imported when it is called.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from neat_data import arguments
from neat_data.options import verbs
from neat_data.options.keywords import keywords
from neat_data.store.address import folder_or_url

if TYPE_CHECKING:
    from neat_data.analysis.result import Stats
    from neat_data.formats.export import ExportSummary
    from neat_data.options.words import DropBy
    from neat_data.progress import Watcher
    from neat_data.rounds.finish import GrowSummary
    from neat_data.scoring.compact import CompactSummary
    from neat_data.scoring.rescore import RescoreSummary
    from neat_data.scoring.score import ScoreSummary
    from neat_data.store.dataset import PreferenceDataset
    from neat_data.store.verify import Verification


def open(path: str | Path, *, drop_by: DropBy = "any") -> PreferenceDataset:
    """Open a dataset for reading.

    Args:
        path: its folder, or an fsspec URL of one.
        drop_by: which responses that reviewers dropped are left out: those that one of them dropped (`any`), that more
            than half (`majority`) or `all` of those dropped who judged them.

    Raises:
        InputError: `path` is not a dataset written by this project.

    Example:
        ```python
        dataset = nd.open("demo/sample")
        for record in dataset:
            print(record.messages[-1].content, record.responses[0].reward)
        ```
    """
    return arguments.opened(path, drop_by)


@keywords(verbs.Score)
def score(options: verbs.Score) -> ScoreSummary:
    """Score a preference dataset and store it as ranked records; the same call again goes on where one stopped.

    A `RewardModelSpec` as `reward_model` says everything about the model.

    Raises:
        InputError: bad source, model or argument, or a folder that holds something else.
        RunError: out of memory at the smallest budget, a reward that is not finite, a full disk.

    Example:
        ```python
        summary = nd.score("pairs.jsonl", out="demo/helpful", reward_model="data/models/tiny-reward")
        dataset = nd.open(summary.out)
        ```
    """
    from neat_data.scoring.score import score

    request = arguments.score_request(options)
    with watching(options.progress) as watch:
        return score(request, watch)


@keywords(verbs.Expand)
def expand(options: verbs.Expand) -> GrowSummary:
    """Add responses to a dataset, sampled under prompts and scored, as a new round.

    The same call again goes on where one stopped; another seed or setting makes the next round. A dataset that was
    opened before does not see the round: open it again. A `SamplerSpec` as `policy` and a `RewardModelSpec` as
    `reward_model` say everything about these models.

    Raises:
        InputError: no finished dataset, bad models, prompts or expressions, another round that is not finished.
        RunError: out of memory, a server that is gone, a reward that is not finite, a full disk.

    Example:
        ```python
        summary = nd.expand("demo/helpful", policy="data/models/tiny-policy", limit=20, max_new_tokens=16)
        print(summary.round, summary.counts["responses"])
        ```
    """
    from neat_data.rounds.expand import expand

    request = arguments.expand_request(options)
    with watching(options.progress) as watch:
        return expand(request, watch)


@keywords(verbs.AddResponses)
def add_responses(options: verbs.AddResponses) -> GrowSummary:
    """Add responses that somebody else wrote, other models or experts, scored, as a new round.

    Rows are joined with records on the whole query; a row whose query no record asks is rejected and counted.

    Raises:
        InputError: no finished dataset, a bad source, none of its queries in the dataset, another unfinished round.
        RunError: as `expand`.

    Example:
        ```python
        nd.add_responses("demo/helpful", "experts.jsonl")
        ```
    """
    from neat_data.rounds.add_responses import take

    request = arguments.given_request(options)
    with watching(options.progress) as watch:
        return take(request, watch)


@keywords(verbs.Rescore)
def rescore(options: verbs.Rescore) -> RescoreSummary:
    """Score a dataset's responses with a further reward model, beside its own rewards.

    The same call again goes on where one stopped, and scores what later rounds added. `rank_by=name` then ranks by
    these scores.

    Raises:
        InputError: no such dataset, one that is not finished, a bad name or model, or scores of this name that were
            made with other settings.
        RunError: out of memory at the smallest budget, a score that is not finite, a full disk.

    Example:
        ```python
        nd.rescore("demo/helpful", reward_model="data/models/tiny-reward-heldout", name="heldout")
        best = next(nd.open("demo/helpful").records(rank_by="heldout")).responses[0]
        ```
    """
    from neat_data.scoring.rescore import rescore

    request = arguments.rescore_request(options)
    with watching(options.progress) as watch:
        return rescore(request, watch)


@keywords(verbs.Stats)
def stats(options: verbs.Stats) -> Stats:
    """How far apart the responses of a dataset are, and what the reward may really be measuring.

    Raises:
        InputError: no dataset, a threshold below 0, or an argument that cannot be understood.
        RunError: `report` or `plots` cannot be written.

    Example:
        ```python
        figures = nd.stats("demo/helpful")
        print(figures.counts.pairs, figures.thresholds[0].absolute.share)  # share of pairs with a gap above 1.0
        ```
    """
    from neat_data.analysis.stats import compute

    dataset = arguments.opened(options.dataset, options.drop_by)
    figures = compute(
        dataset,
        thresholds=tuple(options.thresholds),
        by=options.by,
        where=options.where,
        rank_by=options.rank_by,
    )
    if options.report is not None:
        from neat_data.report.page import write_report

        write_report(dataset, figures, Path(options.report))
    if options.plots is not None:
        from neat_data.report.plots import write_plots

        write_plots(dataset, figures, Path(options.plots))
    return figures


@keywords(verbs.Export)
def export(options: verbs.Export) -> ExportSummary:
    """Write the dataset in a form that other trainers and tools read.

    Raises:
        InputError: arguments that do not go together, a place that is taken, or nothing to write.
        RunError: the disk is full; the hub refuses.

    Example:
        ```python
        nd.export("demo/helpful", to="trl-dpo", out="pairs.jsonl", pairs="labels")
        ```
    """
    from neat_data.formats.export import export

    request = arguments.export_request(options)
    with watching(options.progress) as watch:
        return export(arguments.opened(options.dataset, options.drop_by), request, watch)


@keywords(verbs.Compact)
def compact(options: verbs.Compact) -> CompactSummary:
    """Fold rounds, human verdicts and scores into the base shards of a new dataset; its records read the same.

    Raises:
        InputError: no finished dataset, scores that are not complete, or `out` holds something else.
        RunError: the disk is full.

    Example:
        ```python
        nd.compact("demo/helpful", "demo/helpful-compact")
        ```
    """
    from neat_data.scoring.compact import compact

    place, how = arguments.dataset_path(options.dataset), arguments.compression(options.compression)
    with watching(options.progress) as watch:
        return compact(place, folder_or_url(options.out), compression=how, watch=watch)


@keywords(verbs.Verify)
def verify(options: verbs.Verify) -> Verification:
    """Recompute every hash, and check every promise a record makes.

    Returns what was found; `ok` says whether nothing is wrong. Damage is reported there, and never raised.

    Raises:
        InputError: no such folder; or, with `rebuild`, another process writes to it.

    Example:
        ```python
        assert nd.verify("demo/helpful").ok
        ```
    """
    from neat_data.store.verify import verify

    return verify(arguments.dataset_path(options.dataset), rebuild=options.rebuild)


@contextmanager
def watching(progress: bool, package: str = "neat_data") -> Iterator[Watcher]:
    """Who follows a call: a bar if `progress`, and the package's logger for what is worth reading once."""
    from rich.console import Console

    from neat_data.progress import TerminalWatcher

    console = Console(stderr=True, highlight=False) if progress else None
    with TerminalWatcher(console, logging.getLogger(package)) as watch:
        yield watch
