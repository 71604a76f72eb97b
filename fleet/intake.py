"""What boxes say: judged without I/O, then committed, each message once.

A message is known by (device, boot, seq) for ever; sent twice it is the same message and is acknowledged again. What is wrong with a
message is counted by cause and logged once for each box; nothing a box sends can do more than that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgspec

from fleet import journal
from fleet.database import Database, Transaction
from fleet.desired import MOST_VERSION
from fleet.history import MOST_SERIES, Recorder, number
from fleet.lease import Lease
from fleet.present import Marks, merge
from fleet.sites import note_place
from runtime import telemetry as t
from runtime.telemetry import catalogue

__all__ = ["FUTURE_MS", "Accepted", "Committed", "Intake", "Rejected", "judge", "note_seen", "worst"]

FUTURE_MS = 10 * 60_000
"""A clock that is further ahead than this is wrong, whatever the box thinks: its messages are placed by their arrival."""
_EARLIEST_MS = 1_735_689_600_000  # 2025-01-01: no box is older
_MOST_SEQ = 2**62
"""So that the next number too is an integer of the database."""
_MANY = 500
_PART = re.compile(r"[a-z0-9_-]{1,32}")


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message to keep. `ts` is where it belongs in time, `body` None if only its number counts. `odd` says what was not right."""

    device: str
    envelope: t.Envelope
    body: Any
    ts: int
    arrived: int
    retained: bool = False
    odd: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message that is none: `device` is whoever the broker let write there, "" if that is not known."""

    device: str
    cause: str


def judge(topic: str, payload: bytes, retained: bool, tenant: str, now_ms: int) -> Accepted | Rejected:
    """What to do with a message that came at `now_ms` (wall time of the controller)."""
    try:
        where = t.parse_topic(topic)
    except t.Malformed:
        return Rejected("", "topic")
    if where.tenant != tenant or not isinstance(where.kind, t.UpKind):
        return Rejected("", "topic")
    body, odd = None, ""
    try:
        envelope, body = t.decode_up(payload)
    except t.TooLarge:
        return Rejected(where.device, "too_large")
    except t.Malformed:
        # If at least the envelope can be read the box is told to forget the message: it would send it for ever.
        odd = "malformed"
        try:
            envelope = msgspec.json.decode(payload, type=t.Envelope)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            return Rejected(where.device, odd)
    cause = _wrong(where, envelope, body, retained)
    if cause:
        return Rejected(where.device, cause)
    ts = envelope.ts
    if ts > now_ms + FUTURE_MS:
        odd, ts = odd or "future", now_ms
    elif envelope.clk is t.ClockState.UNSYNCED or ts < _EARLIEST_MS:
        ts = now_ms
    return Accepted(where.device, envelope, body, min(ts, now_ms), now_ms, retained, odd)


def _wrong(where: t.Topic, envelope: t.Envelope, body: Any, retained: bool) -> str:
    status = where.kind is t.UpKind.STATUS
    if envelope.dev != where.device or envelope.kind is not where.kind:
        return "impostor"
    if retained and not status:
        return "retained"
    if (envelope.seq == 0) != status or envelope.seq > _MOST_SEQ:
        return "seq"
    if status and (not isinstance(body, t.Status) or body.state not in ("online", "offline", "lost")):
        return "malformed"
    return ""


@lru_cache(maxsize=4096)
def _limits(name: str) -> tuple[float | None, float | None, bool] | None:
    """Where a metric is bad, where one should look, and whether from low values; None if it has no such limits."""
    row = t.metric(name)
    return None if row is None or (row.bad is None and row.warn is None) else (row.bad, row.warn, row.falling)


def worst(health: dict[str, Any]) -> str:
    """`ok`, `warn` or `bad` by the catalogue's thresholds; `unknown` without a report."""
    found = "ok" if health else "unknown"
    for name, value in health.items():
        if isinstance(value, (bool, str)):
            if value == "given_up" and name.startswith("node_state."):
                return "bad"
            continue
        limits = _limits(name)
        if limits is None:
            continue
        bad, warn, falling = limits
        for limit, verdict in ((bad, "bad"), (warn, "warn")):
            if limit is not None and (value <= limit if falling else value >= limit):
                found = verdict if verdict == "bad" or found != "bad" else found
                break
    return found


