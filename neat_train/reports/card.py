"""RUN/README.md: the model card of a run, made of its settings.json and metrics.jsonl.

The same run has the same card whenever it is made. What the user writes around it stays, and keys that the user puts
into its header win. Names are escaped, folders are told without the way to them, and nothing secret is told.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from neat_data.report.card import markdown, plain
from neat_data.report.tables import WARNING, Table
from neat_data.store.atomic import write_atomically
from neat_data.store.claim import readable
from neat_data.store.markers import Marks, with_body
from neat_train.config.settings import BASELINES, REWARD
from neat_train.documents import PolicyContent, RunContent, RunDocument, Section, SourceOfRecords
from neat_train.reports.summary import FitResult, figures, held_out_table

if TYPE_CHECKING:
    from neat_data.store.dataset import PreferenceDataset

_NEAT = "NEAT (negative-prompt-driven alignment, arXiv 2410.12194)"
_RRHF = "RRHF (arXiv 2304.05302)"
_METHODS = {
    "neat": _NEAT,
    "neat-pp": f"{_NEAT}, its variant with a positive prompt beside the negative one",
    "rrhf": f"{_RRHF}, lengths counted as its paper says",
    "rrhf-official": f"{_RRHF} with the denominator of its published code",
    "rrhf-online": f"{_RRHF} with fresh answers",
    "sft": "supervised fine-tuning",
    "dpo-trl": "DPO (arXiv 2305.18290), by TRL's trainer",
    "sft-trl": "supervised fine-tuning, by TRL's trainer",
    "own": "a loss of its author's",
    REWARD: "labels: pairs and lists in people's order, and single verdicts",
}
_KINDS = {
    "npo": "what makes {it} less likely than the start found it, and fades as it does",
    "unlikelihood": "- log(1 - probability) of the tokens of {it}",
    "likelihood": "the log-likelihood of {it}, which is to fall",
    "simnpo": "what makes {it} unlikely, token by token, and fades as it becomes so",
    "dpop": "what {it} has become less likely than the start found it",
}
_TARGETS = {
    "chosen": "what people chose",
    "best": "the response with the highest reward",
    "best-of-n": "the sampled response with the highest reward",
    "random-of-n": "a sampled response at random",
}
_PENALISED = {
    "worst": "the response with the lowest reward",
    "negative_prompt": "the worst response to a negative prompt",
    "mu-2sigma": "the response nearest to two standard deviations below the mean reward",
    "best": "the response with the highest reward",
}
_SECTIONS = {"dpo-trl": "dpo", "sft-trl": "sft", "sft": "sft", REWARD: "reward"}
MARKS = Marks.of("neat-train")
_IDENTITY = ("model", "revision", "weights", "sha256", "adapter", "template", "dtype", "max_length")
_LOADING = {
    False: """```python
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer, GenerationConfig

folder = "path/to/this/folder"
model = AutoPeftModelForCausalLM.from_pretrained(folder)
model.generation_config = GenerationConfig.from_pretrained(folder)  # its stop tokens, which peft leaves aside""",
    True: """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "path/to/this/folder"
model = AutoModelForCausalLM.from_pretrained(folder)""",
}
_SCORING = """```bash
neat-data score SOURCE --reward-model path/to/this/folder --out FOLDER
```

Elsewhere: `AutoModelForSequenceClassification.from_pretrained({model}, num_labels=1)`{peft}, on a dialogue
that the tokenizer beside it has put through its chat template."""
_GENERATING = """tokenizer = AutoTokenizer.from_pretrained(folder)
query = [{"role": "user", "content": "How do I bake bread?"}]
inputs = tokenizer.apply_chat_template(query, add_generation_prompt=True, return_dict=True, return_tensors="pt")
output = model.generate(**inputs, max_new_tokens=128, do_sample=True)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```"""


def method_in_words(settings: Section) -> str:
    """The method, and where its responses come from.

    Args:
        settings: resolved (`FitSettings.resolved`).
    """
    prompts = settings["rounds"]["prompts"]
    rest = "" if prompts is None else f", the policy answering anew under the prompts {plain(place_less(prompts))}"
    method: str = settings["method"]
    return _METHODS.get(method, method) + rest


def place_less(value: str) -> str:
    """Of a path on this machine its last part alone.

    >>> place_less("/home/me/prompts.yaml"), place_less("neat:negative")
    ('prompts.yaml', 'neat:negative')
    """
    return Path(value).name if Path(value).is_absolute() else value


def objective_in_words(settings: Section) -> str:
    """What was minimised, as Markdown.

    Args:
        settings: resolved (`FitSettings.resolved`).
    """
    if settings["method"] == "dpo-trl":
        return _dpo(settings["dpo"])
    if settings["method"] == REWARD:
        return _reward(settings["reward"])
    if settings["method"] in ("sft", "sft-trl"):
        what = _TARGETS[settings["sft"]["target"]]
        return f"The negative log-likelihood of {what}, a mean over the tokens of a step."
    return _terms(settings["loss"])


def _dpo(dpo: Section) -> str:
    chosen = dpo["pairs"] == "chosen"
    pairs = "what people chose and what they rejected" if chosen else "the highest and the lowest reward"
    return (
        "The mean over pairs of - log sigmoid(beta (log-ratio of the better - log-ratio of the worse)), log-ratios\n"
        f"being those of the policy to its start; beta {dpo['beta']:g}; a pair is {pairs}."
    )


def _reward(reward: Section) -> str:
    lists = "the mean over pairs" if reward["lists"] == "bradley-terry" else "the likelihood of the whole order"
    values = ", ".join(f"{name} {value:g}" for name, value in reward.items() if name != "lists" and value)
    return (
        "The mean over the labels of a step: of a pair - log sigmoid(score of the better - score of the worse)\n"
        f"(Bradley and Terry), of a longer list {lists} ({reward['lists']}), of a verdict - log sigmoid(+ or - score)"
        f"{f'; {values}' if values else ''}."
    )


def _terms(loss: Section) -> str:
    over = "mean over its tokens" if loss["reduction"] == "token_mean" else "sum over its tokens"
    terms = []
    if loss["sft"]["weight"]:
        terms.append(f"- SFT: the negative log-likelihood of the response with the highest reward, {over}")
    if loss["alpha"]:
        terms.append(f"- ranking, weighed by alpha {loss['alpha']:g}: {_ranking(loss)}")
    if loss["beta"] and loss["penalty"]["kind"] in _KINDS:
        terms.append(_penalty(loss["penalty"], loss["beta"], over))
    return "\n".join(["The sum of these terms, each a mean over the records of a step:", "", *terms])


def _ranking(loss: Section) -> str:
    kind = loss["ranking"]["kind"]
    if kind != "neat":
        values = ", ".join(f"{name} {_cell(value)}" for name, value in loss["ranking"].items() if name != "kind")
        return f"{kind} ({values})"
    pairs = "mean" if loss["ranking"]["reduction"] == "mean_pairs" else "sum"
    own = loss["normaliser"] == "response"
    p = "mean log-probability" if own else "log-probability divided by the padded length of query and response"
    return f"the {pairs} over pairs of max(0, p of the lower reward - p of the higher), p being a response's {p}"


def _penalty(penalty: Section, beta: float, over: str) -> str:
    it = _PENALISED[penalty.get("target", "best")]
    behind = ", behind the prompt that it answers" if penalty.get("context") == "prompted" else ""
    what = _KINDS[penalty["kind"]].format(it=it)
    return f"- penalty, weighed by beta {beta:g}: {what} ({penalty['kind']}){behind}, {over}"


def write_card(run: Path, dataset: PreferenceDataset | None = None) -> Path:
    """Write RUN/README.md, leaving alone what the user wrote around our part.

    Args:
        dataset: what was trained on, for its source's name and its fingerprint.

    Returns:
        The card's path.

    Raises:
        InputError: metrics.jsonl or settings.json is damaged.
        RunError: the disk is full.
    """
    path = run / "README.md"
    result, source = figures(run), None if dataset is None else _of_dataset(dataset)
    with readable(run / "settings.json"):
        settings = json.loads((run / "settings.json").read_bytes())
        text = card(settings, result, source, curves=(run / "curves.png").exists())
    readme = with_body(path.read_bytes() if path.exists() else b"", text, MARKS)
    write_atomically(path, lambda file: file.write(readme))
    return path


def _of_dataset(dataset: PreferenceDataset) -> SourceOfRecords:
    """What a dataset's manifest says of it."""
    source = dataset.manifest.settings.get("source") or {}
    return {"source": source.get("name"), "fingerprint": dataset.manifest.fingerprint}


