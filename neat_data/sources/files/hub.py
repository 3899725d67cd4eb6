"""A dataset of the Hugging Face hub -> data files on this disk, at one resolved revision.

The repository's own list of files and its card's `configs` decide what is read; files are downloaded whole into the
hub's cache and read like local ones, so that every row knows its file. No loading script is ever run.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neat_data.errors import InputError, NeatError, RunError
from neat_data.replies import ENCODINGS, LARGEST, LONGEST, Meter, Sockets
from neat_data.sources.files.locate import DataFile, choose_split, choose_subset, split_of, subset_of
from neat_data.sources.files.read import is_data_file

_TIMEOUT_SECONDS = 20
_LONGEST_WAIT_SECONDS = 30
HEAD_SECONDS = 60.0  # until a reply begins
_SLOWEST = 10_000  # bytes a second, at which a file still comes


@dataclass(frozen=True, slots=True)
class Repository:
    """What the hub says of a dataset: the commit that the revision resolves to, its files, its card's configs."""

    id: str
    commit: str
    files: tuple[str, ...]
    configs: tuple[dict[str, Any], ...]


def find(spec: str, subset: str | None, split: str | None) -> tuple[list[DataFile], str]:
    """The downloaded files of `ID` or `ID@REVISION` and the commit they stand at.

    Raises:
        InputError: no such dataset, revision, subset or split, or no right to it.
        RunError: the hub cannot be reached or refuses for now.
    """
    from huggingface_hub import HfApi

    name, _, revision = spec.partition("@")
    api = HfApi()
    with _explained(spec), _guarded(name):
        info = api.dataset_info(name, revision=revision or None, timeout=_TIMEOUT_SECONDS)
        card = info.card_data.to_dict() if info.card_data else {}
        names = tuple(sorted(sibling.rfilename for sibling in info.siblings or ()))
        repository = Repository(name, str(info.sha), names, tuple(card.get("configs") or ()))
    chosen = choose_split(select(repository, subset), split or "train", spec)
    with _explained(spec), _guarded(name):
        return [_downloaded(file, repository, api.hf_hub_download) for file in chosen], repository.commit


def _downloaded(file: DataFile, repository: Repository, download: Callable[..., Any]) -> DataFile:
    path = download(repository.id, file.key, repo_type="dataset", revision=repository.commit)
    return replace(file, path=Path(path))


def select(repository: Repository, subset: str | None) -> list[DataFile]:
    """The data files of `subset`, a config of the card or a folder; InputError lists those that exist."""
    config = _config(repository, subset)
    if config is not None:
        files = list(_config_files(repository, config, subset))
    else:
        data_files = [
            _file(repository, key, subset_of(key), split_of(key)) for key in repository.files if is_data_file(key)
        ]
        files = choose_subset(data_files, subset, repository.id) if data_files else []
        # As `datasets` does: where some files name their split, those that do not are no part of it.
        files = [file for file in files if file.split] or files
    if not files:
        raise InputError(
            f"{repository.id}: holds no data file (JSON Lines, JSON, CSV, Parquet or Arrow).\n"
            "A dataset made by a loading script cannot be read; look for a branch that holds its files, as ID@REVISION."
        )
    return files


def _file(repository: Repository, key: str, subset: str | None, split: str | None) -> DataFile:
    return DataFile(Path(key), repository.id, key, subset, split)


def _config(repository: Repository, subset: str | None) -> dict[str, Any] | None:
    """The card's config called `subset`, or its default one; None where the folders decide."""
    configs = {config.get("config_name", "default"): config for config in repository.configs}
    if subset in configs:
        return configs[subset]
    if subset is not None or not configs:
        return None
    marked = [config for config in configs.values() if config.get("default")]
    if marked or "default" in configs or len(configs) == 1:
        return marked[0] if marked else configs.get("default", next(iter(configs.values())))
    raise InputError(
        f"{repository.id}: has several subsets.", advice=f"Ask for one with {{subset}} {' or '.join(configs)}."
    )


def _config_files(repository: Repository, config: dict[str, Any], subset: str | None) -> Iterator[DataFile]:
    folder = str(config.get("data_dir") or "").strip("/")
    prefix = f"{folder}/" if folder else ""
    for split, patterns in _patterns(config.get("data_files")):
        expressions = [_glob(prefix + pattern.removeprefix("./")) for pattern in patterns]
        for key in repository.files:
            if is_data_file(key) and any(expression.fullmatch(key) for expression in expressions):
                yield _file(repository, key, subset or subset_of(key), split or split_of(key))


def _patterns(data_files: Any) -> list[tuple[str | None, list[str]]]:
    """A card's `data_files` (a pattern, a list of them, or a list of splits with theirs) as (split, patterns)."""
    if data_files is None:
        return [(None, ["**"])]
    entries = data_files if isinstance(data_files, list) else [data_files]
    if all(isinstance(entry, dict) for entry in entries):
        return [(str(entry["split"]), _listed(entry["path"])) for entry in entries]
    return [(None, [str(entry) for entry in entries])]


def _listed(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def _glob(pattern: str) -> re.Pattern[str]:
    """`**` crosses folders, `*` and `?` do not."""
    parts = re.split(r"(\*\*/?|\*|\?)", pattern)
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(meaning.get(part, re.escape(part)) for part in parts))


