"""The same file read and parsed by what a user would reach for: `datasets.load_dataset` and `map`, or datatrove.

    python benchmarks/scale_peers.py datasets|datatrove SOURCE.jsonl FOLDER

Both take a row apart by this project's `dialogue.read`, and write messages and the two answers into FOLDER, one process
each. Neither finds repeated queries, makes ids, or keeps rejects, all of which `score --phase plan` does.
`scale.py` runs this and measures it.
"""

from __future__ import annotations

import sys
from typing import Any

from neat_data.dialogue import read


def parsed(row: dict[str, Any]) -> dict[str, Any]:
    """The query and both answers of a row of HH."""
    chosen, rejected = read(row["chosen"]), read(row["rejected"])
    if chosen[:-1] != rejected[:-1]:
        raise ValueError("the two sides answer different queries")
    messages = [{"role": turn.role, "content": turn.content} for turn in chosen[:-1]]
    return {"messages": messages, "responses": [chosen[-1].content, rejected[-1].content]}


def by_datasets(source: str, folder: str) -> None:
    """`load_dataset` and `map`."""
    from datasets import load_dataset

    rows = load_dataset("json", data_files=source, split="train", cache_dir=f"{folder}/cache")
    rows.map(parsed, remove_columns=["chosen", "rejected"]).save_to_disk(f"{folder}/parsed")


def by_datatrove(source: str, folder: str) -> None:
    """datatrove's reader and writer, with a step between them."""
    from pathlib import Path

    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    def row_as_document(_self: Any, row: dict[str, Any], path: str, number: int) -> dict[str, Any]:
        return {"text": row["chosen"], "id": f"{path}/{number}", "metadata": parsed(row)}

    path = Path(source)
    reader = JsonlReader(str(path.parent), glob_pattern=path.name, adapter=row_as_document)
    writer = JsonlWriter(f"{folder}/parsed", compression=None)
    LocalPipelineExecutor([reader, writer], logging_dir=f"{folder}/logs", workers=1).run()


if __name__ == "__main__":
    {"datasets": by_datasets, "datatrove": by_datatrove}[sys.argv[1]](*sys.argv[2:])
