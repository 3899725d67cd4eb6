"""The verbs of `neat-data` as functions: `import neat_data as nd`, then `nd.score(…)`.

Each makes a request of its keywords, hands it to the verb, and returns what came of it. They print nothing: progress is
a bar on stderr or in the notebook, and what the command line says goes to the logger `neat_data`. What a verb needs is
imported when it is called.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from neat_data.arguments import (
    at_least,
    column_places,
    one_of,
    opened,
    place_of,
    reward_spec,
    sampler_spec,
    several,
    text_or_none,
    worker_count,
)
from neat_data.errors import InputError

if TYPE_CHECKING:
    from neat_data.analysis.stats import Stats
    from neat_data.formats.export import ExportSummary
    from neat_data.formats.names import Name, PairsOf
    from neat_data.models.reward_model import RewardModelSpec
    from neat_data.models.sampler import SamplerSpec
    from neat_data.progress import Watcher
    from neat_data.prompts.sets import PromptSet
    from neat_data.rounds.finish import GrowSummary, Scoring
    from neat_data.scoring.compact import CompactSummary
    from neat_data.scoring.rescore import RescoreSummary
    from neat_data.scoring.score import ScoreSummary
    from neat_data.store.dataset import PreferenceDataset
    from neat_data.store.reviews import DropBy
    from neat_data.store.verify import Verification

Backend = Literal["auto", "transformers", "vllm"]
Compression = Literal["none", "zstd"]
Rewards = Literal["model", "given"]
ScoringPath = Literal["auto", "trees", "batches"]
SamplerBackend = Literal["auto", "transformers", "vllm", "openai"]
Phase = Literal["both", "sample", "score"]
Part = Literal["answer", "whole"]
Thinking = Literal["on", "off"]


def open(path: str | Path, *, drop_by: DropBy = "any") -> PreferenceDataset:
    """Open a dataset for reading.

    Args:
        path: its folder, or an fsspec URL of one.
        drop_by: which responses that reviewers dropped are left out: those that one of them dropped (`any`), that more
            than half (`majority`) or `all` of those dropped who judged them.

    Raises:
        InputError: `path` is not a dataset written by this project.

    Example:
        ```python
        dataset = nd.open("demo/sample")
        for record in dataset:
            print(record.messages[-1].content, record.responses[0].reward)
        ```
    """
    return opened(path, drop_by)


def score(
    source: str | Path,
    *,
    out: str | Path,
    reward_model: str | Path | RewardModelSpec | None = None,
    rewards: Rewards = "model",
    subset: str | None = None,
    split: str | None = None,
    format: str = "auto",
    columns: str | Path | Mapping[str, str] | None = None,
    ignore: str | Iterable[str] = (),
    exclude: str | Path | Iterable[str | Path] = (),
    limit: int | None = None,
    shard_rows: int = 512,
    compression: Compression = "none",
    workers: int | Literal["auto"] = 1,
    backend: Backend = "auto",
    device: str = "auto",
    dtype: str = "auto",
    max_length: int | None = None,
    max_response: int | None = None,
    token_budget: int | None = None,
    path: ScoringPath = "auto",
    chat_template: str = "auto",
    template_args: Mapping[str, Any] | None = None,
    score: Part = "answer",
    model_args: Mapping[str, Any] | None = None,
    trust_remote_code: bool = False,
    base: str | Path | None = None,
    progress: bool = True,
) -> ScoreSummary:
    """Score a preference dataset and store it as ranked records; the same call again goes on where one stopped.

    Args:
        source: a file, folder, glob or hub id (`ID@REV`); what is there locally comes first.
        out: the dataset's folder.
        reward_model: a sequence classifier with one output or its adapter (folder or hub id), `file.py:function`,
            `http://…`, `judge:MODEL`, or a `RewardModelSpec`, which then says everything about the model.
        rewards: `given` keeps the rewards that the source carries, and takes no `reward_model`.
        subset: a subset or folder of a hub dataset.
        split: of a hub dataset or folder: `train` (the default), `test`, …, or `all`.
        format: the rows' shape, where their columns do not tell.
        columns: where the parts of a row stand, for a shape that is not known: `{"prompt": "question", "chosen":
            "answers.0"}`, the same as a text `prompt=question,…`, or a YAML file.
        ignore: columns that may change what is asked (`tools`, pictures) and are kept aside all the same.
        exclude: datasets or sources whose queries are left out.
        limit: source rows read at most.
        shard_rows: source rows a shard, the unit of work.
        compression: `zstd` for shipping; `none` lets readers map the shards.
        workers: processes, one a device; `auto`: one for every device.
        backend, device, dtype: what runs the model, where (`auto`, `cuda`, `npu`, `cpu`), and in which precision.
        max_length: tokens of query and response; None: the model's window.
        max_response: tokens of a response; None: half of `max_length`.
        token_budget: tokens in one forward pass; None: the device's.
        path: `trees` shares a query among its responses, `batches` pads; `auto` checks which is exact.
        chat_template: `auto` (the model's own), `hh`, or a Jinja file.
        template_args: handed to the chat template, say `{"enable_thinking": False}`.
        score: what of a response is scored, its `answer` alone, or the `whole` of it, thought and answer.
        model_args: handed to the back end, say `{"attn_implementation": "eager"}`.
        trust_remote_code: whether code that comes with the model is run.
        base: the model of a reward adapter that says no more of it than a folder.
        progress: whether to show a bar.

    Raises:
        InputError: bad source, model or argument, or a folder that holds something else.
        RunError: out of memory at the smallest budget, a reward that is not finite, a full disk.

    Example:
        ```python
        summary = nd.score("pairs.jsonl", out="demo/helpful", reward_model="data/models/tiny-reward")
        dataset = nd.open(summary.out)
        ```
    """
    from neat_data.scoring import score as scoring

    at_least(1, limit=limit, shard_rows=shard_rows)
    one_of(Compression, compression=compression)
    one_of(Rewards, rewards=rewards)
    if (reward_model is None) == (rewards == "model"):
        raise InputError("say either reward_model=MODEL or rewards='given'")
    spec = None
    if reward_model is not None:
        spec = _reward_model(
            reward_model,
            backend=backend,
            device=device,
            dtype=dtype,
            max_length=max_length,
            max_response=max_response,
            token_budget=token_budget,
            path=path,
            chat_template=chat_template,
            template_args=dict(template_args or {}),
            score=score,
            model_args=model_args,
            trust_remote_code=trust_remote_code,
            base=None if base is None else str(base),
        )
    request = scoring.ScoreRequest(
        source=str(source),
        out=Path(out),
        reward=spec,
        subset=subset,
        split=split,
        format=format,
        columns=column_places(columns),
        ignore=several(ignore),
        exclude=several(exclude),
        limit=limit,
        shard_rows=shard_rows,
        compression=None if compression == "none" else compression,
        workers=worker_count(workers),
    )
    with watching(progress) as watch:
        return scoring.score(request, watch)


def expand(
    dataset: str | Path | PreferenceDataset,
    *,
    policy: str | Path | SamplerSpec | None = None,
    prompts: str | Path | PromptSet = "neat",
    num_samples: int = 1,
    temperature: float = 1.0,
    top_p: float = 1.0,
    max_new_tokens: int = 128,
    seed: int = 0,
    where: str | None = None,
    limit: int | None = None,
    min_tokens: int = 0,
    drop: str | Iterable[str] = (),
    keep: str | None = None,
    refusal: str | None = None,
    sampler: SamplerBackend = "auto",
    base_url: str | None = None,
    concurrency: int = 8,
    adapter: str | Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    workers: int | Literal["auto"] = 1,
    max_length: int | None = None,
    token_budget: int | None = None,
    chat_template: str = "auto",
    thinking: Thinking | None = None,
    template_args: Mapping[str, Any] | None = None,
    model_args: Mapping[str, Any] | None = None,
    trust_remote_code: bool = False,
    reward_model: str | Path | RewardModelSpec | None = None,
    reward_args: Mapping[str, Any] | None = None,
    mix_rewards: bool = False,
    phase: Phase = "both",
    progress: bool = True,
) -> GrowSummary:
    """Add responses to a dataset, sampled under prompts and scored, as a new round.

    The same call again goes on where one stopped; another seed or setting makes the next round. A dataset that was
    opened before does not see the round: open it again.

    Args:
        dataset: its folder; it gets the round.
        policy: what answers: a causal LM (folder or hub id), its name at `base_url`, or a `SamplerSpec`, which then
            says everything about the model. None only where `phase` is `score`.
        prompts: what stands around a query: `neat`, `plain`, a YAML file, a part of one behind a colon
            (`neat:negative`), or a `PromptSet`.
        num_samples: responses to each query under each prompt.
        temperature: 0 is greedy.
        top_p: sample among the likeliest tokens of this probability together, in (0, 1].
        max_new_tokens: tokens of a response.
        seed: of the samples.
        where: a SQL expression over the record, say `gap_abs < 1.0`; only the queries of these are asked.
        limit: queries at most.
        min_tokens: shorter responses are dropped.
        drop: what is dropped beside empty and repeated responses: `unfinished`, `cut`, `refusal`.
        keep: a SQL expression; only the responses that it is true for are kept, say `reward < rejected`.
        refusal: a regular expression for what counts as a refusal; None: a list of English openings.
        sampler, device, dtype: what runs the policy, where, and in which precision.
        base_url: an OpenAI-compatible server, whose key is read from OPENAI_API_KEY.
        concurrency: requests in flight at the server.
        adapter: a folder with a PEFT adapter of the policy.
        workers: processes, one a device; `auto`: one for every device.
        max_length: tokens of prompt, query and response; None: the policy's window.
        token_budget: tokens of one batch of the policy; None: the device's.
        chat_template: `auto` (the model's own), `hh`, or a Jinja file.
        thinking: `on` or `off` asks for a thought before the answer, or for none; None: as the template has it.
        template_args: handed to the chat template, say `{"enable_thinking": False}`.
        model_args: handed to the policy's back end.
        trust_remote_code: whether code that comes with the policy is run.
        reward_model: what scores; None: the model that scored the dataset.
        reward_args: handed to the back end of `reward_model`.
        mix_rewards: whether another model than the dataset's own may score.
        phase: `sample` stops after sampling, `score` scores what was sampled before.
        progress: whether to show a bar.

    Raises:
        InputError: no finished dataset, bad models, prompts or expressions, another round that is not finished.
        RunError: out of memory, a server that is gone, a reward that is not finite, a full disk.

    Example:
        ```python
        summary = nd.expand("demo/helpful", policy="data/models/tiny-policy", limit=20, max_new_tokens=16)
        print(summary.round, summary.counts["responses"])
        ```
    """
    from neat_data.models.sampler import Sampling
    from neat_data.rounds import expand as rounds
    from neat_data.rounds.sampling import Draws

    at_least(1, num_samples=num_samples, limit=limit, concurrency=concurrency)
    at_least(8, max_length=max_length)
    at_least(64, token_budget=token_budget)
    one_of(Phase, phase=phase)
    one_of(SamplerBackend, sampler=sampler)
    if thinking is not None:
        one_of(Thinking, thinking=thinking)
    if (policy is None) == (phase != "score"):
        raise InputError("say policy=MODEL, or phase='score' alone, for what was sampled before")
    spec = None
    if policy is not None:
        spec = sampler_spec(
            policy,
            backend=sampler,
            base_url=base_url,
            adapter=text_or_none(adapter),
            device=device,
            dtype=dtype,
            max_length=max_length,
            token_budget=token_budget,
            chat_template=chat_template,
            thinking=thinking,
            template_args=dict(template_args or {}),
            concurrency=concurrency,
            model_args=dict(model_args or {}),
            trust_remote_code=trust_remote_code,
        )
    request = rounds.ExpandRequest(
        Path(place_of(dataset)),
        spec,
        Draws(_prompt_set(prompts), Sampling(temperature, top_p, max_new_tokens), num_samples, seed),
        _scoring(min_tokens, drop, keep, refusal, reward_model, reward_args, mix_rewards, device, workers),
        where,
        limit,
        phase,
        worker_count(workers),
    )
    with watching(progress) as watch:
        return rounds.expand(request, watch)


def add_responses(
    dataset: str | Path | PreferenceDataset,
    source: str | Path,
    *,
    subset: str | None = None,
    split: str | None = None,
    format: str = "auto",
    columns: str | Path | Mapping[str, str] | None = None,
    ignore: str | Iterable[str] = (),
    limit: int | None = None,
    min_tokens: int = 0,
    drop: str | Iterable[str] = (),
    keep: str | None = None,
    refusal: str | None = None,
    reward_model: str | Path | RewardModelSpec | None = None,
    reward_args: Mapping[str, Any] | None = None,
    mix_rewards: bool = False,
    device: str = "auto",
    workers: int | Literal["auto"] = 1,
    progress: bool = True,
) -> GrowSummary:
    """Add responses that somebody else wrote, other models or experts, scored, as a new round.

    Rows are joined with records on the whole query; a row whose query no record asks is rejected and counted.

    Args:
        dataset: its folder; it gets the round.
        source: a file, folder, glob or hub id, of any shape that `score` reads, or with one answer a row.
        subset, split, format, columns, ignore: of `source`, as in `score`.
        limit: rows read at most.
        min_tokens, drop, keep, refusal: which responses are left out, as in `expand`.
        reward_model, reward_args, mix_rewards: what scores, as in `expand`.
        device: of the reward model.
        workers: processes, one a device; `auto`: one for every device.
        progress: whether to show a bar.

    Raises:
        InputError: no finished dataset, a bad source, none of its queries in the dataset, another unfinished round.
        RunError: as `expand`.

    Example:
        ```python
        nd.add_responses("demo/helpful", "experts.jsonl")
        ```
    """
    from neat_data.rounds.add_responses import GivenRequest, take

    at_least(1, limit=limit)
    request = GivenRequest(
        dataset=Path(place_of(dataset)),
        source=str(source),
        subset=subset,
        split=split,
        format=format,
        columns=column_places(columns),
        ignore=several(ignore),
        scoring=_scoring(min_tokens, drop, keep, refusal, reward_model, reward_args, mix_rewards, device, workers),
        limit=limit,
    )
    with watching(progress) as watch:
        return take(request, watch)


def rescore(
    dataset: str | Path | PreferenceDataset,
    *,
    reward_model: str | Path | RewardModelSpec,
    name: str,
    backend: Backend = "auto",
    device: str = "auto",
    dtype: str = "auto",
    workers: int | Literal["auto"] = 1,
    max_length: int | None = None,
    max_response: int | None = None,
    token_budget: int | None = None,
    path: ScoringPath = "auto",
    chat_template: str = "auto",
    template_args: Mapping[str, Any] | None = None,
    score: Part = "answer",
    model_args: Mapping[str, Any] | None = None,
    trust_remote_code: bool = False,
    base: str | Path | None = None,
    progress: bool = True,
) -> RescoreSummary:
    """Score a dataset's responses with a further reward model, beside its own rewards.

    The same call again goes on where one stopped, and scores what later rounds added.

    Args:
        dataset: its folder.
        reward_model: as in `score`.
        name: what the scores are called, a plain word; `rank_by=name` then ranks by them.
        backend, device, dtype, workers: as in `score`.
        max_length, max_response, token_budget, path: as in `score`.
        chat_template, template_args, score, model_args, trust_remote_code, base, progress: as in `score`.

    Raises:
        InputError: no such dataset, one that is not finished, a bad name or model, or scores of this name that were
            made with other settings.
        RunError: out of memory at the smallest budget, a score that is not finite, a full disk.

    Example:
        ```python
        nd.rescore("demo/helpful", reward_model="data/models/tiny-reward-heldout", name="heldout")
        best = next(nd.open("demo/helpful").records(rank_by="heldout")).responses[0]
        ```
    """
    from neat_data.scoring import rescore as scoring

    spec = _reward_model(
        reward_model,
        backend=backend,
        device=device,
        dtype=dtype,
        max_length=max_length,
        max_response=max_response,
        token_budget=token_budget,
        path=path,
        chat_template=chat_template,
        template_args=dict(template_args or {}),
        score=score,
        model_args=model_args,
        trust_remote_code=trust_remote_code,
        base=None if base is None else str(base),
    )
    request = scoring.RescoreRequest(Path(place_of(dataset)), name, spec, worker_count(workers))
    with watching(progress) as watch:
        return scoring.rescore(request, watch)


def stats(
    dataset: str | Path | PreferenceDataset,
    *,
    thresholds: Sequence[float] = (1.0, 5.0),
    by: str | None = None,
    where: str | None = None,
    rank_by: str | None = None,
    drop_by: DropBy | None = None,
    report: str | Path | None = None,
    plots: str | Path | None = None,
) -> Stats:
    """How far apart the responses of a dataset are, and what the reward may really be measuring.

    Args:
        dataset: its folder or URL, or what `open` returned.
        thresholds: gaps, in the reward's unit, that pairs are counted beyond.
        by: break down by `source`, `subset`, `split`, `turns`, `meta.KEY` or `polarity`.
        where: a SQL expression over the record.
        rank_by: scores in the place of the dataset's own rewards, as `PreferenceDataset.records` takes them.
        drop_by: as in `open`; None: as the dataset was opened.
        report: write a self-contained HTML page there.
        plots: write the figures as PNG and SVG into this folder.

    Raises:
        InputError: no dataset, a threshold below 0, or an argument that cannot be understood.
        RunError: `report` or `plots` cannot be written.

    Example:
        ```python
        figures = nd.stats("demo/helpful")
        print(figures.counts.pairs, figures.thresholds[0].absolute.share)  # share of pairs with a gap above 1.0
        ```
    """
    from neat_data.analysis.stats import compute

    read = opened(dataset, drop_by)
    figures = compute(read, thresholds=tuple(thresholds), by=by, where=where, rank_by=rank_by)
    if report is not None:
        from neat_data.report.page import write_report

        write_report(read, figures, Path(report))
    if plots is not None:
        from neat_data.report.plots import write_plots

        write_plots(read, figures, Path(plots))
    return figures


def export(
    dataset: str | Path | PreferenceDataset,
    *,
    to: Name,
    out: str | Path,
    pairs: PairsOf | None = None,
    min_gap: float | None = None,
    where: str | None = None,
    limit: int | None = None,
    rank_by: str | None = None,
    drop_by: DropBy | None = None,
    polarities: str | Iterable[str] = (),
    overwrite: bool = False,
    license: str | None = None,
    language: str | None = None,
    push_to_hub: str | None = None,
    public: bool = False,
    include_negative: bool = False,
    progress: bool = True,
) -> ExportSummary:
    """Write the dataset in a form that other trainers and tools read.

    Args:
        dataset: its folder or URL, or what `open` returned.
        to: `trl-dpo`, `trl-sft`, `trl-kto`, `trl-reward`, `rrhf`, `parquet` or `hf`.
        out: the file, or the folder for `datasets.load_from_disk`; TRL's forms go by its ending.
        pairs: whose preferences: the rewards' (`best-worst`, or `all` pairs) or people's (`labels`, or
            `reviews`: what reviewers said, the responses that they dropped as rejected ones).
        min_gap: reward of chosen minus rejected must exceed this.
        where: a SQL expression over the record.
        limit: records taken at most.
        rank_by, drop_by: as in `stats`.
        polarities: only responses of these: `positive`, `negative`, `none` (no such prompt).
        overwrite: whether to replace what is at `out`.
        license, language: of the card; a licence is never guessed.
        push_to_hub: upload to this repository too (`to="hf"`).
        public: whether a repository that is made is public.
        include_negative: whether responses sampled under a negative prompt may be uploaded.
        progress: whether to show a bar.

    Raises:
        InputError: arguments that do not go together, a place that is taken, or nothing to write.
        RunError: the disk is full; the hub refuses.

    Example:
        ```python
        nd.export("demo/helpful", to="trl-dpo", out="pairs.jsonl", pairs="labels")
        ```
    """
    from neat_data.formats import export as formats
    from neat_data.formats.names import Name

    at_least(1, limit=limit)
    one_of(Name, to=to)
    request = formats.ExportRequest(
        to=to,
        out=Path(out),
        pairs=pairs,
        min_gap=min_gap,
        where=where,
        limit=limit,
        rank_by=rank_by,
        polarities=several(polarities),
        overwrite=overwrite,
        license=license,
        language=language,
        push_to_hub=push_to_hub,
        public=public,
        include_negative=include_negative,
    )
    with watching(progress) as watch:
        return formats.export(opened(dataset, drop_by), request, watch)


def compact(
    dataset: str | Path | PreferenceDataset,
    out: str | Path,
    *,
    compression: Compression = "none",
    progress: bool = True,
) -> CompactSummary:
    """Fold rounds, human verdicts and scores into the base shards of a new dataset; its records read the same.

    Args:
        dataset: its folder or URL.
        out: a new folder.
        compression: `zstd` for shipping; `none` lets readers map the shards.
        progress: whether to show a bar.

    Raises:
        InputError: no finished dataset, scores that are not complete, or `out` holds something else.
        RunError: the disk is full.

    Example:
        ```python
        nd.compact("demo/helpful", "demo/helpful-compact")
        ```
    """
    from neat_data.scoring import compact as scoring

    one_of(Compression, compression=compression)
    how = None if compression == "none" else compression
    with watching(progress) as watch:
        return scoring.compact(place_of(dataset), Path(out), compression=how, watch=watch)


def verify(dataset: str | Path | PreferenceDataset, *, rebuild: bool = False) -> Verification:
    """Recompute every hash, and check every promise a record makes.

    Args:
        dataset: a local folder.
        rebuild: whether to make a lost manifest anew from the shards.

    Returns:
        What was found; `ok` says whether nothing is wrong. Damage is reported there, and never raised.

    Raises:
        InputError: no such folder; or, with `rebuild`, another process writes to it.

    Example:
        ```python
        assert nd.verify("demo/helpful").ok
        ```
    """
    from neat_data.store import verify as store

    return store.verify(place_of(dataset), rebuild=rebuild)


@contextmanager
def watching(progress: bool, package: str = "neat_data") -> Iterator[Watcher]:
    """Who follows a call: a bar if `progress`, and the package's logger for what is worth reading once."""
    from rich.console import Console

    from neat_data.progress import TerminalWatcher

    console = Console(stderr=True, highlight=False) if progress else None
    with TerminalWatcher(console, logging.getLogger(package)) as watch:
        yield watch


def _reward_model(model: str | Path | RewardModelSpec, **options: Any) -> RewardModelSpec:
    at_least(8, max_length=options["max_length"])
    at_least(2, max_response=options["max_response"])
    at_least(64, token_budget=options["token_budget"])
    one_of(Backend, backend=options["backend"])
    one_of(ScoringPath, path=options["path"])
    one_of(Part, score=options["score"])
    return reward_spec(model, **{**options, "model_args": dict(options["model_args"] or {})})


def _prompt_set(prompts: str | Path | PromptSet) -> PromptSet:
    from neat_data.prompts.sets import PromptSet, load_prompts

    return prompts if isinstance(prompts, PromptSet) else load_prompts(str(prompts))


def _scoring(
    min_tokens: int,
    drop: str | Iterable[str],
    keep: str | None,
    refusal: str | None,
    reward_model: str | Path | RewardModelSpec | None,
    reward_args: Mapping[str, Any] | None,
    mix: bool,
    device: str,
    workers: int | str,
) -> Scoring:
    """How the candidates of a round become its responses."""
    from neat_data.models.reward_model import RewardModelSpec
    from neat_data.rounds.candidates import REFUSAL, Rules
    from neat_data.rounds.finish import Scoring

    at_least(0, min_tokens=min_tokens)
    if reward_args and (reward_model is None or isinstance(reward_model, RewardModelSpec)):
        raise InputError("reward_args goes with the name of a reward_model")
    named = (
        {} if isinstance(reward_model, RewardModelSpec) else {"device": device, "model_args": dict(reward_args or {})}
    )
    return Scoring(
        rules=Rules(min_tokens, tuple(sorted(set(several(drop)))), keep, REFUSAL if refusal is None else refusal),
        reward=None if reward_model is None else reward_spec(reward_model, **named),
        device=device,
        mix=mix,
        workers=worker_count(workers),
    )
