"""Uploading, against a stand-in hub on loopback that keeps what is committed to it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from huggingface_hub import DatasetCard

from neat_data.record import Response, response_id
from tests.support.hub import Hub, Repository


@pytest.fixture
def dataset(record_of, made_dataset):
    """Two records; the first has a response that was sampled under a negative prompt."""
    first = record_of("one", {"a": 2.0, "b": 1.0}, [("a", "b")])
    bad = Response(response_id(first.query_id, "vile"), "vile", -3.0, origin="sampled", polarity="negative")
    return made_dataset(
        [replace(first, responses=(*first.responses, bad)), record_of("two", {"a": 1.0, "b": 0.0}, [("a", "b")])]
    )


@pytest.fixture
def upload(hub: Hub, dataset: Any, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command line in a process of its own: the hub's libraries read their settings when imported."""

    def run(repository: str, *options: str, token: str | None = "secret") -> subprocess.CompletedProcess[str]:
        command = ["export", dataset.path, "--to", "hf", "--out", str(tmp_path / "copy"), "--overwrite"]
        settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | settings
        return subprocess.run(
            [sys.executable, "-m", "neat_data", *command, "--push-to-hub", repository, "--json", *options],
            capture_output=True,
            text=True,
            env=environment | ({"HF_TOKEN": token} if token else {}),
            check=False,
        )

    return run


def texts(repository: Repository) -> list[str]:
    """Every response in the uploaded Parquet files."""
    data = [content for name, content in repository.files.items() if name.endswith(".parquet")]
    rows = pl.concat(pl.read_parquet(io.BytesIO(content)) for content in data)
    return [response["text"] for responses in rows["responses"] for response in responses]


def test_a_new_repository_is_private_and_holds_no_negative_text(hub, upload):
    done = upload("me/pairs", "--license", "mit")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["rows"], document["responses_left_out"], document["negative_responses"]) == (2, 1, 0)
    assert document["url"] == f"{hub.url}/datasets/me/pairs"
    repository = hub.repositories["me/pairs"]
    assert repository.private
    assert texts(repository) == ["a", "b", "a", "b"]
    assert not any(b"vile" in content for content in repository.files.values())
    card = DatasetCard(repository.files["README.md"].decode())
    assert (card.data.license, card.data.size_categories) == ("mit", ["n<1K"])
    assert card.data.configs[0]["data_files"] == [{"split": "train", "path": "data/train-*"}]
    assert "1 responses were left out" in card.text


def test_negative_text_goes_along_where_it_is_said(hub, upload):
    done = upload("me/pairs", "--include-negative")
    assert done.returncode == 0, done.stderr
    assert "vile" in texts(hub.repositories["me/pairs"])
    assert "asks for bad answers on purpose" in hub.repositories["me/pairs"].files["README.md"].decode()


@pytest.mark.slow
def test_a_public_repository_is_made_only_where_it_is_said(hub, upload):
    assert upload("pairs", "--public").returncode == 0
    assert not hub.repositories["me/pairs"].private  # a bare name is one's own
    again = upload("me/pairs")
    assert again.returncode == 2
    assert "me/pairs: exists on the hub and is public\nsay --public" in again.stderr
    hub.repositories["me/pairs"].private = True
    again = upload("me/pairs", "--public")
    assert again.returncode == 2
    assert "me/pairs: exists on the hub and is private\nleave out --public" in again.stderr


def test_what_others_wrote_in_the_readme_stays(hub, upload):
    mine = b"---\nlicense: cc0-1.0\nmine: kept\n---\n# My own words\n"
    hub.repositories["me/pairs"] = Repository(private=True, files={"README.md": mine})
    assert upload("me/pairs").returncode == 0
    card = DatasetCard(hub.repositories["me/pairs"].files["README.md"].decode())
    assert (card.data.license, card.data.mine) == ("cc0-1.0", "kept")
    assert "# My own words" in card.text
    assert "# Preference dataset with rewards" in card.text


@pytest.mark.parametrize(
    ("repository", "token", "words"),
    [
        ("me/pairs", None, "hf auth login"),
        ("me/pairs", "wrong", "the hub refuses"),
        ("a/b/c", "secret", "--push-to-hub a/b/c: Repo id must be"),
    ],
)
def test_what_cannot_be_uploaded_is_said_before_any_work(hub, upload, tmp_path, repository, token, words):
    done = upload(repository, token=token)
    assert (done.returncode, hub.repositories) == (2, {})
    assert words in done.stderr
    assert not (tmp_path / "copy").exists()
