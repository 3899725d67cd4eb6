import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from neat_data.errors import InputError, RunError
from neat_data.models.load import load_reward_model
from neat_data.models.reward_model import RewardModelSpec, Task
from neat_data.models.reward_models.function import BATCH
from neat_data.record import Message, query_id

QUERY = (Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "How are you?"))
TASKS = [Task((Message("user", "Hi"),), ("a", "bbb")), Task(QUERY, ("cc",))]


@pytest.fixture
def write(tmp_path):
    """`write(source)` -> `file.py:rate` for a new file that holds `source`."""

    def write(source, name="rate"):
        path = tmp_path / "rm.py"
        path.write_text(source, encoding="utf-8")
        return f"{path}:{name}"

    return write


LENGTH = "def rate(conversations):\n    return [len(c[-1]['content']) for c in conversations]\n"


def score(model, tasks=TASKS):
    return [one.rewards for one in load_reward_model(RewardModelSpec(model)).score(tasks)]


def test_each_response_gets_the_number_that_the_function_gave_its_conversation(write):
    assert score(write(LENGTH)) == [(1.0, 3.0), (2.0,)]


def test_the_function_sees_whole_conversations_that_end_in_the_response(write):
    model = write(
        "def rate(conversations):\n"
        "    assert conversations == [\n"
        "        [{'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Hello'},\n"
        "         {'role': 'user', 'content': 'How are you?'}, {'role': 'assistant', 'content': 'cc'}]]\n"
        "    return [7]\n"
    )
    assert score(model, TASKS[1:]) == [(7.0,)]


def test_batches_are_of_a_fixed_size_and_keep_the_order(write):
    # A function that counts its calls: the reward is the call's number plus the place in the call.
    model = write(
        "calls = []\n"
        "def rate(conversations):\n"
        "    calls.append(len(conversations))\n"
        "    return [len(calls) * 1000 + i for i in range(len(conversations))]\n"
    )
    tasks = [Task((Message("user", str(i)),), ("x", "y", "z")) for i in range(BATCH)]
    flat = [reward for rewards in score(model, tasks) for reward in rewards]
    assert flat == [1000 * call + i for call in (1, 2, 3) for i in range(BATCH)]


def test_a_callable_object_of_the_file_will_do(write):
    model = write("class Rater:\n    def __call__(self, c):\n        return [0.5] * len(c)\nrate = Rater()\n")
    assert score(model) == [(0.5, 0.5), (0.5,)]


def test_progress_counts_tasks(write):
    steps = []
    load_reward_model(RewardModelSpec(write(LENGTH))).score(TASKS, advance=lambda *step: steps.append(step))
    assert sum(tasks for tasks, _ in steps) == 2


def test_settings_hold_the_files_hash_and_not_its_path(write, tmp_path):
    here = load_reward_model(RewardModelSpec(write(LENGTH))).settings
    (tmp_path / "moved").mkdir()
    (tmp_path / "rm.py").rename(tmp_path / "moved" / "rm.py")
    there = load_reward_model(RewardModelSpec(f"{tmp_path}/moved/rm.py:rate")).settings
    assert here == there
    assert str(tmp_path) not in str(here)
    assert load_reward_model(RewardModelSpec(write(LENGTH + "# changed\n"))).settings != here


def test_a_file_changed_within_the_same_second_is_read_anew(write):
    # Python's own import could take the compilation of the earlier file: same size, same second.
    assert score(write("def rate(c):\n    return [1] * len(c)\n"), TASKS[1:]) == [(1.0,)]
    assert score(write("def rate(c):\n    return [2] * len(c)\n"), TASKS[1:]) == [(2.0,)]


def score_elsewhere(spec):
    return [one.rewards for one in load_reward_model(spec).score(TASKS)]


def test_a_worker_process_loads_the_same_function_from_another_folder(write, tmp_path, monkeypatch):
    write(LENGTH)
    monkeypatch.chdir(tmp_path)
    model = load_reward_model(RewardModelSpec("rm.py:rate"))
    monkeypatch.chdir("/")
    with ProcessPoolExecutor(1, get_context("fork")) as pool:
        assert pool.submit(score_elsewhere, model.spec).result() == [(1.0, 3.0), (2.0,)]


def test_another_count_of_rewards_is_an_error_that_names_the_function(write):
    with pytest.raises(RunError, match=r"rm\.py:rate: 3 rewards were asked for and 2 came; conversations 1 to 3"):
        score(write("def rate(c):\n    return [0.0] * 2\n"))


@pytest.mark.parametrize("value", ["None", "'high'", "float('nan')", "True"])
def test_a_reward_that_is_no_number_names_its_conversation(write, value):
    message = f"rm.py:rate: the reward is .*conversation 3 \\(query {query_id(QUERY)}, response 1\\)"
    with pytest.raises(RunError, match=message):
        score(write(f"def rate(c):\n    return [1.0, 2.0, {value}]\n"))


def test_a_conversation_of_a_later_call_is_named_by_its_own_query(write):
    model = write("def rate(c):\n    return [None if one[-1]['content'] == 'bad' else 0 for one in c]\n")
    tasks = [Task((Message("user", str(i)),), ("bad" if i == BATCH + 5 else "good",)) for i in range(2 * BATCH)]
    message = f"conversation {BATCH + 6} \\(query {query_id(tasks[BATCH + 5].messages)}, response 1\\)"
    with pytest.raises(RunError, match=message):
        score(model, tasks)


def test_a_function_that_raises_names_itself_its_error_and_the_conversations(write):
    with pytest.raises(
        RunError, match=r"rm\.py:rate raised ZeroDivisionError: division by zero\nat conversations 1 to 3"
    ):
        score(write("def rate(c):\n    return 1 / 0\n"))


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        (LENGTH, "score", "has no function 'score'; it has: rate"),
        ("", "rate", "has no function 'rate'; it has: none"),
        ("rate = 3\n", "rate", "rate is a int, not a function"),
        ("def rate(:\n", "rate", "cannot be run: SyntaxError"),
        ("import no_such_module\n", "rate", "cannot be run: ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise SystemExit(2)\n", "rate", "cannot be run: SystemExit: 2"),
    ],
)
def test_a_file_that_holds_no_such_function_is_refused(write, source, name, message):
    with pytest.raises(InputError, match=re.escape(message)):
        score(write(source, name))


def test_a_missing_file_is_refused():
    with pytest.raises(InputError, match=r"nowhere/rm\.py cannot be read \(No such file or directory\)"):
        score("nowhere/rm.py:rate")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"dtype": "bfloat16"}, "dtype: has no meaning"),
        ({"max_length": 99}, "max_length: has no meaning"),
        ({"chat_template": "hh"}, "chat_template: has no meaning"),
        ({"model_args": {"batch": 3}}, "model_args batch: "),
    ],
)
def test_options_that_a_function_cannot_honour_are_refused(write, options, named):
    with pytest.raises(InputError, match=named):
        load_reward_model(RewardModelSpec(write(LENGTH), **options))
