"""`neat-data expand`."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neat_data.arguments import engine_spec, expand_request, given_request, scoring
from neat_data.cli.command import verb
from neat_data.cli.output import Output
from neat_data.errors import InputError
from neat_data.options.groups import Reading
from neat_data.options.option import Option
from neat_data.options.verbs import AddResponses, Expand
from neat_data.store.address import folder_or_url

if TYPE_CHECKING:
    from neat_data.progress import Watcher
    from neat_data.rounds.finish import GrowSummary


def add_to(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("expand")(expand_verb)


@dataclass(frozen=True, kw_only=True)
class ExpandCommand(Expand, Reading):
    """Of `expand`, which may also take responses that are there."""

    responses: Annotated[
        str | Path | None,
        Option("Take responses from this file, folder or hub id instead of sampling; it is read as in `score`."),
    ] = None
    edits: Annotated[bool, Option("Take what reviewers wrote in the place of responses instead of sampling.")] = False

    @property
    def given(self) -> AddResponses:
        """The same without what is said of sampling."""
        names = {field.name for field in fields(AddResponses)} - {"source"}
        return AddResponses(source=self.responses or "", **{name: getattr(self, name) for name in names})


@verb
def expand_verb(options: ExpandCommand, output: Output) -> None:
    """Add responses to a dataset, sampled under prompts and scored, as a new round.

    The same command again goes on where an earlier one stopped; another seed or setting makes the next round.
    """
    from neat_data.report.terminal import print_grow_summary

    _refuse_contradictions(options)
    with output.watcher() as watch:
        summary = _grown(options, watch)
    output.show(summary, print_grow_summary)


def _grown(options: ExpandCommand, watch: "Watcher") -> "GrowSummary":
    from neat_data.rounds.add_responses import take, take_edits
    from neat_data.rounds.expand import expand

    if options.edits:
        return take_edits(
            folder_or_url(str(options.dataset)), scoring(options, options.device, engine_spec(options)), watch
        )
    if options.responses is not None:
        return take(given_request(options.given), watch)
    return expand(expand_request(options), watch)


def _refuse_contradictions(options: ExpandCommand) -> None:
    brought = [name for name, given in (("edits", options.edits), ("responses", options.responses)) if given]
    if len(brought) > 1:
        raise InputError("make a round each", field="edits", advice="Say {edits} or {responses}, not both")
    if brought and (options.policy is not None or options.phase != "both"):
        raise InputError("brings the responses", field=brought[0], advice="Leave out {policy} and {phase}")
    if not brought and options.policy is None and options.phase != "score":
        raise InputError(
            "no responses",
            advice="Say {policy} MODEL, {responses} FILE, {edits}, or {phase} score alone, for what was sampled",
        )
