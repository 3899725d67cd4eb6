"""Everything that an evaluation needs, found before a model is loaded: the policy and its start, queries, rewards."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from neat_data.errors import InputError
from neat_data.models.encode import QUERY_TOO_LONG, encode_query
from neat_data.models.sampler import Sampling
from neat_data.models.samplers.transformers import check_room
from neat_data.progress import Watcher
from neat_data.rounds.candidates import Rules
from neat_data.store.documents import Settings
from neat_train.evaluation.files import ALPACA, ARENA, responses_file
from neat_train.evaluation.folder import ANSWERS_FILE, RECORDS_FILE
from neat_train.evaluation.measure import SAMPLED, Decoding
from neat_train.evaluation.policy import PolicySpec
from neat_train.evaluation.queries import Queries, open_queries
from neat_train.evaluation.request import SHARD_ROWS, EvalRequest
from neat_train.evaluation.reward_models import NamedReward, RewardOptions, named_rewards, scored_before
from neat_train.evaluation.subject import Subject, asked, named_prompt
from neat_train.run_folder import SETTINGS


@dataclass(frozen=True)
class EvalPlan:
    """Everything that was asked for, found and not yet loaded.

    Attributes:
        policy: what is evaluated.
        began_from: the policy that KL is measured from; None: it is not known, and KL is left out.
        rules: which answers count as refusals.
    """

    policy: PolicySpec
    began_from: PolicySpec | None
    queries: Queries
    decodings: tuple[Decoding, ...]
    rewards: dict[str, NamedReward]
    rules: Rules

    @property
    def subject(self) -> Subject:
        """What is evaluated."""
        return self.policy.subject

    @property
    def start(self) -> Subject | None:
        """What KL is measured from."""
        return None if self.began_from is None else self.began_from.subject

    @property
    def files(self) -> tuple[str, ...]:
        """What it leaves behind, beside `eval.json`."""
        responses = (responses_file(decoding.name) for decoding in self.decodings)
        return ANSWERS_FILE, RECORDS_FILE, ALPACA, ARENA, *responses


def plan_evaluation(request: EvalRequest, watch: Watcher) -> EvalPlan:
    """Find everything.

    Raises:
        InputError: no such run, model, queries or prompt; the start's probabilities are not to be compared.
    """
    if not request.refusal:
        raise InputError("an empty expression is found in every answer; give one that tells refusals", field="refusal")
    rules = Rules(refusal=request.refusal)
    prompt, negative = named_prompt(request.prompt), named_prompt(request.negative)
    policy = PolicySpec(request.subject, request, request.device)
    subject = policy.subject
    began_from = _start(request, subject, watch)
    rewards = named_rewards(
        request.rewards,
        RewardOptions(request.device, request.trust_remote_code, request.reward_templates, request.reward_args),
        scored_before(_run(subject), request.queries),
    )
    queries = open_queries(
        request.queries,
        where=request.where,
        limit=request.limit,
        subset=request.subset,
        split=request.split,
        format=request.format,
    )
    decodings = (
        Decoding("greedy", prompt, 0.0),
        Decoding(SAMPLED, prompt, 1.0),
        Decoding("negative", negative, 1.0),
    )
    return EvalPlan(policy, began_from, queries, decodings, rewards, rules)


def settings_of(request: EvalRequest, plan: EvalPlan, subject: Settings) -> Settings:
    """What decides the figures.

    Args:
        subject: what the subject says of itself where it runs.
    """
    queries, cut = plan.queries, request.shard_rows
    return {
        "subject": subject,
        "start": plan.start and plan.start.identity,
        "queries": {"sha256": queries.sha256, "count": len(queries.queries)},
        "prompt": named_prompt(request.prompt).to_dict(),
        "negative": named_prompt(request.negative).to_dict(),
        "seed": request.seed,
        "max_new_tokens": request.max_new_tokens,
        "reward_models": {name: reward.identity for name, reward in plan.rewards.items()},
        "refusal": plan.rules.refusal,
        **({} if cut == SHARD_ROWS else {"shard_rows": cut}),  # as evaluations of earlier versions lack it
    }


def _start(request: EvalRequest, subject: Subject, watch: Watcher) -> PolicySpec | None:
    """The policy that KL is measured from: the one asked for, else the one that the run began from."""
    spec = request.start or subject.start
    if spec is None:
        unknown = {
            "run": "where the policy lies that this run began from is not known",
            "model": f"{subject.label} is no run of neat-train fit, so what it began from is not known",
        }
        watch.say(f"KL is left out: {unknown[subject.kind]}", advice="name it: {start} POLICY")
        return None
    try:
        policy = PolicySpec(spec, request, request.device, trusted=request.start is not None or spec == subject.base)
        start = policy.subject
    except InputError as error:
        raise error.renamed({None: "start"}) from error
    if request.start is None and (other := changed_since(subject, start)):
        raise InputError(
            f"{spec}: is not the policy that {subject.label} began from any more (another {other})",
            advice="name the one to measure KL from: {start} POLICY",
        )
    if start.tokenizer_id != subject.tokenizer_id or start.template.fingerprint != subject.template.fingerprint:
        raise InputError(
            f"has another tokenizer or chat template than {subject.label}, so that the two give no "
            "probabilities to the same tokens",
            field="start",
            value=spec,
        )
    if start.max_length < subject.max_length:
        raise InputError(
            f"reads {start.max_length:,} tokens, and {subject.label} answers within "
            f"{subject.max_length:,}, so that it cannot read all that an answer was drawn after",
            field="start",
            value=spec,
            advice=f"say {{max_length}} {start.max_length} for both",
        )
    return policy


def changed_since(subject: Subject, start: Subject) -> str | None:
    """What the policy that was found differs in from the one that the run was begun with."""
    names = ("weights", "config", "revision", "adapter")
    return next((name for name in names if subject.began_with.get(name) != start.identity.get(name)), None)


def default_out(request: EvalRequest, plan: EvalPlan) -> Path:
    """Where the figures of a run go that was not told; InputError where the subject is no run."""
    if plan.subject.kind != "run":
        raise InputError(
            f"{request.subject}: is no run of neat-train fit", advice="say with {out} where its figures go"
        )
    prompt = plan.decodings[0].prompt
    prompted = "" if prompt.text is None else f"-{prompt.name}"
    run, name = _run(plan.subject), f"{plan.queries.name}{prompted}"
    assert run is not None
    checkpoint = "" if run == Path(request.subject) else Path(request.subject).name
    return run / "eval" / checkpoint / name


def _run(subject: Subject) -> Path | None:
    """The folder of the run that a subject is, or is a checkpoint of."""
    folder = Path(subject.spec)
    if subject.kind != "run":
        return None
    return folder if (folder / SETTINGS).is_file() else folder.parent


def require_answerable(request: EvalRequest, plan: EvalPlan) -> None:
    """Raise InputError where none of the queries can be answered, before anything of an evaluation is on the disk."""
    sampling = Sampling(max_new_tokens=request.max_new_tokens)
    asks = asked(plan.queries.queries, plan.decodings[0].prompt, sampling, request.seed)
    check_room(asks, plan.subject.max_length)
    refusals = (encode_query(ask, plan.subject.template, plan.subject.max_length).refused for ask in asks)
    reasons: Counter[str] = Counter()
    for reason in refusals:
        if reason is None:
            return
        reasons[reason] += 1
    hint = (
        "raise {max_length}, or lower {max_new_tokens}"
        if QUERY_TOO_LONG in reasons
        else "the chat template takes none of them; give another one: {chat_template}"
    )
    counts = ", ".join(f"{reason} {count:,}" for reason, count in reasons.items())
    raise InputError(f"none can be answered ({counts});", field="queries", value=request.queries, advice=hint)
