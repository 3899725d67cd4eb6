"""Shards made by actors of a Ray cluster: one model an actor, which Ray places, on whichever of its machines.

This process hands out shard numbers and enters what comes back; the actors commit the shards themselves, into the
folder that all of them see. The shard whose actor died goes back into the queue, and another actor is asked for in its
place: where the cluster has no room for one, those that live make the rest.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from neat_data.errors import InputError, NeatError, RunError
from neat_data.progress import Watcher
from neat_data.scoring.engine import ClusterFigures, EngineSpec, Model, ShardWork, WorkerFigures, make_here
from neat_data.scoring.workers import MAKE_ATTEMPTS, Work
from neat_data.store.atomic import TEMPORARY
from neat_data.store.cache import cache_folder
from neat_data.store.claim import changes

Spec = TypeVar("Spec")
_OBJECT_STORE = 100_000_000  # bytes of a Ray of our own: only numbers and settings travel through it
_PATIENCE = 30.0  # seconds without a worker before that is said
_ACCELERATORS = ("GPU", "NPU")  # as Ray calls them


@dataclass(frozen=True)
class Meeting:
    """Where the workers find what the command works on, and how they see that it is the same folder.

    Attributes:
        home: the folder that the command runs in, which relative paths begin at.
        folder: of the dataset.
        token: what the command wrote into a file there.
        version: of neat-align.
    """

    home: str
    folder: str
    token: str
    version: str

    @property
    def file(self) -> Path:
        """That holds the token."""
        return Path(self.folder, f".common.{self.token}{TEMPORARY}")

    def check(self) -> None:
        """Raise InputError where this process is of another version, or sees another folder."""
        if self.version != version("neat-align"):
            raise InputError(
                f"has neat-align {version('neat-align')}, the command {self.version}; install one version."
            )
        with suppress(OSError):
            os.chdir(self.home)
        self._check("reading what the command wrote there", lambda: self.file.read_text() == self.token)
        own = self.file.with_name(f".common.{secrets.token_hex(8)}{TEMPORARY}")
        self._check("writing a file there", lambda: _writable(own))

    def _check(self, name: str, test: Callable[[], bool]) -> None:
        try:
            passed, why = test(), "it holds something else"
        except OSError as error:
            passed, why = False, str(error)
        if not passed:
            raise InputError(
                f"does not see the folder {self.folder} as the command does: {name} failed ({why}).",
                advice=self._advice,
            )

    @property
    def _advice(self) -> str:
        if Path(self.folder).is_relative_to(cache_folder().absolute()):
            return "The plan of a dataset at a URL lies in the cache: set NEAT_ALIGN_CACHE to a folder that all see."
        return "Put the dataset where all machines see it under one path."


def _writable(file: Path) -> bool:
    file.write_text("")
    file.unlink()
    return True


class Worker:
    """What an actor is: a model, and the shards made with it one after the other."""

    def __init__(self, meeting: Meeting) -> None:
        self._meeting = meeting
        self._model: Any = None
        self._make: Work[Any] | None = None

    def load(self, load: Callable[[Any], Any], spec: Any) -> tuple[Any, dict[str, Any], list[str]]:
        """Load a model for the shards that come later; gives what it says of itself."""
        with self._named():
            self._meeting.check()
            self._model = load(spec)
            return self._model.spec, self._model.settings, list(self._model.notes)

    def begin(self, work: ShardWork, device: str, settings: dict[str, Any]) -> str:
        """Be ready for shards, with the model that is loaded, or a new one of the same settings; gives the node's name.

        Raises:
            InputError: another folder, another version, a model that loads otherwise than elsewhere.
        """
        with self._named():
            self._meeting.check()
            if self._model is None:
                self._model = work.load(device)
                if changed := changes(settings, self._model.settings):
                    raise InputError(
                        f"loads the model with other settings ({changed}).",
                        advice="Run all workers on one kind of device; say {dtype} and {device}.",
                    )
            self._make = work.with_model(self._model)
            return _node()

    def make(self, shard: int) -> tuple[Any, int, int, float]:
        """The result of one shard, and the rows, tokens and seconds that it took."""
        assert self._make is not None
        steps: list[tuple[int, int]] = []
        began = time.monotonic()
        result = self._make(shard, lambda rows, tokens: steps.append((rows, tokens)))
        return result, sum(rows for rows, _ in steps), sum(tokens for _, tokens in steps), time.monotonic() - began

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except InputError as error:
            raise type(error)(f"the worker on {_node()}: {error.message}", advice=error.advice) from error


def _node() -> str:
    import ray

    return str(ray.util.get_node_ip_address())


@dataclass
class RemoteModel:
    """A model that an actor has loaded, without its weights: what it says of itself."""

    spec: Any
    settings: dict[str, Any]
    notes: list[str]
    actor: Any

    def close(self) -> None:
        """Ends the actor."""
        if self.actor is not None:
            _end(self.actor)
            self.actor = None


class RayEngine:
    """Actors of a cluster, or of a Ray that is started on this machine and ends with the engine.

    Attributes:
        figures: what the workers did so far.
    """

    def __init__(self, spec: EngineSpec, folder: Path) -> None:
        """Args: folder: what every worker must see; held by the caller.

        Raises:
            InputError: no Ray, one of another version than the cluster's, no such cluster.
        """
        self._spec = spec
        folder = folder.absolute()
        self._meeting = Meeting(os.getcwd(), str(folder), secrets.token_hex(8), version("neat-align"))
        self._leave, self._alone = _connect(spec)
        folder.mkdir(parents=True, exist_ok=True)
        self._meeting.file.write_text(self._meeting.token)
        self._done: list[WorkerFigures] = []
        self._again: list[int] = []

    @property
    def figures(self) -> ClusterFigures | None:
        return ClusterFigures(tuple(self._done), tuple(self._again)) if self._done else None

    def close(self) -> None:
        """End the workers, and a Ray of our own."""
        import ray

        self._meeting.file.unlink(missing_ok=True)
        if self._leave:
            ray.shutdown()

    def load(self, load: Callable[[Spec], Any], spec: Spec) -> Any:
        """Load the model in an actor, which keeps it for `make`."""
        _refuse_card(spec)
        actor = self._actor(getattr(spec, "device", "auto"))
        try:
            said, settings, notes = _answer(actor.load.remote(load, spec))
        except _ray_errors() as error:
            raise RunError(f"the worker that loaded the model died ({_why(error)}).") from error
        return RemoteModel(said, settings, notes, actor)

    def make(
        self,
        shards: Sequence[int],
        work: ShardWork,
        model: Model | None,
        watch: Watcher,
        done: Callable[[Any], None],
    ) -> None:
        """As `Engine.make`."""
        if model is None:
            watch.say("no model is loaded, so the shards are made here")
            make_here(shards, work, model, watch, done)
            return
        assert isinstance(model, RemoteModel)
        if not shards:
            model.close()
            return
        device = model.spec.device
        pool = _Pool(lambda: self._actor(device), lambda actor: actor.begin.remote(work, device, model.settings), watch)
        wanted = self._spec.workers or _room(self._claims(device))
        try:
            pool.start(model.actor)
            for _ in range(min(wanted, len(shards)) - 1):
                pool.start(None)
            pool.run(shards, done)
        finally:
            pool.close()
            self._done += pool.figures()
            self._again += pool.again
            model.actor = None

    def _actor(self, device: str) -> Any:
        import ray

        claims = self._claims(device)
        if self._alone and not _room(claims):
            raise InputError(f"this machine has no {claims} for a worker of Ray", field="gpus_per_worker")
        threads = {name: os.environ[name] for name in ("OMP_NUM_THREADS",) if name in os.environ}
        others = {name: count for name, count in claims.items() if name not in ("CPU", "GPU")}
        options = {"num_cpus": claims["CPU"], "num_gpus": claims.get("GPU", 0), "resources": others}
        runtime = {"runtime_env": {"env_vars": threads}} if threads else {}
        return ray.remote(Worker).options(**options, **runtime, max_restarts=0).remote(self._meeting)

    def _claims(self, device: str) -> dict[str, float]:
        """What Ray must have free for a worker."""
        import ray

        totals = ray.cluster_resources()
        kind = next((name for name in _ACCELERATORS if name in totals), "GPU")
        count = self._spec.gpus_per_worker
        if count is None:
            count = float(kind in totals and device != "cpu")
        return {"CPU": 1.0, **({kind: count} if count else {})}


@dataclass
class _Hand:
    """An actor, what it is at (None: it loads), and what it did."""

    actor: Any
    shard: int | None = None
    node: str = ""
    rows: int = 0
    seconds: float = 0.0


class _Pool:
    """Actors that take shards from one queue."""

    def __init__(self, make_actor: Callable[[], Any], begin: Callable[[Any], Any], watch: Watcher) -> None:
        self._make_actor, self._begin, self._watch = make_actor, begin, watch
        self._hands: list[_Hand] = []
        self._busy: dict[Any, _Hand] = {}  # by the reference that Ray gave for what it is at
        self._idle: list[_Hand] = []
        self._deaths: Counter[int | None] = Counter()
        self.again: list[int] = []

    def start(self, actor: Any) -> None:
        """Let an actor begin; None makes one."""
        hand = _Hand(self._make_actor() if actor is None else actor)
        self._hands.append(hand)
        self._busy[self._begin(hand.actor)] = hand

    def run(self, shards: Sequence[int], done: Callable[[Any], None]) -> None:
        """Make every shard once."""
        queue, left = deque(shards), len(shards)
        while left:
            for reference in self._finished():
                hand = self._busy.pop(reference)
                try:
                    answer = _answer(reference)
                except _ray_errors() as error:
                    self._lost(hand, queue, error)
                    continue
                if hand.shard is None:
                    hand.node = answer
                else:
                    self._take(hand, answer, done)
                    left -= 1
                self._idle.append(hand)
            while queue and self._idle:
                hand = self._idle.pop(0)
                hand.shard = queue.popleft()
                self._busy[hand.actor.make.remote(hand.shard)] = hand

    def _finished(self) -> list[Any]:
        """References that are done, in waits short enough for Ctrl-C; a cluster without room is told of once."""
        import ray

        began, said = time.monotonic(), False
        while True:
            ready, _ = ray.wait(list(self._busy), num_returns=1, timeout=0.5)
            if ready:
                return list(ready)
            nobody = all(hand.shard is None for hand in self._busy.values())
            if nobody and not said and time.monotonic() - began > _PATIENCE:
                self._watch.say("no worker is ready yet: they load, or wait until the cluster has room for them")
                said = True

    def _take(self, hand: _Hand, answer: tuple[Any, int, int, float], done: Callable[[Any], None]) -> None:
        result, rows, tokens, seconds = answer
        done(result)
        hand.rows, hand.seconds = hand.rows + rows, hand.seconds + seconds
        self._watch.advance(rows, tokens)
        self._deaths[None] = 0

    def _lost(self, hand: _Hand, queue: deque[int], error: Exception) -> None:
        """Put back what a dead actor was at, and ask for another.

        Raises:
            RunError: that shard, or loading, has cost several of them.
        """
        self._deaths[hand.shard] += 1
        what = "loading the model" if hand.shard is None else f"making shard {hand.shard}"
        if self._deaths[hand.shard] == MAKE_ATTEMPTS:
            raise RunError(
                f"a worker died {MAKE_ATTEMPTS} times {what} ({_why(error)}; often: out of memory).",
                advice="What was committed stays; try fewer {workers}, or a smaller {token_budget}.",
            ) from error
        _end(hand.actor)
        where = f" on {hand.node}" if hand.node else ""
        again = "" if hand.shard is None else f"; shard {hand.shard} is tried again"
        self._watch.say(f"a worker{where} died {what}{again}")
        if hand.shard is not None:
            self.again.append(hand.shard)
            queue.appendleft(hand.shard)
        self.start(None)

    def figures(self) -> list[WorkerFigures]:
        """Of the workers that made a shard."""
        return [WorkerFigures(hand.node, hand.rows, hand.seconds) for hand in self._hands if hand.seconds]

    def close(self) -> None:
        """End all actors, whatever they are at."""
        for hand in self._hands:
            _end(hand.actor)


def _answer(reference: Any) -> Any:
    """What an actor gave, or the error that it raised, as if it had been raised here."""
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, NeatError):
            raise cause from None
        raise RunError(f"a worker failed: {type(cause).__name__}: {cause}") from error


def _ray_errors() -> tuple[type[Exception], ...]:
    """What Ray raises where an actor is gone."""
    from ray import exceptions

    return exceptions.RayActorError, exceptions.ActorUnavailableError, exceptions.NodeDiedError


def _why(error: Exception) -> str:
    """The first line of Ray's reasons that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = next((line for line in lines if line.startswith("The actor is dead because")), lines[0] if lines else "")
    return said[:160]


