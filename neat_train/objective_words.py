"""Methods and objectives as a person reads them, for a model card."""

from __future__ import annotations

from typing import Any

_NEAT = "NEAT (negative-prompt-driven alignment, arXiv 2410.12194)"
METHODS = {
    "neat": f"{_NEAT}: the policy answers every query once more under a prompt that asks for a bad answer",
    "neat-pp": f"{_NEAT}: the policy answers every query once more under a positive and once under a negative prompt",
    "rrhf": "RRHF (arXiv 2304.05302), lengths counted as its paper says",
    "rrhf-official": "RRHF (arXiv 2304.05302) with the denominator of its published code",
    "rrhf-online": "RRHF (arXiv 2304.05302) with fresh answers to the plain query",
    "dpo": "DPO (arXiv 2305.18290) by TRL's trainer",
    "sft": "supervised fine-tuning by TRL's trainer",
}
_KINDS = {
    "npo": "a penalty that makes the worst response less likely than the start found it, and fades as it does",
    "unlikelihood": "- log(1 - probability) of the tokens of the worst response",
    "likelihood": "the log-likelihood of the worst response, which is to fall",
}


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
    kind = loss["penalty"]["kind"] if loss["beta"] else "none"
    terms = [
        f"- SFT: the negative log-likelihood of the response with the highest reward, {over}",
        f"- ranking, weighed by alpha {loss['alpha']:g}: the {pairs} over pairs of max(0, p of the lower reward - p of "
        "the higher), p being the mean log-probability of a response's tokens",
    ]
    if kind in _KINDS:
        terms.append(f"- penalty, weighed by beta {loss['beta']:g}: {_KINDS[kind]} (`{kind}`), {over}")
    return "\n".join(["The sum of these terms, each a mean over the records of a step:", "", *terms])
