"""A dataset below a URL of an object store: S3, Google Cloud Storage or Azure, through obstore.

Files that never change are put on condition that they are not there, those that change on condition that they are what
this writer last saw. So a put whose answer was lost can be tried again: what lies there then is what was put, or
somebody else's, which is an error. Shards are fetched once into the cache folder, and those made here are kept there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import tenacity

from neat_data.errors import InputError, RunError
from neat_data.store import cache
from neat_data.store.lease import NAME as LEASE
from neat_data.store.lease import Conflict, Lease, Version, taken_over
from neat_data.store.shard import ShardEntry

SCHEMES = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "adl")
T = TypeVar("T")
_ANSWER_SECONDS = 120.0
_TRIES = 4
_LOOK_AGAIN = timedelta(minutes=5)  # for credentials; what renews them does so a quarter of an hour before their end
_ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT", "GOOGLE_BASE_URL")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_REFUSED = {
    "AccessDenied", "AuthenticationFailed", "AuthorizationHeaderMalformed", "ExpiredToken", "ExpiredTokenException",
    "InvalidAccessKeyId", "InvalidToken", "RequestExpired", "SignatureDoesNotMatch", "TokenRefreshRequired",
}  # fmt: skip
_NO_BUCKET = "NoSuchBucket"
_GO_ON = "What was committed stays; the same command goes on from there."


@dataclass
class Objects:
    """A `Location`: everything below `url`."""

    url: str
    _lease: Lease | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.url

    def where(self, name: str) -> str:
        return f"{self.url}/{name}"

    @cached_property
    def _store(self) -> Any:  # obstore.store.ObjectStore
        return _opened(self.url)

    def read(self, name: str) -> bytes | None:
        return self._versioned(name)[0]

    def files(self, folder: str) -> dict[str, int]:
        return {each["path"]: each["size"] for each in self._listed(folder)["objects"]}

    def folders(self, folder: str) -> list[str]:
        return sorted(prefix.rstrip("/").rsplit("/", 1)[-1] for prefix in self._listed(folder)["common_prefixes"])

    def others(self) -> list[str]:
        names = [*self.files(""), *self.folders("")]
        return sorted(name for name in names if not name.startswith("."))

    def names(self) -> list[str]:
        return sorted(each["path"] for each in self._all(""))

    def shard(self, entry: ShardEntry) -> Path:
        return self._asked(
            entry.name, lambda: cache.shard_file(entry, self.where(entry.name), lambda: self._pieces(entry.name))
        )

    def local(self, name: str) -> Path | None:
        current = self.modified(name)
        if current is None:
            return None
        path = cache.version_of(self.where(name), str(current[0]))
        if not path.exists():
            self._copy(name, path)
        return path

    @contextmanager
    def copied(self) -> Iterator[Path]:
        names = [name for name in self.names() if name != LEASE]
        if not names:
            raise InputError(f"{self.url}: nothing lies there.")
        with cache.copied(names, self._copy) as root:
            yield root

    @property
    def workplace(self) -> Path:
        return cache.cache_folder() / "work" / cache.hashed(self.url)

    @contextmanager
    def held(self, say: Callable[[str], None]) -> Iterator[None]:
        self._lease = Lease(self, self.url, say)
        try:
            yield
        finally:
            lease, self._lease = self._lease, None
            lease.release()

    def put(self, name: str, content: bytes) -> None:
        try:
            self.create(name, content)
        except Conflict as conflict:
            raise RunError(
                f"{self.where(name)}: lies there already and is not what was made now.\n"
                "Remove it and run the same command again, if no other process writes there."
            ) from conflict

    def upload(self, name: str, path: Path) -> None:
        """Put a file of any size, in parts, over what may be there."""
        import obstore

        self._asked(name, lambda: obstore.put(self._store, name, path))

    def commit(self, entry: ShardEntry, content: bytes) -> None:
        cache.keep_shard(entry, content)
        self.put(entry.name, content)

    def document(self, name: str) -> _Document:
        return _Document(self, name, *self._versioned(name))

    def set_aside(self, folder: str, name: str) -> None:
        self.put(f"{name}/{folder}", b"")
        self.remove(folder)

    def remove(self, name: str) -> None:
        import obstore

        below = [each["path"] for each in self._all(name)]
        with suppress(FileNotFoundError):  # which some stores say and others do not
            self._asked(name, lambda: obstore.delete(self._store, [*below, name]))

    def create(self, name: str, content: bytes) -> Version:
        return self._put(name, content, "create")

    def replace(self, name: str, content: bytes, old: Version) -> Version:
        return self._put(name, content, old)

    def modified(self, name: str) -> tuple[Version, datetime] | None:
        import obstore

        try:
            head = self._asked(name, lambda: obstore.head(self._store, name))
        except FileNotFoundError:
            return None
        return _version(head), head["last_modified"]

    def require_held(self) -> None:
        """Raise RunError where another process has taken over."""
        if self._lease is not None:
            self._lease.require()

    def _put(self, name: str, content: bytes, mode: Any) -> Version:
        """Put on a condition; where it does not hold, but what lies there is `content`, an answer was lost."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        def put() -> Version:
            return _version(obstore.put(self._store, name, content, mode=mode, use_multipart=False))

        try:
            return self._asked(name, put)
        except (AlreadyExistsError, PreconditionError, FileNotFoundError) as error:
            there, version = self._versioned(name)
            if there is None or version is None or there != content:
                raise Conflict from error
            return version

    def _versioned(self, name: str) -> tuple[bytes | None, Version | None]:
        """An object and which version it is; twice None where there is none."""
        import obstore

        def get() -> tuple[bytes, Version]:
            answer = obstore.get(self._store, name)
            return bytes(answer.bytes()), _version(answer.meta)

        try:
            return self._asked(name, get)
        except FileNotFoundError:
            return None, None

    def _pieces(self, name: str) -> Iterable[bytes]:
        import obstore

        return map(bytes, obstore.get(self._store, name).stream())

    def _copy(self, name: str, path: Path) -> None:
        self._asked(name, lambda: cache.write_file(path, lambda file: file.writelines(self._pieces(name))))

    def _listed(self, folder: str) -> Any:
        import obstore

        return self._asked(folder, lambda: obstore.list_with_delimiter(self._store, folder or None))

    def _all(self, folder: str) -> list[Any]:
        import obstore

        def every() -> list[Any]:
            return [each for some in obstore.list(self._store, folder or None) for each in some]

        return self._asked(folder, every)

    def _asked(self, name: str, ask: Callable[[], T]) -> T:
        """What the store answers; asked again where no answer comes, and its errors put into words."""
        from obstore.exceptions import BaseError, GenericError, PermissionDeniedError, UnauthenticatedError

        again = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, GenericError) and not _final(error)),
            stop=tenacity.stop_after_attempt(_TRIES),
            wait=tenacity.wait_exponential_jitter(multiplier=0.2, max=10),
            reraise=True,
        )
        try:
            return again(ask)
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise self._no_right(name, error) from error
        except (GenericError, FileNotFoundError) as error:
            if _code(error) == _NO_BUCKET:
                raise InputError(f"{self.url}: there is no such bucket.") from error
            if isinstance(error, FileNotFoundError):
                raise
            if _code(error) in _REFUSED:
                raise self._no_right(name, error) from error
            raise RunError(f"{self.where(name)}: the store does not answer ({_brief(error)}).\n{_GO_ON}") from error
        except BaseError:
            raise
        except ValueError as error:
            raise InputError(f"{self.url}: {_brief(error)}") from error

    def _no_right(self, name: str, error: Exception) -> RunError:
        return RunError(
            f"{self.where(name)}: the store refuses these credentials ({_brief(error)}).\n"
            f"Renew them, or give them the right to read, list, put and delete there. {_GO_ON}"
        )


