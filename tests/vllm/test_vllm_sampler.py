"""vLLM's samples, offline and from its server: greedy ones are those of transformers, token by token, in fp32."""

import json
import shutil
from dataclasses import replace

import pytest

pytest.importorskip("vllm", reason="vLLM lives in an environment of its own: make test-vllm", exc_type=ImportError)

from neat_data.errors import InputError
from neat_data.models.load import load_reward_model, load_sampler
from neat_data.models.reward_model import RewardModelSpec, Task
from neat_data.models.sampler import Ask, SamplerSpec, Sampling
from neat_data.models.samplers import openai
from neat_data.record import Message

# The server starts while the engines of this process are tested.
pytestmark = pytest.mark.usefixtures("starting_chat")

QUESTIONS = [
    "How do I bake bread?",
    "Why is the sky blue?\n\nPlease be brief.",
    "Ünï 日本 \N{BREAD}",
    "What should I do if somebody takes my bicycle, and I know who it was, but nobody believes me?",
]
LONG = [Message(("user", "assistant")[i % 2], f"This is turn {i}, and it goes on for a while. " * 4) for i in range(9)]
QUERIES = [
    *((Message("user", question),) for question in QUESTIONS),
    (Message("system", "Be kind."), Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "Bye")),
    tuple(LONG),
    (Message("user", "endless " * 400),),
]


def asks(temperature=0.0, top_p=1.0, max_new_tokens=40, first_seed=2**62):
    sampling = Sampling(temperature, top_p, max_new_tokens)
    return [Ask(query, first_seed + number, sampling) for number, query in enumerate(QUERIES)]


def spec(model, backend, **options):
    fixed = {"backend": backend, "device": "cpu", "dtype": "float32", "max_length": 256}
    return SamplerSpec(str(model), **{**fixed, **options})


def sample(wanted, *args, **options):
    """The samples of a sampler that is loaded for this and freed again: one engine at a time lives in a process."""
    sampler = load_sampler(spec(*args, **options))
    try:
        return sampler.sample(wanted)
    finally:
        sampler.close()


@pytest.fixture(scope="module")
def reference(policy):
    return load_sampler(spec(policy, "transformers"))


@pytest.fixture(scope="module")
def greedy(reference):
    return reference.sample(asks())


def test_the_asks_reach_every_branch(greedy):
    """Answers of many tokens, ended and cut ones, a query that lost turns, and one that is too long."""
    assert sum(len(set(one.tokens or ())) > 8 for one in greedy) >= 3
    assert {one.finished for one in greedy} == {True, False}
    assert [one.turns_cut > 0 for one in greedy] == [*[False] * 5, True, False]
    assert [one.refused for one in greedy] == [*[None] * 6, "query_too_long"]


class TestOneEngine:
    @pytest.fixture(scope="class")
    @classmethod
    def sampler(cls, policy):
        sampler = load_sampler(spec(policy, "vllm"))
        yield sampler
        sampler.close()

    def test_greedy_samples_are_those_of_transformers(self, sampler, greedy):
        assert sampler.sample(asks()) == greedy

    def test_a_very_small_top_p_is_greedy(self, sampler, greedy):
        assert sampler.sample(asks(1.0, 1e-6)) == greedy

    def test_an_end_at_the_length_is_not_finished(self, sampler, reference):
        samples = sampler.sample(asks(max_new_tokens=1))
        assert samples == reference.sample(asks(max_new_tokens=1))
        assert [len(one.tokens) for one in samples[:6]] == [1] * 6
        assert not any(one.finished for one in samples[:6])

    def test_a_seed_gives_the_same_sample_again_in_any_company(self, sampler):
        wanted = asks(1.0)
        first = sampler.sample(wanted)
        sampler.sample(asks(1.0, first_seed=5))
        assert sampler.sample(wanted) == first
        assert sampler.sample(wanted[::-1]) == first[::-1]
        assert [sampler.sample([ask])[0] for ask in wanted[:3]] == first[:3]

    def test_another_seed_gives_another_sample(self, sampler):
        query = asks(1.0)[0]
        samples = sampler.sample([replace(query, seed=seed) for seed in range(20)])
        assert len({one.tokens for one in samples}) > 15

    def test_asks_of_one_call_keep_their_own_sampling(self, sampler, greedy):
        sampled = asks(1.0)
        mixed = [one for pair in zip(asks(), sampled, strict=True) for one in pair]
        samples = sampler.sample(mixed)
        assert samples[::2] == greedy
        assert samples[1::2] == sampler.sample(sampled)

    def test_progress_and_usage_count_every_ask_and_token(self, sampler, reference):
        before, steps = dict(sampler.usage), []
        samples = sampler.sample(asks(), advance=lambda *step: steps.append(step))
        tokens = sum(len(one.tokens) for one in samples if one.tokens)
        assert (sum(done for done, _ in steps), sum(count for _, count in steps)) == (len(samples), tokens)
        used = {key: sampler.usage[key] - before[key] for key in before}
        alone = load_sampler(reference.spec)
        alone.sample(asks())
        assert used == alone.usage

    def test_an_interrupted_call_leaves_nothing_behind(self, sampler, greedy):
        def interrupt(done, tokens):
            if tokens:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            sampler.sample(asks(1.0), advance=interrupt)
        assert sampler.sample(asks()) == greedy

    def test_nothing_but_refused_asks_runs_nothing(self, sampler):
        assert [one.refused for one in sampler.sample(asks()[-1:])] == ["query_too_long"]
        assert sampler.sample([]) == []

    def test_more_new_tokens_than_the_window_holds_are_refused(self, sampler):
        with pytest.raises(InputError, match="max_new_tokens 256"):
            sampler.sample(asks(max_new_tokens=256))

    def test_settings_are_those_of_transformers_but_for_how_the_model_is_run(self, sampler, reference, policy):
        own = ("backend", "attention")
        assert {k: v for k, v in sampler.settings.items() if k not in own} == {
            k: v for k, v in reference.settings.items() if k not in own
        }
        assert sampler.settings["backend"] == "vllm"
        assert (sampler.label, sampler.tokenizer) == (reference.label, reference.tokenizer)
        assert str(policy.parent) not in str(sampler.settings) + sampler.label


