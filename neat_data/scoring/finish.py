"""A dataset whose shards are all there, completed: its counts, its card, and the plan that nobody needs any more."""

from __future__ import annotations

import shutil

from neat_data.report.card import write_card
from neat_data.scoring import losses
from neat_data.scoring.plan import FOLDER, Plan
from neat_data.scoring.request import ScoreSummary
from neat_data.scoring.shard_work import settings_not_taken
from neat_data.store.documents import RoundSummary
from neat_data.store.folder import DatasetFolder
from neat_data.store.shard import shard_metadata


def completed(folder: DatasetFolder, plan: Plan | None, *, given: bool) -> ScoreSummary:
    """Finish round 0 and write the card; what was finished before is only told.

    Args:
        plan: None where the dataset was complete already.
        given: whether the rewards came with the source.

    Raises:
        InputError, RunError: no row of the source is left.
    """
    if plan is not None:
        folder.finish(0, _counts(folder, plan))
    left = folder.place.workplace / FOLDER
    # Killed behind `finish`, perhaps on another machine: the card may be missing.
    if plan is not None or left.exists() or folder.place.read("README.md") is None:
        write_card(folder)
        shutil.rmtree(left, ignore_errors=True)
    counts = folder.summary(0)
    if not counts["records"]:
        raise losses.nothing_scored(folder.place, counts, given=given)
    return ScoreSummary(folder.path, plan is None, counts, losses.notes(plan, folder.place, counts))


def _counts(folder: DatasetFolder, plan: Plan) -> RoundSummary:
    """What the manifest's summary of round 0 says beyond the counts that the store makes itself."""
    shards = [shard_metadata(folder.place.shard(entry)) for entry in folder.entries(0)]
    cut = sum(shard["queries_cut"] for shard in shards)
    counts: RoundSummary = {"source_rows": plan.rows, "repeated_rows": plan.repeated_rows, "queries_cut": cut}
    if reward_not_taken := settings_not_taken(shards):
        counts["reward_not_taken"] = reward_not_taken
    if thoughts := [shard["thoughts"] for shard in shards if "thoughts" in shard]:
        counts["thoughts"] = {
            "responses": sum(shard["responses"] for shard in thoughts),
            "unended": sum(shard["unended"] for shard in thoughts),
            "scored": folder.settings["reward_model"].get("score", "answer"),
        }
    return counts
