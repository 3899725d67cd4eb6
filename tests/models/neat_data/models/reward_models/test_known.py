"""Reward models that people use, rebuilt at toy size: their card's lines against `neat_data.score`.

The page that says what came of each is `docs/guides/known-reward-models.md`; its code is what runs here.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DebertaV2Config,
    DebertaV2Tokenizer,
    Gemma2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    dynamic_module_utils,
    pipeline,
)

import neat_data as nd
from neat_data.errors import InputError
from neat_data.models.load import load_reward_model
from neat_data.models.reward_model import RewardModelSpec
from tests.support.classifiers import SIZES, WORDS, save_classifier
from tests.support.templates import tokenizer_of

ROOT = Path(__file__).resolve().parents[5]
PAGE = (ROOT / "docs" / "guides" / "known-reward-models.md").read_text(encoding="utf-8")
CODE = ROOT / "tests" / "data" / "reward_models"
Turns = list[dict[str, str]]

QUESTION = "Jane has 12 apples. She gives 4 apples to her friend Mark. How many are left?"
ANSWERS = ["Eight apples are left, as 12 - 4 = 8.", "Mark has them."]
DIALOGUES: list[tuple[Turns, list[str]]] = [
    ([{"role": "user", "content": QUESTION}], ANSWERS),
    (
        [
            {"role": "user", "content": WORDS[0]},
            {"role": "assistant", "content": "A pan on a fire will do."},
            {"role": "user", "content": WORDS[1]},
        ],
        [WORDS[2], "No."],
    ),
]


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that comes with a model is copied to a folder of this test's."""
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path))


def scored(tmp_path: Path, reward_model: str, dialogues: Any = DIALOGUES, **options: Any) -> dict[str, float]:
    """What `score` stores, by the response's text."""
    rows = [{"prompt": query, "chosen": [said(texts[0])], "rejected": [said(texts[1])]} for query, texts in dialogues]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    if ".py:" not in reward_model and not reward_model.startswith("http"):
        options |= {"device": "cpu", "dtype": "float32"}
    out = tmp_path / f"scored-by-{Path(reward_model).name}"
    nd.score(tmp_path / "rows.jsonl", out=out, reward_model=reward_model, progress=False, **options)
    return {response.text: response.reward for record in nd.open(out) for response in record.responses}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def on_card(snippet: Callable[[Turns], float], dialogues: Any = DIALOGUES) -> dict[str, float]:
    return {text: snippet([*query, said(text)]) for query, texts in dialogues for text in texts}


def with_bos(template: str) -> PreTrainedTokenizerFast:
    """A tokenizer with this published template that begins whatever text it gets with a BOS, as Llama's and Gemma's."""
    tokenizer = tokenizer_of(template)
    bos = str(tokenizer.bos_token)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, tokenizer.convert_tokens_to_ids(bos))]
    )
    return tokenizer


def saved(folder: Path, config: type, tokenizer: Any, **options: Any) -> Path:
    return save_classifier(folder / "model", config, tokenizer, vocab_size=len(tokenizer), **options)


