"""A policy of an evaluation as an engine loads it: in this process, in another, or in an actor on another machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from neat_data.models.trees.exactness import PathChoice
from neat_data.store.documents import Settings
from neat_train.evaluation.request import EvalRequest
from neat_train.evaluation.subject import Subject
from neat_train.policy.logprobs import prepare


@dataclass(frozen=True)
class PolicySpec:
    """What opens a policy; a copy of it in another process opens the policy there.

    Attributes:
        name: a run, one of its checkpoints, a model's or an adapter's folder, or a hub id.
        request: whose options it is opened with, all but the device.
        trusted: whether the user named it; another one brings no code.
    """

    name: str
    request: EvalRequest
    device: str
    trusted: bool = True

    @cached_property
    def subject(self) -> Subject:
        """The policy, opened once; InputError where there is none."""
        return replace(self.request, device=self.device).open(self.name, trusted=self.trusted)

    def __getstate__(self) -> dict[str, Any]:
        """Without what was opened here."""
        return {name: value for name, value in vars(self).items() if name != "subject"}


@dataclass(frozen=True)
class Policy:
    """A policy whose weights are loaded when they are first needed."""

    spec: PolicySpec
    notes: Sequence[str] = ()

    @property
    def settings(self) -> Settings:
        """As `Subject.settings`."""
        return self.spec.subject.settings

    @cached_property
    def path(self) -> PathChoice:
        """How log-probabilities are computed; the choice is made once, by running the model."""
        subject = self.spec.subject
        return prepare(subject.decoder.model, attention=subject.attention, backward=False)

    def close(self) -> None:
        """Free its memory."""
        vars(self).pop("path", None)
        self.spec.subject.close()
