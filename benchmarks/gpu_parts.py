"""What `gpu.py` measures, a function a part: each takes the options and gives JSON, saving what it has on the way."""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any

import gpu_model
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from neat_data.models.encode import Encoded
from neat_data.models.fused_kernels import fuse_kernels, unfuse_kernels
from neat_data.models.load import load_reward_model
from neat_data.models.out_of_memory import OutOfMemory
from neat_data.models.reward_model import RewardModelSpec, Task
from neat_data.models.reward_models.transformers import Passes
from neat_data.models.sampler import Sampling
from neat_data.models.samplers.decode_attention import use_where_faster
from neat_data.models.samplers.decoding import decode
from neat_data.models.samplers.gumbel import draw
from neat_data.models.trees import attention_flex
from neat_data.models.trees.attention import KINDS, TREES_FLEX, laid_out
from neat_data.models.trees.attention_choice import AUTO, Heads, choose_attention, disagreement
from neat_data.models.trees.attention_varlen import parts_of
from neat_data.models.trees.forward import linear_head
from neat_data.models.trees.packing import pack
from neat_data.models.trees.tree import TokenTree, grow, lay
from neat_data.models.trees.visibility import sees, until
from neat_data.sources import open_source
from neat_data.sources.row import Row
from neat_train.config.objective import NoPenalty, ObjectiveSettings
from neat_train.config.settings import LoraSettings
from neat_train.data.batches import MicroBatch, micro_batches
from neat_train.data.examples import Example
from neat_train.losses import TermCounts, objective, plan_of, total
from neat_train.policy.fused_lora import fuse, unfuse
from neat_train.policy.logprobs import logps, prepare, training_attention
from neat_train.policy.policy import PolicySpec, load_policy_to_train
from neat_train.training.memory import activations, adapter_numbers

Save = Callable[[dict[str, Any]], None]
LOSS = ObjectiveSettings(penalty=NoPenalty())
HEADS = (Heads(32, 8, 128), Heads(4, 4, 64))


def ways(device: str) -> list[str]:
    """The attentions over trees that are compared, by their short names."""
    return ["varlen", "flex"] if device == "cuda" else ["sdpa", "varlen"]


# ---------------------------------------------------------------------------------------------------- parity


def parity(options: argparse.Namespace, save: Save) -> None:
    """Whole tiny models against a CPU, then every attention against dense attention in float32, both passes."""
    results: dict[str, Any] = {"scores": {}, "three_steps": {}, "kernels": {}, "dense_sdpa": {}}
    for name, figures in (("scores", _tiny_scores(options)), ("three_steps", _tiny_steps(options))):
        for label, figure in figures:
            results[name][label] = figure
            save(results)
    for heads in HEADS:
        for dtype in (torch.bfloat16, torch.float16, torch.float32):
            name = f"{heads.query}/{heads.key}x{heads.size} {_name(dtype)}"
            results["dense_sdpa"][name] = _dense_error(heads, dtype, options.device)
            for kind, attention in KINDS.items():
                results["kernels"][f"{kind} {name}"] = _attempt(
                    lambda a=attention, h=heads, d=dtype: disagreement(a, h, d, torch.device(options.device))
                )
            save(results)


def _variants() -> list[tuple[str, dict[str, str]]]:
    """Ways of a model on a card, and what asks for them; what compiles for long is last."""
    kinds = sorted(KINDS, key=["varlen", "sdpa", "flex"].index)
    plain = {"tree_attention": "varlen", "fused_kernels": "none"}
    return [("varlen", {"tree_attention": "varlen"}), ("varlen plain", plain)] + [
        (kind, {"tree_attention": kind}) for kind in kinds[1:]
    ]