def card(document: RunDocument, result: FitResult, dataset: SourceOfRecords | None, *, curves: bool) -> str:
    """The card as Markdown behind its YAML header; the same for the same arguments.

    Args:
        document: what settings.json holds.
        result: what `summary.figures` gives.
        dataset: its source's name and its fingerprint, where known.
        curves: whether curves.png lies beside it.
    """
    settings, content = document["settings"], document["content"]
    parts = [
        _header(settings, content, dataset),
        f"# {plain(_model(content))}, trained by {settings['method']}",
        _what(settings, content, result),
        _warning(settings, content),
        "## Objective",
        objective_in_words(settings),
        "## Held-out queries",
        *_held_out(settings, result, curves),
        "## Data and models",
        _data(content, dataset),
        _model_list("Policy at the start:", _policy(content)),
        "" if _is_reward(settings) else _model_list("Reward model:", content.get("reward_model") or {}),
        "## How to load it",
        *_loading(settings),
        "## Settings",
        markdown(Table("", ("setting", "value"), tuple(_settings(settings)))),
        _versions(document),
        "## Licence",
        _licence(content),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _is_reward(settings: Section) -> bool:
    return settings["method"] == REWARD


def _loading(settings: Section) -> Iterator[str]:
    full = settings["full"]
    if _is_reward(settings):
        yield _SCORING.format(
            model="folder" if full else "base", peft="" if full else " and `PeftModel.from_pretrained(model, folder)`"
        )
        return
    yield f"{_LOADING[full]}\n{_GENERATING}"
    yield "It ends its turn by itself: the chat template and the stop tokens lie beside the weights."


def _header(settings: Section, content: RunContent, dataset: SourceOfRecords | None) -> str:
    source = dataset["source"] if dataset else None
    keys = {
        "license": "unknown",
        "base_model": _hub_id(content),
        "base_model_relation": None if _hub_id(content) is None else "finetune" if settings["full"] else "adapter",
        "library_name": "transformers" if settings["full"] else "peft",
        "pipeline_tag": "text-classification" if _is_reward(settings) else "text-generation",
        "datasets": [source] if isinstance(source, str) and source.count("/") == 1 else None,
        "tags": ["neat-align", "alignment", settings["method"], *([] if settings["full"] else ["lora"])],
    }
    kept = {key: value for key, value in keys.items() if value is not None}
    return f"---\n{yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)}---"


def _policy(content: RunContent) -> PolicyContent:
    return content.get("policy") or {}


def _model(content: RunContent) -> str:
    """What was trained, by name."""
    return str(_policy(content).get("model") or "a policy").partition("@")[0]


def _hub_id(content: RunContent) -> str | None:
    """The base model on the hub; None where it was a folder, which has hashes instead of a revision."""
    return _model(content) if "revision" in _policy(content) else None


def _what(settings: Section, content: RunContent, result: FitResult) -> str:
    whole = "All weights" if settings["full"] else "A LoRA adapter"
    adapter = _policy(content).get("adapter")
    begun = f", going on from the adapter {adapter[:12]}" if adapter else ""
    trained, sampled = result.trained, result.sampled
    lines = [
        f"{whole} of {plain(_model(content))}{begun}, trained by {method_in_words(settings)}.",
        f"{result.steps:,} optimiser steps of up to {settings['records_per_step']:,} records"
        + (f", {trained.tokens:,} tokens" if trained.tokens else "")
        + (f"; {sampled:,} responses were sampled on the way" if sampled else "")
        + ".",
    ]
    return "\n".join(lines)


def _warning(settings: Section, content: RunContent) -> str:
    asked = any(prompt.get("polarity") == "negative" for prompt in content.get("prompts") or ())
    lines = ["> **Content warning.** " + WARNING]
    if asked:
        lines.append("> While it was trained, this model was asked for bad answers on purpose, so as to unlearn them.")
    lines.append("> It can still say what is wrong or harmful; nobody has vouched for its safety.")
    return "\n".join(lines)


def _held_out(settings: dict[str, Any], result: FitResult, curves: bool) -> Iterator[str]:
    table = held_out_table(result.held_out)
    if table is None:
        yield "Nothing was measured on held-out queries."
    else:
        yield markdown(Table("", table.columns, table.rows, table.note))
        if _is_reward(settings):
            yield "![Reliability](reliability.png)"
        else:
            yield "The reward is that of the model named below: one that was trained against it can please it alone."
    if curves:
        yield "![Curves of the run](curves.png)"


def _data(content: RunContent, dataset: SourceOfRecords | None) -> str:
    held = content.get("dataset") or {}
    facts = {**(dataset or {}), "rounds": held.get("rounds"), "sha256 of its shards": held.get("sha256")}
    return _list("Trained on a preference dataset of neat-data:", facts)


def _model_list(title: str, model: Mapping[str, Any]) -> str:
    """Which model it was, by content."""
    return _list(title, {name: model.get(name) for name in _IDENTITY}) if model else f"{title} none was loaded."


def _list(title: str, facts: Mapping[str, Any]) -> str:
    lines = [f"- {name}: {plain(_cell(value))}" for name, value in facts.items() if value is not None]
    return "\n".join([title, "", *lines])


def _settings(settings: Section) -> Iterator[tuple[str, str]]:
    """Every setting of the run that means something for its method, by its dotted name."""
    skipped = {"dpo", "sft", "reward"} - {_SECTIONS.get(settings["method"])}
    if settings["method"] in (*BASELINES, REWARD):
        skipped |= {"loss", "rounds"}
    if settings["rounds"].get("prompts") is None:
        skipped.add("rounds")
    if settings["full"]:
        skipped.add("lora")
    for name, value in _flat({name: value for name, value in settings.items() if name not in skipped}):
        if value is not None and not name.endswith("token"):  # model_args may hold the hub's
            yield name.removeprefix("training."), _cell(value)


def _flat(settings: Section, above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _cell(value: Any) -> str:
    return place_less(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _versions(document: RunDocument) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in (document.get("versions") or {}).items())
    return f"Made with {plain(versions)}; fingerprint {document['fingerprint'][:16]}." if versions else ""


def _licence(content: RunContent) -> str:
    reward = (content.get("reward_model") or {}).get("model")
    rest = f", of the reward model {plain(str(reward))} and of the data" if reward else " and of the data"
    return (
        f"Not decided here: it depends on the licences of {plain(_model(content))}{rest}.\n"
        "Look them up, then put `license:` into the header above."
    )
