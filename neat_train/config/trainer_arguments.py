"""The names that transformers' TrainingArguments has, and which of them a run may set.

The names are read out of transformers' source as text, so that a misspelt setting is answered at once: importing the
class itself would import torch.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from neat_data.errors import InputError

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from neat_train.config.settings import FitSettings

_ROWS = "sizes are given in records and tokens: records_per_step over all devices, token_budget for one"
_ORDER = "the order of records depends on seed and epoch alone"
_BATCHES = "batches are packed from whole records, one optimiser step at a time"
_HUB = "`neat-train export RUN --push-to-hub` does it when the run is done"
# What would be ignored, or break what a run promises, and what to do in its stead.
REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "per_device_train_batch_size": _ROWS,
        "per_device_eval_batch_size": _ROWS,
        "gradient_accumulation_steps": _ROWS,
        "auto_find_batch_size": _ROWS,
        "eval_accumulation_steps": _ROWS,
        "output_dir": "the run folder is named by {out}",
        "use_cpu": "say {device} cpu",
        "resume_from_checkpoint": "the same command again goes on where it stopped",
        "ignore_data_skip": "the same command again goes on where it stopped",
        "restore_callback_states_from_checkpoint": "the same command again goes on where it stopped",
        "save_only_model": "a checkpoint without the optimiser cannot be gone on from",
        "data_seed": f"{_ORDER}; set seed",
        "train_sampling_strategy": _ORDER,
        "length_column_name": _ORDER,
        "dataloader_drop_last": _BATCHES,
        "average_tokens_across_devices": _BATCHES,
        "remove_unused_columns": _BATCHES,
        "label_names": _BATCHES,
        "prediction_loss_only": _BATCHES,
        "include_num_input_tokens_seen": "tokens are logged each step",
        "label_smoothing_factor": "the objective is set under loss",
        "disable_tqdm": "say {quiet}",
        "do_train": "`neat-train fit` trains",
        "do_eval": "set eval_strategy",
        "do_predict": "`neat-train fit` trains",
        "local_rank": "the launcher sets it; say {nproc} N",
        "push_to_hub": _HUB,
        "deepspeed": "several devices train by DDP, or FSDP2 through accelerate's configuration",
    }
)
_REFUSED_FAMILIES: Mapping[str, str] = MappingProxyType({"hub_": _HUB, "dataloader_": _BATCHES})
_BUILT_IN: Mapping[str, type | tuple[type, ...]] = MappingProxyType(
    {"int": int, "float": (int, float), "bool": bool, "str": str, "dict": dict, "list": list, "None": type(None)}
)


@cache
def kinds() -> dict[str, tuple[type, ...] | None]:
    """Every name, with the types that its value may have; None where these are transformers' own."""
    package = find_spec("transformers")
    if package is None or not package.submodule_search_locations:
        raise InputError("training needs transformers, peft, accelerate and trl: pip install 'neat-align[train]'")
    source = Path(package.submodule_search_locations[0], "training_args.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name == "TrainingArguments":
            fields = (field for field in node.body if isinstance(field, ast.AnnAssign))
            return {ast.unparse(field.target): _kinds_of(field.annotation) for field in fields}
    raise InputError("this version of transformers has no TrainingArguments where they were: install another one")


def _kinds_of(annotation: ast.expr) -> tuple[type, ...] | None:
    """Of `int | None` both; None where a name is not Python's own."""
    if isinstance(annotation, ast.BinOp):
        sides = (_kinds_of(annotation.left), _kinds_of(annotation.right))
        return None if None in sides else tuple(kind for side in sides for kind in side or ())
    name = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    kind = _BUILT_IN.get(ast.unparse(name))
    return kind if isinstance(kind, tuple) or kind is None else (kind,)


def check(name: str, value: Any) -> None:
    """Raise InputError where the name is refused or the value is of no type that it takes."""
    families = (hint for prefix, hint in _REFUSED_FAMILIES.items() if name.startswith(prefix))
    if hint := REFUSED.get(name) or next(families, None):
        raise InputError(f"{name}: cannot be set", advice=hint)
    taken = kinds()[name]
    if taken is None:
        return
    if not isinstance(value, taken) or (isinstance(value, bool) and bool not in taken):
        takes = " or ".join(sorted({"null" if kind is type(None) else kind.__name__ for kind in taken}))
        raise InputError(f"{name}: takes {takes}, not {value!r}.")


def keywords(settings: FitSettings, out: Path) -> dict[str, Any]:
    """What TrainingArguments, or a class that extends them, are made with."""
    said = settings.training
    defaults: dict[str, Any] = {
        "log_level": "error",  # what matters is said by ourselves
        "ddp_find_unused_parameters": False,
    }
    if said.get("metric_for_best_model") in ("perplexity", "eval_perplexity"):
        defaults["greater_is_better"] = False  # transformers knows this of losses alone
    own = {
        "output_dir": str(out),
        "use_cpu": _on_cpu(settings.device),
        "per_device_train_batch_size": 1,  # an item is a whole step
        "gradient_accumulation_steps": 1,  # micro-batches are accumulated inside a step
        "remove_unused_columns": False,
        "disable_tqdm": True,
        "eval_on_start": said["eval_on_start"] and said["eval_strategy"] != "no",
    }
    return {**defaults, **said, **own}


def training_arguments(settings: FitSettings, out: Path) -> TrainingArguments:
    """transformers' own class, which also sets up the process group where there are several ranks.

    Raises:
        InputError: transformers refuses a value or a combination of them, there is no such device, or nothing to
            report to.
    """
    from transformers import TrainingArguments

    try:
        arguments = TrainingArguments(**keywords(settings, out))
    except (ValueError, TypeError, NotImplementedError, ImportError) as error:
        raise InputError(f"settings of the trainer: {' '.join(str(error).split())[:300]}") from error
    assert isinstance(arguments.report_to, list)
    _require_reporters(arguments.report_to)
    return arguments


def _require_reporters(names: Sequence[str]) -> None:
    """transformers finds out what is missing when the models are loaded."""
    from transformers.integrations import get_available_reporting_integrations

    there = get_available_reporting_integrations()
    if missing := [name for name in names if name not in there]:
        raise InputError(
            f"is not installed here, or unknown: pip install {missing[0]}", field="report_to", value=missing[0]
        )


def _on_cpu(device: str) -> bool:
    """Whether training runs on the CPU; transformers finds every other device by itself."""
    from neat_data.models.device import resolve_device

    resolved = resolve_device(device)
    if resolved.index:
        raise InputError(
            f"training takes the first device that it sees; "
            f"hide the others: CUDA_VISIBLE_DEVICES={resolved.index} (ASCEND_RT_VISIBLE_DEVICES on Ascend)",
            field="device",
            value=device,
        )
    return resolved.type == "cpu"
