"""What came out, as one JSON-able object: the two curves of every arm, best-of-n, and where gold and proxy part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from neat_train.evaluation.evaluate import read_answers
from pipelines.gold.experiment import GOLD_SCORES, Gold
from pipelines.gold.points import Scale, best_of_n, change, point, read_samples


def result_of(experiment: Gold) -> dict[str, Any]:
    """Everything in it is derived from the folders that the experiment left; what is not evaluated has no point.

    Raises:
        InputError: the test set was not scored, or the start not evaluated.
    """
    samples, agreement = read_samples(experiment.out / "test", GOLD_SCORES)
    scale = Scale.of(samples)
    names = {"proxy": experiment.proxy.name, "gold": Path(experiment.gold).name}
    return {
        "size": {"name": experiment.size, **experiment.settings["sizes"][experiment.size]},
        "settings": {name: experiment.settings[name] for name in ("seed", "proxy", "fit", "arms")},
        "proxy": {
            "labels": experiment.settings["sizes"][experiment.size]["labels"],
            "agrees_with_gold": {"value": agreement.share, "interval": agreement.interval, "pairs": agreement.pairs},
        },
        "unit": "standard deviations of the start's rewards under the same model, from their mean",
        "start": {"mean": dict(scale.mean), "deviation": dict(scale.deviation), "answers": len(samples)},
        "best_of_n": best_of_n(samples, scale),
        "arms": {name: _arm(folders, names, scale) for name, folders in experiment.evaluations().items()},
    }


def _arm(folders: dict[int, Path], names: dict[str, str], scale: Scale) -> dict[str, Any]:
    answers = {step: read_answers(folder).filter(pl.col("decoding") == "sampled") for step, folder in folders.items()}
    points = [
        {
            "step": step,
            **point(folder, answers[step], names, scale),
            **({"from_start": change(answers[0], answers[step], names, scale)} if step else {}),
        }
        for step, folder in folders.items()
    ]
    best, last = max(points, key=lambda row: row["gold"]["value"])["step"], max(folders)
    return {
        "points": points,
        # Where gold was highest is chosen by these very answers, which flatters it a little.
        "from_best_by_gold": {"step": best, **change(answers[best], answers[last], names, scale)},
    }
