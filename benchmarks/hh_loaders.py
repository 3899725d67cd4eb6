r"""How many rows of HH each published way of splitting it gets wrong, and ours beside them.

Every rule is written anew from the file it cites. What a row really holds is decided by a split of each side on
`\n\nHuman:` and `\n\nAssistant:` alone, which puts every text together again byte for byte. Of the rows that a rule
keeps, it counts

- *wrong text*: the query, or one of the responses, is not the text of that turn (whitespace around turns is ignored);
- *other query*: the two sides answer different queries and the rule makes a pair of them without a word;

and of the rows it drops, *lost*: those whose sides answer one query with two different responses, none of them blank.
A row is *wrong* if any of the three holds.

    python benchmarks/hh_loaders.py FOLDER      with harmless-base.test.jsonl.gz and helpful-base.test.jsonl.gz
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from neat_data.sources import Row, open_source

FILES = ("harmless-base.test.jsonl.gz", "helpful-base.test.jsonl.gz")
RESULTS = Path(__file__).parent / "results" / "hh_loaders.json"
ASSISTANT, HUMAN = "\n\nAssistant:", "\n\nHuman:"
Turns = list[tuple[str, str]]


@dataclass(frozen=True)
class Split:
    """What a rule makes of a row: queries as text or turns (`other_query`: the rejected side's, where it has one)."""

    query: str | Turns
    chosen: str
    rejected: str
    other_query: str | Turns | None = None


Rule = Callable[[str, str], Split | None]


def direct_preference_optimization(chosen: str, rejected: str) -> Split:
    """Both sides are cut at the length of the chosen side's prompt, which ends behind its last tag."""
    end = chosen.rindex(ASSISTANT) + len(ASSISTANT)
    return Split(chosen[:end], chosen[end:], rejected[end:])


def halos(chosen: str, rejected: str) -> Split:
    """The same cut behind `Assistant: `; then any `Human:` or `Assistant:` in the prompt begins a turn."""
    tag = f"{ASSISTANT} "
    end = chosen.rfind(tag) + len(tag)
    turns: Turns = []
    for chunk in re.split(r"\s*(Human:|Assistant:)\s+", chosen[:end]):
        if chunk in ("Human:", "Assistant:"):
            turns.append(("user" if chunk == "Human:" else "assistant", ""))
        elif chunk:
            role, text = turns.pop() if turns else ("system", "")
            turns.append((role, text + chunk))
    return Split(turns[:-1], chosen[end:], rejected[end:])


def trl_example(chosen: str, rejected: str) -> Split:
    """The prompt is the common start of both sides, taken back to its last `Assistant: `."""
    tag = f"{ASSISTANT} "
    prompt = chosen[: _common(chosen, rejected)]
    if not prompt.endswith(tag):
        prompt = prompt[: prompt.rfind(tag)] + tag
    parts = re.split(r"(\n\nAssistant: |\n\nHuman: )", prompt[: -len(tag)])[1:]
    roles = ["user" if part == f"{HUMAN} " else "assistant" for part in parts[::2]]
    return Split(list(zip(roles, parts[1::2], strict=True)), chosen[len(prompt) :], rejected[len(prompt) :])


def trl_common_prefix(chosen: str, rejected: str) -> Split | None:
    """The prompt of a row without one is the longest common prefix of both sides, less a space at its end."""
    length = _common(chosen, rejected)
    if length == min(len(chosen), len(rejected)):
        length -= 1  # its loop runs to the end without a difference
    elif chosen[length - 1] == " ":
        length -= 1
    return Split(chosen[:length], chosen[length:], rejected[length:])


def _common(left: str, right: str) -> int:
    pairs = enumerate(zip(left, right, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(left), len(right)))


def open_instruct(chosen: str, rejected: str) -> Split | None:
    """The nth `Human: ` and the nth `Assistant: ` are turns 2n and 2n + 1; rows with a blank turn are dropped."""
    sides = [_alternating(chosen), _alternating(rejected)]
    if any(not text for turns in sides for _, text in turns) or any(turns[-1][0] != "assistant" for turns in sides):
        return None
    return Split(sides[0][:-1], sides[0][-1][1], sides[1][-1][1], sides[1][:-1])


def _alternating(text: str) -> Turns:
    humans = [match.start() for match in re.finditer(f"{HUMAN} ", text)]
    assistants = [match.start() for match in re.finditer(f"{ASSISTANT} ", text)]
    cuts = [cut for both in zip(humans, assistants, strict=False) for cut in both] + [len(text)]
    turns = []
    for number in range(len(cuts) - 1):
        role, tag = ("user", HUMAN) if number % 2 == 0 else ("assistant", ASSISTANT)
        turns.append((role, text[cuts[number] + len(tag) + 1 : cuts[number + 1]]))
    return turns


def llama_factory(chosen: str, rejected: str) -> Split:
    """Each side's response stands behind its last `Assistant: `; the query is what precedes the chosen side's."""
    human, assistant = f"{HUMAN} ", f"{ASSISTANT} "
    answers = [side[side.rfind(assistant) + len(assistant) :] for side in (chosen, rejected)]
    turns = [("user", chosen[chosen.rfind(human) + len(human) : chosen.rfind(assistant)])]
    earlier = chosen[: chosen.rfind(human)]
    while assistant in earlier and human in earlier:
        place, reply = earlier.rfind(human), earlier.rfind(assistant)
        exchange = [
            ("user", earlier[place + len(human) : reply]),
            ("assistant", earlier[reply + len(assistant) :]),
        ]
        turns, earlier = exchange + turns, earlier[:place]
    return Split(turns, *answers)


def pro(chosen: str, rejected: str) -> Split | None:
    """Paragraphs that begin with a tag are the turns, others are dropped; sides of unequal length are dropped."""
    sides = [_paragraphs(chosen), _paragraphs(rejected)]
    if len(sides[0]) != len(sides[1]) or sides[0][-1][0] != sides[1][-1][0]:
        return None
    return Split(sides[0][:-1], sides[0][-1][1], sides[1][-1][1])


def _paragraphs(text: str) -> Turns:
    turns: Turns = []
    for line in text.split("\n\n"):
        for tag, role in (("Human:", "user"), ("Assistant:", "assistant")):
            if not line.startswith(tag):
                continue
            message = line[len(tag) :].strip()
            if turns and turns[-1][0] == role:
                turns[-1] = (role, f"{turns[-1][1]}\n{message}")
            else:
                turns.append((role, message))
    return turns


RULES: dict[str, tuple[str, Rule]] = {
    "DPO": (
        "eric-mitchell/direct-preference-optimization, preference_datasets.py, get_hh",
        direct_preference_optimization,
    ),
    "HALOs": ("ContextualAI/HALOs, train/dataloader.py, get_hh", halos),
    "TRL example": ("huggingface/trl, examples/datasets/hh-rlhf-helpful-base.py", trl_example),
    "TRL trainers": ("huggingface/trl, trl/data_utils.py, extract_prompt", trl_common_prefix),
    "open-instruct": ("allenai/open-instruct, scripts/data/preferences/hh-harmless.py", open_instruct),
    "LLaMA-Factory": ("hiyouga/LLaMA-Factory, data/hh_rlhf_en/hh_rlhf_en.py", llama_factory),
    "Open-Assistant, PRO": (
        "AlibabaResearch/DAMO-ConvAI, PRO/train/hh_preprocess_data/step_1_process.py (after LAION-AI/Open-Assistant)",
        pro,
    ),
}


@dataclass(frozen=True)
class Count:
    """Rows of one file that a rule kept, and those it got wrong."""

    rows: int
    kept: int
    wrong_text: int
    other_query: int
    lost: int
    wrong: int


@dataclass(frozen=True)
class Truth:
    """What a row holds: both sides' turns, stripped."""

    chosen: Turns
    rejected: Turns

    @property
    def same_query(self) -> bool:
        return self.chosen[:-1] == self.rejected[:-1]

    @property
    def usable(self) -> bool:
        """Whether one query, ending in a user turn, has two different responses that say something."""
        answers = {self.chosen[-1], self.rejected[-1]}
        said = len(answers) == 2 and all(role == "assistant" and text for role, text in answers)
        return said and self.same_query and self.chosen[-2][0] == "user"


def strict(text: str) -> Turns:
    """The turns of a dialogue; putting them together again is checked to give the text."""
    parts = re.split("(\n\nHuman:|\n\nAssistant:)", text)
    assert "".join(parts) == text
    roles = ["user" if part == HUMAN else "assistant" for part in parts[1::2]]
    turns = list(zip(roles, (part.strip() for part in parts[2::2]), strict=True))
    return [("system", parts[0].strip()), *turns] if parts[0].strip() else turns


def as_turns(query: str | Turns) -> Turns:
    """A query for comparison; of one that is text, the open tag at its end is taken off."""
    if isinstance(query, str):
        turns = strict(query)
        return turns[:-1] if turns and turns[-1] == ("assistant", "") else [*turns, ("cut", "inside a turn")]
    return [(role, text.strip()) for role, text in query]


def judge(split: Split | None, truth: Truth) -> tuple[bool, bool, bool]:
    """(wrong text, other query, lost) of one row."""
    if split is None:
        return False, False, truth.usable
    right = (
        as_turns(split.query) == truth.chosen[:-1]
        and split.chosen.strip() == truth.chosen[-1][1]
        and split.rejected.strip() == truth.rejected[-1][1]
        and (split.other_query is None or as_turns(split.other_query) == truth.rejected[:-1])
    )
    return not right, not truth.same_query, False


def count(splits: list[Split | None], truths: list[Truth]) -> Count:
    """The figures of one rule on one file."""
    verdicts = [judge(split, truth) for split, truth in zip(splits, truths, strict=True)]
    wrong_text, other_query, lost = (sum(column) for column in zip(*verdicts, strict=True))
    kept = sum(split is not None for split in splits)
    return Count(len(truths), kept, wrong_text, other_query, lost, sum(any(verdict) for verdict in verdicts))


def applied(rule: Rule, pairs: list[tuple[str, str]]) -> list[Split | None]:
    """The rule on every pair; where its own code would stop with an error, the row counts as dropped."""
    splits: list[Split | None] = []
    for chosen, rejected in pairs:
        try:
            splits.append(rule(chosen, rejected))
        except (ValueError, IndexError):
            splits.append(None)
    return splits


def ours(path: Path) -> list[Split | None]:
    """This project's rows, rejects as None."""
    splits: list[Split | None] = []
    for row in open_source(str(path)).rows():
        if isinstance(row, Row):
            query = [(message.role, message.content) for message in row.messages]
            splits.append(Split(query, row.answers[0].text, row.answers[1].text))
        else:
            splits.append(None)
    return splits


def table(results: dict[str, dict[str, Count]], sources: dict[str, str]) -> str:
    """A Markdown table: a line a rule, the columns of each file side by side."""
    names = [field.name.replace("_", " ") for field in fields(Count)[1:]]
    head = [f"{file.partition('.')[0]}: {names[0]}, {', '.join(names[1:])}" for file in FILES]
    lines = ["| rule | " + " | ".join(head) + " | read from |", "| --- |" + " ---: |" * len(FILES) + " --- |"]
    for rule, counts in results.items():
        cells = []
        for file in FILES:
            figures = list(asdict(counts[file]).values())[1:]
            cells.append(", ".join(f"{figure:,}" for figure in figures[:-1]) + f", **{figures[-1]:,}**")
        lines.append(f"| {rule} | {' | '.join(cells)} | {sources[rule]} |")
    return "\n".join(lines)


def main(folder: Path) -> None:
    """Count, print the table and write the results."""
    results: dict[str, dict[str, Count]] = {name: {} for name in [*RULES, "neat-align"]}
    for file in FILES:
        with gzip.open(folder / file, "rt", encoding="utf-8", newline="\n") as lines:
            rows = [json.loads(line) for line in lines]
        pairs = [(row["chosen"], row["rejected"]) for row in rows]
        truths = [Truth(strict(chosen), strict(rejected)) for chosen, rejected in pairs]
        for name, (_, rule) in RULES.items():
            results[name][file] = count(applied(rule, pairs), truths)
        results["neat-align"][file] = count(ours(folder / file), truths)
    sources = {name: source for name, (source, _) in RULES.items()} | {
        "neat-align": "neat_data/sources/shapes/pairs.py"
    }
    print(table(results, sources))
    written = {
        name: {"read_from": sources[name], **{file: asdict(counted) for file, counted in counts.items()}}
        for name, counts in results.items()
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
