"""Settings are laid over the method's defaults; what cannot be meant is said in two lines, before torch is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from neat_data.errors import InputError
from neat_train.config.contradictions import refuse_contradictions
from neat_train.config.objective import NPO, Likelihood, Settings
from neat_train.config.reading import read_settings
from neat_train.config.settings import METHODS, FitSettings, fingerprint, identifying, of_earlier_versions


def read(*sets: str, **options) -> FitSettings:
    return read_settings(sets=sets, options=options)


def refusal(*sets: str, **options) -> str:
    with pytest.raises(InputError) as caught:
        read(*sets, **options)
    assert len(str(caught.value).splitlines()) <= 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("method", "prompts", "beta"),
    [
        ("neat", "neat:negative", 0.1),
        ("neat-pp", "neat", 0.1),
        ("rrhf", None, 0.0),
        ("rrhf-official", None, 0.0),
        ("rrhf-online", "plain", 0.0),
        ("dpo", None, 0.0),
        ("list-dpo", None, 0.0),
        ("grpo", "plain", 0.0),
        ("sft", None, 0.0),
        ("dpo-trl", None, 0.1),
    ],
)
def test_each_method_brings_its_prompts_and_its_penalty(method, prompts, beta):
    settings = read(f"method={method}")
    assert (settings.rounds.prompts, settings.loss.beta) == (prompts, beta)
    assert settings.online == (prompts is not None)


def test_a_file_without_a_method_serves_all_of_them(tmp_path):
    file = tmp_path / "shared.yaml"
    file.write_text("rounds: {queries: 64}\nloss: {beta: 0.2}\ndpo: {beta: 0.3}\n")
    for method in METHODS:
        assert read_settings(file, {"method": method}).method == method
    with pytest.raises(InputError, match=r"rounds\.samples .*method rrhf"):
        read_settings(file, {"method": "rrhf"}, ["rounds.samples=2"])
    file.write_text("method: rrhf\nrounds: {queries: 64}\n")
    with pytest.raises(InputError, match=r"rounds\.queries .*method rrhf"):
        read_settings(file)


@pytest.mark.parametrize("name", ["paper", "recommended", "tiny"])
def test_the_shipped_settings_are_read(name):
    shipped = Path(__file__).resolve().parents[4] / "pipelines" / f"{name}.yaml"
    for method in METHODS:
        assert read_settings(shipped, {"method": method}).method == method


def test_the_paper_s_preset_trains_on_unfinished_samples_too():
    assert read("method=neat").rounds.drop == ("unfinished",)
    assert read_settings(sets=["method=neat"], preset="paper").rounds.drop == ()
    assert read_settings(sets=["method=rrhf"], preset="paper").loss.penalty.kind == "likelihood"


def test_what_is_set_wins_over_the_method_s_defaults():
    settings = read("method=neat", "loss.beta=0", "rounds.prompts=neat", "max_steps=4")
    assert (settings.loss.beta, settings.rounds.prompts, settings.training["max_steps"]) == (0, "neat", 4)


def test_a_file_says_most_and_flags_win(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("method: neat-pp\nlearning_rate: 2e-4\nloss: {beta: 0.3, penalty: {kind: unlikelihood}}\n")
    settings = read_settings(file, {"seed": 7}, ["loss.beta=0.2"])
    assert (settings.method, settings.seed, settings.loss.beta) == ("neat-pp", 7, 0.2)
    assert settings.training["learning_rate"] == 2e-4
    assert settings.loss.penalty.kind == "unlikelihood"


def test_numbers_with_an_exponent_are_numbers():
    for text, value in (("1e-4", 1e-4), ("5E-05", 5e-5), ("2.5e3", 2500.0), ("-1e+2", -100.0)):
        assert read(f"learning_rate={text}").training["learning_rate"] == value


def test_no_is_a_word():
    assert read("eval_strategy=no").training["eval_strategy"] == "no"
    assert read("full=true").full


def test_the_paper_s_preset_may_come_from_the_file(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("preset: paper\nmethod: rrhf\n")
    loss = read_settings(file).loss
    assert (loss.reduction, loss.ranking.reduction, loss.beta) == ("token_sum", "sum", 0)
    assert read_settings(file, preset="recommended").loss.reduction == "token_mean"


def test_another_kind_of_penalty_takes_nothing_over_from_the_default_one():
    assert read("loss.penalty.kind=likelihood").loss.penalty == Likelihood()
    assert read("loss.penalty.target=negative_prompt").loss.penalty == NPO(target="negative_prompt")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("loss.bta=1", "loss.bta: there is no such setting. Did you mean beta?"),
        ("learning_rat=1", "learning_rat: there is no such setting. Did you mean learning_rate?"),
        ("records_per_stp=1", "Did you mean records_per_step?"),
        ("method=rrfh", "Did you mean rrhf?"),
        ("loss.beta=-1", "loss.beta: input should be greater than or equal to 0, not -1"),
        ("loss.penalty.kind=other", "'likelihood', 'unlikelihood', 'npo', 'simnpo', 'dpop', 'none'"),
        ("max_steps=many", "max_steps: takes int, not 'many'"),
        ("bf16=1", "bf16: takes bool, not 1"),
        ("seed=true", "seed: takes int, not True"),
        ("per_device_train_batch_size=8", "records_per_step over all devices, token_budget for one"),
        ("gradient_accumulation_steps=8", "records_per_step over all devices, token_budget for one"),
        ("output_dir=x", "the run folder is named by out"),
        ("hub_token=secret", "neat-train export"),
        ("training.max_steps=4", "stand at the top level"),
        ("max_steps", "NAME=VALUE"),
        ("loss.beta=[", "no YAML"),
    ],
)
def test_what_is_misspelt_or_of_the_wrong_type_is_answered_with_a_hint(given, words):
    assert words in refusal(given)


@pytest.mark.parametrize(
    ("given", "both"),
    [
        (("max_length=100", "max_response=100"), ("max_length 100", "max_response 100")),
        (("rounds.max_new_tokens=200",), ("rounds.max_new_tokens 200", "max_response 128")),
        (("method=rrhf", "rounds.samples=2"), ("rounds.samples", "method rrhf")),
        (("method=dpo-trl", "loss.beta=1"), ("loss.beta", "method dpo-trl", "dpo.beta")),
        (("method=dpo", "loss.beta=1"), ("loss.beta", "method dpo has none", "loss.penalty.kind")),
        (("method=dpo", "loss.ranking.kind=ipo"), ("method dpo", "loss.ranking.kind ipo")),
        (("method=dpo", "dpo.beta=1"), ("dpo.beta", "loss.ranking.beta", "dpo-trl")),
        (("method=ipo", "loss.ranking.label_smoothing=0.1"), ("label_smoothing", "of ipo", "one of dpo")),
        (("method=nca", "loss.ranking.temprature=1"), ("of nca", "Did you mean temperature?")),
        (("method=simpo", "rounds.prompts=plain"), ("loss.ranking.pairs chosen", "rounds.prompts plain")),
        (("method=sft", "rounds.prompts=plain"), ("sft.target chosen", "rounds.prompts plain")),
        (("method=dpo-trl", "rounds.prompts=neat"), ("rounds.prompts neat", "method dpo-trl")),
        (("sft.target=best",), ("sft.target", "method neat")),
        (("full=true", "load_in_4bit=true"), ("full", "load_in_4bit")),
        (("full=true", "lora.r=4"), ("full", "lora.r")),
        (("full=true", "dtype=bfloat16"), ("full", "dtype bfloat16", "bf16 true")),
        (("full=true", "dtype=float16"), ("full", "dtype float16")),
        (("rounds.every=10",), ("rounds.every 10", "64 queries")),
        (("rounds.every=10", "rounds.queries=epoch"), ("rounds.every 10", "rounds.queries epoch")),
        (("loss.beta=0.2", "loss.penalty.kind=none"), ("loss.beta 0.2", "loss.penalty.kind is none")),
        (("rounds.prompts=plain", "loss.penalty.target=negative_prompt"), ("negative_prompt", "rounds.prompts")),
        (("held_out.data=x", "held_out.share=0.1"), ("held_out.data x", "held_out.share 0.1")),
        (("held_out.share=0",), ("held_out.share 0", "eval_strategy")),
        (("rank_by=other",), ("rank_by other", "rounds.prompts")),
        (("eval_strategy=no", "load_best_model_at_end=true"), ("load_best_model_at_end", "eval_strategy")),
    ],
)
def test_settings_that_contradict_each_other_are_refused_by_both_names(given, both):
    message = refusal(*given)
    assert all(name in message for name in both)


def test_settings_made_in_python_are_asked_too():
    refuse_contradictions(FitSettings())
    refuse_contradictions(read("full=true"))
    for changed, both in (
        ({"full": True, "load_in_4bit": True}, "full and load_in_4bit"),
        ({"max_response": 9_999}, "max_length"),
    ):
        with pytest.raises(InputError, match=both):
            refuse_contradictions(read().model_copy(update=changed))


def test_a_flag_and_a_set_of_two_values_contradict_each_other():
    assert refusal("seed=1", seed=2) == "seed 2: contradicts seed=1; leave one out"
    assert read("seed=1", seed=1).seed == 1
    assert read("seed=1", "seed=2").seed == 2


def test_a_file_that_holds_no_settings_is_named(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("- a\n- b\n")
    with pytest.raises(InputError, match=r"run\.yaml: holds no settings"):
        read_settings(file)


def test_resolved_settings_survive_being_written_down():
    for method in METHODS:
        settings = read(f"method={method}")
        assert FitSettings.model_validate(json.loads(json.dumps(settings.resolved()))) == settings


def test_the_fingerprint_covers_what_can_change_a_byte_and_nothing_else():
    def of(*sets: str) -> str:
        return fingerprint(identifying(read(*sets)))

    assert of("loss.beta=0.2") != of() != of("learning_rate=1e-4")
    assert of("seed=1") != of() != of("records_per_step=32")
    assert of("logging_steps=5") == of("report_to=tensorboard") == of("save_total_limit=9") == of()
    assert of("save_steps=7") != of()  # rounds are folded when a checkpoint is taken
    assert of("method=rrhf", "save_steps=7") == of("method=rrhf")


def test_a_run_of_an_earlier_version_keeps_its_meaning_and_its_fingerprint():
    """What 0.1.0 wrote: no kind of ranking, no weight of SFT, and TRL's trainers by the plain names."""
    for now, then in (("neat", "neat"), ("dpo-trl", "dpo"), ("sft-trl", "sft")):
        settings = read(f"method={now}")
        for written in (settings.resolved(), identifying(settings)):
            written["loss"].pop("sft", None)
            written["loss"]["ranking"].pop("kind", None)
            assert {**of_earlier_versions({**written, "method": then}), "method": now} == {**written, "method": now}
            assert of_earlier_versions({**written, "method": then})["method"] == now
    assert "sft" not in identifying(read("method=neat"))["loss"]
    assert identifying(read("method=neat"))["loss"]["ranking"] == {"reduction": "mean_pairs"}
    for today in ("dpo", "sft"):
        assert of_earlier_versions(identifying(read(f"method={today}")))["method"] == today
        assert of_earlier_versions(read(f"method={today}").resolved())["method"] == today


def every(model: type[Settings]) -> list[type[Settings]]:
    return [model, *(sub for child in model.__subclasses__() for sub in every(child))]


def test_every_setting_of_a_run_is_described():
    for model in every(Settings):
        assert [name for name, field in model.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("arguments", [["--help"], ["fit", "data", "--policy", "p", "--out", "o", "--set", "a=1"]])
def test_help_and_mistakes_are_answered_without_torch(arguments):
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom neat_train.cli import app\n"
        "done = CliRunner().invoke(app, sys.argv[1:])\n"
        "print(done.exit_code, {'torch', 'transformers'} & set(sys.modules), done.output)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("0 set()" if "--help" in arguments else "2 set() error: a: there is no such setting")
