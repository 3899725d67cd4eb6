"""Score a preference dataset with a reward model: source -> plan -> shards of ranked records.

`score` is the verb. It claims the folder, plans, loads the model, makes every shard that is missing, and finishes the
manifest and the card. What becomes of one record is decided in `assemble`.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, zip_longest
from typing import Any

from neat_data.models.load import load_reward_model
from neat_data.models.out_of_memory import score_tasks
from neat_data.models.reward_model import RewardModel, RewardModelSpec, Task
from neat_data.notebook import html_of_facts
from neat_data.progress import Silent, Watcher
from neat_data.record import Record, canonical_json, to_table
from neat_data.report.card import write_card
from neat_data.scoring import losses
from neat_data.scoring.assemble import assemble, check_finite, given
from neat_data.scoring.dataset_reward import remember
from neat_data.scoring.plan import FOLDER as PLAN_FOLDER
from neat_data.scoring.plan import Plan, excluding, make_plan
from neat_data.scoring.workers import Advance, Work, spread
from neat_data.sources import Source, open_source
from neat_data.sources.exclude import Exclusion
from neat_data.sources.files.compressed import OnRead, nobody
from neat_data.sources.row import Reject, Row, reject_line
from neat_data.sources.shapes.registry import NAMES
from neat_data.store.address import DatasetPath
from neat_data.store.commit import commit_shard
from neat_data.store.documents import RoundSummary, Settings, ShardMetadata
from neat_data.store.folder import DatasetFolder
from neat_data.store.manifest import package_versions
from neat_data.store.shard import ShardEntry, shard_metadata
from neat_data.thought import thought_of

SHARD_ROWS = 512


@dataclass(frozen=True)
class ScoreRequest:
    """What `neat-data score` was asked for.

    Attributes:
        source: a file, folder, glob or hub id.
        out: the dataset's folder, or its URL.
        reward: the reward model; None keeps the rewards that the source carries.
        subset, split, format, columns, ignore: as `open_source` takes them.
        exclude: datasets or sources whose queries are left out.
        limit: source rows read at most.
        shard_rows: source rows a shard.
        compression: `zstd` for shipping, None for shards that can be mapped.
        workers: processes, one a device; 0 takes one for every device.
    """

    source: str
    out: DatasetPath
    reward: RewardModelSpec | None
    subset: str | None = None
    split: str | None = None
    format: str = "auto"
    columns: dict[str, str] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    limit: int | None = None
    shard_rows: int = SHARD_ROWS
    compression: str | None = None
    workers: int = 1


@dataclass(frozen=True)
class ScoreSummary:
    """What came of it. `already` says that the folder was complete before; `counts` is the manifest's summary.

    `notes` are lines worth telling: what of the source was not read, where it contradicts itself, what was lost.
    """

    out: DatasetPath
    already: bool
    counts: RoundSummary
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"out": str(self.out), "already": self.already, **self.counts, "notes": list(self.notes)}

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        facts = {name.replace("_", " "): f"{count:,}" for name, count in self.counts.items() if isinstance(count, int)}
        return html_of_facts(f"Scored into {self.out}", facts)


def score(request: ScoreRequest, watch: Watcher | None = None) -> ScoreSummary:
    """Score a source and store it; the same call again goes on where an earlier one stopped.

    Raises:
        InputError: bad source or model, or a folder that holds something else.
        RunError: the device ran out of memory at the smallest budget, a reward is not finite, the disk is full, or no
            row could be scored.
    """
    watch = watch or Silent()
    watch.phase("looking at the source", None, " B")
    source = open_request(request, watch.advance)
    exclusion = Exclusion.load(list(request.exclude)) if request.exclude else None
    with DatasetFolder.claim(request.out, watch.say) as folder:
        source = _as_begun(source, folder, request)
        rows_settings = _rows_settings(source, exclusion, request)
        already = folder.begun and folder.finished
        plan = None
        if not already:
            watch.phase("reading", source.bytes, " B")
            plan = make_plan(
                lambda: _rows(source, exclusion, request.limit, watch.advance),
                folder.place.workplace,
                hashlib.sha256(canonical_json(rows_settings).encode()).hexdigest(),
                shard_rows=request.shard_rows,
            )
            if not folder.begun:
                losses.forget(folder.place)
            if not plan.usable:
                raise losses.nothing_read(request.source, plan, folder.place)
        watch.phase("loading the reward model", None)
        model = load_reward_model(request.reward) if request.reward else None
        reward_settings = model.settings if model else {"model": "given"}
        settings = {**rows_settings, "compression": request.compression, "reward_model": reward_settings}
        folder.begin(settings, versions=package_versions())
        if model:
            remember(model.spec, model.settings)
        for note in [*(model.notes if model else ()), *folder.notes]:
            watch.say(note)
        if plan is not None:
            _make_missing(folder, plan, request, model, watch)
            folder.finish(0, _counts(folder, plan))
        left = folder.place.workplace / PLAN_FOLDER
        # Killed behind `finish`, perhaps on another machine: the card may be missing.
        if not already or left.exists() or folder.place.read("README.md") is None:
            write_card(folder)
            shutil.rmtree(left, ignore_errors=True)
        counts = folder.summary(0)
        if not counts["records"]:
            raise losses.nothing_scored(folder.place, counts, given=request.reward is None)
        return ScoreSummary(request.out, already, counts, losses.notes(plan, folder.place, counts))


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
    """The settings that decide which rows the dataset holds and how they are cut into shards."""
    return {
        "source": source.fingerprint,
        "exclude": exclusion.fingerprint if exclusion else None,
        "limit": request.limit,
        "shard_rows": request.shard_rows,
    }


def _rows(source: Source, exclusion: Exclusion | None, limit: int | None, on_read: OnRead) -> Iterator[Row | Reject]:
    rows = islice(source.rows(on_read), limit)
    return excluding(rows, exclusion.reason) if exclusion else rows


@dataclass(frozen=True)
class _ShardWork:
    """Everything a worker needs to make and commit a shard; picklable."""

    out: DatasetPath
    plan: Plan
    fingerprint: str
    settings: Settings
    spec: RewardModelSpec | None

    def on_device(self, device: str) -> Work[ShardEntry]:
        """Load the model on `device`; the result makes one shard."""
        assert self.spec is not None
        return self.with_model(load_reward_model(replace(self.spec, device=device)))

    def with_model(self, model: RewardModel | None) -> Work[ShardEntry]:
        return lambda shard, advance: self.commit(shard, model, advance)

    def commit(self, shard: int, model: RewardModel | None, advance: Advance) -> ShardEntry:
        records = self.plan.records(shard)
        tasks = [Task(record.messages, tuple(r.text for r in record.responses)) for record in records]
        if model is None:
            scored, budget = [given(record) for record in records], None
            advance(len(tasks), 0)
        else:
            scored, budget = score_tasks(tasks, model, advance)
        check_finite(records, scored, model.settings if model else {})
        assembled = [assemble(record, answer) for record, answer in zip(records, scored, strict=True)]
        stored = [record for record, _ in assembled if record is not None]
        rejects = [reject_line(reject) for reject in self.plan.rejects(shard)]
        rejects += [reject for _, refused in assembled for reject in refused]
        metadata: ShardMetadata = {
            "kind": "score",
            "fingerprint": self.fingerprint,
            "settings": self.settings,
            "source_rows": self.plan.source_rows(shard),
            "queries_cut": sum(answer.turns_cut > 0 for answer in scored),
        }
        if budget is not None:
            metadata["token_budget"] = budget
        if thoughts := _thoughts(records):
            metadata["thoughts"] = thoughts
        # Rows without a model or a token count still move the bar; repeats folded in elsewhere are made up for here.
        advance(self.plan.source_rows(shard) - len(tasks), 0)
        return commit_shard(self.out, 0, shard, to_table(stored), rejects, metadata, self.settings["compression"])


def _thoughts(records: Sequence[Record]) -> dict[str, int]:
    """How many responses think, and how many of these without an end; {} where none does."""
    parted = [thought_of(response.text) for record in records for response in record.responses]
    thoughts = [thought for thought in parted if thought is not None]
    if not thoughts:
        return {}
    return {"responses": len(thoughts), "unended": sum(not thought.ended for thought in thoughts)}


def _make_missing(
    folder: DatasetFolder, plan: Plan, request: ScoreRequest, model: RewardModel | None, watch: Watcher
) -> None:
    done = folder.done(0)
    watch.phase("scoring", plan.rows)
    for shard in done:
        watch.advance(plan.source_rows(shard))
    missing = [shard for shard in range(plan.shards) if shard not in done]
    work = _ShardWork(request.out, plan, folder.fingerprint, folder.settings, model.spec if model else None)
    if model is None or request.workers == 1 or len(missing) < 2:
        make = work.with_model(model)
        for shard in missing:
            folder.record(0, make(shard, watch.advance))
        return
    assert request.reward is not None
    model.close()
    device, workers = request.reward.device, request.workers
    spread(missing, work.on_device, device, workers, watch, lambda entry: folder.record(0, entry))


def _counts(folder: DatasetFolder, plan: Plan) -> RoundSummary:
    """What the manifest's summary of round 0 says beyond the counts that the store makes itself."""
    shards = [shard_metadata(folder.place.shard(entry)) for entry in folder.entries(0)]
    cut = sum(shard["queries_cut"] for shard in shards)
    counts: RoundSummary = {"source_rows": plan.rows, "repeated_rows": plan.repeated_rows, "queries_cut": cut}
    if thoughts := [shard["thoughts"] for shard in shards if "thoughts" in shard]:
        counts["thoughts"] = {
            "responses": sum(shard["responses"] for shard in thoughts),
            "unended": sum(shard["unended"] for shard in thoughts),
            "scored": folder.settings["reward_model"].get("score", "answer"),
        }
    return counts
