"""The rules of the uplink, without I/O: when to connect, what to send next, what a reason code means.

`decide(link, event, now_ms, chance) → (link, actions)` is the connection; `Sender` chooses rows of the outbox. The shells are `wire`
(paho in a thread) and the uplink node. Reason codes: MQTT 5.0, section 2.4.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

from runtime.telemetry._store import Key, Row
from runtime.telemetry.contract import Acked

__all__ = ["Action", "Connect", "Event", "Link", "Lost", "Refused", "Sender", "Source", "Tell", "Tick", "Up", "Welcomed", "decide"]

FIRST_MS = 5_000
"""The first connection is made within this, by chance: a chain's boxes get their power back together."""
BASE_MS = 2_000
LONGEST_MS = 300_000
PATIENT_MS = 60_000
STABLE_MS = 60_000
"""A connection that held so long forgets the failures before it."""

NOT_TRUSTED = -1
"""Not MQTT's: TLS failed, or our own certificate cannot be read."""
NO_SUBSCRIBERS = 0x10
NOT_AUTHORISED = 0x87
TAKEN_OVER = 0x8E
_QUOTA = 0x97
_SUSPICIOUS = 5
_TWIN = "the fleet's broker drops the connection again and again: perhaps another machine uses this box's name"
_LONGEST_PROBE_MS = 60_000
_HOPELESS = {NOT_TRUSTED, 0x81, 0x82, 0x84, 0x85, 0x86, NOT_AUTHORISED, 0x8A, 0x8C, 0x95, 0x9C, 0x9D}
"""Reasons that a second try at once does not cure: wrong protocol, name, credentials, rights; banned; use another server."""
_BUSY = {0x88, 0x89, _QUOTA, 0x9F}
"""Server unavailable, busy, quota exceeded, connection rate exceeded."""


# --- the connection -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed."""


@dataclass(frozen=True, slots=True)
class Welcomed:
    """The broker took the connection and the subscription; `window` publishes may wait for their PUBACK."""

    window: int = 20


@dataclass(frozen=True, slots=True)
class Refused:
    """No connection came about: `code` is the broker's reason, 0 the network, NOT_TRUSTED; `why` is one line for the technician."""

    code: int
    why: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection ended: `code` is the broker's reason, 0 none was given."""

    code: int
    why: str


Event = Tick | Welcomed | Refused | Lost


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a connection."""


@dataclass(frozen=True, slots=True)
class Up:
    """The connection stands: send."""

    window: int


@dataclass(frozen=True, slots=True)
class Tell:
    """One line for the technician, "" takes it back; `taken_over`: another machine uses this box's identity."""

    text: str
    taken_over: bool = False


Action = Connect | Up | Tell


@dataclass(frozen=True, slots=True)
class Link:
    """Where the connection stands. `due_ms` is when to connect, -1 not decided yet."""

    phase: str = "down"  # down | connecting | up
    due_ms: int = -1
    failures: int = 0
    since_ms: int = 0
    told: str = ""


def decide(link: Link, event: Event, now_ms: int, chance: float) -> tuple[Link, tuple[Action, ...]]:
    """The connection's next state and what to do; `chance` is a random number of [0, 1)."""
    if isinstance(event, Tick):
        return _tick(link, now_ms, chance)
    if isinstance(event, Welcomed):
        actions: tuple[Action, ...] = (Up(event.window), Tell("")) if link.told else (Up(event.window),)
        return replace(link, phase="up", since_ms=now_ms, told=""), actions
    return _failed(link, event, now_ms, chance)


def _tick(link: Link, now_ms: int, chance: float) -> tuple[Link, tuple[Action, ...]]:
    if link.due_ms < 0:
        return replace(link, due_ms=now_ms + round(chance * FIRST_MS)), ()
    if link.phase == "up" and link.failures and now_ms - link.since_ms >= STABLE_MS:
        return replace(link, failures=0), ()
    if link.phase == "down" and now_ms >= link.due_ms:
        return replace(link, phase="connecting"), (Connect(),)
    return link, ()


