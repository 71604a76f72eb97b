"""Which boxes: by name, site, model and release. Pure, but for the query at the end."""

from __future__ import annotations

import re
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from runtime.telemetry import is_id

__all__ = ["Crowd", "Face", "Run", "Selection", "faces", "matches", "select"]

Run = Callable[..., list[Any]]
"""`Database.read`, or `Transaction.run` to see what this transaction has written."""
_FIELDS = ("site", "model", "release")
_Text = Annotated[str, Meta(max_length=200)]


class Face(msgspec.Struct, frozen=True):
    """What of a box a selection looks at."""

    name: str
    site: str
    model: str
    release: str


class Selection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Boxes that match every field that is set; nothing set: all boxes.

    `name` may have `*` (anything) and `?` (one character). `boxes` names them one by one.
    """

    name: _Text = ""
    site: _Text = ""
    model: _Text = ""
    release: _Text = ""
    boxes: Annotated[tuple[Annotated[str, Meta(max_length=63)], ...], Meta(max_length=5000)] = ()

    def wrong(self) -> str:
        """Why this can select nothing, in one line; "" if it may."""
        strange = next((name for name in self.boxes if not is_id(name)), None)
        return f"{strange!r} cannot be the name of a box" if strange is not None else ""


def matches(selection: Selection, face: Face) -> bool:
    """Whether a box is selected."""
    for wanted, found in ((selection.site, face.site), (selection.model, face.model), (selection.release, face.release)):
        if wanted and wanted != found:
            return False
    if selection.boxes and face.name not in selection.boxes:
        return False
    return not selection.name or _pattern(selection.name).fullmatch(face.name) is not None


def _pattern(text: str) -> re.Pattern[str]:
    parts = {"*": ".*", "?": "."}
    return re.compile("".join(parts.get(char, re.escape(char)) for char in text))  # kept by re's own cache


class Crowd:
    """Boxes from which many selections are made: each looks only at those of its site, model, release, names or beginning of a name."""

    def __init__(self, boxes: Iterable[Face]) -> None:
        self._all = sorted(boxes, key=lambda face: face.name)
        self._names = [face.name for face in self._all]
        self._by: dict[tuple[str, str], list[Face]] = {}
        for face in self._all:
            for field in _FIELDS:
                self._by.setdefault((field, getattr(face, field)), []).append(face)

    def select(self, selection: Selection) -> list[Face]:
        """Those that match, by name."""
        wanted = [(field, value) for field in _FIELDS if (value := getattr(selection, field))]
        pools = [self._by.get(pair, []) for pair in wanted]
        if selection.boxes:
            pools.append([face for name in sorted(set(selection.boxes)) for face in self._between(name, name)])
        if selection.name:
            begin = re.split(r"[*?]", selection.name, maxsplit=1)[0]
            pools.append(self._between(begin, begin + chr(sys.maxunicode)))
        if not pools:
            return self._all
        pool = min(pools, key=len)
        if len(pools) == 1 and (not selection.name or selection.name == f"{begin}*"):
            return pool
        for field, value in wanted:  # as `matches`, but what can be is done once for all
            pool = [face for face in pool if getattr(face, field) == value]
        if selection.boxes:
            named = frozenset(selection.boxes)
            pool = [face for face in pool if face.name in named]
        if selection.name:
            like = _pattern(selection.name).fullmatch
            pool = [face for face in pool if like(face.name)]
        return pool

    def _between(self, first: str, last: str) -> list[Face]:
        return self._all[bisect_left(self._names, first) : bisect_right(self._names, last)]


def faces(run: Run, name: str = "") -> list[Face]:
    """All boxes, or one."""
    where, values = ("WHERE name = ?", (name,)) if name else ("", ())
    return [Face(*row) for row in run(f"SELECT name, site, model, release FROM device {where} ORDER BY name", *values)]  # noqa: S608 - ours


def select(run: Run, selection: Selection) -> list[str]:
    """The names of the boxes that are selected now, by name."""
    return [face.name for face in faces(run) if matches(selection, face)]
