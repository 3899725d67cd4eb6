"""The reward models of an evaluation: their names in its figures, what loads them, and what identifies them.

A policy is measured by the reward that it was trained on, so a model that scored before, in the run's dataset or that
of the queries, is loaded with the settings that it had then, as `fit` loads it: a template, lengths and a dtype other
than the defaults make other rewards. `--reward-template` and `--reward-arg` override them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from neat_data.errors import InputError, NeatError
from neat_data.models.arguments import model_arguments
from neat_data.models.load import load_reward_model
from neat_data.models.reward_adapter import reward_source
from neat_data.models.reward_model import RewardModel, RewardModelSpec
from neat_data.models.templates import HH
from neat_data.models.weights import sha256_of
from neat_data.record import canonical_json
from neat_data.scoring.dataset_reward import completed, mismatches, template_of
from neat_data.store import manifest, recorded
from neat_data.store.claim import readable
from neat_data.store.dataset import PreferenceDataset
from neat_data.store.documents import Settings
from neat_train.rounds.online import DATASET
from neat_train.run_folder import SETTINGS

# What `RewardModelSpec` calls its parts, and what they are called here, where there are several models.
_NAMES: dict[str | None, str | None] = {"chat_template": "reward_template", "model_args": "reward_arg"}
_ADVICE = "Say yourself what it is loaded with: {model_args} KEY=VALUE"
_SERVERS = ("http://", "https://")
_WHERE = ("base_url", "connections")  # arguments that say where a judge is asked, and not what
_FILES = ("rubric", "tokenizer")  # arguments that may name a file or a folder


@dataclass(frozen=True, slots=True)
class Before:
    """What a reward model said of itself when it scored.

    Attributes:
        what: it scored, for messages.
    """

    what: str
    settings: Settings

    def is_of(self, said: Mapping[str, Any]) -> bool:
        """Whether it is the model that says this of itself."""
        return bool(said) and all(self.settings.get(key) == value for key, value in said.items())

    def applied(self, spec: RewardModelSpec, said: Collection[str] = ()) -> RewardModelSpec:
        """`spec`, of the same model, with the settings that it had.

        Args:
            said: arguments that the user gives, which win over those that it had.

        Raises:
            InputError: it had an argument that is for the user to say.
        """
        if "weights" not in self.settings and "revision" not in self.settings:
            return spec
        of_transformers = self.settings.get("backend") == "transformers"
        return replace(
            completed(spec, self.settings),
            dtype=recorded.scoring(self.settings).get("dtype", spec.dtype),
            chat_template=self._template(),
            model_args=recorded.arguments(self.settings, _ADVICE, said) if of_transformers else {},
        )

    def _template(self) -> str:
        """What is noted; where nothing is, the plain template is known by its hash."""
        if (noted := template_of(self.settings)) != "auto":
            return noted
        plain = hashlib.sha256(HH.read_text(encoding="utf-8").encode()).hexdigest()
        return "hh" if self.settings.get("template") == plain else "auto"


def scored_before(run: Path | None, queries: str) -> list[Before]:
    """What is known of how the rewards of a run came about, and then those of the queries.

    Args:
        run: its folder, None for a model that was not trained here.
        queries: as `open_queries` takes them; only a dataset tells.
    """
    return [*(_of_run(run) if run else ()), *_of_dataset("the queries", Path(queries))]


def _of_run(run: Path) -> Iterator[Before]:
    what = "the run's dataset"
    yield from _of_dataset(what, run / DATASET)
    with readable(run / SETTINGS):
        settings = dict(json.loads((run / SETTINGS).read_bytes())["content"].get("reward_model") or {})
    if settings:
        yield Before(what, settings)


def _of_dataset(what: str, folder: Path) -> Iterator[Before]:
    if (folder / manifest.FILE).is_file():
        settings = PreferenceDataset.open(folder).manifest.settings.get("reward_model")
        if isinstance(settings, dict):
            yield Before(what, settings)


@dataclass(frozen=True, slots=True)
class RewardOptions:
    """How reward models are loaded.

    Attributes:
        templates, args: as `--reward-template` and `--reward-arg` take them: what begins with `NAME=` is for the model
            of that name, anything else for all.
    """

    device: str = "auto"
    trust_remote_code: bool = False
    templates: tuple[str, ...] = ()
    args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NamedReward:
    """A reward model that is not loaded.

    Attributes:
        identity: what tells it from others in the settings of an evaluation.
        before: how the same model scored before.
    """

    name: str
    spec: RewardModelSpec
    identity: Settings
    before: tuple[Before, ...]

    @property
    def key(self) -> str:
        """Tells its rewards from those of any other model, or of the same one at other lengths."""
        how = {name: getattr(self.spec, name) for name in ("dtype", "max_length", "max_response")}
        if self.spec.score == "whole":
            how["score"] = self.spec.score
        return hashlib.sha256(canonical_json([self.name, self.identity, how]).encode()).hexdigest()[:16]

    @property
    def part(self) -> str:
        """The kind of its parts of an evaluation."""
        return f"rewards-{self.key}"

    def load(self, spec: RewardModelSpec) -> RewardModel:
        """The model, on the device of `spec`."""
        with self.in_errors():
            return load_reward_model(spec)

    def strange(self, settings: Settings) -> list[str]:
        """What makes its rewards under these settings other ones than before, a line for each time before."""
        changed = ((before.what, mismatches(before.settings, settings)) for before in self.before)
        lines = (
            f"reward model {self.name}: does not score as it scored {what} ({'; '.join(different)}); "
            "--reward-template and --reward-arg decide how it does"
            for what, different in changed
            if different
        )
        return list(dict.fromkeys(lines))

    @contextmanager
    def in_errors(self) -> Iterator[None]:
        """Errors of back ends with the model's name, and the names that their options have here."""
        try:
            yield
        except NeatError as error:
            named = error.renamed(_NAMES)
            raise named if named.field == "reward_model" else named.within("reward_model", self.name) from error


