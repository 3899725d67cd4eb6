"""Reward models whose class is Python code that comes with them, and what can be done with such a one.

Gated and multi-objective models (ArmoRM, QRM, URM) and those of architectures that transformers does not have
(InternLM2) are no plain sequence classifiers. This is said from their `config.json` alone, before code or weights are
read; the guide "Reward models people use" has the ten lines that score with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import transformers
from transformers import PreTrainedConfig

from neat_data.errors import InputError

_CLASSIFIER = "AutoModelForSequenceClassification"
_GUIDE = "give a Python function or a server that runs it: see the guide 'Reward models people use'"


def own_class(architectures: Sequence[str] | None) -> str | None:
    """The first of a configuration's `architectures` that is no class of transformers, None where there is none."""
    return next((name for name in architectures or () if not hasattr(transformers, name)), None)


def refuse_own_class(path: str, revision: str | None, trusted: bool) -> None:
    """Refuses a reward model that its `config.json` says is no sequence classifier as transformers has them.

    Args:
        path, revision: of the folder, or on the hub.
        trusted: whether its code may be run; then one that is made to be loaded as a classifier is let through.

    Raises:
        InputError: its code would have to be run, or it is not loaded as a sequence classifier, or no code is there.
    """
    config, _ = PreTrainedConfig.get_config_dict(path, revision=revision)
    name, code = own_class(config.get("architectures")), config.get("auto_map") or {}
    if name is None or (trusted and _CLASSIFIER in code):
        return
    if not code:
        raise _wrong(path, f"is a {name}, a class that transformers does not have", _GUIDE)
    if _CLASSIFIER not in code:
        raise _wrong(path, f"is a {name}, code of its own that is not loaded as a sequence classifier", _GUIDE)
    raise _wrong(
        path,
        f"is a {name}, no plain classifier but Python code of its own",
        f"add {{trust_remote_code}} if you trust its author, or {_GUIDE}",
    )


@contextmanager
def running_own_code(path: str, config: PreTrainedConfig) -> Iterator[None]:
    """Turns whatever a model's own code raises into two lines; the errors of other models pass through."""
    name = own_class(config.architectures)
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if name is None:
            raise
        last = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise _wrong(
            path,
            f"the code of its {name} does not run with transformers {transformers.__version__} ({last})",
            "run it in an environment of its own, as a server: see the guide 'Reward models people use'",
        ) from error


def _wrong(path: str, what: str, advice: str) -> InputError:
    return InputError(what, field="reward_model", value=path, advice=advice)


def one_each(logits: Any, rows: int) -> Any:
    """A classifier's logits of one number a row, as classes of their own may shape them  # (rows,)

    Raises:
        InputError: there are more.
    """
    if logits.numel() != rows:
        raise InputError(
            f"gives logits of the shape {list(logits.shape)} for {rows} dialogues, a reward model one for each",
            field="reward_model",
            advice=_GUIDE,
        )
    return logits.reshape(rows)