def _failed(link: Link, event: Refused | Lost, now_ms: int, chance: float) -> tuple[Link, tuple[Action, ...]]:
    stable = link.phase == "up" and now_ms - link.since_ms >= STABLE_MS
    failures = 1 if stable else link.failures + 1
    longest = min(LONGEST_MS, BASE_MS << min(failures, 16))
    if event.code in _HOPELESS or event.code == TAKEN_OVER:
        delay = PATIENT_MS + chance * (LONGEST_MS - PATIENT_MS)
    elif event.code in _BUSY:
        delay = PATIENT_MS / 4 + chance * max(PATIENT_MS, longest)
    else:
        delay = chance * longest  # full jitter: boxes that lost the broker together do not come back together
    actions: tuple[Action, ...] = ()
    told = link.told
    if link.phase == "up" and not stable and failures == _SUSPICIOUS:
        actions, told = (Tell(_TWIN),), _TWIN  # mosquitto 2.0 does not say that a session was taken over, it only closes
    # A network that is gone is the shop's daily life and shows in the console; what a technician must mend is told here.
    text = event.why if event.code in _HOPELESS or event.code == TAKEN_OVER else told
    if text != told or event.code == TAKEN_OVER:
        actions, told = (Tell(text, taken_over=event.code == TAKEN_OVER),), text
    return replace(link, phase="down", due_ms=now_ms + round(delay), failures=failures, since_ms=now_ms, told=told), actions


# --- what to send -------------------------------------------------------------------------------------------------------


class Source(Protocol):
    """The outbox as the sender sees it."""

    def events(self, after: int, limit: int) -> list[Row]:
        """Rows above an id that are no health reports."""

    def health(self, after: int, limit: int) -> list[Row]:
        """Health reports above an id."""

    def rows(self, ids: Iterable[int]) -> list[Row]:
        """The rows with these ids that are still there."""


@dataclass(slots=True)
class _Sent:
    boot: str
    seq: int
    kind: str
    due_ms: int  # when to send it again, unless it is acknowledged
    waiting: bool  # for the PUBACK


