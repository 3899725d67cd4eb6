"""The two languages that a reward server may speak, and finding out which.

`vllm`: the server of `vllm serve MODEL --runner pooling`. Token ids are made here and posted to `/classify` with
`use_activation` false, so that raw logits come back.

`json`: anything else. POST to the address as it was given:

    {"conversations": [[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}], …]}

and the answer, with one number a conversation in the same order (`model` names what answered and may be left out):

    {"rewards": [1.25, …], "model": "my-reward-model"}
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from neat_data.errors import InputError, RunError
from neat_data.models.reward_model import RewardModelSpec, Scored, Task
from neat_data.models.reward_models.conversations import (
    OF_TOKENS,
    NotRewards,
    as_rewards,
    conversations,
    refuse_options,
    split,
)
from neat_data.models.servers.json_server import BadReply, JsonServer, NotThere
from neat_data.record import Message, query_id
from neat_data.store.documents import Settings

_PROBE = Task((Message("user", "Knock knock."),), ("Who is there?",))


class Form(Protocol):
    """One way of talking to a server. `settings` and `notes` as those of a `RewardModel`; `spec` is resolved."""

    settings: Settings
    notes: list[str]
    spec: RewardModelSpec

    def score(self, tasks: Sequence[Task]) -> list[Scored]:
        """Score some tasks in one request; called from several threads."""
        ...


def choose_form(server: JsonServer, spec: RewardModelSpec, form: str) -> Form:
    """The form asked for; `auto` is vLLM where the list of models says so.

    Raises:
        InputError: an unknown form, or the server does not serve a reward model in this form.
    """
    if form not in ("auto", "vllm", "json"):
        raise InputError("choose auto, vllm or json", field="model_args", value=f"form={form}")
    card = None if form == "json" else _vllm_card(server)
    if card is not None:
        return VllmForm(server, spec, card)
    if form == "vllm":
        raise InputError(
            f"{server.url}/v1/models is not a vLLM server's", advice="{model_args} form=json is for other servers"
        )
    return PlainForm(server, spec)


class PlainForm:
    """The small JSON form of the module's docstring."""

    def __init__(self, server: JsonServer, spec: RewardModelSpec) -> None:
        """Asks for one reward, to learn the model's name and whether anything is understood."""
        refuse_options(spec, "its server makes its own tokens", *OF_TOKENS)
        if "tokenizer" in spec.model_args:
            raise InputError(f"{server.url} makes its own tokens", field="model_args", value="tokenizer")
        self._server = server
        _, self._model = self._ask([_PROBE])
        self.spec = replace(spec, model_args={**spec.model_args, "form": "json"})
        self.settings = {"backend": "http", "form": "json", "model": self._model or "unnamed"}
        self.notes: list[str] = []

    def score(self, tasks: Sequence[Task]) -> list[Scored]:
        """Raises RunError: the answer is not one finite number a conversation, or another model gave it."""
        rewards, model = self._ask(tasks)
        _same_model(self._server, self._model, model)
        return [Scored(part, (None,) * len(part)) for part in split(rewards, tasks)]

    def _ask(self, tasks: Sequence[Task]) -> tuple[list[float], Any]:
        reply = self._server.post("", {"conversations": conversations(tasks)})
        if not isinstance(reply, dict) or "rewards" not in reply:
            raise BadReply(f'{self._server.url}: {{"rewards": […]}} was expected and {reprlib.repr(reply)} came')
        return _rewards(self._server, reply["rewards"], tasks), reply.get("model")


