"""Score a preference dataset with a reward model: source -> plan -> shards of ranked records.

`score` is the verb. It claims the folder, plans, loads the model, makes every shard that is missing, and finishes the
manifest and the card. What becomes of one record is decided in `assemble`; `array_job` makes a part of a plan.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, zip_longest

from neat_data.models.load import load_reward_model
from neat_data.models.reward_model import RewardModel
from neat_data.progress import Silent, Watcher, say
from neat_data.scoring import array_job, losses
from neat_data.scoring.dataset_reward import remember
from neat_data.scoring.engine import Engine
from neat_data.scoring.engines import opened
from neat_data.scoring.finish import completed
from neat_data.scoring.plan import Plan, excluding, make_plan
from neat_data.scoring.plan_in_parts import write_in_parts
from neat_data.scoring.request import Part, ScoreRequest, ScoreSummary
from neat_data.scoring.shard_work import ScoreWork, settings_of
from neat_data.sources import Source, open_source
from neat_data.sources.exclude import Exclusion
from neat_data.sources.files.compressed import OnRead, nobody
from neat_data.sources.row import Reject, Row
from neat_data.sources.shapes.registry import NAMES
from neat_data.store.documents import Settings
from neat_data.store.folder import DatasetFolder
from neat_data.store.manifest import package_versions


def score(request: ScoreRequest, watch: Watcher | None = None) -> ScoreSummary:
    """Score a source and store it; the same call again goes on where an earlier one stopped.

    Raises:
        InputError: bad source or model, or a folder that holds something else.
        RunError: the device ran out of memory at the smallest budget, a reward is not finite, the disk is full, or no
            row could be scored.
    """
    watch = watch or Silent()
    if request.shards is not None:
        return array_job.make_shards(request, watch)
    if request.phase == "finish":
        return array_job.finish(request, watch)
    watch.phase("looking at the source", None, " B")
    source = open_request(request, watch.advance)
    exclusion = Exclusion.load(list(request.exclude)) if request.exclude else None
    with DatasetFolder.claim(request.out, watch.say) as folder:
        source = _as_begun(source, folder, request)
        settings = _rows_settings(source, exclusion, request)
        shard_rows = request.shard_rows or _begun_with(folder)
        if folder.begun and folder.finished:
            return _scored(request, folder, {**settings, "shard_rows": shard_rows}, None, watch)
        plan = _planned(replace(request, shard_rows=shard_rows), folder, source, exclusion, settings, watch)
        if not folder.begun:
            losses.forget(folder.place)
        if not plan.usable:
            raise losses.nothing_read(request.source, plan, folder.place)
        if request.phase == "plan":
            return ScoreSummary(request.out, False, {}, part=Part(plan.rows, plan.shards))
        return _scored(request, folder, plan.settings, plan, watch)


def _begun_with(folder: DatasetFolder) -> int | None:
    """Source rows of a shard as the dataset was begun with; None where it was not begun."""
    rows = folder.settings.get("shard_rows") if folder.begun else None
    return rows if isinstance(rows, int) and rows > 0 else None


def _planned(
    request: ScoreRequest,
    folder: DatasetFolder,
    source: Source,
    exclusion: Exclusion | None,
    settings: Settings,
    watch: Watcher,
) -> Plan:
    watch.phase("reading", source.bytes, " B")
    asked = source, exclusion, request.limit, request.engine.workers
    return make_plan(
        lambda: _rows(source, exclusion, request.limit, watch.advance),
        folder.place.workplace,
        settings,
        shard_rows=request.shard_rows,
        spread=lambda plan, file_rows: write_in_parts(plan, file_rows, *asked, watch),
    )


def _scored(
    request: ScoreRequest, folder: DatasetFolder, rows: Settings, plan: Plan | None, watch: Watcher
) -> ScoreSummary:
    """Make what is missing of the plan, and complete the dataset; without a plan, see that it is the one asked for."""
    with opened(request.engine, folder.place.workplace) as engine:
        watch.phase("loading the reward model", None)
        model = engine.load(load_reward_model, request.reward) if request.reward else None
        settings = settings_of(rows, request.compression, model.settings if model else None)
        folder.begin(settings, versions=package_versions())
        if model:
            remember(model.spec, model.settings)
        say(watch, [*(model.notes if model else ()), *folder.notes])
        if plan is not None:
            _make_missing(folder, plan, engine, model, watch)
        summary = completed(folder, plan, given=model is None)
        return replace(summary, cluster=engine.figures)


def open_request(request: ScoreRequest, on_read: OnRead) -> Source:
    """The source of a request; `on_read` hears of the bytes that are read."""
    return open_source(
        request.source,
        subset=request.subset,
        split=request.split,
        format=request.format,
        columns=request.columns,
        ignore=request.ignore,
        on_read=on_read,
    )


def _as_begun(source: Source, folder: DatasetFolder, request: ScoreRequest) -> Source:
    """The source under the name of the layout that the folder was begun with, where that reads every row alike.

    Layouts get names of their own: what has one now was read as a more general one by an earlier version.
    """
    begun = folder.settings.get("source") if folder.begun else None
    name = begun.get("format") if isinstance(begun, dict) else None
    if name == source.format or name not in NAMES or {**source.fingerprint, "format": name} != begun:
        return source
    before = open_request(replace(request, format=name), nobody)
    alike = all(row == other for row, other in zip_longest(source.rows(), before.rows()))
    return before if alike else source


def _rows_settings(source: Source, exclusion: Exclusion | None, request: ScoreRequest) -> Settings:
    """The settings that decide which rows the dataset holds."""
    return {
        "source": source.fingerprint,
        "exclude": exclusion.fingerprint if exclusion else None,
        "limit": request.limit,
    }


def _rows(source: Source, exclusion: Exclusion | None, limit: int | None, on_read: OnRead) -> Iterator[Row | Reject]:
    rows = islice(source.rows(on_read), limit)
    yield from excluding(rows, exclusion.reason) if exclusion else rows
    source.require_unchanged()


def _make_missing(folder: DatasetFolder, plan: Plan, engine: Engine, model: RewardModel | None, watch: Watcher) -> None:
    done = folder.done(0)
    watch.phase("scoring", plan.rows)
    for shard in done:
        watch.advance(plan.source_rows(shard))
    missing = [shard for shard in range(plan.shards) if shard not in done]
    work = ScoreWork(folder.path, plan, folder.fingerprint, folder.settings, model.spec if model else None)
    engine.make(missing, work, model, watch, lambda entry: folder.record(0, entry))
