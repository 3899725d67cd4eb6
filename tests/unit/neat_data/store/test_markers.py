"""README.md: our keys and our part are written anew, and every other byte stays."""

from __future__ import annotations

import pytest
import yaml
from huggingface_hub import DatasetCard
from hypothesis import given
from hypothesis import strategies as st

from neat_data.store.markers import BEGIN, END, KEYS_BEGIN, KEYS_END, with_body

CARD = "---\nlicense: unknown\ntags:\n- ours\nsize_categories:\n- n<1K\n---\n\n# Card\n"
LATER = CARD.replace("n<1K", "1K<n<10K").replace("# Card", "# Later")


def header(readme: bytes) -> dict:
    text = readme.decode()
    assert text.startswith("---\n")
    return yaml.safe_load(text.split("---\n")[1])


def test_a_new_readme_begins_with_the_header():
    readme = with_body(b"", CARD)
    assert header(readme) == {"license": "unknown", "tags": ["ours"], "size_categories": ["n<1K"]}
    assert DatasetCard(readme.decode()).data.license == "unknown"
    assert readme.decode().endswith(f"---\n\n{BEGIN}\n# Card\n{END}\n")
    assert with_body(readme, CARD) == readme


def test_our_keys_and_our_part_are_written_anew():
    readme = with_body(with_body(b"", CARD), LATER)
    assert readme == with_body(b"", LATER)


def test_the_user_sets_the_licence_in_place():
    readme = with_body(b"", CARD).replace(b"license: unknown", b"license: mit  # asked the lawyers")
    assert b"license: mit  # asked the lawyers\n" in with_body(readme, LATER)
    assert header(with_body(readme, LATER))["license"] == "mit"


def test_a_licence_that_becomes_known_takes_the_place_of_unknown():
    known = CARD.replace("unknown", "mit")
    assert with_body(with_body(b"", CARD), known) == with_body(b"", known)
    assert header(with_body(with_body(b"", known), CARD))["license"] == "mit"
    assert header(with_body(b"---\nlicense: cc0-1.0\n---\n", known))["license"] == "cc0-1.0"


def test_the_users_keys_and_words_survive():
    mine = b"---\n# my own\ntags: [mine]\nlanguage: de\n---\n# Mine\n\ntext\n"
    readme = with_body(mine, CARD)
    assert header(readme) == {"tags": ["mine"], "language": "de", "license": "unknown", "size_categories": ["n<1K"]}
    assert readme.startswith(b"---\n# my own\ntags: [mine]\nlanguage: de\n")
    assert b"---\n# Mine\n\ntext\n" in readme
    grown = with_body(readme + b"more of mine", LATER)
    assert header(grown)["size_categories"] == ["1K<n<10K"]
    assert grown.startswith(b"---\n# my own\ntags: [mine]\nlanguage: de\n")
    assert grown.endswith(b"more of mine")
    assert b"# Card" not in grown


def test_a_card_from_before_there_was_a_header_gets_one():
    before = f"mine\n\n{BEGIN}\nold\n{END}\nmine too\n".encode()
    readme = with_body(before, CARD)
    assert header(readme)["tags"] == ["ours"]
    assert readme.endswith(f"---\n\nmine\n\n{BEGIN}\n# Card\n{END}\nmine too\n".encode())


@pytest.mark.parametrize("broken", [b"---\na: [\n---\nmine\n", b"---\n- a\n---\nmine\n", b"---\n\xff\n---\nmine\n"])
def test_a_header_that_cannot_be_read_is_left_alone(broken):
    assert with_body(broken, CARD) == broken + f"\n{BEGIN}\n# Card\n{END}\n".encode()


def test_windows_line_ends_are_understood():
    readme = with_body(b"---\r\nlicense: mit\r\n---\r\nmine\r\n", CARD)
    assert header(readme.replace(b"\r", b"")) == {"license": "mit", "tags": ["ours"], "size_categories": ["n<1K"]}
    assert readme.count(b"license") == 1


def test_keys_that_a_tool_wrote_anew_without_comments_are_the_users():
    readme = with_body(b"", CARD)
    card = DatasetCard(readme.decode())
    assert KEYS_BEGIN not in str(card)
    again = with_body(str(card).encode(), LATER).decode()
    assert DatasetCard(again).data.to_dict() == card.data.to_dict()
    assert again.count(KEYS_END) == 1


@given(st.binary(max_size=60))
def test_no_byte_of_the_user_is_lost(mine):
    readme = with_body(mine, CARD)
    assert with_body(readme, CARD) == readme
    if not mine.lstrip().startswith(b"---"):
        assert mine in readme
