"""A folder on the Hugging Face hub, through `datasets` and `huggingface_hub`.

`check` asks, before any work is done, whether the repository may be written to as wanted. A repository that is made is
private unless told otherwise: `push` puts a dataset's card there and lets `datasets` upload the rows, `push_model`
uploads a model's files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from neat_data.errors import InputError, NeatError, RunError
from neat_data.formats.write import quiet_datasets
from neat_data.store.markers import with_body

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Kind = Literal["dataset", "model"]


def check(repository: str, public: bool, kind: Kind = "dataset") -> str:
    """The repository's full id (`you/NAME` for a bare name), if it is new or as public as is wanted.

    Raises:
        InputError: no such form of id; not logged in; it exists, public where private is wanted or the reverse.
        RunError: the hub cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError
    from huggingface_hub.utils import validate_repo_id

    api = HfApi()
    with _explained(repository):
        validate_repo_id(repository)
        # A bare name is the user's own; the hub itself would take it for one of its old datasets without an owner.
        name = repository if "/" in repository else f"{api.whoami()['name']}/{repository}"
        try:
            private = bool(api.repo_info(name, repo_type=kind).private)
        except RepositoryNotFoundError:
            api.whoami()
            return name
    if private == public:
        raise _other_visibility(name, private)
    return name


def push(folder: Path, repository: str, *, public: bool, card: str) -> str:
    """Upload a folder that `load_from_disk` opens; returns the repository's page.

    Args:
        folder: the exported dataset.
        repository: its id on the hub; made where it does not exist.
        public: whether a repository that is made is public.
        card: the dataset card; what others wrote in the repository's README.md stays.

    Raises:
        InputError: no right to write there.
        RunError: the hub cannot be reached or refuses.
    """
    import datasets
    from huggingface_hub import HfApi

    api = HfApi()
    with _explained(repository), quiet_datasets(), _no_upload_bars():
        url = api.create_repo(repository, repo_type="dataset", private=not public, exist_ok=True)
        readme = with_body(_readme(api, repository), card)
        api.upload_file(path_or_fileobj=readme, path_in_repo="README.md", repo_id=repository, repo_type="dataset")
        datasets.load_from_disk(str(folder)).push_to_hub(repository, private=not public)
    return str(url)


def push_model(folder: Path, repository: str, *, public: bool, files: list[str]) -> str:
    """Upload a model's files; returns the repository's page.

    Args:
        folder: what is uploaded lies in it.
        repository: its id on the hub; made where it does not exist.
        public: whether a repository that is made is public.
        files: names of those to upload, in `folder` itself.

    Raises:
        InputError: no right to write there.
        RunError: the hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    with _explained(repository), _no_upload_bars():
        url = api.create_repo(repository, repo_type="model", private=not public, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repository, allow_patterns=files)
    return str(url)


def _other_visibility(name: str, private: bool) -> InputError:
    if private:
        advice = "leave out {public}, or make it public on its page first"
        return InputError(f"{name}: exists on the hub and is private", advice=advice)
    return InputError(f"{name}: exists on the hub and is public", advice="say {public}, or choose another name")


def _readme(api: HfApi, repository: str) -> bytes:
    """What the repository's README.md holds; nothing where there is none."""
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return Path(api.hf_hub_download(repository, "README.md", repo_type="dataset")).read_bytes()
    except EntryNotFoundError:
        return b""


@contextmanager
def _no_upload_bars() -> Iterator[None]:
    """Two bars on one terminal would write over each other; the verb's own says that it is uploading."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    """Turn what the hub's library says into an error for the user."""
    import httpx
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    try:
        yield
    except HFValidationError as error:
        raise InputError(str(error).splitlines()[0], field="push_to_hub", value=repository) from error
    except LocalTokenNotFoundError as error:
        raise InputError("not logged in. Run `hf auth login`, or set HF_TOKEN.", field="push_to_hub") from error
    except HfHubHTTPError as error:
        raise _refusal(repository, error) from error
    except (httpx.HTTPError, ConnectionError) as error:
        raise RunError(f"{repository}: the hub cannot be reached ({type(error).__name__}). Try again later.") from error


def _refusal(repository: str, error: Exception) -> NeatError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    reason = str(error).strip().splitlines()[0]
    if status in (401, 403):
        return InputError(f"{repository}: the hub refuses ({reason}).\nLog in with a token that may write there.")
    return RunError(f"{repository}: the hub refuses ({reason}). What was exported stays where it is.")
