"""vLLM's rewards, offline and from its server, are those of transformers: raw, of the same ids, to 1e-5 in fp32."""

import random
import struct
import subprocess
import sys

import pytest

pytest.importorskip("vllm", reason="vLLM lives in an environment of its own: make test-vllm", exc_type=ImportError)

from neat_data.errors import InputError
from neat_data.models.load import load_reward_model
from neat_data.models.reward_model import RewardModelSpec, Task
from neat_data.models.reward_models.vllm import _raw_logits
from neat_data.record import Message

# The server starts while the engine of this process is tested.
pytestmark = pytest.mark.usefixtures("starting_server")

WORDS = ["Why", "bake", "bread", "in", "a", "pan", "when", "the", "oven", "is", "cold?", "Ünï", "日本", "\n", "ok."]
TOLERANCE = 1e-5


def dialogues(count, seed):
    """Queries of one to seven turns, some longer than the window, with one to five responses of unequal lengths."""
    chance = random.Random(seed)

    def text(longest):
        return " ".join(chance.choices(WORDS, k=chance.randint(1, longest))).strip() or "x"

    tasks = []
    for number in range(count):
        turns = [Message("assistant" if i % 2 else "user", text(20)) for i in range(chance.choice([1, 1, 3, 5, 7]))]
        system = [Message("system", "Be brief.")] if number % 5 == 0 else []
        responses = tuple(dict.fromkeys(text(chance.choice([2, 15, 40, 90])) for _ in range(chance.randint(1, 5))))
        tasks.append(Task((*system, *turns), responses))
    return tasks


TASKS = dialogues(60, seed=1)


@pytest.fixture(scope="module")
def reference(tiny_reward):
    model = load_reward_model(RewardModelSpec(str(tiny_reward), device="cpu", dtype="float32", path="batches"))
    return model.score(TASKS)


def rewards(scored):
    """All rewards that were given, in order; what was refused is compared by itself."""
    return [reward for one in scored for reward in one.rewards if reward is not None]


def assert_same(scored, reference):
    assert [(one.refused, one.turns_cut, one.tokens) for one in scored] == [
        (one.refused, one.turns_cut, one.tokens) for one in reference
    ]
    assert rewards(scored) == pytest.approx(rewards(reference), abs=TOLERANCE, rel=0)


def test_the_dialogues_reach_every_branch(reference):
    """Cut queries, refused responses, and rewards far enough apart for the tolerance to mean something."""
    assert any(one.turns_cut for one in reference)
    assert any("response_too_long" in one.refused for one in reference)
    values = rewards(reference)
    assert len(values) > 100
    assert max(values) - min(values) > 1
    assert min(values) < 0  # a sigmoid never is


class TestOneEngine:
    """In a class, so that whatever the order it has ended before another engine starts: one a process on CPUs."""

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, tiny_reward):
        model = load_reward_model(RewardModelSpec(str(tiny_reward), backend="vllm", device="cpu", dtype="float32"))
        yield model
        model.close()

    def test_vllm_agrees_with_transformers(self, model, reference):
        assert_same(model.score(TASKS), reference)

    def test_rewards_do_not_depend_on_order_or_company(self, model, reference):
        order = list(range(len(TASKS)))
        random.Random(2).shuffle(order)
        scored = model.score([TASKS[number] for number in order])
        assert_same(scored, [reference[number] for number in order])
        for number in order[:5]:
            assert_same(model.score([TASKS[number]]), [reference[number]])

    def test_scoring_again_gives_the_same_bits_whatever_was_scored_before(self, model):
        first = model.score(TASKS)
        model.score(TASKS[30:])
        assert rewards(model.score(TASKS)) == rewards(first)

    def test_the_same_response_gets_the_same_reward_wherever_it_stands(self, model):
        """A reward that preferred one place would call one of two equal answers the better one."""
        query = TASKS[1].messages
        forwards, backwards = model.score([Task(query, ("Yes, do.", "No.")), Task(query, ("No.", "Yes, do."))])
        assert forwards.rewards == backwards.rewards[::-1]

    def test_progress_counts_every_task_and_token(self, model):
        steps = []
        scored = model.score(TASKS, advance=lambda *step: steps.append(step))
        assert sum(tasks for tasks, _ in steps) == len(TASKS)
        assert sum(tokens for _, tokens in steps) == sum(one.tokens_run for one in scored)

    def test_settings_are_those_of_transformers_but_for_how_the_model_is_run(self, model, tiny_reward):
        reference = load_reward_model(RewardModelSpec(str(tiny_reward), device="cpu", dtype="float32")).settings
        shared = (
            "model",
            "weights",
            "config",
            "template",
            "tokenizer",
            "dtype",
            "max_length",
            "max_response",
            "device",
        )
        assert {key: model.settings[key] for key in shared} == {key: reference[key] for key in shared}
        assert str(tiny_reward.parent) not in str(model.settings)

    def test_the_resolved_spec_holds_what_another_process_needs(self, model):
        assert model.spec.max_length == 512
        assert model.spec.max_response == 256
        assert model.spec.dtype == "float32"
        assert None not in (model.spec.token_budget, model.spec.max_length)


