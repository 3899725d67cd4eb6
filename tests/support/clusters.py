"""Ray on this machine, small, and ended with the test."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SMALL = {"object_store_memory": 100_000_000, "include_dashboard": False}

# A reward function with accidents, each of which happens once: before it answers for a query that names it.
ACCIDENTS = """
import os, signal, time
from pathlib import Path

HERE = Path(__file__).parent

def once(name, text, happen):
    mark = HERE / f"{name}.happened"
    if f"accident: {name}" in text and not mark.exists():
        mark.touch()
        happen()
        signal.pause()

def kill(pid):
    os.kill(int(pid), signal.SIGKILL)

def score(conversations):
    for turns in conversations:
        text = turns[0]["content"]
        once("worker", text, lambda: kill(os.getpid()))
        once("driver", text, lambda: kill((HERE / "driver.pid").read_text()))
        if "DOOMED_NODE" in os.environ:
            once("node", text, lambda: kill(os.getppid()))
        while "accident: node" in text and not (HERE / "node.happened").exists():
            time.sleep(0.05)  # the other node waits for it
    return [float(sum(turns[-1]["content"].encode()) % 97) / 16 for turns in conversations]
"""


@contextlib.contextmanager
def two_nodes() -> Iterator[str]:
    """The address of a cluster with one CPU here and one on a node that can be lost."""
    own = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_TOKEN": "of-the-tests"}
    os.environ.update({name: value for name, value in own.items() if name not in os.environ})
    from ray.cluster_utils import Cluster

    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **SMALL})
    try:
        cluster.add_node(num_cpus=1, object_store_memory=100_000_000, env_vars={"DOOMED_NODE": "1"})
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()


def accidents(folder: Path) -> str:
    """A reward model with accidents, in a folder of its own."""
    folder.mkdir(exist_ok=True)
    (folder / "rewards.py").write_text(ACCIDENTS)
    return f"{folder / 'rewards.py'}:score"
