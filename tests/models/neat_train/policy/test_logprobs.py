"""Log-probabilities through a real tiny model: against one plain sequence at a time, and against themselves."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
import torch.distributed as dist
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.parallel import DistributedDataParallel
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from neat_data.errors import InputError
from neat_data.models.trees.attention import TREES_SDPA, TREES_VARLEN
from neat_train.config.objective import ObjectiveSettings, Unlikelihood
from neat_train.data.batches import PackingMode, filler, micro_batches
from neat_train.data.examples import Example, TrainedResponse
from neat_train.losses import TermCounts, objective, plan_of, total
from neat_train.policy.logprobs import logps, prepare, share_choice, training_attention, tree_attention

PATHS: tuple[PackingMode, ...] = ("trees", "batches")
VOCABULARY, HIDDEN = 67, 32
SETTINGS = ObjectiveSettings(beta=0.3, penalty=Unlikelihood())


def llama(**options) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.2,
        **options,
    )
    return LlamaForCausalLM(config)


def with_lora(model, **options) -> PeftModel:
    peft_model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", **options))
    torch.manual_seed(1)
    for name, parameter in peft_model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return peft_model.train()


def examples() -> list[Example]:
    """Ragged records, their end of turn (0) being what rows are padded with."""
    generator = torch.Generator().manual_seed(3)

    def ids(size: int) -> tuple[int, ...]:
        return tuple(torch.randint(1, VOCABULARY, (size,), generator=generator).tolist())

    shape = [(9, (5, 3, 12)), (1, (4, 1)), (17, (2,)), (30, (6, 8, 2, 3)), (5, (11, 7))]
    return [
        Example(
            str(number), ids(query), tuple(TrainedResponse("", (*ids(n), 0), float(-i)) for i, n in enumerate(sizes))
        )
        for number, (query, sizes) in enumerate(shape)
    ]


def naive(model, records: Sequence[Example]) -> torch.Tensor:
    """One sequence at a time, logits of the plain forward pass, response by response  # (tokens,)"""
    parts = []
    for record in records:
        for answer in record.answers:
            ids = torch.tensor([[*record.query, *answer.ids]])
            logits = model(input_ids=ids).logits[0, len(record.query) - 1 : -1]
            parts.append(torch.log_softmax(logits, -1).gather(1, torch.tensor(answer.ids)[:, None])[:, 0])
    return torch.cat(parts)


def step(module, body, batches, path: PackingMode, settings: ObjectiveSettings = SETTINGS) -> float:
    """Loss of an optimiser step over these micro-batches; gradients are left in the parameters."""
    plans = [plan_of(batch.layout) for batch in batches]
    counts = sum((plan.counts for plan in plans), TermCounts(0, 0, 0))
    losses = []
    module.zero_grad()
    with training_attention(body, path):
        for batch, plan in zip(batches, plans, strict=True):
            loss = total(objective(logps(module, batch), plan, settings), counts, settings)
            loss.backward()
            losses.append(loss.detach())
    return float(torch.stack(losses).sum())


def gradients(module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def assert_same_gradients(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], atol: float) -> None:
    assert actual.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(
            actual[name], gradient, atol=atol, rtol=1e-4, msg=lambda text, name=name: name + text
        )


@pytest.mark.parametrize("path", PATHS)
def test_log_probabilities_and_gradients_equal_a_naive_loop_in_float64(path: PackingMode) -> None:
    model = with_lora(llama())
    body = model.get_base_model()
    assert prepare(body).path == "trees"
    records = examples()[:2] if path == "trees" else examples()[2:4]
    exact = copy.deepcopy(model).double()
    expected = naive(exact, records)
    (batch,) = micro_batches(records, 10_000, path)
    if path == "batches":
        assert [len(record.query) for record in records] == [17, 30]
        expected = torch.cat((expected[3:], expected[:3]))  # the longest record comes first
    weights = torch.randn(len(expected), generator=torch.Generator().manual_seed(5))
    (expected * weights).sum().backward()
    with training_attention(body, path):
        actual = logps(model, batch)
        (actual * weights).sum().backward()
    torch.testing.assert_close(actual.double(), expected, atol=1e-5, rtol=0)
    assert actual.dtype == torch.float32
    assert_same_gradients(gradients(model), {k: v.float() for k, v in gradients(exact).items()}, 1e-5)