@contextmanager
def _guarded(name: str) -> Iterator[None]:
    """Take no reply of the hub that is larger or later than it may be, and no wish for a long pause: its library would
    sleep. What hf_xet downloads nobody here could measure, so files come over HTTP."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    session, replies, disabled = get_session(), _Replies(name), constants.HF_HUB_DISABLE_XET
    hooks, headers = session.event_hooks, session.headers.copy()
    session.event_hooks = {
        "request": [*hooks.get("request", []), replies.expect],
        "response": [*hooks.get("response", []), replies.check],
    }
    session.headers.update({"accept-encoding": ENCODINGS, "connection": "close"})  # each connection is a watched one
    constants.HF_HUB_DISABLE_XET = True
    try:
        with replies.in_time():
            yield
    finally:
        session.event_hooks, session.headers = hooks, headers
        constants.HF_HUB_DISABLE_XET = disabled


class _Replies:
    """Checks each reply before its body is read. A file may be as large, and take as long, as its own head says."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._announced = 0  # bytes, the most that the head of any file said
        self._sockets, self._late = Sockets(), threading.Event()
        self._timer = threading.Timer(0, self._give_up)

    @contextmanager
    def in_time(self) -> Iterator[None]:
        """Raises RunError where a reply has not begun in time: its headers may drip, never long for a byte."""
        try:
            yield
        except Exception as error:
            if self._late.is_set():
                raise RunError(f"{self._name}: the hub's reply has not begun after {HEAD_SECONDS:g} seconds") from error
            raise
        finally:
            self._timer.cancel()

    def expect(self, request: Any) -> None:
        """Before each request: watch its connection, and end it where no reply begins."""
        request.extensions["trace"] = self._sockets.watch
        self._timer.cancel()
        self._timer = threading.Timer(HEAD_SECONDS, self._give_up)
        self._timer.daemon = True
        self._timer.start()

    def _give_up(self) -> None:
        self._late.set()
        self._sockets.end()

    def check(self, response: Any) -> None:
        """Once its headers are there: whether the reply may be taken, and measure its body."""
        self._timer.cancel()
        headers = response.headers
        wait = headers.get("retry-after", "")
        if response.status_code == 429 and wait.isdigit() and int(wait) > _LONGEST_WAIT_SECONDS:
            raise _too_many(self._name, wait)
        if response.request.method == "HEAD":
            sizes = (headers.get(key, "") for key in ("x-linked-size", "content-length"))
            self._announced = max([self._announced, *(int(size) for size in sizes if size.isdecimal())])
            return
        about = "/api/" in response.request.url.path
        longest = LONGEST + (0 if about else self._announced / _SLOWEST)
        meter = Meter(self._name, headers, LARGEST if about else max(LARGEST, self._announced), longest)
        response.stream = _measured(response.stream, meter)
        headers.pop("content-encoding", None)  # what the stream gives is open already


def _measured(stream: Any, meter: Meter) -> Any:
    from httpx2 import SyncByteStream

    class Measured(SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            for part in stream:
                yield from meter.read(part)

        def close(self) -> None:
            stream.close()

    return Measured()


@contextmanager
def _explained(spec: str) -> Iterator[None]:
    """Turn whatever the hub's library raises into two lines: what is wrong, and what to do."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        yield
    except NeatError:
        raise
    except HFValidationError:
        raise InputError(
            f"{spec}: no such file or folder, and no hub id either (OWNER/NAME or OWNER/NAME@REV)"
        ) from None
    except HfHubHTTPError as error:
        raise _refusal(spec, error) from None
    except (OSError, RuntimeError) as error:
        raise _unreachable(spec, error) from None
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("httpx", "httpx2"):  # which of them depends on the version
            raise
        raise _unreachable(spec, error) from None


def _unreachable(spec: str, error: BaseException) -> NeatError:
    from huggingface_hub.errors import HfHubHTTPError

    cause = error.__cause__
    if isinstance(cause, HfHubHTTPError):  # the library wraps a refused download into one about the cache
        return _refusal(spec, cause)
    reason = str(cause or error).splitlines()[0][:120] if str(cause or error) else type(error).__name__
    return RunError(
        f"{spec}: no such file here, and the hub cannot be reached ({reason}).\n"
        "Go online (HF_HUB_OFFLINE unset, HF_ENDPOINT right), or give the path of a copy on this disk."
    )


def _refusal(spec: str, error: Any) -> NeatError:
    from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError

    name, _, revision = spec.partition("@")
    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return InputError(
            f"{name}: the dataset is gated and this account has no access ({status}).\n"
            f"Ask for it on the dataset's page, then log in with `hf auth login` or set HF_TOKEN."
        )
    if isinstance(error, RevisionNotFoundError):
        return InputError(f"{name}: has no revision {revision!r} (404).\nGive a branch, tag or commit that exists.")
    if status in (401, 403):
        return InputError(
            f"{name}: the hub refuses access ({status}): the dataset is private or missing, or the token is wrong.\n"
            "Check the name, then log in with `hf auth login` or set HF_TOKEN."
        )
    if status == 404:
        return InputError(
            f"{name}: no such file here and no such dataset on the hub (404).\nCheck the name: OWNER/NAME."
        )
    if status == 429:
        return _too_many(name, error.response.headers.get("retry-after", ""))
    return RunError(f"{name}: the hub failed ({status}).\nTry the same command again later; nothing is lost.")


def _too_many(name: str, wait: str) -> RunError:
    pause = f"{wait} seconds" if wait.isdigit() else "some minutes"
    return RunError(
        f"{name}: the hub says too many requests (429).\n"
        f"Wait {pause} and run the same command again; logging in (HF_TOKEN) raises the limit."
    )
