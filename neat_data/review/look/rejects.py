"""The source rows that could not be used, page by page, and how many there are of each reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

from neat_data.store.dataset import PreferenceDataset
from neat_data.store.documents import RejectLine

PAGE = 25


@dataclass(frozen=True)
class ShownReject:
    """One source row: where it stands, why it was rejected, and its text, base64 where it is no UTF-8."""

    place: str
    reason: str
    detail: str
    raw: str


@dataclass(frozen=True)
class Rejects:
    """The rejects of all base shards, in source order."""

    dataset: PreferenceDataset

    @cached_property
    def _reasons(self) -> list[tuple[int, int, str]]:
        """(shard, line, reason) of each."""
        numbers = self.dataset.manifest.round(0).numbers()
        lines = ((number, enumerate(self.dataset.rejects(number))) for number in numbers)
        return [(number, line, _text(reject, "reason")) for number, rejects in lines for line, reject in rejects]

    @cached_property
    def reasons(self) -> dict[str, int]:
        """How many there are of each reason, the most frequent first."""
        return dict(Counter(reason for _, _, reason in self._reasons).most_common())

    def page(self, number: int, reason: str) -> tuple[list[ShownReject], int]:
        """One page, counted from 1, and how many rejects all pages have; `reason` "": of any."""
        wanted = [place for place in self._reasons if reason in ("", place[2])]
        chosen = wanted[(number - 1) * PAGE : number * PAGE]
        shown: list[ShownReject] = []
        for shard, places in groupby(chosen, key=lambda place: place[0]):
            rejects = self.dataset.rejects(shard)
            shown += [_reject(rejects[line]) for _, line, _ in places]
        return shown, len(wanted)


def _reject(stored: RejectLine) -> ShownReject:
    parts = (stored.get(name) for name in ("name", "subset", "split"))
    row = stored.get("row")
    where = " · ".join(str(part) for part in parts if part)
    raw = stored.get("raw", stored.get("raw_base64"))
    return ShownReject(
        place=where if row is None else f"{where} row {row}",
        reason=_text(stored, "reason"),
        detail=_text(stored, "detail"),
        raw=raw if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False, indent=1),
    )


def _text(stored: Mapping[str, Any], name: str) -> str:
    return str(stored.get(name) or "")