LLAMA3 = {"rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}, "num_key_value_heads": 2}
LLAMA31 = {
    "num_key_value_heads": 2,
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
}


def through_a_pipeline(folder: Path) -> Callable[[Turns], float]:
    """The card of FsfairX-LLaMA3-RM-v0.1: a pipeline over text from which the template's BOS was taken away."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pipe = pipeline("sentiment-analysis", model=str(folder), tokenizer=tokenizer, device=-1, dtype=torch.float32)

    def reward(turns: Turns) -> float:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=False)
        return pipe([text.replace(tokenizer.bos_token, "")], function_to_apply="none", batch_size=1)[0]["score"]

    return reward


def as_text(folder: Path, *, without_bos: bool = True) -> Callable[[Turns], float]:
    """The cards of Skywork-Reward-V2, and of GRM, which leaves a second BOS: rendered to text, then tokenized."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, num_labels=1).eval()

    @torch.no_grad()
    def reward(turns: Turns) -> float:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        if without_bos and tokenizer.bos_token is not None and text.startswith(tokenizer.bos_token):
            text = text[len(tokenizer.bos_token) :]
        return model(**tokenizer(text, return_tensors="pt")).logits[0][0].item()

    return reward


def test_fsfairx(tmp_path: Path) -> None:
    folder = saved(tmp_path, LlamaConfig, with_bos("llama3"), **LLAMA3)
    assert scored(tmp_path, str(folder)) == pytest.approx(on_card(through_a_pipeline(folder)), abs=1e-5)


def test_skywork_v2_on_llama(tmp_path: Path) -> None:
    folder = saved(tmp_path, LlamaConfig, with_bos("llama3_1"), **LLAMA31)
    assert scored(tmp_path, str(folder)) == pytest.approx(on_card(as_text(folder)), abs=1e-5)


def test_skywork_v2_on_qwen3(tmp_path: Path) -> None:
    tokenizer = tokenizer_of("qwen3")
    tokenizer.bos_token = None
    folder = saved(tmp_path, Qwen3Config, tokenizer, head_dim=16, num_key_value_heads=2)
    assert scored(tmp_path, str(folder)) == pytest.approx(on_card(as_text(folder)), abs=1e-5)


def test_tulu(tmp_path: Path) -> None:
    folder = saved(tmp_path, LlamaConfig, with_bos("tulu"), **LLAMA31)
    assert scored(tmp_path, str(folder)) == pytest.approx(on_card(as_text(folder)), abs=1e-5)


def test_grm_but_for_its_second_bos(tmp_path: Path) -> None:
    folder = saved(tmp_path, LlamaConfig, with_bos("llama3"), **LLAMA3)
    rewards = scored(tmp_path, str(folder))
    assert rewards == pytest.approx(on_card(as_text(folder)), abs=1e-5)
    assert rewards != pytest.approx(on_card(as_text(folder, without_bos=False)), abs=1e-3)


def test_grm_on_gemma2(tmp_path: Path) -> None:
    tokenizer = with_bos("gemma")
    folder = saved(tmp_path, Gemma2Config, tokenizer, head_dim=8, num_key_value_heads=2, sliding_window=16)
    assert scored(tmp_path, str(folder)) == pytest.approx(on_card(as_text(folder)), abs=1e-5)


def test_openassistant_deberta(tmp_path: Path) -> None:
    pieces = sorted({*"".join([QUESTION, *ANSWERS]).replace(" ", "▁"), "▁"})
    vocabulary = [*((name, 0.0) for name in ("[PAD]", "[CLS]", "[SEP]", "[UNK]")), *((piece, -1.0) for piece in pieces)]
    tokenizer = DebertaV2Tokenizer(vocab=vocabulary, unk_id=3)
    options = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False}
    folder = saved(tmp_path, DebertaV2Config, tokenizer, type_vocab_size=0, norm_rel_ebd="layer_norm", **options)
    (tmp_path / "deberta.jinja").write_text(re.findall(r"```jinja\n(.*?)\n```", PAGE, re.DOTALL)[0])
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.no_grad()
    def reward(turns: Turns) -> float:
        question, answer = (turn["content"] for turn in turns)
        return model(**tokenizer(question, answer, return_tensors="pt")).logits[0].item()

    rewards = scored(tmp_path, str(folder), DIALOGUES[:1], chat_template=str(tmp_path / "deberta.jinja"))
    assert rewards == pytest.approx(on_card(reward, DIALOGUES[:1]), abs=1e-5)


