"""Templates of models that think: ids are exact in sampling, scoring and training, whether a thought is asked for."""

from __future__ import annotations

import pytest

from neat_data.errors import InputError
from neat_data.models.encode import encode, encode_query
from neat_data.models.reward_model import Task
from neat_data.models.sampler import Ask, Sampling
from neat_data.models.stopping import end_of_turn, sampled, tokenizer_id
from neat_data.models.templates import ChatTemplate
from neat_data.record import Message, Record, Response, query_id, response_id
from neat_data.thought import thought_of
from neat_train.data.examples import Encoder
from tests.support.templates import tokenizer_of

QUERY = (
    Message("user", "One and one?"),
    Message("assistant", "<think>\nEasy.\n</think>\n\nTwo."),
    Message("user", "And two and two?"),
)
THOUGHT, ANSWER = "Let me see.", "Four."
WHOLE = f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"
UNENDED = f"<think>\n{THOUGHT}"
IN_CHANNELS = f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>{ANSWER}"
# Template, `--thinking`, and what stands behind the assistant's header before the first sampled token.
MODES = {
    ("qwen3", None): "",
    ("qwen3", "on"): "",
    ("qwen3", "off"): "<think>\n\n</think>\n\n",
    ("smollm3", None): "",
    ("smollm3", "off"): "<think>\n\n</think>\n",
    ("deepseek_r1_distill", None): "<think>\n",
    ("deepseek_r1_distill", "on"): "<think>\n",
    ("gptoss", None): "",
    ("gptoss", "on"): "",
}