def _end(actor: Any) -> None:
    import ray

    with suppress(Exception):  # it may be gone, and the cluster with it
        ray.kill(actor)


def _refuse_card(spec: Any) -> None:
    device = getattr(spec, "device", "auto")
    if ":" in device:
        raise InputError("Ray gives each worker its card", field="device", value=device, advice="Say cuda or npu.")


def _room(claims: dict[str, float]) -> int:
    """How many workers the machines of the cluster hold, were they empty."""
    import ray

    totals = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(min(int(total.get(name, 0) // count) for name, count in claims.items()) for total in totals)


def _connect(spec: EngineSpec) -> tuple[bool, bool]:
    """Join the cluster, or start a Ray; whether to leave it in the end, and whether it is this machine alone.

    Raises:
        InputError: Ray is not installed, or of another version than the cluster's; nothing answers at the address.
        RunError: a Ray of this machine's own did not start.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise InputError("is not installed: pip install 'neat-align[ray]'", field="engine", value="ray") from error
    if ray.is_initialized():
        return False, False
    address = spec.ray_address or os.environ.get("RAY_ADDRESS")
    if address is None:
        options = _own_ray(spec.workers)
    else:
        options = {}
        _require_listener(address)
    with _signals_kept():
        try:
            ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **options)
        except (ConnectionError, ValueError) as error:
            raise InputError(
                f"no cluster there ({_first(error)})",
                field="ray_address",
                value=address,
                advice="Where it wants a token, say it in RAY_AUTH_TOKEN.",
            ) from error
        except RuntimeError as error:
            raise InputError(
                f"cannot be joined with Ray {version('ray')} ({_first(error)})", field="ray_address", value=address
            ) from error
        except Exception as error:  # of no class of its own: a node that was not up in time
            raise RunError(
                f"Ray did not start ({_first(error)})",
                advice="Try again when the machine has less to do, or join a cluster: {ray_address}.",
            ) from error
    return True, address is None


def _own_ray(workers: int) -> dict[str, Any]:
    """How a Ray of this machine's own is started: on loopback, small, its token in no file."""
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(16))
    return {
        "num_cpus": max(workers, os.cpu_count() or 1),
        "object_store_memory": _OBJECT_STORE,
        "include_dashboard": False,
        "_node_ip_address": "127.0.0.1",
    }


def _first(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _require_listener(address: str) -> None:
    """Raise InputError where nothing listens; Ray itself would ask for two minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdecimal():
        return  # `auto`, or nonsense that Ray refuses at once
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise InputError(
            f"no cluster there ({error.strerror or error})",
            field="ray_address",
            value=address,
            advice="`ray status` on the head node says its address.",
        ) from error


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray puts a handler of its own before SIGTERM."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
