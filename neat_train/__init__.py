"""Training on preference datasets by negative-prompt-driven alignment (NEAT) and the methods it is compared with.

`import neat_train as nt` loads no torch: each function imports what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from neat_data.errors import InputError, RunError
from neat_train.api import compare, evaluate, export, fit, judge

if TYPE_CHECKING:
    from neat_train.comparison.result import Comparison
    from neat_train.evaluation.result import EvalResult
    from neat_train.judging.result import JudgeResult
    from neat_train.reports.summary import FitResult

    __version__: str

__all__ = [
    "Comparison",
    "EvalResult",
    "FitResult",
    "InputError",
    "JudgeResult",
    "RunError",
    "__version__",
    "compare",
    "evaluate",
    "export",
    "fit",
    "judge",
]

_MODULES = {
    "Comparison": "neat_train.comparison.result",
    "EvalResult": "neat_train.evaluation.result",
    "FitResult": "neat_train.reports.summary",
    "JudgeResult": "neat_train.judging.result",
}


def __getattr__(name: str) -> Any:
    """Types are loaded when they are asked for; `__version__` is that of both packages."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import neat_data

    return neat_data.__version__


def __dir__() -> list[str]:
    return __all__
