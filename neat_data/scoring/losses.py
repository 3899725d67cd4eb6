"""What is said of rows that were lost, and of columns that were not read: errors where nothing is left, else notes.

Files of rejects hold every row; a message shows the first of the commonest reason, with its place and what is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from neat_data.errors import InputError, NeatError, RunError
from neat_data.record import canonical_json
from neat_data.report.escape import visible
from neat_data.scoring.plan import Plan, count_reasons
from neat_data.sources.row import Reject, reject_line
from neat_data.store.documents import RejectLine
from neat_data.store.location import Location, Writable

FOLDER = "rejects"
MANY = 0.2
"""A larger share of rejected rows than this is worth a warning."""
_GIVEN_COLUMNS = (
    "score_chosen and score_rejected (or chosen_rating and the like), scores or rewards beside responses, a score "
    "inside each of them; others by --columns, say scores=COLUMN"
)


def nothing_read(source: str, plan: Plan, out: Writable) -> InputError:
    """What to raise where no row of a source was understood; the rejects are left in `out`."""
    reasons = count_reasons(_rejects(plan))
    if not reasons:
        return InputError(f"{source}: none of its {plan.rows:,} rows can be used (it is empty)")
    file = f"{FOLDER}/00000.jsonl"
    lines = (canonical_json(reject_line(reject)) + "\n" for reject in _rejects(plan))
    out.put(file, b"".join(line.encode(errors="backslashreplace") for line in lines))
    first = _first(map(reject_line, _rejects(plan)), reasons)
    count = f"none of its {plan.rows:,} rows can be used ({_listed(reasons)})"
    return InputError(f"{source}: {count}.\n{first} All of them are in {out.where(file)}.")


def _rejects(plan: Plan) -> Iterator[Reject]:
    return (reject for shard in range(plan.shards) for reject in plan.rejects(shard))


def nothing_scored(out: Location, counts: Mapping[str, Any], *, given: bool) -> NeatError:
    """What to raise where rows were understood and none of them was kept."""
    reasons = counts["rejected"]
    message = (
        f"{out}: none of the {counts['source_rows']:,} rows is left ({_listed(reasons)}).\n"
        f"{_first(_lines(out), reasons)} All of them are in {out.where(FOLDER)}."
    )
    if given and _commonest(reasons) == "no_reward":
        return InputError(f"{message} Columns that count as rewards: {_GIVEN_COLUMNS}.")
    return RunError(message)


def forget(out: Writable) -> None:
    """Remove the rejects that an earlier try left which came to nothing."""
    out.remove(FOLDER)


def notes(plan: Plan | None, out: Location, counts: Mapping[str, Any]) -> tuple[str, ...]:
    """What the summary says beside its counts."""
    made = []
    if plan and plan.meta:
        made.append(f"kept in meta, where nothing reads them: {', '.join(_shown(name) for name in plan.meta)}")
    if plan and plan.contradicted:
        made.append(f"{plan.contradicted:,} rows: the source's own scores contradict its verdict, which counts")
    lost, rows = sum(counts["rejected"].values()), counts["source_rows"]
    if lost > MANY * rows:
        reasons = counts["rejected"]
        share = f"{100 * lost / rows:.0f} % of the rows were rejected, most for {_commonest(reasons)}"
        made.append(f"warning: {share}. {_first(_lines(out), reasons)}")
    return tuple(made)


def _lines(out: Location) -> Iterator[RejectLine]:
    for name in out.files(FOLDER):
        yield from map(json.loads, (out.read(name) or b"").splitlines())


def _listed(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in reasons.items())


def _commonest(reasons: Mapping[str, int]) -> str:
    return max(reasons, key=lambda reason: reasons[reason])


def _first(lines: Iterable[RejectLine], reasons: Mapping[str, int]) -> str:
    """The first row with the commonest reason: its place and what is wrong in it."""
    reason = _commonest(reasons)
    line = next((line for line in lines if line["reason"] == reason), None)
    if line is None:
        return ""
    detail = f": {_shown(line['detail'])}" if line["detail"] else ""
    return f"The first, row {line['row']} of {line['name']}, is {reason}{detail}."


def _shown(text: str) -> str:
    return visible(text)[:200]