def note_seen(tx: Transaction, device: str, boot: str, seq: int) -> bool:
    """Whether this number is new. Numbers are kept as ranges: a box that loses nothing takes one row for each start."""
    # What comes in order, as nearly all does: the range that ends before it grows, and meets no other.
    begins = "SELECT 1 FROM seen s WHERE s.device = ? AND s.boot = ? AND s.first = ?"
    grows = f"UPDATE seen SET last = ? WHERE device = ? AND boot = ? AND last = ? AND NOT EXISTS ({begins})"  # noqa: S608 - values are bound
    if tx.count(grows, seq, device, boot, seq - 1, device, boot, seq + 1):
        return True
    below = tx.run(
        "SELECT first, last FROM seen WHERE device = ? AND boot = ? AND first <= ? ORDER BY first DESC LIMIT 1", device, boot, seq
    )
    if below and below[0][1] >= seq:
        return False
    above = tx.run("SELECT last FROM seen WHERE device = ? AND boot = ? AND first = ?", device, boot, seq + 1)
    last = above[0][0] if above else seq
    if above:
        tx.run("DELETE FROM seen WHERE device = ? AND boot = ? AND first = ?", device, boot, seq + 1)
    if below and below[0][1] == seq - 1:
        tx.run("UPDATE seen SET last = ? WHERE device = ? AND boot = ? AND first = ?", last, device, boot, below[0][0])
    else:
        tx.run("INSERT INTO seen (device, boot, first, last) VALUES (?, ?, ?, ?)", device, boot, seq, last)
    return True


@dataclass(slots=True)
class _Face:
    """A box's row while a batch is worked on."""

    state: str
    since: int
    seen: int
    born: int
    health: dict[str, Any]
    health_ts: int
    marks: Marks
    changed: bool = False


@dataclass(slots=True)
class Committed:
    """What a batch did: boxes that changed, that just came online, that told what they are; how many messages were known already."""

    devices: set[str] = field(default_factory=set)
    online: set[str] = field(default_factory=set)
    born: set[str] = field(default_factory=set)
    duplicates: int = 0
    late: list[tuple[str, int, dict[str, Any]]] = field(default_factory=list)  # health of another time: device, when, values
    strange: list[tuple[str, str]] = field(default_factory=list)  # device, cause
    renewals: list[tuple[str, str]] = field(default_factory=list)  # device, certificate request


class Intake:
    """Commits batches. For one thread at a time."""

    def __init__(self, db: Database, lease: Lease | None = None) -> None:
        self._db, self._lease, self._recorder = db, lease, Recorder()

    def commit(self, batch: Iterable[Accepted], now_ms: int) -> Committed:
        """All of it in one transaction. After this returns, and not before, the boxes may forget these messages."""
        done = Committed()
        try:
            with self._db.write() as tx:
                if self._lease is not None and not self._lease.holds(tx):
                    # Who is there is told in order to whoever leads; from anybody else it may be old.
                    batch = [message for message in batch if not isinstance(message.body, t.Status)]
                _Batch(tx, done, self._recorder, now_ms).run(batch)
        except BaseException:
            self._recorder.forget()
            raise
        return done


