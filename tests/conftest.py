"""Settings for every test: one thread (two are slow beside another busy process), no hub, no telemetry."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "1")

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real preference data that the project may read and does not ship."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real data folder shared/data is not beside this checkout")
    return SHARED_DATA
