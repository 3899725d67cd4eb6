"""The part of `README.md` that is ours: the dataset card's body between two markers. Every other byte is the user's."""

from __future__ import annotations

BEGIN = "<!-- neat-data: this part is written anew by neat-data; write before or after it -->"
END = "<!-- neat-data: end of that part -->"


def with_body(readme: bytes, body: str) -> bytes:
    """`readme` with the text between the markers replaced by `body`, or with both added at its end.

    >>> with_body(b"mine", "old") == with_body(with_body(b"mine", "older"), "old")
    True
    """
    inside = body.replace("<!-- neat-data:", "&lt;!-- neat-data:").strip("\n")
    ours = f"{BEGIN}\n{inside}\n{END}".encode()
    start = readme.rfind(BEGIN.encode())
    end = readme.find(END.encode(), max(start, 0))
    if start >= 0 and end >= 0:
        return readme[:start] + ours + readme[end + len(END.encode()) :]
    gap = b"" if not readme else b"\n" if readme.endswith(b"\n") else b"\n\n"
    return readme + gap + ours + b"\n"
