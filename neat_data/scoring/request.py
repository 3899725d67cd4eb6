"""What `score` is asked for, and what it says came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from neat_data.models.reward_model import RewardModelSpec
from neat_data.notebook import html_of_facts
from neat_data.options.words import ScorePhase
from neat_data.scoring.engine import HERE, ClusterFigures, EngineSpec, cluster_figures
from neat_data.scoring.numbers import Numbers
from neat_data.store.address import DatasetPath
from neat_data.store.documents import RoundSummary


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
        shard_rows: source rows a shard; None goes by their number (`plan.files_a_shard`).
        compression: `zstd` for shipping, None for shards that can be mapped.
        engine: where shards are made.
        phase: `plan` stops before any model is loaded, `finish` completes a dataset whose shards are all there.
        shards: make these of a plan that lies there, and leave the rest to others; None is the whole dataset.
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
    shard_rows: int | None = None
    compression: str | None = None
    engine: EngineSpec = HERE
    phase: ScorePhase = "all"
    shards: Numbers | None = None


@dataclass(frozen=True)
class Part:
    """What was done of a dataset that is not finished: shards of its plan, how many were made now, and before."""

    source_rows: int
    shards: int
    made: int = 0
    before: int = 0


@dataclass(frozen=True)
class ScoreSummary:
    """What came of it. `already` says that the folder was complete before; `counts` is the manifest's summary.

    `notes` are lines worth telling: what of the source was not read, where it contradicts itself, what was lost.
    `part` stands in the place of counts where others make the rest; `cluster` says what Ray's workers did.
    """

    out: DatasetPath
    already: bool
    counts: RoundSummary
    notes: tuple[str, ...] = ()
    part: Part | None = None
    cluster: ClusterFigures | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        part = vars(self.part) if self.part else {}
        notes = {"notes": list(self.notes), **cluster_figures(self.cluster)}
        return {"out": str(self.out), "already": self.already, **self.counts, **part, **notes}

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        counts = {**self.counts, **(vars(self.part) if self.part else {})}
        facts = {name.replace("_", " "): f"{count:,}" for name, count in counts.items() if isinstance(count, int)}
        return html_of_facts(f"Scored into {self.out}", facts)