class Policy:
    """A template and all that is made of it."""

    def __init__(self, name: str, thinking: str | None) -> None:
        self.tokenizer = tokenizer_of(name)
        self.template = ChatTemplate(self.tokenizer, thinking=thinking)
        self.stops = end_of_turn(self.template, self.tokenizer)
        self.id = tokenizer_id(self.template, self.stops)
        self.encoder = Encoder(self.template, self.stops, self.tokenizer, self.id, 4000, 400)
        self.query = encode_query(Ask(QUERY, 0, Sampling(max_new_tokens=400)), self.template, 4000).ids

    def written(self, text: str, *, ended: bool) -> list[int]:
        """The ids that a model writes behind the header."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [*ids, self.stops.ids[0]] if ended else ids

    def sample(self, text: str, *, ended: bool = True) -> Response:
        sample = sampled(self.written(text, ended=ended), self.stops, self.tokenizer, opened=self.template.opened)
        return Response(
            response_id("", sample.text),
            sample.text,
            reward=0.0,
            origin="sampled",
            tokens=sample.tokens,
            tokenizer=self.id,
            finished=sample.finished,
        )

    def trained(self, response: Response) -> tuple[list[int], list[int]]:
        example = self.encoder.example(Record(query_id(QUERY), QUERY, (response,)))
        assert example is not None
        return list(example.query), list(example.answers[0].ids)


@pytest.fixture(params=sorted(MODES, key=str), ids=str, scope="module")
def mode(request: pytest.FixtureRequest) -> tuple[str, str | None]:
    return request.param


@pytest.fixture(scope="module")
def policy(mode: tuple[str, str | None]) -> Policy:
    return Policy(*mode)


def thinks(policy: Policy) -> bool:
    """Whether its header leaves room for a thought."""
    return policy.template.opened != "" or policy.template.thought_header == ""


def behind_header(policy: Policy) -> str:
    """What a model that thinks, or may not, writes in full behind this header."""
    if policy.template.opened:
        return f"{THOUGHT}\n</think>\n\n{ANSWER}"
    if policy.template.channels:
        return IN_CHANNELS
    return ANSWER if policy.template.thought_header else WHOLE


def test_the_header_is_the_one_that_was_asked_for(policy: Policy, mode: tuple[str, str | None]) -> None:
    asked = policy.template.text(QUERY, ask=True)
    assert policy.template.thought_header == MODES[mode]
    assert asked.endswith(MODES[mode])
    assert policy.query == policy.tokenizer(asked, add_special_tokens=False)["input_ids"]


def test_a_sample_is_stored_whole(policy: Policy) -> None:
    response = policy.sample(behind_header(policy))
    assert response.text == (WHOLE if thinks(policy) else ANSWER)
    assert (thought_of(response.text) is not None) is thinks(policy)


def test_what_was_sampled_is_what_is_learned(policy: Policy) -> None:
    response = policy.sample(behind_header(policy))
    query, ids = policy.trained(response)
    assert query == policy.query
    assert tuple(ids) == response.tokens


def test_the_text_alone_makes_the_same_ids(policy: Policy) -> None:
    response = policy.sample(behind_header(policy))
    stranger = Response(response.response_id, response.text, reward=0.0)
    query, ids = policy.trained(stranger)
    assert query == policy.query
    assert policy.tokenizer.decode(ids) == policy.tokenizer.decode(response.tokens)
    assert tuple(ids) == response.tokens


def test_a_thought_without_an_end_is_learned_as_it_was_written(policy: Policy) -> None:
    if not thinks(policy):
        assert policy.encoder.example(Record("", QUERY, (Response("", UNENDED, reward=0.0, finished=False),))) is None
        return
    written = THOUGHT if policy.template.opened else UNENDED
    if policy.template.channels:
        written = IN_CHANNELS.partition("<|end|>")[0]
    response = policy.sample(written, ended=False)
    assert response.text == UNENDED
    for each in (response, Response("", UNENDED, reward=0.0, finished=False)):
        assert policy.trained(each)[1] == policy.written(written, ended=False)


def test_ids_sampled_behind_another_header_are_not_taken() -> None:
    without, with_thought = Policy("qwen3", "off"), Policy("qwen3", "on")
    assert without.id != with_thought.id
    _, ids = with_thought.trained(without.sample(ANSWER))
    assert with_thought.tokenizer.decode(ids).startswith("<think>\n\n</think>\n\nFour.")
    assert with_thought.encoder.counts["retokenised"] == 1


def test_a_whole_response_is_scored_as_the_template_writes_it(policy: Policy) -> None:
    for text in (WHOLE, ANSWER):
        (ids,) = encode(Task(QUERY, (text,)), policy.template, 4000, 2000).sequences
        assert ids == policy.template.ids((*QUERY, Message("assistant", text)))


def test_arguments_are_kept_with_the_template() -> None:
    tokenizer = tokenizer_of("qwen3")
    template = ChatTemplate(tokenizer, arguments={"enable_thinking": False})
    assert template.fingerprint["template_args"] == {"enable_thinking": False}
    assert template.fingerprint["template"] == ChatTemplate(tokenizer, thinking="off").fingerprint["template"]
    assert "template_args" not in ChatTemplate(tokenizer).fingerprint
    tokenizer.chat_template = template.source  # as a run saves it
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, tokenize=False
    )
    assert asked.endswith("<think>\n\n</think>\n\n")
    assert ChatTemplate(tokenizer, thinking="off").source == template.source
    assert ChatTemplate(tokenizer, thinking="on").thought_header == ""


@pytest.mark.parametrize(
    ("options", "field", "message"),
    [
        ({"arguments": {"enable_thinkin": False}}, "template_args", "the chat template has no such argument"),
        ({"arguments": {"tools": "x"}}, "template_args", "is not for the user to set"),
        ({"arguments": {"enable_thinking": [1]}}, "template_args", "takes a text, a number"),
        ({"arguments": {"enable_thinking": True}, "thinking": "off"}, "thinking", "which is given as well"),
    ],
)
def test_arguments_that_cannot_be_handed_over_are_refused(options: dict, field: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        ChatTemplate(tokenizer_of("qwen3"), **options)
    assert caught.value.field == field


def test_an_answer_without_a_thought_stands_in_the_final_channel() -> None:
    policy = Policy("gptoss", None)
    response = policy.sample(f"<|channel|>final<|message|>{ANSWER}")
    assert response.text == ANSWER
    for each in (response, Response(response.response_id, ANSWER, reward=0.0)):
        assert tuple(policy.trained(each)[1]) == response.tokens


def test_a_text_that_came_in_channels_is_rendered_by_any_template_as_its_own_thought() -> None:
    for name in ("gptoss", "qwen3"):
        template = Policy(name, None).template
        texts = {template.text((*QUERY, Message("assistant", text))) for text in (IN_CHANNELS, WHOLE)}
        assert len(texts) == 1


def test_a_sample_cut_between_its_channels_has_thought_to_the_end_and_no_answer() -> None:
    policy = Policy("gptoss", None)
    response = policy.sample(IN_CHANNELS.rpartition("final")[0], ended=False)
    assert (response.text, response.finished) == (f"<think>\n{THOUGHT}\n</think>", False)
    assert tuple(policy.trained(response)[1]) == response.tokens


@pytest.mark.parametrize(
    ("name", "thinking"),
    [
        ("deepseek_r1_distill", "off"),
        ("qwen2_5", "on"),
        ("qwen2_5", "off"),
        ("gptoss", "off"),  # its turns have a field of that name
    ],
)
def test_a_template_without_a_switch_says_so(name: str, thinking: str) -> None:
    with pytest.raises(InputError, match="has no switch for thoughts"):
        ChatTemplate(tokenizer_of(name), thinking=thinking)