@dataclass(slots=True)
class Sender:
    """Chooses what to publish: what is new first, then what waited, at `backlog_hz`; again what nobody acknowledged.

    A PUBACK frees the window and nothing else: only the controller's own acknowledgement (`acked`) ends a row. What the broker refuses
    is kept and tried again later. When it says that nobody listens, or the controller acknowledges nothing, one row in a while asks;
    at the first acknowledgement all that is overdue goes again.
    """

    backlog_hz: float = 10.0
    most_unacked: int = 200
    again_ms: int = 30_000
    window: int = 0
    sent: dict[int, _Sent] = field(default_factory=dict)
    refused: int = 0
    unlistened: int = 0
    _live: int = 0
    _cursors: dict[str, int] = field(default_factory=dict)
    _tokens: float = 0.0
    _token_ms: int = 0
    _hold_ms: int = 0
    _holds: int = 0
    _acked_ms: int = 0
    _probe_ms: int = 0
    _probes: int = 0
    _denied: dict[str, int] = field(default_factory=dict)

    def up(self, now_ms: int, newest: int, window: int) -> None:
        """A connection began. Rows above `newest` are live, all others wait their turn."""
        self.sent.clear()
        self._live = newest
        self._from_the_start(newest)
        self._tokens, self._token_ms = 1.0, now_ms
        self._hold_ms = self._holds = self._probe_ms = self._probes = 0
        self._acked_ms = now_ms
        self._denied.clear()
        self.window = min(window, 20)

    def _from_the_start(self, live: int) -> None:
        self._cursors = {"live_events": live, "live_health": live, "events": 0, "health": 0}

    def down(self) -> None:
        """The connection ended: nothing is on its way any more."""
        self.sent.clear()
        self.window = 0

    def plan(self, source: Source, now_ms: int) -> list[Row]:
        """The rows to publish now; they count as sent."""
        room = min(self.window - sum(entry.waiting for entry in self.sent.values()), self.most_unacked - len(self.sent))
        if now_ms < self._hold_ms or (self._holds and any(entry.waiting for entry in self.sent.values())):
            return []
        if any(until <= now_ms for until in self._denied.values()):
            self._denied = {kind: until for kind, until in self._denied.items() if until > now_ms}
            self._from_the_start(self._live)
        again = self._overdue(now_ms)[: max(0, self.window)]
        if self._holds:  # nobody listened: one asks
            again, room = again[:1], min(room, 1)
        rows = source.rows(again)
        for id_ in set(again) - {row.id for row in rows}:
            del self.sent[id_]  # merged, evicted or dropped meanwhile
        rows += self._fresh(source, room - len(rows), now_ms)
        for row in rows:
            self.sent[row.id] = _Sent(row.boot, row.seq, row.kind, now_ms + self.again_ms, waiting=True)
        return rows

    def _overdue(self, now_ms: int) -> list[int]:
        overdue = [id_ for id_, entry in self.sent.items() if entry.due_ms <= now_ms]
        if not overdue or now_ms - self._acked_ms < self.again_ms:
            return overdue
        if now_ms < self._probe_ms:
            return []
        self._probe_ms = now_ms + min(_LONGEST_PROBE_MS, self.again_ms << self._probes)
        self._probes += 1
        return overdue[:1]

    def _fresh(self, source: Source, room: int, now_ms: int) -> list[Row]:
        rows: list[Row] = []
        for name, above in (("live_events", None), ("live_health", None), ("events", self._live), ("health", self._live)):
            count = room - len(rows)
            if above is not None:
                count = min(count, self._allowance(now_ms))
            if count <= 0:
                continue
            found = source.events(self._cursors[name], count) if "events" in name else source.health(self._cursors[name], count)
            if above is not None:
                found = [row for row in found if row.id <= above]
                self._tokens -= len(found)
            if found:
                self._cursors[name] = found[-1].id
            rows += [row for row in found if row.id not in self.sent and row.kind not in self._denied]
        return rows

    def _allowance(self, now_ms: int) -> int:
        self._tokens = min(max(1.0, self.backlog_hz), self._tokens + (now_ms - self._token_ms) * self.backlog_hz / 1000)
        self._token_ms = now_ms
        return int(self._tokens)

    def puback(self, id: int, code: int, now_ms: int) -> None:  # noqa: A002
        """The broker answered a publish."""
        entry = self.sent.get(id)
        if entry is None:
            return
        entry.waiting = False
        if code == NO_SUBSCRIBERS:
            self.unlistened += 1
            if now_ms >= self._hold_ms:  # the others of one burst say the same once more
                self._holds = min(self._holds + 1, 4)
                self._hold_ms = now_ms + (self.again_ms // 4 << self._holds)
            entry.due_ms = self._hold_ms
            return
        if code < 0x80:
            self._holds = self._hold_ms = 0
            return
        self.refused += 1
        if code == NOT_AUTHORISED:
            self._denied[entry.kind] = now_ms + 10 * self.again_ms
            entry.due_ms = max(entry.due_ms, now_ms + 10 * self.again_ms)
        elif code == _QUOTA:
            self._hold_ms = now_ms + self.again_ms

    def acked(self, acked: Acked, now_ms: int) -> list[Key]:
        """The rows among those sent that the controller has committed; they are forgotten here. What was never sent is not believed."""
        ranges = sorted(acked.ranges)
        firsts = [first for first, _ in ranges]
        reach: list[int] = []  # the highest number that any range up to this one covers
        for _, last in ranges:
            reach.append(max(last, reach[-1] if reach else 0))
        done = []
        for id_, entry in self.sent.items():
            place = bisect_right(firsts, entry.seq) - 1
            if entry.boot == acked.boot and place >= 0 and entry.seq <= reach[place]:
                done.append(id_)
        keys = [(id_, self.sent[id_].boot, self.sent[id_].seq) for id_ in done]
        for id_ in done:
            del self.sent[id_]
        if done:
            self._acked_ms, self._probe_ms, self._probes = now_ms, 0, 0
        return keys

    def again(self, ids: Iterable[int], now_ms: int) -> None:
        """Send these rows soon: the cursors have passed them, but what was acknowledged was there before others were merged into them."""
        for id_ in ids:
            self.sent[id_] = _Sent(boot="", seq=0, kind="", due_ms=now_ms, waiting=False)  # nothing of it can be acknowledged yet
