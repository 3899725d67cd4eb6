"""Scripted judges behind a real server that speaks OpenAI's and Anthropic's API: what they say is known beforehand."""

from __future__ import annotations

import random

from tests.support.loopback import Reply

JSON = {"Content-Type": "application/json"}
AT_ONCE = {**JSON, "retry-after-ms": "1"}  # so that no test waits for the clients' patience


def answers(text):
    """The two answers of a question, in their order; None for one that compares nothing."""
    if "=== answer 1 ===\n" not in text:
        return None
    first, second = text.split("=== answer 1 ===\n")[1].split("\n=== answer 2 ===\n")
    return first, second.split("\n=== end ===")[0]


def always_first(first, second):
    return "The first.\nVerdict: win"


def always_longer(first, second):
    return "Verdict: tie" if len(first) == len(second) else f"Verdict: {'win' if len(first) > len(second) else 'lose'}"


def at_random(first, second):
    return "Verdict: " + random.Random(f"{first}|{second}").choice(["win", "lose", "tie"])


def garbage(first, second):
    return "As a language model I like both. Verdict: win-win"


class Script:
    """`serve(Script(says))`: answers every comparison with `says(first, second)`, in the API that the path asks for.

    `says` may return a `Reply` instead of a text. `asked` holds the pairs of answers, in the order they came in.
    """

    def __init__(self, says):
        self.says, self.asked = says, []

    def __call__(self, method, path, body):
        text = body["messages"][-1]["content"]
        pair = answers(text)
        if pair is None:
            said = "OK"
        else:
            self.asked.append(pair)
            said = self.says(*pair)
        return said if isinstance(said, Reply) else completion(path, said, len(text.split()))


def completion(path, text, read=10, stop=None):
    """What either API answers; one token a word."""
    wrote = len(text.split())
    if path.endswith("/chat/completions"):
        choice = {
            "index": 0,
            "finish_reason": stop or "stop",
            "message": {"role": "assistant", "content": text},
        }
        usage = {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}
        body = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
        return Reply(200, body, JSON)
    content = [{"type": "thinking", "thinking": "Verdict: lose", "signature": ""}, {"type": "text", "text": text}]
    body = {"id": "1", "type": "message", "role": "assistant", "model": "m", "content": content}
    usage = {"input_tokens": read, "output_tokens": wrote}
    return Reply(200, {**body, "stop_reason": stop or "end_turn", "usage": usage}, JSON)
