"""Hash every file that the commands write, before a change of the code and after it: what differs is named.

    python benchmarks/same_bytes.py --json benchmarks/results/same_bytes.json       # before: record
    python benchmarks/same_bytes.py --against benchmarks/results/same_bytes.json    # after: compare

The shipped models on the shipped sample, and 600 rows of harmless-base test where --hh or ../shared/data has them; on
CPU in float32 with one thread: `score`, `expand`, `stats`, `export` in every form, `fit` with online rounds, `eval` and
`compare`. Only command lines are used, so modules may move. What a command prints with --json is hashed too. Hashes
compare on one kind of CPU with one set of package versions; both are recorded, and a difference is said. Files are
hashed as they are, but for what tells of times, places and versions: `KEYS` and `TEXT` say what.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

ROOT = Path(__file__).resolve().parents[1]
HH = ROOT.parent / "shared/data/hh-rlhf/harmless-base.test.jsonl.gz"
POLICY, REWARD, HELD_OUT = (f"data/models/{name}" for name in ("tiny-policy", "tiny-reward", "tiny-reward-heldout"))
CPU = ("--device", "cpu", "--dtype", "float32")

# Rounds of two steps and a checkpoint every third, so that a block is open behind the first checkpoint.
FIT = {
    "limit": "64",
    "max_steps": "6",
    "save_steps": "3",
    "eval_steps": "3",
    "records_per_step": "4",
    "max_response": "32",
    "learning_rate": "1e-3",
    "held_out.share": "0.2",
    "held_out.queries": "12",
    "rounds.queries": "8",
    "rounds.max_new_tokens": "16",
    "rounds.drop": "[]",
}
EVAL = ("--queries", "data/sample/harmless.train.jsonl", "--limit", "32", "--max-new-tokens", "16")
FORMS = {
    "trl-dpo": (".jsonl", ".parquet", ""),
    "trl-sft": (".jsonl", ".parquet", ""),
    "trl-kto": (".jsonl", ".parquet", ""),
    "trl-reward": (".jsonl", ".parquet", ""),
    "rrhf": (".jsonl",),
    "parquet": (".parquet",),
    "hf": ("",),
}

TIMES = ("seconds", "round/*_seconds", "train_runtime", "train_*_per_second")
# Keys that are left out of a JSON file, whatever depth they stand at, before it is hashed.
KEYS: dict[str, tuple[str, ...]] = {
    "dataset.json": ("versions",),
    "settings.json": ("versions",),
    ".reward-model.json": ("model",),
    ".policy.json": ("policy",),
    "adapter_config.json": ("base_model_name_or_path", "peft_version"),
    "generation_config.json": ("transformers_version",),
    "complete.json": ("adapter_config.json", "trainer_state.json"),  # their sizes: of a path, and of times
    "metrics.jsonl": TIMES,
    "trainer_state.json": TIMES,
    "result.json": TIMES,
    "eval.json": ("spec", "versions"),
    "*.stdout.json": (*TIMES, "out", "dataset", "run", "spec", "evaluation", "versions"),
}
# What is left out of a text, line by line.
TEXT = {"README.md": r"^Made with .*$", "compare.md": r"(\d+ (s|min|h) ?)+", "compare.html": r"(\d+ (s|min|h) ?)+"}


def commands(out: Path, hh: Path | None) -> Iterator[tuple[str, list[str]]]:
    """Every command that is run, in order, with the name of what it prints."""
    sample, run, start = out / "sample", out / "neat-pp", out / "start"
    scored = ("--reward-model", REWARD, *CPU)
    measured = (*EVAL, *scored, "--reward-model", HELD_OUT)
    yield _data("score", "data/sample/*.train.jsonl", *scored, "--shard-rows", 128, "--out", sample)
    if hh:
        yield _data("score", hh, *scored, "--limit", 600, "--out", out / "harmless", name="score-harmless")
    yield _data("expand", sample, "--policy", POLICY, "--limit", 40, *CPU)
    yield _data("stats", sample, "--by", "polarity", "--report", out / "stats.html")
    for form, endings in FORMS.items():
        for ending in endings:
            place = out / "exports" / f"{form}{ending}"
            yield _data("export", sample, "--to", form, "--out", place, name=f"export-{form}{ending}")
    settings = [part for name, value in FIT.items() for part in ("--set", f"{name}={value}")]
    yield _train("fit", sample, "--policy", POLICY, "--method", "neat-pp", *settings, *CPU, "--out", run)
    yield _train("eval", run, *measured)
    yield _train("eval", POLICY, *measured, "--out", start, name="eval-start")
    report = ("--markdown", out / "compare.md", "--report", out / "compare.html", "--plots", out / "plots")
    yield _train("compare", f"start={start}", f"neat-pp={run}", *report)


def _data(verb: str, *words: object, name: str = "") -> tuple[str, list[str]]:
    return name or verb, ["neat_data", verb, *map(str, words), "--json"]


def _train(verb: str, *words: object, name: str = "") -> tuple[str, list[str]]:
    return name or verb, ["neat_train", verb, *map(str, words), "--json"]


def run(words: list[str], stdout: Path) -> None:
    """One command, with the code of this checkout."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with stdout.open("wb") as file:
        if subprocess.run([sys.executable, "-m", *words], cwd=ROOT, env=environment, stdout=file).returncode:
            raise typer.Exit(1)


