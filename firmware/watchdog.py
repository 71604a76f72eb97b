"""The service's watchdog: a ping means that every node made progress, never that a timer fired.

`judge` is the rule, without I/O. `Watchdog` is the shell: the supervisor calls `progress` in its loop, as often as it likes.
A node that died or hangs is the supervisor's to restart, and systemd waits while it does; the pings stop when the supervisor does not
get it done: a node neither moves nor is killed, or a node that the kiosk cannot do without does not come back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from firmware.notify import Notifier

__all__ = ["LIMIT_NS", "SETTLED_NS", "STALL_NS", "Progress", "Seen", "Watchdog", "judge"]

SECOND = 1_000_000_000
STALL_NS = 20 * SECOND
"""A running node without progress for so long has outlived the supervisor's own limit (its stack dump and kill come within 8 s)."""
LIMIT_NS = 90 * SECOND
"""An essential node may be away or loading for so long: the supervisor gives it 60 s to load, and starts it anew."""
SETTLED_NS = 30 * SECOND
"""A node that came back counts as back after so long; one that works for a second between two crashes never does."""
_EXTEND_NS = 30 * SECOND
_EXTEND_EVERY_NS = 5 * SECOND


@dataclass(frozen=True, slots=True)
class Progress:
    """A node as the supervisor sees it: `beats` counts its progress in this life, `ready` is whether it works."""

    name: str
    beats: int
    ready: bool
    essential: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of a node: its beats and since when they stand still, and since when it works or has been away."""

    beats: int
    moved_ns: int
    ready_ns: int | None
    away_ns: int | None


def judge(seen: Mapping[str, Seen], nodes: Sequence[Progress], now_ns: int) -> tuple[dict[str, Seen], tuple[str, ...]]:
    """(what is seen now, the names of the nodes that hold the ping back)."""
    after = {node.name: _look(seen.get(node.name), node, now_ns) for node in nodes}
    return after, tuple(node.name for node in nodes if _stuck(after[node.name], node, now_ns))


def _look(before: Seen | None, node: Progress, now_ns: int) -> Seen:
    if not node.ready:
        away = before.away_ns if before and before.away_ns is not None else now_ns
        return Seen(node.beats, now_ns, None, away)
    if before is None or before.ready_ns is None:
        return Seen(node.beats, now_ns, now_ns, before.away_ns if before else None)
    settled = now_ns - before.ready_ns >= SETTLED_NS
    away_ns = None if settled else before.away_ns
    return Seen(node.beats, before.moved_ns if before.beats == node.beats else now_ns, before.ready_ns, away_ns)


def _stuck(what: Seen, node: Progress, now_ns: int) -> bool:
    still = node.ready and now_ns - what.moved_ns > STALL_NS
    return still or (node.essential and what.away_ns is not None and now_ns - what.away_ns > LIMIT_NS)


@dataclass
class Watchdog:
    """Tells systemd how the kiosk is. Without a manager (NOTIFY_SOCKET) it does nothing. Use from one thread."""

    notifier: Notifier
    _seen: dict[str, Seen] = field(default_factory=dict)
    _ready: bool = False
    _pinged_ns: int | None = None
    _status: str = ""

    @property
    def active(self) -> bool:
        """Whether there is anybody to tell."""
        return self.notifier.active

    def progress(self, nodes: Iterable[Progress], usable: bool, now_ns: int) -> None:
        """Call it often. `usable`: a visitor finds a kiosk; the first time it is true, the service has started.

        Until then, while nothing is stuck, systemd's patience is extended: engines may compile for minutes at the first start.
        """
        if not self.active:
            return
        rows = tuple(nodes)
        self._seen, stuck = judge(self._seen, rows, now_ns)
        self._say(rows, stuck)
        if usable and not self._ready:
            self._ready = self.notifier.send(READY=1)
        if stuck or not self._due(now_ns):
            return
        if not self._ready:
            self.notifier.send(EXTEND_TIMEOUT_USEC=_EXTEND_NS // 1000)
        if self.notifier.watchdog_ns:
            self.notifier.send(WATCHDOG=1)
        self._pinged_ns = now_ns

    def stopping(self) -> None:
        """The end was asked for."""
        self.notifier.send(STOPPING=1)

    def _due(self, now_ns: int) -> bool:
        period = min(self.notifier.watchdog_ns // 2 or _EXTEND_EVERY_NS, _EXTEND_EVERY_NS)
        return self._pinged_ns is None or now_ns - self._pinged_ns >= period

    def _say(self, rows: tuple[Progress, ...], stuck: tuple[str, ...]) -> None:
        away = [node.name for node in rows if not node.ready]
        status = f"stuck: {', '.join(stuck)}" if stuck else f"not there: {', '.join(away)}" if away else "all nodes work"
        if status != self._status and self.notifier.send(STATUS=status):
            self._status = status