STOPPING = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %} you mean {{ m.content }}"
    "{% else %}<|assistant|>{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def test_a_template_without_an_end_of_turn_stops_at_its_words_as_transformers_does(policy, tmp_path):
    """The words that open the next turn here are ones that the tiny policy likes to say."""
    (tmp_path / "words.jinja").write_text(STOPPING)
    options = {"chat_template": str(tmp_path / "words.jinja")}
    samples = sample(asks(), policy, "vllm", **options)
    assert samples == sample(asks(), policy, "transformers", **options)
    assert any(one.cut for one in samples)
    assert not any("you mean" in one.text for one in samples)


@pytest.fixture(scope="module")
def opinionated(policy, tmp_path_factory):
    """The policy with sampling settings of its own beside the weights."""
    folder = shutil.copytree(policy, tmp_path_factory.mktemp("opinionated") / "policy")
    settings = {"do_sample": True, "temperature": 0.1, "repetition_penalty": 5.0, "eos_token_id": [*range(6144)]}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def adapter(policy, tmp_path_factory):
    peft = pytest.importorskip("peft", reason="adapters need peft")
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(3)
    options = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "init_lora_weights": False}
    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **options))
    folder = tmp_path_factory.mktemp("adapter")
    adapted.save_pretrained(folder)
    return folder


def test_an_adapter_gives_the_samples_of_transformers_with_peft_whatever_settings_lie_beside_the_weights(
    policy, opinionated, adapter, greedy
):
    samples = sample(asks(), opinionated, "vllm", adapter=str(adapter))
    assert samples == sample(asks(), policy, "transformers", adapter=str(adapter))
    assert all(one != plain for one, plain in zip(samples[:6], greedy[:6], strict=True))


def test_a_closed_sampler_leaves_the_process_to_a_reward_model(policy, tiny_reward, greedy):
    assert sample(asks()[:2], policy, "vllm") == greedy[:2]
    rewards = []
    for backend in ("vllm", "transformers"):
        model = load_reward_model(RewardModelSpec(str(tiny_reward), backend=backend, device="cpu", dtype="float32"))
        rewards += model.score([Task((Message("user", "Hi"),), ("Hello.", "Go away."))])[0].rewards
        model.close()
    assert rewards[:2] == pytest.approx(rewards[2:], abs=1e-5)


def test_an_option_that_vllm_does_not_have_is_refused(policy):
    with pytest.raises(InputError, match=r"vLLM cannot run .*no_such_option"):
        load_sampler(spec(policy, "vllm", model_args={"no_such_option": 1}))


def test_a_classifier_is_no_policy(tiny_reward):
    with pytest.raises(InputError, match="is a classifier"):
        load_sampler(spec(tiny_reward, "vllm"))


@pytest.fixture(scope="module")
def url(starting_chat):
    return starting_chat()


@pytest.fixture
def sampler(url):
    return load_sampler(SamplerSpec("tiny-chat", base_url=url))


def test_greedy_answers_of_the_server_are_those_of_transformers(sampler, policy):
    wanted = asks()[:5]
    reference = load_sampler(spec(policy, "transformers", max_length=512))
    theirs = reference.sample(wanted)
    samples = sampler.sample(wanted)
    assert samples == [replace(one, tokens=None) for one in theirs]
    assert sampler.usage == {**reference.usage, "unreported": 0}


def test_a_seed_gives_the_same_answer_again(sampler):
    wanted = asks(1.0)[:6]
    first = sampler.sample(wanted)
    assert sampler.sample(wanted) == first
    assert first != sampler.sample(asks(1.0, first_seed=5)[:6])


def test_a_query_that_is_too_long_for_the_server_is_refused_alone(sampler):
    samples = sampler.sample([*asks()[:2], asks()[-1]])
    assert [one.refused for one in samples] == [None, None, "server_refused"]


def test_where_a_stop_string_ended_an_answer_the_server_says_so(url, monkeypatch):
    monkeypatch.setattr(openai, "HUMAN", " you mean")
    samples = load_sampler(SamplerSpec("tiny-chat", base_url=url, chat_template="hh")).sample(asks()[:6])
    assert any(one.cut and one.finished for one in samples)
    assert not any("you mean" in one.text for one in samples)


def test_an_argument_reaches_the_server(url, sampler):
    only = load_sampler(SamplerSpec("tiny-chat", base_url=url, model_args={"top_k": 1}))
    assert only.sample(asks(1.0)[:6]) == sampler.sample(asks()[:6])


def test_a_wrong_name_is_answered_with_the_right_one(url):
    with pytest.raises(InputError, match="serves no model 'tiny'; it serves 'tiny-chat'"):
        load_sampler(SamplerSpec("tiny", base_url=url))


def test_a_judge_that_only_talks_gives_no_score(url):
    # The policy's window holds no answer of 1,024 tokens, which judges may take by default.
    model = load_reward_model(RewardModelSpec("judge:tiny-chat", model_args={"base_url": url, "max_tokens": 64}))
    (scored,) = model.score([Task((Message("user", "Hi"),), ("Hello.", "Go away."))])
    assert scored.refused == ("judge_unreadable",) * 2
    assert scored.rewards == (None, None)
