"""`neat-train export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neat_data.cli.command import verb
from neat_data.cli.options import Json, Quiet, TrustRemoteCode, print_json, stdout, watcher
from neat_train.cli.options import Base

if TYPE_CHECKING:
    from neat_train.policy.export import RunExportSummary


def add_to(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("export")(export_verb)


@verb
def export_verb(
    run: Annotated[Path, typer.Argument(help="A run's folder, or one of its checkpoints.", show_default=False)],
    merge: Annotated[bool, typer.Option("--merge", help="Write one model: the adapter added to its base.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where the merged model goes.", show_default=False)] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="Of the merged weights: float32, bfloat16 or float16.", show_default="the base model's"),
    ] = None,
    device: Annotated[str, typer.Option(help="What merges: auto, cuda, npu or cpu.")] = "auto",
    push_to_hub: Annotated[
        str | None, typer.Option(help="Upload the model to this repository.", show_default=False)
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Make the repository public.")] = False,
    trust_remote_code: TrustRemoteCode = False,
    base: Base = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Merge a run's adapter into its model, or upload it; without either, say where it is and how it loads."""
    from neat_train.policy.export import RunExportRequest, export

    request = RunExportRequest(
        run=run,
        merged=merge,
        out=out,
        dtype=dtype,
        device=device,
        push_to_hub=push_to_hub,
        public=public,
        trust_remote_code=trust_remote_code,
        base=base,
    )
    with watcher(quiet) as watch:
        summary = export(request, watch)
    if json_:
        print_json(summary.to_dict())
    elif not quiet:
        _print(summary)


def _print(summary: RunExportSummary) -> None:
    from neat_train.policy.export import in_words

    show = stdout()
    kind = "AutoPeftModelForCausalLM" if summary.adapter else "AutoModelForCausalLM"
    what = "adapter" if summary.adapter else "model"
    lines = [f"{what}: {summary.model}", f'loads with {kind}.from_pretrained("{summary.model}")']
    if summary.merged is not None:
        lines.append(in_words(summary.merged))
    if summary.url is not None:
        lines.append(summary.url)
    for line in lines:
        show.print(line, markup=False, soft_wrap=True)
