"""Writes each model's card and the data sheet: the texts in `cards_text`, filled with what was set and measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TEXTS = Path(__file__).with_name("cards_text")
MODELS = ("tiny-reward", "tiny-reward-heldout", "tiny-policy", "tiny-policy-plain")

COMMAND = "`python -m pipelines.tiny_models --data FOLDER --out data/models`, with the settings beside that module."
SEEN = (
    "The rows are single-turn rows of Anthropic HH-RLHF (MIT), helpful-base and harmless-base *train*; which ones is "
    "listed in `../splits`. No row of the alignment set was used for any tiny model in any form."
)
TEST_NOTE = (
    "HH-RLHF's official test files of helpful-base and harmless-base, usable rows. Decontaminated: rows whose query "
    'occurs in a test file were not trained on. "No shared opening" also leaves out test dialogues that begin with a '
    "query that was trained on. Measured on the saved bf16 weights with fp32 arithmetic; no weights were chosen on it."
)
WARNING = (
    "**Content warning.** HH-RLHF contains offensive and harmful language, and so do the rows behind this. "
    "What a policy of this size writes is mostly nonsense, and may be offensive nonsense."
)


def write_cards(out: Path, figures: dict[str, Any], settings: dict[str, Any]) -> None:
    """`README.md` of every model folder and of `out`.

    Args:
        figures: what `measure` returned.
    """
    shared = {**settings, "command": COMMAND, "seen": SEEN, "test_note": TEST_NOTE, "warning": WARNING}
    for name in MODELS:
        body = _text(name).format(**{**shared, **_filling(name, figures, settings)})
        (out / name / "README.md").write_text(f"{_front(name)}\n# {name}\n\n{body}")
    sheet = _text("data_sheet").format(
        **shared, sizes=_sizes_table(figures["sizes"]), sets=_sets_table(figures["sets"])
    )
    (out / "README.md").write_text(sheet)


def _text(name: str) -> str:
    return (TEXTS / f"{name}.md").read_text()


def _filling(name: str, figures: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    shape = _shape(settings["heldout" if name == "tiny-reward-heldout" else "policy"], settings)
    if "reward" in name:
        human = f"{1 - settings['reward']['fit']['reward']['soft']:g}"
        return {"shape": shape, "human": human, "agreement": agreement_table(figures[name]["agreement"])}
    stages = settings["practice"]["stages"]
    return {
        "shape": shape,
        "alone": sum(stage["rounds"] for stage in stages if not stage["weight"]),
        "together": sum(stage["rounds"] for stage in stages if stage["weight"]),
        "nll": _nll_sentence(figures[name]["response_nll"]),
        "contrast": contrast_sentence(figures[name]["contrast"]),
        "heldout_contrast": contrast_sentence(figures[name]["heldout_contrast"], "tiny-reward-heldout"),
        "control": contrast_sentence(figures["tiny-policy-plain"]["contrast"]),
    }


def _front(name: str) -> str:
    task = "text-classification" if "reward" in name else "text-generation"
    return f"---\nlicense: apache-2.0\nlanguage: en\nlibrary_name: transformers\npipeline_tag: {task}\n---\n"


def _shape(shape: dict[str, Any], settings: dict[str, Any]) -> str:
    return (
        f"Llama architecture, width {shape['hidden']}, {shape['layers']} layers, {shape['heads']} heads, window "
        f"{settings['window']:,}, byte-level BPE of {settings['tokenizer']['vocabulary']:,} entries, bf16. The chat "
        "template writes the only BOS; the end-of-turn token `<|end|>` is the EOS and differs from the pad token."
    )


def agreement_table(agreement: dict[str, Any]) -> str:
    """One line a part of the test rows."""
    lines = ["| test rows | pairs | agree with the human label | 95 % interval (Wilson) |", "| --- | --- | --- | --- |"]
    for name, part in agreement.items():
        share = 100 * part["agreed"] / max(part["pairs"], 1)
        low, high = (100 * bound for bound in part["interval"])
        lines.append(f"| {name} | {part['pairs']:,} | {share:.1f} % | {low:.1f} to {high:.1f} % |")
    return "\n".join(lines)


def contrast_sentence(contrast: dict[str, Any], by: str = "tiny-reward") -> str:
    low, high = contrast["interval"]
    verdict = "" if low > 0 else " No preference for the positive prompt is shown."
    return (
        f"{contrast['queries']} queries of the test files, one response under each prompt at temperature 1, scored by "
        f"`{by}` against the plain query: {contrast['positive']:.3f} on average under the positive prompt, "
        f"{contrast['negative']:.3f} under the negative; difference {contrast['difference']:.3f} (95 % interval "
        f"{low:.3f} to {high:.3f}).{verdict}"
    )


def _nll_sentence(loss: dict[str, float]) -> str:
    parts = ", ".join(f"{nats:.3f} ({kind})" for kind, nats in loss.items())
    return f"Nats a token on the first 500 chosen responses of each test file, end-of-turn included: {parts}."


def _sizes_table(sizes: dict[str, int]) -> str:
    return "\n".join(["| model | size |", "| --- | --- |", *(f"| {n} | {s / 1e6:.1f} MB |" for n, s in sizes.items())])


def _sets_table(sets: dict[str, dict[str, int]]) -> str:
    lines = [
        "| set | rows | queries | unusable rows | rows whose query occurs in a test file |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, part in sets.items():
        lines.append(f"| {name} | {part['rows']:,} | {part['queries']:,} | {part['unusable']} | {part['in_test']} |")
    return "\n".join(lines)