def _dense_error(heads: Heads, dtype: torch.dtype, device: str) -> float:
    """Of plain SDPA under a dense mask, relative to the same in float32: what the number format alone costs."""
    lengths = ((130, 40, 7), (0, 60, 90), (300, 129), (1, 1, 2, 128), (128, 128), (64, 72))
    ends = until(lengths).to(device)
    index = torch.arange(len(ends), device=device)
    mask = sees(ends, index[:, None], index[None, :])
    torch.manual_seed(0)
    parts = [torch.randn(1, n, len(ends), heads.size, device=device) for n in (heads.query, heads.key, heads.key)]
    parts = [part.to(dtype) for part in parts]
    grouped = heads.query != heads.key
    output = scaled_dot_product_attention(*parts, mask, enable_gqa=grouped).float()
    exact = scaled_dot_product_attention(*(part.float() for part in parts), mask, enable_gqa=grouped)
    return float((output - exact).norm() / exact.norm())


def _tiny_scores(options: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """Rewards of the shipped reward model: largest distance from its float32 rewards on a CPU."""
    rows = [row for row in open_source(options.data).rows() if isinstance(row, Row) and len(row.answers) == 2]
    tasks = [Task(row.messages, tuple(answer.text for answer in row.answers)) for row in rows[: options.tiny_rows]]

    def rewards(**spec: Any) -> Tensor:
        model = load_reward_model(RewardModelSpec("data/models/tiny-reward", max_response=1_024, **spec))
        scored = [value for one in model.score(tasks) for value in one.rewards if value is not None]
        model.close()
        return torch.tensor(scored)

    exact = rewards(device="cpu", dtype="float32")
    yield "responses", len(exact)
    yield "deviation", float(exact.std())
    for dtype in ("bfloat16", "float16", "float32"):
        for name, args in [("batches", {}), *_variants()]:
            spec = {"path": "batches"} if name == "batches" else {"model_args": args}
            spec |= {"device": options.device, "dtype": dtype}
            yield f"{name} {dtype}", _attempt(lambda s=spec: float((rewards(**s) - exact).abs().max()))


def _tiny_steps(options: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """Losses of three optimiser steps of the shipped policy: largest distance from those in float32 on a CPU."""
    examples = gpu_model.examples(options.data, options.tiny_rows, 2, 6_000, longest=1_024)[:32]

    def losses(device: str, dtype: torch.dtype, args: dict[str, str]) -> Tensor:
        lora = LoraSettings(dtype="model" if dtype == torch.bfloat16 else "float32")
        fused = {name: value for name, value in args.items() if name == "fused_kernels"}
        spec = PolicySpec("data/models/tiny-policy", False, lora, device=device, dtype=_name(dtype), model_args=fused)
        policy = load_policy_to_train(spec)
        kind = args["tree_attention"]
        step = Step(policy.model, policy.body, "trees", kind, examples, 4_096, learning_rate=1e-3)
        return torch.tensor([step.run() for _ in range(3)])

    exact = losses("cpu", torch.float32, {"tree_attention": "sdpa"})
    yield "losses", exact.tolist()
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        for name, args in _variants():
            yield (
                f"{name} {_name(dtype)}",
                _attempt(lambda a=args, d=dtype: float((losses(options.device, d, a) - exact).abs().max())),
            )


# ---------------------------------------------------------------------------------------------------- ceilings


def ceilings(options: argparse.Namespace, save: Save) -> None:
    """Operations and bytes a second that the card itself reaches: products of LLaMA-3-8B's layers, and a large copy."""
    results: dict[str, Any] = {"matmul_tflops": {}}
    size = 8_192 if options.device == "cuda" else 256
    shapes = [(size, size, size), (2 * size, size // 2, size // 2 * 7 // 2)]
    for rows, inner, columns in shapes:
        a = torch.randn(rows, inner, device=options.device, dtype=options.dtype)
        b = torch.randn(columns, inner, device=options.device, dtype=options.dtype)
        seconds = timed(lambda a=a, b=b: torch.nn.functional.linear(a, b), options.device, repeats=20)
        results["matmul_tflops"][f"{rows}x{inner}x{columns}"] = round(2 * rows * inner * columns / seconds / 1e12, 2)
    source = torch.randn(2**30 if options.device == "cuda" else 2**22, device=options.device)
    target = torch.empty_like(source)
    seconds = timed(lambda: target.copy_(source), options.device, repeats=10)
    results["copy_gb_per_s"] = round(2 * source.numel() * 4 / seconds / 1e9, 1)
    results["peak_tflops"] = max(results["matmul_tflops"].values())
    save(results)


# ---------------------------------------------------------------------------------------------------- scoring


def scoring(options: argparse.Namespace, save: Save) -> None:
    """Rows a second at k = 2, 4, 8; at k = 2 alone what knows nothing of k, and every other attention."""
    shape = gpu_model.shape_of(options.device)
    model = gpu_model.random_model(AutoModelForSequenceClassification, shape, options.device, options.dtype)
    weights = gpu_model.matmul_parameters(model)
    results: dict[str, Any] = {"matmul_parameters": weights, "runs": []}
    first, *more = ways(options.device)
    plans = [(k, f"trees {first}", 1.0) for k in options.ks] + [(k, "sorted", 1.0) for k in options.ks]
    plans += [(2, f"trees {first} plain", 1.0)] if options.device == "cuda" else []
    plans += [(2, f"trees {kind}", 1.0) for kind in more] + [(2, "file order", 0.2), (2, "alone", 0.04)]
    for k, way, share in plans:
        count = options.rows * 2 // k
        rows = gpu_model.encoded(options.data, count, k, model.config.vocab_size)[: max(8, int(count * share))]
        for repeat in range(options.repeats):
            run = _attempt(partial(_score, model, way, rows, options))
            run = run if isinstance(run, dict) else {"failed": run}
            if "tokens_run_per_s" in run and options.peak:
                run["share_of_peak"] = round(2 * weights * run["tokens_run_per_s"] / options.peak / 1e12, 3)
            results["runs"].append({"k": k, "way": way, "repeat": repeat, **run})
            results["summary"] = _medians(results["runs"], "rows_per_s")
            results["quotients"] = {k: _quotient(results["summary"], k, f"trees {first}") for k in options.ks}
            save(results)


def _quotient(summary: dict[str, Any], k: int, way: str) -> float | None:
    """Speed over length-sorted batches, divided by what the tokens run would allow; both over the same rows."""
    trees, padded = (summary.get(f"{k} {name}") for name in (way, "sorted"))
    if not isinstance(trees, dict) or not isinstance(padded, dict):
        return None
    speed = trees["rows_per_s"] / padded["rows_per_s"]
    return round(speed / (padded["tokens_run_a_row"] / trees["tokens_run_a_row"]), 3)


def _kernels(model: Any, way: str) -> None:
    """Norms and gates fused as scoring and training have them on a card; in ways that end in `plain` as torch does."""
    unfuse_kernels(model)
    if model.device.type == "cuda" and way.startswith("trees") and not way.endswith("plain"):
        model.set_attn_implementation("sdpa")  # a probe of the model runs without trees
        fuse_kernels(model, {"fused_kernels": "liger"})


def _score(model: Any, way: str, rows: Sequence[Encoded], options: argparse.Namespace) -> dict[str, Any]:
    """One repetition: from token ids to scores on the host."""
    head = linear_head(model)
    _kernels(model, way)
    if way.startswith("trees"):
        attention = KINDS[way.split()[1]]
        model.set_attn_implementation(attention)
        passes = Passes(model, head, "trees", attention, 0)
    else:
        model.set_attn_implementation("sdpa")
        passes = Passes(model, head, "batches", "sdpa", 0)
    run = {"alone": lambda: _one_by_one(passes, rows, 1), "file order": lambda: _one_by_one(passes, rows, 32)}
    go = run.get(way, lambda: sum(sum(tokens) for _, _, tokens in passes.over(rows, options.budget)))
    _warm(passes, way, rows, options)
    with peak_memory(options.device) as memory:
        seconds, tokens_run = _clock(go, options.device)
    separate = sum(len(ids) for row in rows for ids in row.sequences if ids is not None)
    return {
        "rows": len(rows),
        "seconds": round(seconds, 4),
        "rows_per_s": round(len(rows) / seconds, 3),
        "tokens_per_s": round(separate / seconds, 1),
        "tokens_run_per_s": round(tokens_run / seconds, 1),
        "tokens_run_a_row": round(tokens_run / len(rows), 1),
        "peak_gb_above_model": round(memory[0] / 1e9, 3),
    }


def _warm(passes: Passes, way: str, rows: Sequence[Encoded], options: argparse.Namespace) -> None:
    if way in ("alone", "file order"):
        _one_by_one(passes, rows[:32], 32)
    else:
        list(islice(passes.over(rows, options.budget), 2))


def _one_by_one(passes: Passes, rows: Sequence[Encoded], size: int) -> int:
    """Dialogues in the order of the file, `size` at a time; tokens run, padding included."""
    sequences = [ids for row in rows for ids in row.sequences if ids is not None]
    tokens = 0
    for start in range(0, len(sequences), size):
        batch = sequences[start : start + size]
        passes.forward([TokenTree(ids[:-1], (ids[-1:],)) for ids in batch]).cpu()
        tokens += len(batch) * max(map(len, batch))
    return tokens


# ---------------------------------------------------------------------------------------------------- training


class Step:
    """One optimiser step of a model under LoRA, over trees or padded rows, as the trainer of `neat_train` makes it."""

    def __init__(
        self,
        model: Any,
        body: Any,
        path: str,
        attention: str,
        examples: Sequence[Example],
        budget: int,
        learning_rate: float = 1e-5,
    ) -> None:
        self.model, self.body = model.train(), body
        self.path = prepare(body, path, attention=attention).path
        self.device = next(model.parameters()).device
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(weights, lr=learning_rate)
        self.batches = micro_batches(examples, budget, self.path)
        plans = [plan_of(batch.layout) for batch in self.batches]
        self.counts = sum((plan.counts for plan in plans), TermCounts(0, 0, 0))
        self.tokens = sum(batch.tokens for batch in self.batches)

    def run(self, batches: Sequence[MicroBatch] | None = None) -> float:
        """Forward, backward and update; the loss."""
        loss = torch.zeros((), device=self.device)
        with training_attention(self.body, self.path):
            for batch in batches or self.batches:
                plan = plan_of(batch.layout).to(self.device)
                part = total(objective(logps(self.model, batch.to(self.device)), plan, LOSS), self.counts, LOSS)
                part.backward()
                loss += part.detach()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss)


def training(options: argparse.Namespace, save: Save) -> None:
    """Records a second of a LoRA step (r 16, all linear layers), with gradient checkpointing and without."""
    shape = gpu_model.shape_of(options.device)
    model = gpu_model.random_model(AutoModelForCausalLM, shape, options.device, options.dtype)
    weights = gpu_model.matmul_parameters(model)
    results: dict[str, Any] = {"matmul_parameters": weights, "runs": []}
    lora = LoraConfig(r=16, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(model, lora, autocast_adapter_dtype=False)
    for k, checkpointing, way in _training_plans(options):
        _checkpoint(adapted.get_base_model(), checkpointing)
        examples = gpu_model.examples(options.data, options.records * 2 // k, k, model.config.vocab_size)
        measure = _trl_step if way.startswith("trl") else _own_step
        run = _attempt(partial(measure, adapted, way, examples, checkpointing, options))
        run = run if isinstance(run, dict) else {"failed": run}
        if "tokens_run_per_s" in run and options.peak:
            # Frozen weights: a pass forward and one backward to the inputs; what checkpointing runs again is not work.
            run["share_of_peak"] = round(4 * weights * run["tokens_run_per_s"] / options.peak / 1e12, 3)
        results["runs"].append({"k": k, "checkpointing": checkpointing, "way": way, **run})
        save({**results, "summary": _medians(results["runs"], "records_per_s")})
        collect()


def _training_plans(options: argparse.Namespace) -> list[tuple[int, bool, str]]:
    """k, whether layers are checkpointed, and the way, most important first."""
    first, *more = ways(options.device)
    ks = (2,) if options.quick else (2, 4, 6)
    plans = [(2, checkpointing, f"trees {first}") for checkpointing in (True, False)]
    plans += [(2, True, "sorted"), (2, True, "trl dpo")]
    plans += [(k, True, way) for k in ks[1:] for way in (f"trees {first}", "sorted")]
    if options.device == "cuda":
        plans += [(2, checkpointing, f"trees {first} plain") for checkpointing in (True, False)]
    plans += [(2, True, f"trees {kind}") for kind in more] + [(2, True, f"trees {first} peft")]
    return [*plans, (2, False, "sorted"), (2, False, "trl dpo")]


def _checkpoint(body: Any, wanted: bool) -> None:
    if wanted:
        body.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    else:
        body.gradient_checkpointing_disable()


def _own_step(
    model: Any, way: str, examples: Sequence[Example], checkpointing: bool, options: argparse.Namespace
) -> dict[str, Any]:
    """LoRA layers fused as `fit` has them on a card, in `peft` ways as that library has them."""
    unfuse(model) if way.endswith("peft") or options.device == "cpu" else fuse(model)
    _kernels(model.get_base_model(), way)
    budget = options.budget if checkpointing else options.budget // 4
    path, kind = ("trees", way.split()[1]) if way.startswith("trees") else ("batches", AUTO)
    step = Step(model, model.get_base_model(), path, kind, examples, budget)
    step.run()
    with peak_memory(options.device) as memory:
        seconds = [_clock(step.run, options.device)[0] for _ in range(options.repeats)]
    figures = _step_figures(seconds, len(examples), step.tokens, memory[0]) | {"micro_batches": len(step.batches)}
    if options.device == "cuda" and path == "trees" and checkpointing and len(examples) == options.records:
        figures["profile_ms"] = _profile(step)
    return figures


def _profile(step: Step) -> dict[str, float]:
    """Milliseconds on the card of the kernels that take most of one step, by the operation that called them."""
    with torch.profiler.profile(activities=list(torch.profiler.supported_activities())) as profile:
        step.run()
        torch.cuda.synchronize()
    rows = sorted(profile.key_averages(), key=lambda row: -row.self_device_time_total)
    return {row.key[:90]: round(row.self_device_time_total / 1e3, 2) for row in rows[:24]}


def _step_figures(seconds: list[float], records: int, tokens: int, memory: float) -> dict[str, Any]:
    median = statistics.median(seconds)
    return {
        "records": records,
        "seconds": [round(one, 4) for one in seconds],
        "records_per_s": round(records / median, 3),
        "tokens_run_per_s": round(tokens / median, 1),
        "tokens_run_a_record": round(tokens / records, 1),
        "peak_gb_above_model": round(memory / 1e9, 3),
    }


def _trl_step(
    model: Any, way: str, examples: Sequence[Example], checkpointing: bool, options: argparse.Namespace
) -> dict[str, Any]:
    """TRL's DPOTrainer on the same pairs with the largest batch that fits; the reference's figures are given to it."""
    import gpu_trl

    unfuse(model)
    failed = ""
    for size in (16, 8, 4, 2) if checkpointing else (4, 2, 1):
        if size > len(examples):
            continue
        try:
            with peak_memory(options.device) as memory:
                seconds, tokens = gpu_trl.steps(model, examples, size, checkpointing, options)
            return _step_figures(seconds, len(examples) // size * size, tokens, memory[0]) | {"pairs_a_batch": size}
        except torch.OutOfMemoryError as error:
            failed = str(error).splitlines()[0]
        collect()
    raise OutOfMemory(failed)


# ---------------------------------------------------------------------------------------------------- the rest


def sampling(options: argparse.Namespace, save: Save) -> None:
    """Tokens a second of the transformers sampler; a model's way to the host and back; memory beside its estimate."""
    model = gpu_model.random_model(
        AutoModelForCausalLM, gpu_model.shape_of(options.device), options.device, options.dtype
    )
    _kernels(model, "trees")
    results: dict[str, Any] = {}
    prompts = [query for query, _ in gpu_model.dialogues(options.data, options.prompts, 2, model.config.vocab_size)]
    prompts = [query for query in prompts if len(query) < 1_024]
    sampled = Sampling(max_new_tokens=options.new_tokens)

    def choose(logits: Tensor, rows: list[int], step: int) -> Tensor:
        return draw(logits, rows, step, sampled)

    def go() -> int:
        return sum(map(len, decode(model, prompts, choose, lambda ids: False, sampled.max_new_tokens, None)))

    for name in ("sampling by transformers' attention", "sampling"):
        with torch.no_grad():
            decode(model, prompts[:4], choose, lambda ids: False, 4, None)
            seconds, tokens = _clock(go, options.device)
        results[name] = {"prompts": len(prompts), "new_tokens": tokens, "tokens_per_s": round(tokens / seconds, 1)}
        save(results)
        use_where_faster(model)
    if options.device == "cuda":
        away, _ = _clock(lambda: model.to("cpu"), options.device)
        back, _ = _clock(lambda: model.to("cuda"), options.device)
        results["to_host_and_back"] = {"gb": round(_bytes(model) / 1e9, 2), "to_host_s": away, "back_s": back}
        save(results)
    results["memory"] = _memory(model, options)
    save(results)


def _memory(model: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Peak of one micro-batch of a LoRA step above the weights, beside `memory_sum`'s estimate, in GB."""
    lora = LoraConfig(r=16, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(model, lora, autocast_adapter_dtype=False)
    if options.device == "cuda":
        fuse(adapted)
    body, figures = adapted.get_base_model(), {}
    for checkpointing, budget in ((True, options.budget), (False, options.budget // 4)):
        _checkpoint(body, checkpointing)
        examples = gpu_model.examples(options.data, options.records, 2, model.config.vocab_size)
        step = Step(adapted, body, "trees", AUTO, examples, budget)
        full = max(step.batches, key=lambda batch: batch.tokens)
        step.run([full])
        with peak_memory(options.device) as memory:
            step.run([full])
        size = options.dtype.itemsize
        adapter = adapter_numbers(body.config, LoraSettings()) * size
        figures[f"checkpointing {checkpointing}"] = {
            "tokens": full.tokens,
            "measured": round(memory[0] / 1e9, 3),
            "estimated": round((activations(body.config, full.tokens, checkpointing, size) + adapter) / 1e9, 3),
        }
    return figures


def compiling(options: argparse.Namespace, save: Save) -> None:
    """What FlexAttention costs to compile, how often it is compiled anew, and what masks and parts cost a row."""
    shape, device = gpu_model.shape_of(options.device), torch.device(options.device)
    rows = _rows(options, shape["vocab_size"])
    results: dict[str, Any] = {"rows": len(rows), "tokens": [len(row.ids) for row in rows]}
    results["auto"] = choose_attention(AUTO, gpu_model.config_of(shape), options.dtype, device)
    layouts = [laid_out(*_tensors(row.ids, row.positions), row.lengths, TREES_FLEX)[2] for row in rows]
    masks = [_clock(lambda row=row: attention_flex.block_mask(row, device), options.device) for row in layouts]
    results["block_mask_ms"] = round(1e3 * statistics.median(seconds for seconds, _ in masks), 3)
    results["full_blocks"] = round(statistics.mean(attention_flex.full_share(mask) for _, mask in masks), 3)
    parts = [_clock(lambda row=row: parts_of(row, device), options.device)[0] for row in layouts]
    results["parts_ms"] = round(1e3 * statistics.median(parts), 3)
    save(results)
    if options.device == "cuda":
        _compile(Heads.of(gpu_model.config_of(shape)), layouts, [mask for _, mask in masks], options, results, save)


def _compile(
    heads: Any,
    layouts: Sequence[Any],
    masks: Sequence[Any],
    options: argparse.Namespace,
    results: dict[str, Any],
    save: Save,
) -> None:
    torch._logging.set_logs(recompiles=True)
    from torch._dynamo.utils import counters

    results["flex_calls"] = []
    for layout, mask in zip(layouts, masks, strict=True):
        before, tokens = counters["stats"]["unique_graphs"], sum(map(sum, layout))
        seconds, _ = _clock(lambda tokens=tokens, mask=mask: _flex(heads, tokens, mask, options), options.device)
        graphs = counters["stats"]["unique_graphs"] - before
        results["flex_calls"].append({"tokens": tokens, "s": round(seconds, 4), "graphs": graphs})
        results["graphs_after_the_third_row"] = sum(call["graphs"] for call in results["flex_calls"][3:])
        save(results)


def _rows(options: argparse.Namespace, vocabulary: int) -> list[Any]:
    """Packed rows of several lengths: of the budget, and of parts of it."""
    trees = [grow(one.sequences) for one in gpu_model.encoded(options.data, options.rows // 2, 4, vocabulary)]
    rows = []
    for part in (1, 2, 1, 3, 4, 1, 5, 2):
        chosen = pack([tree.tokens for tree in trees], options.budget // part)[-2]
        rows.append(lay([trees[index] for index in chosen]))
    return rows


def _tensors(*numbers: Sequence[int]) -> Iterator[Tensor]:
    return (torch.tensor([values]) for values in numbers)


def _flex(heads: Heads, tokens: int, mask: Any, options: argparse.Namespace) -> None:
    """One call forward and backward."""
    parts = [
        torch.randn(1, n, tokens, heads.size, device=options.device, dtype=options.dtype, requires_grad=True)
        for n in (heads.query, heads.key, heads.key)
    ]
    attention_flex.attend(parts[0], parts[1], parts[2], mask, None).sum().backward()


# ---------------------------------------------------------------------------------------------------- clocks


def synchronize(device: str) -> None:
    """Wait for the device; a CPU is never behind."""
    if device == "cuda":
        torch.cuda.synchronize()


def _clock(go: Callable[[], Any], device: str) -> tuple[float, Any]:
    synchronize(device)
    start = time.perf_counter()
    result = go()
    synchronize(device)
    return time.perf_counter() - start, result


def timed(go: Callable[[], Any], device: str, repeats: int) -> float:
    """Seconds of the median call, after three to warm up."""
    for _ in range(3):
        go()
    return statistics.median(_clock(go, device)[0] for _ in range(repeats))


@contextmanager
def peak_memory(device: str) -> Iterator[list[float]]:
    """Fills its list with the most bytes that were taken inside the block above what was there; 0 on a CPU."""
    peak = [0.0]
    if device == "cuda":
        collect()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    yield peak
    if device == "cuda":
        peak[0] = torch.cuda.max_memory_allocated() - before


def collect() -> None:
    """Give back what nothing holds."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _bytes(model: Any) -> int:
    return sum(weight.numel() * weight.itemsize for weight in model.parameters())


def _attempt(go: Callable[[], Any]) -> Any:
    """What it gives, or why it failed in one line: a part goes on without it."""
    try:
        return go()
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _medians(runs: list[dict[str, Any]], figure: str) -> dict[str, Any]:
    """The median of a figure and its companions for each setting that ran."""
    names = (figure, "tokens_run_per_s", "tokens_run_a_row", "share_of_peak", "peak_gb_above_model")
    by: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        settings = (run.get(name) for name in ("k", "checkpointing", "way"))
        by.setdefault(" ".join(str(part) for part in settings if part is not None), []).append(run)
    medians_of: dict[str, Any] = {}
    for label, own in by.items():
        done = [run for run in own if figure in run]
        medians = {n: statistics.median(run[n] for run in done) for n in names if done and n in done[0]}
        medians_of[label] = medians or own[0]["failed"]
    return medians_of


PARTS: dict[str, Callable[[argparse.Namespace, Save], None]] = {
    "parity": parity,
    "ceilings": ceilings,
    "scoring": scoring,
    "training": training,
    "sampling": sampling,
    "compiling": compiling,
}
