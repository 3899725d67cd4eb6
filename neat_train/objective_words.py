"""Methods and objectives as a person reads them, for a model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neat_data.report.card import plain

_NEAT = "NEAT (negative-prompt-driven alignment, arXiv 2410.12194)"
_RRHF = "RRHF (arXiv 2304.05302)"
_METHODS = {
    "neat": _NEAT,
    "neat-pp": f"{_NEAT}, its variant with a positive prompt beside the negative one",
    "rrhf": f"{_RRHF}, lengths counted as its paper says",
    "rrhf-official": f"{_RRHF} with the denominator of its published code",
    "rrhf-online": f"{_RRHF} with fresh answers",
    "dpo": "DPO (arXiv 2305.18290), by TRL's trainer",
    "sft": "supervised fine-tuning, by TRL's trainer",
}
_KINDS = {
    "npo": "what makes {it} less likely than the start found it, and fades as it does",
    "unlikelihood": "- log(1 - probability) of the tokens of {it}",
    "likelihood": "the log-likelihood of {it}, which is to fall",
}


def method_in_words(settings: dict[str, Any]) -> str:
    """The method, and where its responses come from.

    Args:
        settings: resolved (`FitSettings.resolved`).
    """
    prompts = settings["rounds"]["prompts"]
    rest = "" if prompts is None else f", the policy answering anew under the prompts {plain(place_less(prompts))}"
    return _METHODS[settings["method"]] + rest


def place_less(value: str) -> str:
    """Of a path on this machine its last part alone.

    >>> place_less("/home/me/prompts.yaml"), place_less("neat:negative")
    ('prompts.yaml', 'neat:negative')
    """
    return Path(value).name if Path(value).is_absolute() else value


def objective_in_words(settings: dict[str, Any]) -> str:
    """What was minimised, as Markdown.

    Args:
        settings: resolved (`FitSettings.resolved`).
    """
    if settings["method"] == "dpo":
        return _dpo(settings["dpo"])
    if settings["method"] == "sft":
        what = "what people chose" if settings["sft"]["target"] == "chosen" else "the response with the highest reward"
        return f"The negative log-likelihood of {what}, a mean over the tokens of a step."
    return _neat(settings["loss"])


def _dpo(dpo: dict[str, Any]) -> str:
    chosen = dpo["pairs"] == "chosen"
    pairs = "what people chose and what they rejected" if chosen else "the highest and the lowest reward"
    return (
        "The mean over pairs of - log sigmoid(beta (log-ratio of the better - log-ratio of the worse)), log-ratios\n"
        f"being those of the policy to its start; beta {dpo['beta']:g}; a pair is {pairs}."
    )


def _neat(loss: dict[str, Any]) -> str:
    over = "mean over its tokens" if loss["reduction"] == "token_mean" else "sum over its tokens"
    pairs = "mean" if loss["ranking"]["reduction"] == "mean_pairs" else "sum"
    own = loss["normaliser"] == "response"
    p = "mean log-probability" if own else "log-probability divided by the padded length of query and response"
    terms = [
        f"- SFT: the negative log-likelihood of the response with the highest reward, {over}",
        f"- ranking, weighed by alpha {loss['alpha']:g}: the {pairs} over pairs of max(0, p of the lower reward - p of "
        f"the higher), p being a response's {p}",
    ]
    if loss["beta"] and loss["penalty"]["kind"] in _KINDS:
        terms.append(_penalty(loss["penalty"], loss["beta"], over))
    return "\n".join(["The sum of these terms, each a mean over the records of a step:", "", *terms])


def _penalty(penalty: dict[str, Any], beta: float, over: str) -> str:
    worst = penalty["target"] == "worst"
    it = "the response with the lowest reward" if worst else "the worst response to a negative prompt"
    behind = "" if penalty["context"] == "query" else ", behind the prompt that it answers"
    what = _KINDS[penalty["kind"]].format(it=it)
    return f"- penalty, weighed by beta {beta:g}: {what} ({penalty['kind']}){behind}, {over}"