def hashes(out: Path) -> dict[str, str]:
    """The sha256 of every file below a folder, by its name there."""
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): hashlib.sha256(content(path)).hexdigest() for path in files}


def content(path: Path) -> bytes:
    """What is hashed of a file.

    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "metrics.jsonl").write_text('{"step": 1, "train_runtime": 2.5}')
    >>> content(folder / "metrics.jsonl")
    b'[{"step": 1}]'
    """
    if keys := next((keys for name, keys in KEYS.items() if fnmatch.fnmatchcase(path.name, name)), None):
        text = path.read_text()
        rows = map(json.loads, text.splitlines() if path.suffix == ".jsonl" else [text])
        return json.dumps([without(row, keys) for row in rows], sort_keys=True).encode()
    if path.name in TEXT:
        return re.sub(TEXT[path.name], "", path.read_text(), flags=re.MULTILINE).encode()
    return path.read_bytes()


def without(value: Any, keys: tuple[str, ...]) -> Any:
    """A JSON value without the keys that match one of these patterns.

    >>> without({"a": [{"seconds": 1, "b": 2}]}, ("sec*",))
    {'a': [{'b': 2}]}
    """
    if isinstance(value, dict):
        kept = {key: inner for key, inner in value.items() if not any(fnmatch.fnmatchcase(key, k) for k in keys)}
        return {key: without(inner, keys) for key, inner in kept.items()}
    return [without(inner, keys) for inner in value] if isinstance(value, list) else value


def differences(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """One line for every file that is not the same.

    >>> differences({"a": "1", "b": "1"}, {"b": "2", "c": "1"})
    ['gone: a', 'differs: b', 'new: c']
    """
    lines = [f"gone: {name}" for name in before if name not in now]
    lines += [f"differs: {name}" for name in before if name in now and before[name] != now[name]]
    return lines + [f"new: {name}" for name in now if name not in before]


def machine() -> dict[str, str]:
    """What else the bytes depend on."""
    cpu = next((line.split(": ")[1] for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown")
    packages = ("torch", "transformers", "peft", "accelerate", "tokenizers", "pyarrow", "datasets", "matplotlib")
    return {"cpu": cpu, "python": sys.version.split()[0], **{name: version(name) for name in packages}}


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def compare(recorded: dict[str, Any], result: dict[str, Any], skipped: tuple[str, ...]) -> bool:
    """Print what differs from a recorded run, names that begin with `skipped` aside; whether nothing does."""
    for name, value in recorded["machine"].items():
        if value != result["machine"].get(name):
            print(f"recorded with {name} {value}, now {result['machine'].get(name)}: figures may differ by that alone")
    before = {name: sha for name, sha in recorded["sha256"].items() if not name.startswith(skipped)}
    lines = differences(before, result["sha256"])
    print("\n".join([*lines, f"{len(before)} files compared, {len(lines)} differences"]))
    return not lines


def main(
    hh: Path = HH,
    out: Annotated[Path | None, typer.Option(help="Keep what is written in this new folder.")] = None,
    against: Annotated[Path | None, typer.Option(help="A recorded run.")] = None,
    json_out: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Exit status 1 where a file differs from that of the recorded run."""
    if not hh.exists():
        print(f"{hh} is not there: its 600 rows are skipped")
    with nullcontext(out) if out else tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve()
        place.mkdir(parents=True, exist_ok=True)
        if any(place.iterdir()):
            raise typer.BadParameter(f"{place} is not empty", param_hint="--out")
        for name, words in commands(place, hh if hh.exists() else None):
            print(name, flush=True)
            run(words, place / f"{name}.stdout.json")
        result = {"machine": machine(), "sha256": hashes(place)}
    if json_out:
        json_out.write_text(json.dumps(result, indent=1) + "\n")
    skipped = () if hh.exists() else ("harmless/", "score-harmless.")
    same = not against or compare(json.loads(against.read_text()), result, skipped)
    raise typer.Exit(0 if same else 1)


if __name__ == "__main__":
    typer.run(main)