@dataclass
class _Document:
    """A `Document`: replaced only where it still is what this writer saw last."""

    _objects: Objects
    _name: str
    content: bytes | None
    _version: Version | None

    def write(self, content: bytes) -> None:
        self._objects.require_held()
        try:
            if self._version is None:
                self._version = self._objects.create(self._name, content)
            else:
                self._version = self._objects.replace(self._name, content, self._version)
        except Conflict as conflict:
            raise taken_over(self._objects.url) from conflict
        self.content = content


def _opened(url: str) -> Any:
    """The store behind a URL, set up by the environment as its own tools are.

    Raises:
        InputError: obstore is not installed, there are no credentials, or the URL makes no sense.
    """
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError as error:
        raise InputError(f"{url}: needs obstore; pip install 'neat-align[stores]'") from error
    seconds = float(os.environ.get("NEAT_ALIGN_STORE_SECONDS", _ANSWER_SECONDS))
    options: dict[str, Any] = {
        "client_options": {
            "timeout": timedelta(seconds=seconds),
            "connect_timeout": timedelta(seconds=min(10.0, seconds)),
            "allow_http": any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS),
        },
        "retry_config": {"max_retries": _TRIES, "retry_timeout": timedelta(seconds=seconds)},
    }
    try:
        return from_url(url, **options, **_credentials(url))
    except (BaseError, ValueError) as error:
        raise InputError(f"{url}: {_brief(error)}") from error


def _credentials(url: str) -> dict[str, Any]:
    """For S3 what AWS's own tools take: environment, profile, single sign-on, role; others find theirs themselves."""
    if not url.startswith("s3") or os.environ.get("AWS_SKIP_SIGNATURE"):
        return {}
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError as error:
        raise InputError(f"{url}: needs boto3; pip install 'neat-align[stores]'") from error
    try:
        return {"credential_provider": Boto3CredentialProvider(ttl=_LOOK_AGAIN)}
    except ValueError as error:
        raise InputError(
            f"{url}: no credentials.\nGive them as for AWS's own tools: AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY; AWS_SKIP_SIGNATURE=true for a public bucket."
        ) from error


def _version(head: Any) -> Version:
    return {key: head[key] for key in ("e_tag", "version") if head.get(key) is not None}


def _code(error: BaseException) -> str | None:
    """What a store calls its error, of which obstore tells few apart."""
    code = _CODE.search(str(error))
    return code[1] if code else None


def _final(error: BaseException) -> bool:
    """Whether asking again would not help."""
    return _code(error) in {*_REFUSED, _NO_BUCKET}


def _brief(error: Exception) -> str:
    """A store's error on a line."""
    return _code(error) or " ".join(str(error).split())[:200]