class VllmForm:
    """vLLM's `/classify`, with token ids in and raw logits out."""

    def __init__(self, server: JsonServer, spec: RewardModelSpec, card: dict[str, Any]) -> None:
        """`card` is the model's entry of `/v1/models`. Raises InputError: no tokenizer here, no raw logits there."""
        refuse_options(spec, "its server was started with one")
        self._server = server
        self._model = card["id"]
        self._tokens = _tokenizer(spec, card)
        self.spec = replace(self._tokens.spec, model=spec.model, model_args={**spec.model_args, "form": "vllm"})
        self._check_tokenizer()
        self._check_raw_logits()
        self.settings = {
            "backend": "http",
            "form": "vllm",
            "model": self._model.rstrip("/").rpartition("/")[2] if self._model.startswith("/") else self._model,
            **self._tokens.template.fingerprint,
            "max_length": self.spec.max_length,
            "max_response": self.spec.max_response,
        }
        self.notes: list[str] = self._tokens.template.notes_of(spec.score)

    def score(self, tasks: Sequence[Task]) -> list[Scored]:
        """Raises RunError: the answer is not one finite number a sequence."""
        from neat_data.models.reward_models.tokenized import scored, sequences

        encoded = self._tokens.encode(tasks)
        asked = sequences(encoded)
        return scored(encoded, self._classify(asked, tasks) if asked else [])

    def _classify(self, asked: list[list[int]], tasks: Sequence[Task]) -> list[float]:
        reply = self._server.post("/classify", self._body(asked))
        try:
            entries = sorted(reply["data"], key=lambda entry: entry["index"])
            logits = [entry["probs"] for entry in entries]  # logits: the name says what they are by default
            if any(len(logit) != 1 for logit in logits):
                raise InputError(f"{self._server.url}: {self._model} has {len(logits[0])} outputs, a reward model one")
        except (TypeError, KeyError, LookupError) as error:
            raise BadReply(f"{self._server.url}/classify: not vLLM's answer came but {reprlib.repr(reply)}") from error
        _same_model(self._server, self._model, reply.get("model"))
        return _rewards(self._server, [logit for (logit,) in logits], tasks, len(asked))

    def _body(self, asked: list[list[int]], use_activation: Any = False) -> dict[str, Any]:
        return {"model": self._model, "input": asked, "use_activation": use_activation}

    def _check_tokenizer(self) -> None:
        """A tokenizer of another model gives rewards that look like rewards."""
        text = self._tokens.template.text((*_PROBE.messages, Message("assistant", _PROBE.texts[0])))
        ours = self._tokens.template.tokenizer(text, add_special_tokens=False)["input_ids"]
        body = {"model": self._model, "prompt": text, "add_special_tokens": False}
        reply = self._server.post("/tokenize", body)
        if not isinstance(reply, dict) or reply.get("tokens") != ours:
            raise InputError(
                f"{self._server.url}: {self._model} splits text into other tokens than the tokenizer loaded here",
                advice="name the model's own with {model_args} tokenizer=FOLDER|ID",
            )

    def _check_raw_logits(self) -> None:
        """Versions that call the option something else leave `use_activation` unread and answer with the sigmoid.

        Those that know it refuse what is neither true nor false.
        """
        ids = self._tokens.encode([_PROBE])[0].sequences[0]
        assert ids is not None
        self._classify([ids], [_PROBE])
        if not self._server.refuses("/classify", self._body([ids], use_activation="neither")):
            raise InputError(
                f"{self._server.url}: this vLLM does not know `use_activation`, so that raw logits cannot be had\n"
                "serve the model with vLLM 0.20 or newer"
            )


def _vllm_card(server: JsonServer) -> dict[str, Any] | None:
    """The served model's entry of `/v1/models`, None where the server is not vLLM."""
    try:
        reply = server.get("/v1/models")
        (card,) = [entry for entry in reply["data"] if entry["owned_by"] == "vllm" and not entry.get("parent")]
    except (NotThere, BadReply, TypeError, KeyError, ValueError):
        return None
    return card


def _tokenizer(spec: RewardModelSpec, card: dict[str, Any]) -> Any:
    """The server's tokenizer, loaded here from the folder or hub id that it names, or from the user's."""
    from neat_data.models.reward_models.tokenized import Tokenized, load_tokenizer
    from neat_data.models.weights import ModelSource

    own = spec.model_args.get("tokenizer")
    name = str(own or card.get("root") or card["id"])
    try:
        # What a server names brings no code, whatever the user trusts.
        tokenizer = load_tokenizer(ModelSource.parse(name), spec.trust_remote_code and own is not None)
    except InputError as error:
        raise InputError(
            f"the tokenizer of the served model, {name}, is needed here: {str(error).partition(chr(10))[0]}",
            advice="name it with {model_args} tokenizer=FOLDER|ID",
        ) from error
    return Tokenized(spec, tokenizer, card.get("max_model_len"))


def _same_model(server: JsonServer, began: Any, now: Any) -> None:
    if now != began:
        raise RunError(f"{server.url}: rewards came from model {now!r}, and this run began with {began!r}")


def _rewards(server: JsonServer, values: Any, tasks: Sequence[Task], expected: int | None = None) -> list[float]:
    """Checked rewards; an error names the queries that the request was about."""
    expected = sum(len(task.texts) for task in tasks) if expected is None else expected
    try:
        return as_rewards(values, expected)
    except NotRewards as error:
        first, last = query_id(tasks[0].messages), query_id(tasks[-1].messages)
        where = "" if error.index is None else f" (conversation {error.index + 1} of the request)"
        raise RunError(f"{server.url}: {error}{where}; the request was for queries {first} to {last}") from error
