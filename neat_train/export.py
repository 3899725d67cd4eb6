"""`export`: what a run left behind, merged into one model, put on the hub, or both."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neat_data.errors import InputError
from neat_data.watch import Silent, Watcher
from neat_train.publish import check, publish, write_merged_card

if TYPE_CHECKING:
    from neat_train.merge import Merged


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What `neat-train export` was asked for.

    Attributes:
        run: a run's folder, one of its checkpoints, or a folder with an adapter.
        merged: whether to merge the adapter, into `out`.
        dtype: of the merged weights; None: the base model's.
        base: the model of the adapter, where that says no more of it than a folder.
        push_to_hub: the repository to upload to; a new one is private unless `public`.
    """

    run: Path
    merged: bool = False
    out: Path | None = None
    dtype: str | None = None
    device: str = "auto"
    push_to_hub: str | None = None
    public: bool = False
    trust_remote_code: bool = False
    base: str | None = None


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """What came of it.

    Attributes:
        model: the folder to load.
        adapter: whether that is an adapter, which needs its base model.
        merged: of a merged model.
        url: its page on the hub.
    """

    model: Path
    adapter: bool
    merged: Merged | None
    url: str | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        merged = None if self.merged is None else {**asdict(self.merged), "out": str(self.merged.out)}
        return {"model": str(self.model), "adapter": self.adapter, "merged": merged, "url": self.url}


def export(request: ExportRequest, watch: Watcher | None = None) -> ExportSummary:
    """Merge and upload as asked.

    Raises:
        InputError: options that do not go together, nothing to export, a place that is taken.
        RunError: the disk is full; the hub refuses.
    """
    watch = watch or Silent()
    _check(request)
    repository = None
    if request.push_to_hub is not None:
        repository = check(request.run, request.push_to_hub, request.public, merging=request.merged)
    merged = _merged(request, watch) if request.merged else None
    model = request.run if merged is None else merged.out
    url = None
    if repository is not None:
        watch.phase("uploading", None)
        url = publish(model, repository, public=request.public)
    return ExportSummary(model, merged is None and (model / "adapter_config.json").is_file(), merged, url)


def _check(request: ExportRequest) -> None:
    if not request.run.is_dir():
        raise InputError(f"{request.run}: no such folder")
    if request.merged and request.out is None:
        raise InputError("--merge writes a model: say where, --out FOLDER")
    if not request.merged and (request.out is not None or request.dtype is not None):
        raise InputError(f"{'--out' if request.out else '--dtype'} goes with --merge")
    if request.public and request.push_to_hub is None:
        raise InputError("--public goes with --push-to-hub")
    if not request.merged and not any(
        (request.run / name).is_file() for name in ("adapter_config.json", "config.json")
    ):
        raise InputError(f"{request.run}: holds neither an adapter nor a model; give a finished run")


def _merged(request: ExportRequest, watch: Watcher) -> Merged:
    from neat_train.merge import merge  # after what is asked was checked: torch takes seconds to import

    assert request.out is not None
    found = merge(
        request.run, request.out, request.dtype, request.device, request.trust_remote_code, watch, request.base
    )
    write_merged_card(request.run, found.out, f"{in_words(found)}\n")
    return found


def in_words(found: Merged) -> str:
    """One sentence for the card and the terminal."""
    return (
        f"The adapter was merged into its model in float32 and stored as {found.dtype}. On a few dialogues that "
        f"changed log-probabilities by {found.difference:.2g} at most, and probabilities by {found.probability:.2g}."
    )