def test_a_server_of_vllm_agrees_with_transformers(server, tiny_reward, reference):
    model = load_reward_model(RewardModelSpec(server, model_args={"tokenizer": str(tiny_reward)}))
    assert_same(model.score(TASKS), reference)
    assert model.settings["form"] == "vllm"
    assert model.settings["model"] == "tiny"


def test_the_servers_own_template_and_length_give_the_same_ids(server, tiny_reward):
    """What the server makes of messages by itself is what is made here."""
    import httpx

    from neat_data.models.reward_models.conversations import conversations
    from neat_data.models.reward_models.tokenized import load_tokenizer
    from neat_data.models.templates import ChatTemplate
    from neat_data.models.weights import ModelSource

    template = ChatTemplate(load_tokenizer(ModelSource.parse(str(tiny_reward)), trust_remote_code=False))
    for task in TASKS[:5]:
        body = {"messages": conversations([task])[0], "add_generation_prompt": False}
        theirs = httpx.post(f"{server}/tokenize", json=body, timeout=60).json()["tokens"]
        assert theirs == template.ids((*task.messages, Message("assistant", task.texts[0])))


def test_the_servers_tokenizer_is_found_by_its_own_word(server, reference):
    """It runs on this machine, so the folder that it names is here."""
    assert_same(load_reward_model(RewardModelSpec(server)).score(TASKS), reference)


def test_a_version_without_a_known_option_for_raw_logits_is_refused():
    with pytest.raises(InputError, match="no option for raw logits"):
        _raw_logits(lambda dimensions=None: dimensions)


@pytest.mark.parametrize("name", ["use_activation", "activation", "softmax"])
def test_raw_logits_are_asked_for_under_the_versions_own_name(name):
    scope = {}
    exec(f"class Parameters:\n    def __init__(self, {name}=None):\n        self.asked = {{'{name}': {name}}}\n", scope)
    assert _raw_logits(scope["Parameters"]).asked == {name: False}


def test_an_option_that_vllm_does_not_have_is_refused(tiny_reward):
    spec = RewardModelSpec(str(tiny_reward), backend="vllm", device="cpu", model_args={"no_such_option": 1})
    with pytest.raises(InputError, match=r"vLLM cannot run .*no_such_option"):
        load_reward_model(spec)


def test_a_classifier_with_two_outputs_is_refused(two_outputs):
    with pytest.raises(InputError, match="has 2 outputs"):
        load_reward_model(RewardModelSpec(str(two_outputs), backend="vllm", device="cpu"))


def test_a_shape_that_vllm_has_no_kernel_for_is_refused_before_anything_is_scored(small_heads):
    with pytest.raises(InputError, match=r"vLLM cannot run .*head_dim=16"):
        load_reward_model(RewardModelSpec(str(small_heads), backend="vllm", device="cpu"))


def test_a_path_of_the_transformers_back_end_is_refused(tiny_reward):
    with pytest.raises(InputError, match="path trees"):
        load_reward_model(RewardModelSpec(str(tiny_reward), backend="vllm", path="trees"))


BFLOAT16 = """
import sys
from neat_data.models.reward_model import RewardModelSpec, Task
from neat_data.models.load import load_reward_model
from neat_data.record import Message

model = load_reward_model(RewardModelSpec(sys.argv[1], backend="vllm", device="cpu", dtype="bfloat16"))
(scored,) = model.score([Task((Message("user", "Hi"),), tuple("abcdefgh"))])
print("REWARDS", *scored.rewards)
"""


def test_the_score_head_runs_in_float32_under_a_bfloat16_body(tiny_reward):
    """A bfloat16 head gives numbers whose lower half is zero, and ties that are none."""
    command = [sys.executable, "-c", BFLOAT16, str(tiny_reward)]  # one vLLM a process
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("REWARDS "))
    bits = [struct.unpack("<I", struct.pack("<f", float(value)))[0] for value in line.split()[1:]]
    assert len(bits) == 8
    assert all(one & 0xFFFF for one in bits)
    assert done.stdout == f"{line}\n"  # stdout belongs to --json: vLLM writes its log elsewhere