def own(tmp_path: Path, file: str, kind: str, template: str, loaded_by: str, **options: Any) -> Path:
    """A random model of the class `kind`, whose code lies beside its weights, as the hub has them."""
    module = imported(CODE / f"{file}.py")
    tokenizer = with_bos(template)
    config_class = getattr(module, "InternLM2Config", LlamaConfig)
    torch.manual_seed(0)
    sizes = {**SIZES, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    model = getattr(module, kind)(config_class(**{**sizes, **options}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8 if parameter.requires_grad and parameter.dim() > 1 else 1)
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    shutil.copy(CODE / f"{file}.py", folder)
    code = {loaded_by: f"{file}.{kind}"}
    if config_class is not LlamaConfig:
        code["AutoConfig"] = f"{file}.{config_class.__name__}"
    edit(folder, auto_map=code)
    return folder


def edit(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"toy_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def on_the_page(name: str, folder: Path) -> str:
    """The code called `name`, with a folder in the place of the model's name."""
    code = next(block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if block.startswith(f"# {name}"))
    return re.sub(r'^NAME = ".*"$', f"NAME = {str(folder)!r}", code.replace('"auto"', "torch.float32", 1), flags=re.M)


def gated(tmp_path: Path, **options: Any) -> Path:
    ids = with_bos("llama3").encode("<|eot_id|><|start_header_id|>assistant<|end_header_id|>", add_special_tokens=False)
    gate = {"num_objectives": 19, "gating_temperature": 10, "gating_hidden_dim": 24, "gating_tokens": ids}
    kind = "LlamaForRewardModelWithGating"
    return own(tmp_path, "modeling_custom", kind, "llama3", CLASSIFIER, **{**gate, **options})


CLASSIFIER = "AutoModelForSequenceClassification"
OWN: dict[str, Callable[[Path], Path]] = {
    "ArmoRM": gated,
    "QRM": lambda path: gated(path, num_quantiles=5),
    "URM": lambda path: own(
        path,
        "modeling_custom",
        "LlamaForSequenceClassificationWithNormal_Weights",
        "llama3_1",
        CLASSIFIER,
        num_labels=10,
        **LLAMA31,
    ),
    "GRM-sftreg": lambda path: own(
        path, "modeling_custom", "GRewardModel", "llama3", CLASSIFIER, vhead_num_neurons=24, **LLAMA3
    ),
}


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load_reward_model(RewardModelSpec(str(folder), device="cpu", dtype="float32", **options))
    assert len(str(caught.value).splitlines()) == 2
    return str(caught.value)


@pytest.mark.parametrize("name", OWN)
def test_code_of_their_own_is_told_before_weights_are_read_and_scored_by_the_page(name: str, tmp_path: Path) -> None:
    folder = OWN[name](tmp_path)
    (tmp_path / "own_code.py").write_text(on_the_page("own_code.py", folder))
    by_function = scored(tmp_path, f"{tmp_path / 'own_code.py'}:score")
    assert len({round(reward, 4) for reward in by_function.values()}) == 4
    assert scored(tmp_path, str(folder), trust_remote_code=True) == pytest.approx(by_function, abs=1e-5)
    (folder / "model.safetensors").write_bytes(b"not read")
    (folder / "modeling_custom.py").write_text("raise SystemExit('not run')")
    said = refusal(folder)
    assert "no plain classifier but Python code of its own" in said
    assert "trust_remote_code" in said


def test_internlm2_by_its_method(tmp_path: Path) -> None:
    mark = tokenizer_of("internlm2").convert_tokens_to_ids("<|end|>")
    folder = own(
        tmp_path, "modeling_internlm2", "InternLM2ForRewardModel", "internlm2", "AutoModel", reward_token_id=mark
    )
    (tmp_path / "internlm2.py").write_text(on_the_page("internlm2.py", folder))
    rewards = scored(tmp_path, f"{tmp_path / 'internlm2.py'}:score")
    assert len({round(reward, 4) for reward in rewards.values()}) == 4
    for trusted in (False, True):
        assert "not loaded as a sequence classifier" in refusal(folder, trust_remote_code=trusted)


def test_code_that_needs_another_transformers(tmp_path: Path) -> None:
    folder = OWN["GRM-sftreg"](tmp_path)
    code = (folder / "modeling_custom.py").read_text()
    (folder / "modeling_custom.py").write_text(f"from transformers.utils import gone_by_now\n{code}")
    said = refusal(folder, trust_remote_code=True)
    assert re.search(r"GRewardModel does not run with transformers .*gone_by_now.*\n.*as a server", said)


def test_a_class_that_nobody_brings(tmp_path: Path) -> None:
    folder = saved(tmp_path, LlamaConfig, tokenizer_of("llama3"))
    edit(folder, architectures=["AtheneForSequenceClassification"])
    assert "a class that transformers does not have" in refusal(folder)


def test_code_that_gives_several_rewards_a_dialogue(tmp_path: Path) -> None:
    folder = OWN["GRM-sftreg"](tmp_path)
    code = (folder / "modeling_custom.py").read_text()
    (folder / "modeling_custom.py").write_text(code.replace("hidden, mask))\n", "hidden, mask)).expand(-1, 3)\n"))
    assert "a reward model one for each" in refusal(folder, trust_remote_code=True)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The page's server around its function, on a free port."""
    folder = OWN["ArmoRM"](tmp_path)
    (tmp_path / "own_code.py").write_text(on_the_page("own_code.py", folder))
    sys.modules.pop("own_code", None)
    code = on_the_page("serve.py", folder)
    last = 'HTTPServer(("127.0.0.1", 8000), Rewards).serve_forever()\n'
    assert code.endswith(last)
    scope: dict[str, Any] = {}
    exec(code.removesuffix(last), scope)
    with HTTPServer(("127.0.0.1", 0), scope["Rewards"]) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_served_from_an_environment_of_its_own(server: str, tmp_path: Path) -> None:
    by_function = scored(tmp_path, f"{tmp_path / 'own_code.py'}:score")
    assert scored(tmp_path, server) == pytest.approx(by_function, abs=1e-6)