def named_rewards(
    models: Sequence[str], options: RewardOptions, before: Sequence[Before] = ()
) -> dict[str, NamedReward]:
    """Reward models by their names: as given (`NAME=MODEL`), else a folder's, a hub id, a server without secrets.

    Args:
        before: how models scored that may be among these.

    Raises:
        InputError: there is no such model or template, or two have the same name.
    """
    named: dict[str, tuple[RewardModelSpec, _Known]] = {}
    for text in models:
        given, model = _split(text)
        spec = RewardModelSpec(model, device=options.device, trust_remote_code=options.trust_remote_code)
        known = _known(spec)
        if given and ".py:" in model:  # no longer told by the name
            known.identity["function"] = model.rpartition(":")[2]
        if (name := given or known.name) in named:
            raise InputError(
                f"another one is called {name} already; say NAME={model}", field="reward_model", value=text
            )
        named[name] = (spec, known)
    return {
        name: _with_options(
            name, spec, known.identity, options, named, [earlier for earlier in before if earlier.is_of(known.said)]
        )
        for name, (spec, known) in named.items()
    }


def _split(text: str) -> tuple[str | None, str]:
    name, separator, model = text.partition("=")
    if not separator or Path(text).exists() or text.startswith((*_SERVERS, "judge:")):
        return None, text
    if not name or not model:
        raise InputError("is MODEL or NAME=MODEL", field="reward_model", value=text)
    return name, model


def _with_options(
    name: str,
    spec: RewardModelSpec,
    identity: Settings,
    options: RewardOptions,
    names: Collection[str],
    before: Sequence[Before],
) -> NamedReward:
    args = model_arguments(_for(name, options.args, names), "reward_arg")
    spec = before[0].applied(spec, args) if before else spec
    template = [spec.chat_template, *_for(name, options.templates, names)][-1]
    spec = replace(spec, chat_template=template, model_args={**spec.model_args, **args})
    return NamedReward(name, spec, {**identity, **_told(spec)}, tuple(before))


def _for(name: str, given: Sequence[str], names: Collection[str]) -> list[str]:
    """What is said for one model: first what is for all, then what begins with its name."""
    owned = [next((known for known in names if text.startswith(f"{known}=")), None) for text in given]
    for_all = [text for text, owner in zip(given, owned, strict=True) if owner is None]
    own = [text.removeprefix(f"{name}=") for text, owner in zip(given, owned, strict=True) if owner == name]
    return [*for_all, *own]


def _told(spec: RewardModelSpec) -> Settings:
    """What was said of a model beyond its place, without paths: nothing where nothing was."""
    template = spec.chat_template
    args = {
        key: _content(str(value)) if key in _FILES else value
        for key, value in spec.model_args.items()
        if key not in _WHERE
    }
    if template not in ("auto", "hh") and not Path(template).is_file():
        raise InputError(
            "there is no such file; choose auto, hh or a Jinja file", field="reward_template", value=template
        )
    return {
        **({} if template == "auto" else {"template": template if template == "hh" else _content(template)}),
        **({"model_args": args} if args else {}),
        **({"template_args": spec.template_args} if spec.template_args else {}),
        **({"score": spec.score} if spec.score == "whole" else {}),
    }


def _content(place: str) -> str:
    """The hash of a file, a folder's name, and anything else as it is."""
    path = Path(place)
    if path.is_file():
        return sha256_of([path])
    return path.resolve().name if path.is_dir() else place


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a model before it is loaded.

    Attributes:
        name: its own.
        identity: for the settings of an evaluation.
        said: what it says of itself where it scores, which tells it from others there.
    """

    name: str
    identity: Settings
    said: Settings


def _known(spec: RewardModelSpec) -> _Known:
    if spec.model.startswith(_SERVERS):
        parts = urlsplit(spec.model)
        name = f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
        return _Known(name, {"server": name}, {"server": name})
    if spec.model.startswith("judge:"):
        return _Known(spec.model, {"judge": spec.model}, {"model": spec.model})
    if ".py:" in spec.model:
        return _function(spec.model)
    located = reward_source(spec)
    source, identity = located.source, dict(located.identity)
    return _Known(Path(source.path).resolve().name if source.local else source.path, identity, identity)


def _function(model: str) -> _Known:
    file, _, function = model.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise InputError(f"there is no file {file}", field="reward_model", value=model)
    name = f"{path.name}:{function}"
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    # an identity is a hash over hashes of files, as evaluations on disk have it; the model itself tells its file's
    return _Known(name, {"sha256": sha256_of([path])}, {"model": name, "sha256": sha256})
