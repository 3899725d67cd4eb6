"""Which responses of a record each method learns from."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from neat_data.errors import InputError
from neat_data.formats.preferences import Skipped
from neat_data.record import Label, Message, Record, Response, query_id, response_id
from neat_train.config.reading import read_settings
from neat_train.data.selection import require_some, selected, selection


def record(number: int = 0, drawn: int = 4) -> Record:
    """Two answers of the source, of which people preferred that with the lower reward, and some samples."""
    messages = (Message("user", f"What is on day {number}?"),)
    query = query_id(messages)

    def response(text: str, reward: float, origin: str) -> Response:
        return Response(response_id(query, text), text, reward, origin)

    source = [response("preferred", 0.5, "source"), response("other", 3.0, "source")]
    sampled = [response(f"sample {draw}", float(draw) - 2, "sampled") for draw in range(drawn)]
    label = Label("a.jsonl", None, "train", number, (source[0].response_id, source[1].response_id))
    return Record(query, messages, (*source, *sampled), (label,)).ranked()


def chosen(made: Record, *sets: str) -> list[tuple[str, float | None]]:
    select = selection(read_settings(sets=sets))
    learned_of = selected(made, select)
    assert learned_of is not None
    return [(response.text, response.reward) for response in learned_of.responses]


def test_pairs_are_people_s_or_the_two_ends_or_all():
    assert chosen(record(), "method=dpo") == [("preferred", 1.0), ("other", 0.0)]
    assert chosen(record(), "method=simpo", "loss.ranking.pairs=best-worst") == [("other", 3.0), ("sample 0", -2.0)]
    assert chosen(record(drawn=9), "method=dpo", "loss.ranking.pairs=mu-2sigma")[0] == ("sample 8", 6.0)
    assert len(chosen(record(), "method=dpo", "loss.ranking.pairs=random")) == 2
    assert len(chosen(record(), "method=ipo", "loss.ranking.pairs=all")) == 6
    assert len(chosen(record(), "method=infonca")) == len(chosen(record(), "method=rrhf")) == 6


def test_sft_learns_from_one_response_by_its_target():
    assert chosen(record(), "method=sft") == [("preferred", 0.5)]
    assert chosen(record(), "method=sft", "sft.target=best") == [("other", 3.0)]
    assert chosen(record(), "method=sft", "sft.target=best-of-n") == [("sample 3", 1.0)]


def test_random_of_n_is_any_sample_the_same_each_time_and_another_for_another_seed():
    def of(seed: int) -> list[str]:
        sets = ("method=sft", "sft.target=random-of-n", f"seed={seed}")
        return [chosen(record(number), *sets)[0][0] for number in range(400)]

    assert of(0) == of(0) != of(1)
    counts = Counter(of(0))
    assert set(counts) == {f"sample {draw}" for draw in range(4)}
    assert all(60 < count < 140 for count in counts.values())


def test_a_policy_gradient_learns_from_what_the_policy_sampled():
    assert {text for text, _ in chosen(record(), "method=grpo")} == {f"sample {draw}" for draw in range(4)}
    assert len(chosen(record(), "method=rloo", "loss.ranking.responses=all")) == 6
    assert len(chosen(record(), "method=grpo", "rounds.prompts=null")) == 6, "offline it has only those of the dataset"


def test_a_record_without_what_is_learned_from_gives_nothing():
    for sets in (("method=dpo",), ("method=sft",)):
        assert selected(replace(record(), labels=()), selection(read_settings(sets=sets))) is None
    with pytest.raises(Skipped, match="nothing_sampled"):
        selection(read_settings(sets=["method=sft", "sft.target=best-of-n"]))(record(drawn=0))


def test_of_no_such_record_the_method_and_the_reasons_are_told():
    unlabelled = {made.query_id: replace(made, labels=()) for made in map(record, range(3))}
    with pytest.raises(InputError, match=r"method dpo: .*\(no_label 3\)\n.*pairs=best-worst"):
        require_some(tuple(unlabelled), unlabelled.__getitem__, read_settings(sets=["method=dpo"]))
    some = {**unlabelled, record(7).query_id: record(7)}
    kept = require_some(tuple(some), some.__getitem__, read_settings(sets=["method=dpo"]))
    assert kept == (record(7).query_id,)