class _Batch:
    def __init__(self, tx: Transaction, done: Committed, recorder: Recorder, now_ms: int) -> None:
        self._tx, self._done, self._recorder, self._now = tx, done, recorder, now_ms
        self._faces: dict[str, _Face] = {}
        self._samples: list[tuple[str, str, int, float]] = []
        self._repeated: list[tuple[str, str, int, float]] = []
        self._came: set[str] = set()

    def run(self, batch: Iterable[Accepted]) -> None:
        """Every message, then what they add up to."""
        batch = list(batch)
        self._meet(sorted({message.device for message in batch}))
        for message in batch:
            if message.odd:
                self._done.strange.append((message.device, message.odd))
            if message.envelope.seq and not note_seen(self._tx, message.device, message.envelope.boot, message.envelope.seq):
                self._done.duplicates += 1
                continue
            self._take(message, self._face(message.device))
        self._recorder.write(self._tx, self._samples, self._repeated, self._now)
        self._store({name: face for name, face in self._faces.items() if face.changed})
        came = sorted(self._came)
        for begin in range(0, len(came), _MANY):
            journal.came(self._tx, came[begin : begin + _MANY])

    def _take(self, message: Accepted, face: _Face) -> None:
        body = message.body
        self._done.devices.add(message.device)
        if isinstance(body, t.Status):
            self._status(message.device, face, body.state, message)
            return
        if not message.envelope.hist:
            face.seen, face.changed = max(face.seen, message.arrived), True
            if face.state in ("silent", "new"):
                self._status(message.device, face, "online", message)
        if isinstance(body, t.Health):
            self._health(message, body, face)
        elif isinstance(body, t.EventBody):
            self._event(message, body)
        elif isinstance(body, t.Renew):
            self._done.renewals.append((message.device, body.request))
        elif isinstance(body, t.Birth):
            self._birth(message, body, face)
        elif isinstance(body, t.Answer):
            self._answer(message, body)
        elif isinstance(body, t.Reported):
            self._reported(message, body)

    def _status(self, device: str, face: _Face, state: str, message: Accepted) -> None:
        changed = state != face.state and not (message.retained and face.state == "silent")
        if state == "online":
            if not message.retained or face.state != "silent":
                face.seen = max(face.seen, message.arrived)
            self._done.online.add(device)
            if changed or not message.retained:  # else it is the controller that came
                self._came.add(device)
        if changed:
            severity = "warning" if state == "lost" else "info"
            _insert_event(self._tx, device, "", 0, message.arrived, message.arrived, f"box_{state}", severity, {})
            face.state, face.since = state, message.arrived
        face.changed = True

    def _health(self, message: Accepted, body: t.Health, face: _Face) -> None:
        values = {name: value for name, value in body.m.items() if not t.instance(name) or _PART.fullmatch(t.instance(name))}
        if len(face.health.keys() | values.keys()) > MOST_SERIES:
            self._done.strange.append((message.device, "too_many_metrics"))
            return
        if message.envelope.hist and message.ts != message.arrived:
            self._done.late.append((message.device, message.ts, values))
        repeats = body.full and message.ts >= face.health_ts and not self._recorder.first_of_hour(message.device, message.ts)
        known = face.health if repeats else {}
        for name, value in values.items():
            samples = self._repeated if known.get(name) == value else self._samples
            samples.append((message.device, name, message.ts, number(name, value)))
        if not _late(message):
            envelope = message.envelope
            now = (face.health, face.marks, face.health_ts)
            newer = merge(*now, values, whole=body.full, boot=envelope.boot, seq=envelope.seq, ts=message.ts)
            (face.health, face.marks, face.health_ts), face.changed = newer, True

    def _event(self, message: Accepted, body: t.EventBody) -> None:
        try:
            severity = catalogue.event(body.code).severity.value
        except KeyError:  # of a newer box
            severity = "info"
        envelope = message.envelope
        details = {**body.names, **body.numbers}
        moment = (envelope.boot, envelope.seq, message.ts, message.arrived)
        _insert_event(self._tx, message.device, *moment, body.code, severity, details, late=_late(message))

    def _birth(self, message: Accepted, body: t.Birth, face: _Face) -> None:
        if message.ts < face.born:
            return
        face.born = message.ts
        self._done.born.add(message.device)
        health_s = min(max(0.0, body.health_s), 3600.0)  # more would overflow where silence is judged; in this order NaN is 0
        site, model, release = body.attributes.get("site", ""), body.attributes.get("model", ""), body.versions.get("visavis", "")
        self._tx.run(
            "UPDATE device SET birth = ?, site = ?, model = ?, release = ?, health_s = ? WHERE name = ?",
            *(t.encode(body).decode(), site, model, release, health_s, message.device),
        )
        note_place(self._tx, message.device, body.attributes.get("position", ""))
        face.changed = True

    def _reported(self, message: Accepted, body: t.Reported) -> None:
        """The newest report counts, whatever its version: a box that lost its memory has an old one again."""
        if body.version > MOST_VERSION:
            self._done.strange.append((message.device, "version"))
            return
        told = msgspec.json.decode(self._tx.run("SELECT reported FROM device WHERE name = ?", message.device)[0][0])
        if _late(message) or message.ts < told.get("ts", 0):
            return
        held = {} if body.held_rung is msgspec.UNSET else {"rung": body.held_rung, "until": body.held_until or 0}
        text = _text({"reported": body.reported, "refused": body.refused, "held": held, "ts": message.ts})
        self._tx.run("UPDATE device SET reported = ?, reported_version = ? WHERE name = ?", text, body.version, message.device)

    def _answer(self, message: Accepted, body: t.Answer) -> None:
        # Only a command of ours to this very box; "interrupted" does not undo an answer.
        changed = self._tx.count(
            "UPDATE command SET state = 'answered', outcome = ?, reason = ?, result = ?, answered = ?, took_ms = ?"
            " WHERE id = ? AND device = ? AND state <> 'answered'",
            *(body.outcome.value, body.reason, _text(body.result), message.ts, body.took_ms, body.id, message.device),
        )
        if not changed and not self._tx.run("SELECT 1 FROM command WHERE id = ? AND device = ?", body.id, message.device):
            self._done.strange.append((message.device, "unknown_command"))

    def _meet(self, names: list[str]) -> None:
        """The rows of all boxes of the batch; asking for each by itself is what a distant store takes longest for."""
        columns = "name, state, since, seen, born, health, health_ts, marks"
        for begin in range(0, len(names), _MANY):
            part = names[begin : begin + _MANY]
            marks = ", ".join("?" * len(part))
            rows = self._tx.run(f"SELECT {columns} FROM device WHERE name IN ({marks})", *part)  # noqa: S608 - ours; values are bound
            for name, state, since, seen, born, health, health_ts, known in rows:
                present = msgspec.json.decode(health), health_ts, msgspec.json.decode(known, type=Marks)
                self._faces[name] = _Face(state, since, seen, born, *present)

    def _face(self, device: str) -> _Face:
        if device not in self._faces:
            sql = "INSERT INTO device (name, state, since, seen, created) VALUES (?, 'new', ?, 0, ?)"
            self._tx.run(sql, device, self._now, self._now)
            self._faces[device] = _Face("new", self._now, 0, 0, {}, 0, Marks())
        return self._faces[device]

    def _store(self, faces: dict[str, _Face]) -> None:
        self._tx.many(
            "UPDATE device SET state = ?, since = ?, seen = ?, born = ?, health = ?, health_ts = ?, marks = ?, state_of_health = ?"
            " WHERE name = ?",
            [
                (
                    *(face.state, face.since, face.seen, face.born, _text(face.health), face.health_ts, _text(face.marks)),
                    *(worst(face.health), name),
                )
                for name, face in faces.items()
            ],
        )


def _late(message: Accepted) -> bool:
    """Whether it was told long after it happened and nobody knows when: it is placed by its arrival and says nothing of the present."""
    return message.envelope.hist and message.ts == message.arrived


def _insert_event(
    tx: Transaction,
    device: str,
    boot: str,
    seq: int,
    ts: int,
    arrived: int,
    code: str,
    severity: str,
    details: dict[str, Any],
    *,
    late: bool = False,
) -> None:
    tx.run(
        "INSERT INTO event (device, boot, seq, ts, arrived, code, severity, details, late) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *(device, boot, seq, ts, arrived, code, severity, _text(details), int(late)),
    )


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
