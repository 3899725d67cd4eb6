"""A dataset made by many machines that see one folder, without any that leads them: the jobs of a job array.

`score --phase plan` reads the source once. `--shards 0-99` makes these shards of that plan, on any machine, and touches
nothing else; jobs hold the folder together, against a writer of the whole. `--phase finish` enters what they made; it
loads no model. The first job writes down what the dataset is made with, and the others must say the same.
"""

from __future__ import annotations

from pathlib import Path

from neat_data.errors import InputError
from neat_data.models.load import load_reward_model
from neat_data.progress import Watcher
from neat_data.scoring.engine import ClusterFigures
from neat_data.scoring.engines import opened
from neat_data.scoring.finish import completed
from neat_data.scoring.numbers import Numbers
from neat_data.scoring.plan import Plan, planned
from neat_data.scoring.request import Part, ScoreRequest, ScoreSummary
from neat_data.scoring.shard_work import GIVEN, ScoreWork, settings_of
from neat_data.store.atomic import locked, write_if_absent
from neat_data.store.claim import changes
from neat_data.store.commit import shard_files
from neat_data.store.documents import Settings
from neat_data.store.folder import DatasetFolder
from neat_data.store.location import writable
from neat_data.store.manifest import FILE, Manifest, fingerprint_of, package_versions


def make_shards(request: ScoreRequest, watch: Watcher) -> ScoreSummary:
    """Make the shards that `request.shards` names and that are not there yet.

    Raises:
        InputError: no plan, one of another version or for other rows, shards of other settings, a writer of the whole.
        RunError: as `score`.
    """
    assert request.shards is not None
    out = _folder(request)
    with locked(out, shared=True):
        if _complete(out):
            return ScoreSummary(out, True, {}, part=Part(0, 0))
        plan = _plan(request, out)
        wanted = request.shards.below(plan.shards)
        there = {number for number, _, _ in shard_files(writable(out), 0)}
        missing = [number for number in wanted if number not in there]
        cluster = _make(request, out, plan, missing, watch) if missing else None
        part = Part(plan.rows, plan.shards, len(missing), len(wanted) - len(missing))
        return ScoreSummary(out, False, {}, part=part, cluster=cluster)


def finish(request: ScoreRequest, watch: Watcher) -> ScoreSummary:
    """Enter the shards that jobs made into the manifest, and complete the dataset; no model is loaded.

    Raises:
        InputError: no plan, or one of another version; shards are missing, damaged, or of other settings.
    """
    out = _folder(request)
    with DatasetFolder.claim(out, watch.say) as folder:
        if folder.begun and folder.finished:
            return completed(folder, None, given=False)
        plan = _plan(request, out)
        watch.phase("entering shards", None)
        done = folder.done(0) if folder.begun else set()
        if lacking := set(range(plan.shards)) - done:
            raise InputError(
                f"{out}: {len(lacking):,} of {plan.shards:,} shards are missing ({Numbers.of(lacking).shortly}).",
                advice="Make them first: the command of the jobs, with their numbers in {shards}.",
            )
        return completed(folder, plan, given=folder.settings["reward_model"] == GIVEN)


def _folder(request: ScoreRequest) -> Path:
    """Raises InputError for a URL, and a folder that is not there: it must not be made by being held."""
    if not isinstance(request.out, Path):
        raise InputError(
            "a plan lies in a folder that all machines see, not at a URL",
            field="out",
            value=request.out,
            advice="Give a folder; or {engine} ray, or one machine, which write to URLs.",
        )
    if not request.out.is_dir():
        raise _no_plan(request.out)
    return request.out


def _no_plan(out: Path) -> InputError:
    return InputError(
        f"{out}: holds no plan to make shards of.", advice="Run the same command with {phase} plan first."
    )


def _complete(out: Path) -> bool:
    manifest = _manifest(out)
    return manifest is not None and manifest.round(0).complete


def _manifest(out: Path) -> Manifest | None:
    content = writable(out).read(FILE)
    return None if content is None else Manifest.from_bytes(content, out / FILE)


def _plan(request: ScoreRequest, out: Path) -> Plan:
    """The plan that lies in the folder, for the rows that the request names."""
    plan = planned(out)
    if plan is None:
        raise _no_plan(out)
    asked = {"limit": request.limit, "shard_rows": request.shard_rows or plan.shard_rows}
    if changed := changes({name: plan.settings.get(name) for name in asked}, asked):
        raise InputError(
            f"{out}: was planned for other rows ({changed}).",
            advice="Say what was said with {phase} plan, or plan again.",
        )
    return plan


def _make(request: ScoreRequest, out: Path, plan: Plan, missing: list[int], watch: Watcher) -> ClusterFigures | None:
    with opened(request.engine, out) as engine:
        watch.phase("loading the reward model", None)
        model = engine.load(load_reward_model, request.reward) if request.reward else None
        settings = settings_of(plan.settings, request.compression, model.settings if model else None)
        _begin(out, settings)
        for note in model.notes if model else ():
            watch.say(note)
        work = ScoreWork(out, plan, fingerprint_of(settings), settings, model.spec if model else None)
        watch.phase("scoring", sum(plan.source_rows(shard) for shard in missing))
        engine.make(missing, work, model, watch, lambda entry: None)
        return engine.figures


def _begin(out: Path, settings: Settings) -> None:
    """The first job says what the dataset is made with; the others must say the same."""
    fresh = Manifest("score", fingerprint_of(settings), settings, package_versions())
    write_if_absent(out / FILE, fresh.to_bytes())
    begun = _manifest(out)
    if begun is not None and (changed := changes(begun.settings, settings)):
        raise InputError(
            f"{out}: was begun with other settings ({changed}).",
            advice="Run all jobs with one model, on one kind of device.",
        )