def test_the_step_is_the_same_however_it_is_packed_padded_and_filled() -> None:
    model = with_lora(llama())
    body = model.get_base_model()
    prepare(body)
    records = examples()
    loss = step(model, body, micro_batches(records, 10_000, "trees"), "trees")
    expected = gradients(model)
    for path in PATHS:
        for budget in (1, 60, 10_000):
            for order in (records, records[::-1]):
                batches = [*micro_batches(order, budget, path), filler(path)]
                assert step(model, body, batches, path) == pytest.approx(loss, abs=1e-6)
                assert_same_gradients(gradients(model), expected, 1e-6)


@pytest.mark.parametrize("path", PATHS)
def test_siblings_and_neighbours_change_no_log_probability(path: PackingMode) -> None:
    model = llama()
    prepare(model)
    record = examples()[3]
    alone = Example("", record.query, record.answers[1:2])
    (own,) = micro_batches([alone], 10_000, path)
    (all_of_them,) = micro_batches([record, *examples()], 10_000, path)
    with torch.no_grad():
        expected, actual = logps(model, own), logps(model, all_of_them)
    sizes = [len(answer.ids) for answer in record.answers]
    torch.testing.assert_close(actual[sizes[0] : sizes[0] + sizes[1]], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_nothing_and_reaches_every_adapter(path: PackingMode, reentrant: bool) -> None:
    model = with_lora(llama())
    body = model.get_base_model()
    prepare(body)
    batches = micro_batches(examples(), 100, path)
    loss = step(model, body, batches, path)
    expected = gradients(model)
    body.gradient_checkpointing_enable({"use_reentrant": reentrant})
    body.enable_input_require_grads()
    assert step(model, body, batches, path) == pytest.approx(loss, abs=1e-6)
    actual = gradients(model)
    assert_same_gradients(actual, expected, 1e-6)
    b = [name for name, _ in model.named_parameters() if "lora_B" in name]
    assert len(b) == 14
    assert all(float(actual[name].norm()) > 0 for name in b)


@pytest.mark.parametrize("path", PATHS)
def test_every_parameter_of_a_full_model_gets_the_gradient_of_the_naive_loop(path: PackingMode) -> None:
    model = llama().train()
    prepare(model)
    records = examples()[:1]
    naive(model, records).sum().backward()
    expected = gradients(model)
    model.zero_grad()
    (batch,) = micro_batches(records, 10_000, path)
    with training_attention(model, path):
        logps(model, batch).sum().backward()
    assert_same_gradients(gradients(model), expected, 1e-4)


def test_a_head_with_an_adapter_of_its_own_is_heard() -> None:
    model = get_peft_model(llama(), LoraConfig(r=4, target_modules=["q_proj", "lm_head"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    prepare(model.get_base_model())
    records = examples()[:1]
    (batch,) = micro_batches(records, 10_000, "trees")
    with torch.no_grad():
        torch.testing.assert_close(logps(model, batch), naive(model, records), atol=1e-5, rtol=0)


def test_caps_scales_and_biases_of_logits_are_the_models_own() -> None:
    config = Gemma2Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        initializer_range=0.5,
        final_logit_softcapping=2.0,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    gemma = Gemma2ForCausalLM(config)
    choice = prepare(gemma)
    assert choice.path == "batches"  # its attention is capped, too
    biased = llama()
    biased.lm_head.bias = torch.nn.Parameter(torch.randn(VOCABULARY))
    prepare(biased)
    for model in (gemma, biased):
        model.requires_grad_(False)
        model.get_input_embeddings().weight.requires_grad_(True)
        records = examples()[:1]
        (batch,) = micro_batches(records, 10_000, "batches")
        expected = naive(model, records)
        expected.sum().backward()
        gradient = model.get_input_embeddings().weight.grad.clone()
        model.zero_grad()
        actual = logps(model, batch)
        actual.sum().backward()
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(model.get_input_embeddings().weight.grad, gradient, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("weights", [torch.bfloat16, torch.float32])
def test_bfloat16_agrees_within_its_rounding(path: PackingMode, weights: torch.dtype) -> None:
    """As the model's dtype, and through autocast over float32 weights."""
    exact = with_lora(llama())
    model = copy.deepcopy(exact).to(weights)
    prepare(exact.get_base_model())
    choice = prepare(model.get_base_model())
    assert "exact in float32" in choice.note
    batches = micro_batches(examples(), 10_000, path)
    step(exact, exact.get_base_model(), batches, path)
    with torch.autocast("cpu", torch.bfloat16, enabled=weights == torch.float32):
        step(model, model.get_base_model(), batches, path)
        with torch.no_grad():
            actual = logps(model, batches[0])
    with torch.no_grad():
        torch.testing.assert_close(actual, logps(exact, batches[0]), atol=0.15, rtol=0)
    one, other = (torch.cat([g.float().flatten() for g in gradients(m).values()]) for m in (model, exact))
    assert float(torch.cosine_similarity(one, other, dim=0)) > 0.99


def test_sampling_attention_and_generation_are_as_they_were_afterwards() -> None:
    model = llama().eval()
    ids = torch.tensor([[5, 6, 7]])
    before, own = model.generate(ids, do_sample=False, max_new_tokens=8), model.config._attn_implementation
    prepare(model)
    (batch,) = micro_batches(examples()[:1], 10_000, "trees")
    with training_attention(model, "trees"):
        assert model.config._attn_implementation != own
        logps(model, batch).sum().backward()
    with torch.no_grad():
        logps(model, batch)
    assert model.config._attn_implementation == own
    assert model.generate(ids, do_sample=False, max_new_tokens=8).tolist() == before.tolist()
    with pytest.raises(KeyboardInterrupt), training_attention(model, "trees"):
        raise KeyboardInterrupt
    assert model.config._attn_implementation == own


def test_hooks_of_distributed_data_parallel_run_and_fillers_take_part() -> None:
    model = with_lora(llama())
    body = model.get_base_model()
    prepare(body)
    batches = [*micro_batches(examples(), 100, "trees"), filler("trees")]
    loss = step(model, body, batches, "trees")
    expected = gradients(model)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(model)
        reduced = []

        def hook(_state, bucket):
            reduced.append(bucket.buffer().numel())
            done = torch.futures.Future()
            done.set_result(bucket.buffer())
            return done

        wrapped.register_comm_hook(None, hook)
        assert step(wrapped, body, batches, "trees") == pytest.approx(loss, abs=1e-6)
        assert sum(reduced) == len(batches) * sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert_same_gradients(gradients(model), expected, 1e-6)
    finally:
        dist.destroy_process_group()


def test_trees_without_their_attention_are_refused() -> None:
    model = llama()
    prepare(model)
    (batch,) = micro_batches(examples()[:1], 10_000, "trees")
    with pytest.raises(RuntimeError, match="training_attention"):
        logps(model, batch)


def test_a_model_with_a_window_takes_padded_rows_and_says_why() -> None:
    config = MistralConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=8,
    )  # fmt: skip
    model = MistralForCausalLM(config)
    choice = prepare(model)
    assert choice.path == "batches"
    assert "window of 8 tokens" in choice.note
    with pytest.raises(InputError, match="path trees: the model's attention has a window"):
        prepare(model, "trees")
    assert prepare(llama(), "batches").note == "length-sorted batches: as asked for"


def test_no_more_logits_than_a_chunks_exist_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neat_train.policy.head.CPU_CHUNK", 4)
    model = with_lora(llama())
    body = model.get_base_model()
    prepare(body)
    (batch,) = micro_batches(examples(), 10_000, "trees")
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            output = func(*args, **(kwargs or {}))
            if isinstance(output, torch.Tensor) and output.shape[1:] == (VOCABULARY,) and len(output) != HIDDEN:
                largest = max(largest, len(output))  # the head's own weight apart
            return output

    with training_attention(body, "trees"), Watch():
        logps(model, batch).sum().backward()
    assert largest == 4
    assert len(batch.at) > 40


def test_a_frozen_copy_made_before_the_policy_was_prepared_gives_its_own() -> None:
    model = llama()
    other = copy.deepcopy(model)
    torch.nn.init.normal_(other.lm_head.weight)
    prepare(model)
    (batch,) = micro_batches(examples()[:1], 10_000, "trees")
    with torch.no_grad():
        torch.testing.assert_close(logps(other, batch), naive(other, examples()[:1]), atol=1e-5, rtol=0)
        prepared = copy.deepcopy(model)
        torch.nn.init.normal_(prepared.lm_head.weight)
        torch.testing.assert_close(logps(prepared, batch), naive(prepared, examples()[:1]), atol=1e-5, rtol=0)


def test_a_frozen_copy_takes_the_attention_of_the_policy() -> None:
    model = llama()
    other = copy.deepcopy(model)
    prepare(model, attention="varlen")
    assert (tree_attention(model), tree_attention(other)) == (TREES_VARLEN, TREES_SDPA)
    share_choice(model, other)
    assert tree_attention(other) == TREES_VARLEN
    (batch,) = micro_batches(examples()[:1], 10_000, "trees")
    with torch.no_grad():
        torch.testing.assert_close(logps(other, batch), naive(other, examples()[:1]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("attention", ["flex", "sdpa", "varlen"])
def test_any_attention_over_trees_gives_the_same_log_probabilities(attention: str) -> None:
    model = llama()
    choice = prepare(model, attention=attention, backward=attention != "flex")
    assert choice.note.endswith(f"\nattention over trees: {attention}")
    (batch,) = micro_batches(examples(), 10_000, "trees")
    assert batch.tokens % 128
    with torch.no_grad():
        expected = torch.cat([naive(model, examples())])
        torch.testing.assert_close(logps(model, batch), expected, atol=1e-5, rtol=0)


def test_varlen_gives_the_gradients_of_attention_tree_by_tree() -> None:
    by_attention = {}
    for attention in ("sdpa", "varlen"):
        model = with_lora(llama())
        body = model.get_base_model()
        prepare(body, attention=attention)
        loss = step(model, body, micro_batches(examples(), 70, "trees"), "trees")
        by_attention[attention] = loss, gradients(model)
    assert by_attention["varlen"][0] == pytest.approx(by_attention["sdpa"][0], rel=1e-6)
    assert_same_gradients(by_attention["varlen"][1], by_attention["sdpa"][1], 1e-6)


def test_flex_attention_cannot_train_on_a_cpu_and_says_so() -> None:
    with pytest.raises(InputError, match=r"^tree_attention=flex: it does not run here \(NotImplementedError"):
        prepare(llama(), attention="flex")


def test_positions_run_on_from_the_prefix_in_every_branch() -> None:
    (batch,) = micro_batches(examples(), 10_000, "trees")
    assert batch.trees is not None
    start = 0
    for tree in batch.trees:
        for part in tree[1:]:
            assert part > 0
        rows = batch.positions[0, start : start + sum(tree)].tolist()
        steps = [second - first for first, second in pairwise(rows)]
        assert all(step == 1 or second == tree[0] for step, second in zip(steps, rows[1:], strict=True))
        start += sum(tree)
