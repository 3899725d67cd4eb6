"""Options that mean the same in every verb of `neat-train`."""

from __future__ import annotations

from typing import Annotated

import typer

Base = Annotated[
    str | None,
    typer.Option(
        help="The model of an adapter that names a folder: such a path is followed only where you name it.",
        show_default="the hub's that the adapter names, or the one that `fit` trained it on here",
    ),
]
