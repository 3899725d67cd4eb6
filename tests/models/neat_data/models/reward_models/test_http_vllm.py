"""A vLLM server as a reward model, stood in for on loopback: it gets the ids that transformers makes of a dialogue."""

from __future__ import annotations

import pytest

from neat_data.errors import InputError
from neat_data.models.encode import encode
from neat_data.models.reward_model import RewardModelSpec, Task
from neat_data.models.reward_models.http import HttpRewardModel
from neat_data.models.servers.json_server import Patience
from neat_data.models.templates import ChatTemplate
from neat_data.record import Message
from tests.support.loopback import Reply

QUICK = Patience(attempts=4, first_wait=0.002, longest_wait=0.01, timeout=60)


def load(server, **model_args):
    return HttpRewardModel(RewardModelSpec(server.url, model_args=model_args), QUICK)


class VllmStandIn:
    """Answers in the form of vLLM 0.32's pooling server; its logit is a sum over the ids, unless told to squash it."""

    def __init__(self, folder, tokenizer, *, window=512, knows="use_activation", outputs=1):
        self.folder, self.tokenizer, self.window, self.knows, self.outputs = folder, tokenizer, window, knows, outputs
        self.name = str(folder)
        self.bodies = []

    def __call__(self, method, path, body):
        if path == "/v1/models":
            card = {"id": self.name, "owned_by": "vllm", "root": str(self.folder), "parent": None}
            return Reply(body={"object": "list", "data": [{**card, "max_model_len": self.window}]})
        if path == "/tokenize":
            return Reply(body={"tokens": self.tokenizer(body["prompt"], add_special_tokens=False)["input_ids"]})
        if path == "/classify" and body["model"] == self.name:
            return self.classify(body)
        return Reply(404, {"error": {"message": "The model does not exist.", "code": 404}})

    def classify(self, body):
        wish = body.get(self.knows, True)
        if not isinstance(wish, bool):
            return Reply(400, {"error": {"message": "Input should be a valid boolean", "code": 400}})
        if any(len(ids) > self.window for ids in body["input"]):
            return Reply(400, {"error": {"message": "This model's maximum context length", "code": 400}})
        self.bodies.append(body)
        logits = [[0.5 if wish else logit(ids)] * self.outputs for ids in body["input"]]
        data = [{"index": i, "label": "LABEL_0", "probs": p, "num_classes": len(p)} for i, p in enumerate(logits)]
        return Reply(body={"object": "list", "model": self.name, "data": data[::-1]})


def logit(ids):
    return float(sum(place * one for place, one in enumerate(ids)) % 4096)


@pytest.fixture
def folder(tmp_path, tokenizer):
    tokenizer.save_pretrained(tmp_path / "rm")
    return tmp_path / "rm"


def test_a_vllm_server_gets_the_token_ids_that_transformers_would_and_is_asked_for_raw_logits(
    serve, folder, tokenizer, tasks
):
    server = VllmStandIn(folder, tokenizer)
    scored = load(serve(server)).score(tasks)
    encoded = [encode(task, ChatTemplate(tokenizer), 512, 256) for task in tasks]
    assert [one.rewards for one in scored] == [
        tuple(None if ids is None else logit(ids) for ids in one.sequences) for one in encoded
    ]
    assert [one.refused for one in scored] == [one.refused for one in encoded]
    assert all(body["use_activation"] is False for body in server.bodies)
    bos = tokenizer.bos_token_id
    assert all(ids[0] == bos and ids.count(bos) == 1 for body in server.bodies for ids in body["input"])


def test_a_vllm_servers_window_cuts_the_query_and_refuses_responses(serve, folder, tokenizer):
    turns = tuple(Message("assistant" if i % 2 else "user", f"turn {i} " * 8) for i in range(9))
    (scored,) = load(serve(VllmStandIn(folder, tokenizer, window=200))).score([Task(turns, ("Yes.", "no " * 300))])
    assert scored.turns_cut > 0
    assert scored.refused == (None, "response_too_long")
    assert scored.rewards[0] is not None
    assert scored.rewards[1] is None


def test_a_task_whose_responses_are_all_refused_asks_nothing(serve, folder, tokenizer):
    server = VllmStandIn(folder, tokenizer, window=100)
    model = load(serve(server))
    server.bodies.clear()
    assert model.score([Task((Message("user", "Hi"),), ("no " * 300,))])[0].refused == ("response_too_long",)
    assert server.bodies == []


def test_a_vllm_server_that_does_not_know_the_option_is_refused_rather_than_believed(serve, folder, tokenizer):
    server = VllmStandIn(folder, tokenizer, knows="activation")  # an older name: the sigmoid comes back
    with pytest.raises(InputError, match="raw logits cannot be had"):
        load(serve(server))


def test_a_vllm_server_with_another_tokenizer_is_refused(serve, folder, tokenizer, tmp_path):
    other = train_other_tokenizer(tmp_path / "other")
    server = serve(VllmStandIn(folder, tokenizer))
    with pytest.raises(InputError, match="other tokens than the tokenizer loaded here"):
        load(server, tokenizer=str(other))


def train_other_tokenizer(folder):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    bytes_only = Tokenizer(models.BPE({c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    other = PreTrainedTokenizerFast(tokenizer_object=bytes_only)
    other.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    other.save_pretrained(folder)
    return folder


def test_a_vllm_server_whose_tokenizer_is_not_here_says_how_to_name_it(serve, folder, tokenizer):
    server = VllmStandIn(folder.parent / "elsewhere", tokenizer)
    with pytest.raises(InputError, match=r"is needed here: .*\nname it with model_args tokenizer="):
        load(serve(server))
    assert load(serve(server), tokenizer=str(folder)).settings["model"] == "elsewhere"


def test_a_vllm_server_with_two_outputs_is_no_reward_model(serve, folder, tokenizer):
    with pytest.raises(InputError, match="has 2 outputs, a reward model one"):
        load(serve(VllmStandIn(folder, tokenizer, outputs=2)))


def test_a_vllm_servers_settings_hold_template_and_lengths_and_no_path(serve, folder, tokenizer):
    model = load(serve(VllmStandIn(folder, tokenizer)))
    fingerprint = ChatTemplate(tokenizer).fingerprint
    lengths = {"max_length": 512, "max_response": 256}
    assert model.settings == {"backend": "http", "form": "vllm", "model": "rm", **fingerprint, **lengths}


def test_a_vllm_servers_template_can_be_replaced_here(serve, folder, tokenizer):
    server = serve(VllmStandIn(folder, tokenizer))
    model = HttpRewardModel(RewardModelSpec(server.url, chat_template="hh"), QUICK)
    (scored,) = model.score([Task((Message("user", "Hi"),), ("Hello",))])
    assert scored.rewards == (
        logit(ChatTemplate(tokenizer, "hh").ids((Message("user", "Hi"), Message("assistant", "Hello")))),
    )
