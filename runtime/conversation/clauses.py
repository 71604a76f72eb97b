"""Cutting an answer into clauses while it is still being written, so that the voice can begin with the first."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["ClauseCutter", "clauses"]

_FIRST_LEAST = 10  # characters; shorter first clauses ("Yes,") join the next: a voice needs something to phrase
_LATER_LEAST = 60  # from here on a comma may end a clause; before, only the end of a sentence
_MOST = 220  # a text without any punctuation is cut at a blank
_END = re.compile(r"[.?!…]+[\"')\]]*(?=\s)")
_PAUSE = re.compile(r"[,;:.?!…]+[\"')\]]*(?=\s)")


class ClauseCutter:
    """Feed text as it comes, take clauses as they are complete."""

    def __init__(self) -> None:
        self._rest = ""
        self._first = True

    def feed(self, text: str) -> Iterator[str]:
        """The clauses that `text` completes. A mark only counts when a blank follows: "3.50" is one word."""
        self._rest += text
        while (cut := self._cut()) is not None:
            clause, self._rest = self._rest[:cut].strip(), self._rest[cut:]
            if clause:
                self._first = False
                yield clause

    def finish(self) -> Iterator[str]:
        """What is left."""
        clause, self._rest = self._rest.strip(), ""
        if clause:
            self._first = False
            yield clause

    def _cut(self) -> int | None:
        if self._first:
            for match in _PAUSE.finditer(self._rest):
                if match.end() >= _FIRST_LEAST:
                    return match.end()
        else:
            ended = _END.search(self._rest)
            if ended:
                return ended.end()
            for match in _PAUSE.finditer(self._rest):
                if match.end() >= _LATER_LEAST:
                    return match.end()
        if len(self._rest) > _MOST:
            blank = self._rest.rfind(" ", 0, _MOST)
            return blank if blank > 0 else _MOST
        return None


def clauses(text: str) -> list[str]:
    """All clauses of a text."""
    cutter = ClauseCutter()
    return [*cutter.feed(text), *cutter.finish()]
