"""The controller's own certificates: issued at the start, renewed by themselves after two thirds of their life."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from fleet.authority import Authority, Issued

__all__ = ["OWN_DAYS", "Upkeep"]

OWN_DAYS = 90
_DAY_MS = 86_400_000
_DUE_MS = OWN_DAYS * _DAY_MS * 2 // 3


class _Kept(msgspec.Struct):
    name: str
    names: tuple[str, ...]
    use: Callable[[Issued], None]
    issued: int


class Upkeep:
    """All of one controller. For one thread at a time."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._kept: list[_Kept] = []

    def keep(self, name: str, use: Callable[[Issued], None], now_ms: int, names: Sequence[str] = ()) -> Issued:
        """The first certificate for `name`, with `names` a server's; each later one is given to `use` when it is due."""
        self._kept.append(_Kept(name, tuple(names), use, now_ms))
        return self._authority.issue(name, OWN_DAYS, now_ms, names=names)

    def renew(self, now_ms: int) -> list[str]:
        """Issue anew what is due, or was issued by a clock that was wrong; returns the names."""
        due = [kept for kept in self._kept if not -_DAY_MS <= now_ms - kept.issued < _DUE_MS]
        for kept in due:
            kept.use(self._authority.issue(kept.name, OWN_DAYS, now_ms, names=kept.names))
            kept.issued = now_ms
        return [kept.name for kept in due]
