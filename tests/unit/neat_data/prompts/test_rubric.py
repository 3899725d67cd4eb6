import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from neat_data.errors import InputError
from neat_data.prompts.rubric import DEFAULT, Rubric, load_rubric
from neat_data.record import Message

TEN = Rubric("ten", 1, 10, "{query}|{response}")
CONTENT = {"name": "mine", "min": 0, "max": 5, "template": "{query} {response} Say Score: N."}


def save(folder, **changes):
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in {**CONTENT, **changes}.items() if value is not ...}))
    return path


@pytest.mark.parametrize("score", range(1, 11))
def test_every_score_of_the_scale_is_read_as_itself(score):
    assert TEN.read(f"Score: {score}") == score


def test_whitespace_around_the_answer_is_no_matter():
    assert TEN.read("\n Score: 10 \n") == 10


@pytest.mark.parametrize(
    "answer",
    [
        *("", "7", "Score:", "Score: ", "Score: seven", "Score: 7/20", "Score: 7/5", "Score: 7/", "Score: 1*0"),
        *("Score: 0", "Score: 11", "Score: 100", "Score: -1", "Score: 99999999999999999999999"),
        *(
            "Score: 7.5",
            "Score: 07",
            "Score: 1 0",
            "Score: 1\n0",
            "Score: 7e0",
            "Score: +7",
        ),
        *("Score: 7 Score: 7", "Score: 7\nScore: 8", "Score: 7 or 8", "My Score: 7"),
        *("Score: 7, since it is kind.", "Score: 7\nIt is kind.", "<think>Score: 7", "<think>Score: 7</think>"),
        *("Score: ٧", "Score: \uff17", "Score: ⁷", "{'Score': 7}", "I cannot rate this."),
    ],
)
def test_anything_else_is_no_score(answer):
    assert TEN.read(answer) is None


@pytest.mark.parametrize(
    "answer",
    [
        *("Score:7", "score: 7", "SCORE : 7", "Score: 7.", "Score: 7.0", "Score: 7/10", "Score: 7 / 10."),
        *("Score: 7 out of 10", "**Score: 7**", "**Score:** 7", "**Score**: 7/10", "`Score: 7`", "_Score: 7_"),
        *("Kind, and short.\n\nScore: 7", "Score: 7\nIn short:\nScore: 7/10", "<think>Score: 2?</think>\nScore: 7"),
        *("A thought that a template opened.</think>Score: 7", "\ufeff Score: 7 ".strip("\ufeff")),
    ],
)
def test_a_score_may_be_said_in_many_forms(answer):
    assert TEN.read(answer) == 7


@given(st.integers(-20, 20), st.text("0123456789./*_ -\n", max_size=4), st.text("0123456789./*_ -\n", max_size=4))
def test_no_number_is_read_that_was_not_said(score, before, after):
    """Whatever stands around it: the digits of a score are those of the last line, in one piece."""
    answer = f"{before}Score: {score}{after}"
    number_read = TEN.read(answer)
    if number_read is not None:
        number = re.match(r"-?\d+", answer.split("Score:")[1].strip("*_ \n"))
        assert str(number_read) == number[0]


def test_a_scale_may_hold_negative_numbers():
    assert [Rubric("signed", -2, 2, "").read(f"Score: {n}") for n in ("-3", "-2", "-0", "0", "2")] == [
        None,
        -2,
        None,
        0,
        2,
    ]


def test_braces_in_a_text_are_text():
    query = (Message("user", "{response} {query} {0} {} {x!r} %s"),)
    (turn,) = TEN.question(query, "{query} \\1 \\g<0> {response.__class__}")
    assert turn == {
        "role": "user",
        "content": "User: {response} {query} {0} {} {x!r} %s|{query} \\1 \\g<0> {response.__class__}",
    }


def test_the_whole_conversation_is_shown_and_the_system_text_stands_in_front():
    query = (Message("system", "Be brief."), Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    messages = Rubric("ten", 1, 10, "{query}\n{response}", "You rate.").question(query, "d")
    text = "System: Be brief.\n\nUser: a\n\nAssistant: b\n\nUser: c\nd"
    assert messages == [{"role": "system", "content": "You rate."}, {"role": "user", "content": text}]


def test_the_shipped_rubric_loads():
    rubric = load_rubric(DEFAULT)
    assert (rubric.name, rubric.min, rubric.max) == ("helpful_harmless", 1, 10)


def test_the_hash_is_of_what_it_says_not_of_where_or_how_it_is_written(tmp_path):
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    one.write_text(yaml.safe_dump(CONTENT))
    other.write_text("# a comment\n" + yaml.safe_dump(CONTENT, sort_keys=False, default_flow_style=True))
    assert load_rubric(one).sha256 == load_rubric(other).sha256
    assert load_rubric(save(tmp_path, max=6)).sha256 != load_rubric(one).sha256


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": 3}, "unknown key 'scale'"),
        ({"min": ...}, "min is missing"),
        ({"template": ...}, "template is missing"),
        ({"max": "5"}, "max must be a whole number, not '5'"),
        ({"max": 4.5}, "max must be a whole number"),
        ({"min": True}, "min must be a whole number"),
        ({"system": ["x"]}, "system must be a text"),
        ({"min": 5}, "min 5 must be below max 5"),
        ({"template": "{query} Score: N"}, "has no place {response}"),
        ({"template": "{response} Score: N"}, "has no place {query}"),
        ({"template": "{query}{response}"}, "does not say that the answer must be"),
    ],
)
def test_a_rubric_that_is_none_is_refused_by_file_and_key(tmp_path, changes, message):
    with pytest.raises(InputError, match=r"mine\.yaml") as raised:
        load_rubric(save(tmp_path, **changes))
    assert message in str(raised.value)


@pytest.mark.parametrize("content", [b"[1, 2]", b"a: [", b"\xff\xfe", b""])
def test_a_file_that_holds_no_rubric_is_refused(tmp_path, content):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"rubric .*bad\.yaml"):
        load_rubric(path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml: cannot be read"):
        load_rubric(tmp_path / "none.yaml")
