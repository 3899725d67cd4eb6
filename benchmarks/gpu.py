"""How fast this project is on one GPU, beside other ways of the same work, in one run on one card.

    python benchmarks/gpu.py [--quick] [--parts parity,ceilings,…] [--data SOURCE] [--out FILE]

Nothing is fetched. The model has LLaMA-3-8B's published shape and random weights made on the device; the text is real
(see `gpu_model`). Each part is a process of its own with a limit of time, most important first, and what it has is
written after every figure, so that a run cut short keeps what it has; a part that was measured before is measured anew
only if it is named.

parity     every attention against dense attention in float32, forward and backward; the shipped models against a CPU
ceilings   matrix products and copies of the card itself, which shares of the peak refer to
scoring    k = 2, 4, 8: token trees (varlen, flex), length-sorted batches, file order at 32, one dialogue at a time
training   a LoRA step, with gradient checkpointing and without, beside padded batches and TRL's DPOTrainer
compiling  compile times, recompiles, and what block masks cost
sampling   the transformers sampler; a model's way to the host and back; memory beside its estimate

On a CPU the shape is a small one, and the figures are a test that the script runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gpu_model
import torch
import transformers

LIMITS = {"parity": 110, "ceilings": 40, "scoring": 130, "training": 190, "compiling": 70, "sampling": 100}  # seconds
SIZES = {
    "cuda": {"rows": 512, "records": 64, "tiny_rows": 64, "prompts": 64, "new_tokens": 64, "budget": 16_384},
    "quick": {"rows": 256, "records": 64, "tiny_rows": 16, "prompts": 16, "new_tokens": 16, "budget": 16_384},
    "cpu": {"rows": 8, "records": 8, "tiny_rows": 4, "prompts": 3, "new_tokens": 4, "budget": 1_024},
}


def main() -> None:
    options = _options()
    if options.part:
        _measure(options)
        return
    device = _device(options)
    results = _open_results(options, device)
    for name in options.parts or [name for name in LIMITS if name not in results["parts"]]:
        _run(name, options, device, results)
    print(json.dumps({name: part.get("summary", part) for name, part in results["parts"].items()}, indent=1))
    print(f"written to {options.out}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--quick", action="store_true", help="less of everything, and k = 2 alone")
    parser.add_argument("--parts", type=lambda text: text.split(","), help="only these, measured anew")
    parser.add_argument("--data", default=gpu_model.default_data(), help="a source of pairs (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=1.0, help="times the limit of each part")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/gpu-CARD.json")
    parser.add_argument("--part", choices=tuple(LIMITS), help=argparse.SUPPRESS)
    parser.add_argument("--peak", type=float, default=0.0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.parts or ()) - set(LIMITS):
        parser.error(f"--parts: unknown {', '.join(sorted(unknown))}; there are {', '.join(LIMITS)}")
    return options


def _device(options: argparse.Namespace) -> str:
    if options.device != "auto":
        return options.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def _open_results(options: argparse.Namespace, device: str) -> dict[str, Any]:
    card = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    if options.out is None:
        options.out = Path("benchmarks/results") / f"gpu-{re.sub('[^a-z0-9]+', '-', card.lower())}.json"
    machine = {
        "card": card,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "shape": gpu_model.shape_of(device),
        "quick": options.quick,
    }
    if options.out.is_file():
        results = json.loads(options.out.read_text())
        if results["machine"] == machine:
            return results
    return {"machine": machine, "parts": {}}


def _run(name: str, options: argparse.Namespace, device: str, results: dict[str, Any]) -> None:
    """One part in a process of its own; whatever becomes of it, what it wrote is kept."""
    written = options.out.with_suffix(f".{name}.json")
    written.unlink(missing_ok=True)
    peak = results["parts"].get("ceilings", {}).get("peak_tflops", 0.0)
    command = [sys.executable, __file__, "--part", name, "--device", device, "--data", options.data]
    command += ["--repeats", str(options.repeats), "--out", str(written), "--peak", str(peak)]
    command += ["--quick"] if options.quick else []
    start, limit = time.perf_counter(), LIMITS[name] * options.limit
    print(f"{name} …", file=sys.stderr, flush=True)
    try:
        done = subprocess.run(command, timeout=limit, stderr=subprocess.PIPE, text=True, env=_environment())
        end = "" if done.returncode == 0 else f"ended with {done.returncode}: {done.stderr[-1_500:]}"
    except subprocess.TimeoutExpired:
        end = f"cut at {limit:.0f} s"
    part = json.loads(written.read_text()) if written.is_file() else {}
    written.unlink(missing_ok=True)
    results["parts"][name] = {**part, "seconds_of_part": round(time.perf_counter() - start, 1)}
    if end:
        results["parts"][name]["ended"] = end
    _save(results, options.out)
    print(f"{name}: {results['parts'][name]['seconds_of_part']} s {end}", file=sys.stderr, flush=True)


def _environment() -> dict[str, str]:
    # Segments that grow waste less memory where sizes vary.
    return {**os.environ, "PYTORCH_ALLOC_CONF": "expandable_segments:True", "HF_HUB_OFFLINE": "1"}


def _measure(options: argparse.Namespace) -> None:
    """In a process of its own: one part."""
    import gpu_parts

    sizes = SIZES["cpu" if options.device == "cpu" else "quick" if options.quick else "cuda"]
    dtype = torch.float32 if options.device == "cpu" else torch.bfloat16
    vars(options).update(sizes, dtype=dtype, ks=(2,) if options.quick else (2, 4, 8))
    gpu_parts.PARTS[options.part](options, lambda part: _save(part, options.out))


def _save(results: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(results, indent=1) + "\n")
    beside.replace(path)


if __name__ == "__main__":
    main()
