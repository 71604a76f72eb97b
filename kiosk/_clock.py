"""Where the page's performance.now() and CLOCK_MONOTONIC meet: a ping-pong estimate, as NTP makes it."""

from __future__ import annotations

from collections import deque

__all__ = ["PageClock"]

_KEEP = 60
_MS = 1_000_000


class PageClock:
    """Maps times of one page to CLOCK_MONOTONIC. The two run on one crystal, so the exchange with the shortest way is the truest."""

    def __init__(self) -> None:
        self._sent: dict[int, int] = {}
        self._next = 1
        self.rounds = 0
        self._seen: deque[tuple[int, int]] = deque(maxlen=_KEEP)  # round trip, offset

    def ping(self, now_ns: int) -> int:
        """A new ping leaves now; returns its id."""
        self._next += 1
        self._sent[self._next] = now_ns
        if len(self._sent) > _KEEP:
            self._sent.pop(next(iter(self._sent)))
        return self._next

    def pong(self, ping: int, page_ms: float, now_ns: int) -> None:
        """Its answer came now; the page's clock said `page_ms` when it answered."""
        sent = self._sent.pop(ping, None)
        if sent is not None:
            self.rounds += 1
            self._seen.append((now_ns - sent, (sent + now_ns) // 2 - round(page_ms * _MS)))

    @property
    def known(self) -> bool:
        """Whether any exchange was completed."""
        return bool(self._seen)

    @property
    def offset_ns(self) -> int:
        """CLOCK_MONOTONIC minus the page's clock; 0 while unknown."""
        return min(self._seen)[1] if self._seen else 0

    @property
    def error_ns(self) -> int:
        """The largest error that the best exchange leaves open: half its round trip; -1 while unknown."""
        return min(self._seen)[0] // 2 if self._seen else -1

    def to_ns(self, page_ms: float, fallback_ns: int) -> int:
        """The page's time in ns of CLOCK_MONOTONIC; `fallback_ns` while the clocks have not met."""
        return round(page_ms * _MS) + self.offset_ns if self._seen else fallback_ns
