"""`python -m pipelines.alignment_rows --data FOLDER --out FILE.jsonl`: the rows that no tiny model was trained on.

The source rows of the `alignment` set of `data/models/splits`, unchanged, one JSON object a line, in order of their
query's id: an order that mixes helpful and harmless, so that the first so many rows are a fair sample.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from neat_data.errors import InputError, NeatError
from pipelines.tiny_models.rows import KINDS, to_pair
from pipelines.tiny_models.splits import read_ids

IDS = Path(__file__).resolve().parents[1] / "data" / "models" / "splits" / "alignment.txt.gz"


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0, or that of the error it prints."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.alignment_rows", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with helpful*.jsonl.gz and harmless*.jsonl.gz")
    parser.add_argument("--out", type=Path, required=True, help="the JSON Lines file to write")
    options = parser.parse_args(arguments)
    try:
        rows = alignment_rows(options.data)
    except NeatError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{options.out}: {len(rows)} rows", file=sys.stderr)
    return 0


def alignment_rows(folder: Path) -> list[dict[str, str]]:
    """Rows `{"chosen": …, "rejected": …}` whose query is of the alignment set, sorted by its id.

    Raises:
        InputError: the folder holds no such row.
    """
    wanted = frozenset(read_ids(IDS))
    kept = [(query, row) for query, row in _rows(folder) if query in wanted]
    if not kept:
        raise InputError(f"{folder}: no row of the alignment set in {', '.join(f'{kind}*.jsonl.gz' for kind in KINDS)}")
    return [row for _, row in sorted(kept, key=lambda one: one[0])]


def _rows(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    for kind in KINDS:
        for file in sorted(folder.glob(f"{kind}*.jsonl.gz")):
            with gzip.open(file, "rt", encoding="utf-8") as lines:
                for row in map(json.loads, lines):
                    yield to_pair(kind, row["chosen"], row["rejected"]).query_id, row


if __name__ == "__main__":
    sys.exit(main())
