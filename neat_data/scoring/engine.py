"""Where shards are made: in this process, in one process a device (`workers`), or by actors of Ray (`ray_engine`).

A verb says with a `ShardWork` how one of its shards is made; an engine loads the model and makes the shards that are
missing with it. A shard made twice is the same bytes under the same name, so an engine may try again as it likes.
Another engine of yours needs no more than `work.with_model(work.load("auto"))(shard, advance)` on each machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol, TypeVar

from neat_data.progress import Watcher
from neat_data.scoring.workers import Work, spread

Spec = TypeVar("Spec")
ModelT = TypeVar("ModelT", bound="Model")
Result = TypeVar("Result")


class Model(Protocol):
    """What an engine knows of a reward model or a sampler."""

    @property
    def spec(self) -> Any: ...

    @property
    def settings(self) -> dict[str, Any]: ...

    def close(self) -> None: ...


class ShardWork(Protocol):
    """Everything that making and committing the shards of one verb takes; picklable."""

    def load(self, device: str) -> Any:
        """The model, on this device."""

    def with_model(self, model: Any) -> Work[Any]:
        """The function that makes a shard with this model."""


def on_device(work: ShardWork, device: str) -> Work[Any]:
    """Load the model on `device`; the result makes one shard."""
    return work.with_model(work.load(device))


@dataclass(frozen=True)
class EngineSpec:
    """What the user said of where shards are made.

    Attributes:
        engine: `local`, or `ray`.
        workers: processes or actors, one model each; 0 takes one for every device.
        gpus_per_worker: devices that an actor holds; None is one where the cluster has any.
        ray_address: of a cluster; None is the environment's RAY_ADDRESS, or a Ray of this machine's own.
    """

    engine: Literal["local", "ray"] = "local"
    workers: int = 1
    gpus_per_worker: float | None = None
    ray_address: str | None = None


HERE = EngineSpec()
"""This process alone."""


@dataclass(frozen=True)
class WorkerFigures:
    """What one worker of a cluster did: source rows (or samples), and the seconds that it worked on them."""

    node: str
    rows: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class ClusterFigures:
    """What a cluster did.

    Attributes:
        workers: those that made at least one shard.
        tried_again: shards whose worker died, once for each death.
    """

    workers: tuple[WorkerFigures, ...]
    tried_again: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        workers = [{"node": w.node, "rows": w.rows, "rows_per_second": round(w.rate, 3)} for w in self.workers]
        return {"workers": workers, "tried_again": list(self.tried_again)}


def cluster_figures(figures: ClusterFigures | None) -> dict[str, Any]:
    """What the JSON of a summary says of a cluster; nothing where there was none."""
    return {} if figures is None else {"cluster": figures.to_dict()}


class Engine(Protocol):
    """Loads models and makes shards.

    Attributes:
        figures: what a cluster did so far; None where this machine made all.
    """

    @property
    def figures(self) -> ClusterFigures | None: ...

    def load(self, load: Callable[[Spec], ModelT], spec: Spec) -> ModelT:
        """The model that `load` makes of `spec`: itself, or what stands for it and tells spec, settings and notes."""

    def make(
        self,
        shards: Sequence[int],
        work: ShardWork,
        model: Model | None,
        watch: Watcher,
        done: Callable[[Any], None],
    ) -> None:
        """Make shards, and free the model.

        Args:
            model: what `load` gave; None where making them needs none, so that this process makes them.
            done: called in this process with each shard's result.

        Raises:
            RunError: a worker died three times over one shard; any error that making a shard raised.
        """


@dataclass
class LocalEngine:
    """This machine: the process itself, or one process a device."""

    workers: int = 1
    figures: ClusterFigures | None = None

    def load(self, load: Callable[[Spec], ModelT], spec: Spec) -> ModelT:
        return load(spec)

    def make(
        self, shards: Sequence[int], work: ShardWork, model: Model | None, watch: Watcher, done: Callable[[Any], None]
    ) -> None:
        if model is None or self.workers == 1 or len(shards) < 2:
            make_here(shards, work, model, watch, done)
        else:
            model.close()
            spread(shards, partial(on_device, work), model.spec.device, self.workers, watch, done)


def make_here(
    shards: Sequence[int], work: ShardWork, model: Model | None, watch: Watcher, done: Callable[[Any], None]
) -> None:
    """Make shards in this process, and free the model."""
    make = work.with_model(model)
    for shard in shards:
        done(make(shard, watch.advance))
    if model is not None:
        model.close()
