"""PKU-SafeRLHF: two responses, the better one for helpfulness; which is the safer one stays in `meta`."""

from __future__ import annotations

from typing import Any

from neat_data.sources import chat, sides
from neat_data.sources.row import Answer, Understood, Unusable
from neat_data.sources.values import index


def responses(row: dict[str, Any]) -> Understood:
    """`prompt`, `response_0`, `response_1`, `better_response_id`."""
    query = sides.query(row["prompt"])
    chat.check_query(query, "prompt")
    texts = [chat.text(row[column], column).strip() for column in ("response_0", "response_1")]
    for position, text in enumerate(texts):
        if not text:
            raise Unusable("empty_response", f"`response_{position}`")
    if texts[0] == texts[1]:
        raise Unusable("identical_responses")
    better = index(row["better_response_id"], "better_response_id", 2)
    used = {"prompt", "response_0", "response_1", "better_response_id"}
    meta = {key: value for key, value in row.items() if key not in used}
    return Understood(query, (Answer(texts[0]), Answer(texts[1])), (better, 1 - better), meta=meta)
