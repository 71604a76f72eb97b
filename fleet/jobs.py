"""Jobs in the store: made, driven by people, stepped by the controller.

Every step is one transaction: what the rules decide (`rollout`), the commands or settings that follow from it, and where each box stands
are committed together. A controller that is killed at any moment therefore goes on where it was; a command's name follows from job, box
and attempt, so that what is sent again is the same command, which a box does once.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec

from fleet import desired, windows
from fleet.database import Database, Transaction
from fleet.errors import BadRequest
from fleet.job_spec import Spec
from fleet.rollout import (
    Abort,
    Action,
    Approve,
    BoxState,
    Event,
    Heard,
    Join,
    Leave,
    Pause,
    Resume,
    Retry,
    Rollout,
    Send,
    Start,
    Tick,
    begin,
    decide,
)
from fleet.selection import Run, Selection, select

__all__ = ["ACTS", "Act", "Kept", "Note", "Stepped", "act", "create", "load", "prune", "remove", "step", "waiting"]

MOST_NOTES = 200
_ENDED = ("done", "aborted")
Act = Literal["start", "pause", "resume", "approve", "abort", "retry"]
ACTS: dict[str, Callable[[], Event]] = {
    "start": Start,
    "pause": Pause,
    "resume": Resume,
    "approve": Approve,
    "abort": Abort,
    "retry": Retry,
}
_SAID = {
    "start": "started",
    "pause": "paused",
    "resume": "resumed",
    "approve": "the next phase approved",
    "abort": "aborted",
    "retry": "failed and missed boxes are tried again",
}
_NOT = {"approve": "there is no phase to approve now", "retry": "no box to try again: none has failed or was missed"}


class Note(msgspec.Struct, frozen=True):
    """Something that happened to a job; `author` "" is the controller itself."""

    ts: int
    author: str
    text: str


class _Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a Rollout beside its boxes, and the job's story."""

    bounds: tuple[float, ...] = ()
    phase: int = 0
    met_since: int = 0
    approved: bool = False
    forgiven: tuple[int, ...] = ()
    waived: tuple[int, ...] = ()
    reason: str = ""
    notes: tuple[Note, ...] = ()


class _Birth(msgspec.Struct, frozen=True):
    attributes: dict[str, str] = {}


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it is in the store; `boxes` of `rollout` are empty if they were not asked for."""

    id: str
    author: str
    created: int
    changed: int
    spec: Spec
    rollout: Rollout
    notes: tuple[Note, ...]


class Stepped(msgspec.Struct, kw_only=True):
    """What a step did: boxes with a new command to be sent, with new settings to be sent, that moved; jobs that changed."""

    commands: set[str] = msgspec.field(default_factory=set)
    shadows: set[str] = msgspec.field(default_factory=set)
    boxes: set[str] = msgspec.field(default_factory=set)
    jobs: set[str] = msgspec.field(default_factory=set)


# --- the store --------------------------------------------------------------------------------------------------------------

_COLUMNS = "id, author, created, changed, state, spec, progress"


def load(run: Run, id: str = "", *, limit: int = 100, boxes: bool = False) -> list[Kept]:  # noqa: A002
    """One job, or the newest ones."""
    where, values = ("WHERE id = ?", (id,)) if id else ("", ())
    rows = run(f"SELECT {_COLUMNS} FROM job {where} ORDER BY created DESC, id LIMIT {max(1, min(limit, 1000))}", *values)  # noqa: S608 - ours
    return [_kept(row, _boxes(run, row[0]) if boxes else {}) for row in rows]


def _boxes(run: Run, id: str) -> dict[str, BoxState]:  # noqa: A002
    rows = run("SELECT device, phase, state, attempt, since, reason FROM job_box WHERE job = ?", id)
    return {row[0]: BoxState(*row[1:]) for row in rows}


def _kept(row: tuple[Any, ...], boxes: dict[str, BoxState]) -> Kept:
    spec = msgspec.json.decode(row[5], type=Spec)
    progress = msgspec.json.decode(row[6], type=_Progress)
    fields = {name: getattr(progress, name) for name in _Progress.__struct_fields__ if name != "notes"}
    rollout = Rollout(id=row[0], plan=spec.plan, boxes=boxes, state=row[4], **fields)
    return Kept(id=row[0], author=row[1], created=row[2], changed=row[3], spec=spec, rollout=rollout, notes=progress.notes)


def _one(run: Run, id: str) -> Kept:  # noqa: A002
    found = load(run, id, boxes=True)
    if not found:
        raise BadRequest("there is no such rollout")
    return found[0]


def create(db: Database, spec: Spec, author: str, now_ms: int) -> str:
    """Keep a draft; returns its id. Raises BadRequest."""
    spec.check()
    made = Kept(
        id=secrets.token_hex(6),
        author=author,
        created=now_ms,
        changed=now_ms,
        spec=spec,
        rollout=Rollout(id="", plan=spec.plan),
        notes=(Note(now_ms, author, "made"),),
    )
    with db.write() as tx:
        tx.run(
            "INSERT INTO job (id, author, created, changed, state, alive, spec, progress) VALUES (?, ?, ?, ?, 'draft', 0, ?, ?)",
            *(made.id, author, now_ms, now_ms, _text(spec), _text(_progress(made))),
        )
    return made.id


def remove(db: Database, id: str) -> None:  # noqa: A002
    """Forget a job that never began or has ended. Raises BadRequest."""
    with db.write() as tx:
        if _one(tx.run, id).rollout.state not in ("draft", *_ENDED):
            raise BadRequest("a rollout that has begun is aborted before it can be removed")
        tx.run("DELETE FROM job_box WHERE job = ?", id)
        tx.run("DELETE FROM job WHERE id = ?", id)


def prune(db: Database, before_ms: int) -> None:
    """Forget jobs that ended before this."""
    with db.write() as tx:
        old = "SELECT id FROM job WHERE state IN ('done', 'aborted') AND changed < ?"
        tx.run(f"DELETE FROM job_box WHERE job IN ({old})", before_ms)  # noqa: S608 - ours
        tx.run("DELETE FROM job WHERE state IN ('done', 'aborted') AND changed < ?", before_ms)


def _progress(kept: Kept) -> _Progress:
    fields = {name: getattr(kept.rollout, name) for name in _Progress.__struct_fields__ if name != "notes"}
    return _Progress(notes=kept.notes[-MOST_NOTES:], **fields)


def _save(tx: Transaction, old: Kept, new: Kept, heard: frozenset[str], versions: dict[str, int]) -> None:
    rows = []
    for name, box in new.rollout.boxes.items():
        if old.rollout.boxes.get(name) is box:
            continue
        awaited = box.state == "sent" or (box.state == "failed" and name not in heard)
        rows.append(
            (
                *(new.id, name, box.phase, box.state, box.attempt, box.since, box.reason),
                *(command_id(new.id, name, box.attempt), versions.get(name, 0), int(awaited)),
            )
        )
    tx.many(
        "INSERT INTO job_box (job, device, phase, state, attempt, since, reason, command, version, awaited)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (job, device) DO UPDATE SET state = excluded.state,"
        " attempt = excluded.attempt, since = excluded.since, reason = excluded.reason, command = excluded.command,"
        " version = CASE WHEN excluded.version > 0 THEN excluded.version ELSE job_box.version END, awaited = excluded.awaited",
        rows,
    )
    alive = new.rollout.state == "running" or any(box.state == "sent" for box in new.rollout.boxes.values())
    tx.run(
        "UPDATE job SET changed = ?, state = ?, alive = ?, progress = ? WHERE id = ?",
        *(new.changed, new.rollout.state, int(alive), _text(_progress(new)), new.id),
    )


def command_id(job: str, device: str, attempt: int) -> str:
    """The name of a command: the same for the same attempt, whoever sends it and however often."""
    return "j" + hashlib.sha256(f"{job}\0{device}\0{attempt}".encode()).hexdigest()[:30]


# --- what happens to a job ----------------------------------------------------------------------------------------------------


def act(db: Database, id: str, what: str, author: str, now_ms: int) -> Stepped:  # noqa: A002
    """What a person wants: one of ACTS. Raises BadRequest if that does not fit now."""
    with db.write() as tx:
        old = _one(tx.run, id)
        rollout = old.rollout
        if what == "start" and rollout.state == "draft":
            names = select(tx.run, old.spec.selection)
            if not names:
                raise BadRequest("no box is selected")
            rollout = begin(id, old.spec.plan, names)
        after, actions = decide(rollout, ACTS[what](), now_ms)
        if after is rollout:
            raise BadRequest(_NOT.get(what, "") or f"{what}: not while the rollout is {rollout.state}")
        return _finish(tx, old, after, actions, now_ms, author=author, said=_SAID[what])


def waiting(db: Database) -> list[str]:
    """Jobs that may have something to do: those that run, and those of which a box has answered."""
    rows = db.read("SELECT id FROM job WHERE alive = 1")
    rows += db.read(f"SELECT DISTINCT b.job {_ANSWERED}")
    rows += db.read(f"SELECT DISTINCT b.job {_REPORTED}")
    return sorted({row[0] for row in rows})


def step(db: Database, id: str, now_ms: int) -> Stepped:  # noqa: A002
    """Let a job go on. Looks first without a transaction: mostly there is nothing to do."""
    found = load(db.read, id, boxes=True)
    if not found or _decide(db.read, found[0], now_ms)[0] is found[0].rollout:
        return Stepped()
    with db.write() as tx:
        old = _one(tx.run, id)
        after, actions, heard = _decide(tx.run, old, now_ms)
        return _finish(tx, old, after, actions, now_ms, heard=heard)


def _decide(run: Run, kept: Kept, now_ms: int) -> tuple[Rollout, list[Action], frozenset[str]]:
    job, answers = kept.rollout, _answers(run, kept)
    for answer in answers:
        job, _ = decide(job, answer, now_ms)
    if job.state == "running" and kept.spec.dynamic:
        job = _selected(run, job, kept.spec.selection, now_ms)
    job, actions = decide(job, Tick(_ready(run, kept, job, now_ms)), now_ms)
    return job, actions, frozenset(answer.name for answer in answers)


def _selected(run: Run, job: Rollout, selection: Selection, now_ms: int) -> Rollout:
    names = set(select(run, selection))
    gone = tuple(name for name, box in job.boxes.items() if box.state in ("waiting", "due") and name not in names)
    fresh = tuple(sorted(name for name in names if name not in job.boxes or job.boxes[name].state == "dropped"))
    for event in (Leave(gone), Join(fresh)):
        if event.names:
            job, _ = decide(job, event, now_ms)
    return job


_ANSWERED = "FROM job_box b JOIN command c ON c.id = b.command WHERE b.awaited = 1 AND c.state = 'answered'"
_REPORTED = "FROM job_box b JOIN device d ON d.name = b.device WHERE b.awaited = 1 AND b.version > 0 AND d.reported_version >= b.version"


def _answers(run: Run, kept: Kept) -> list[Heard]:
    """What boxes have said of their last attempt and was not counted yet."""
    wanted = kept.spec.task.settings
    if not wanted:
        rows = run(f"SELECT b.device, b.attempt, c.outcome, c.reason {_ANSWERED} AND b.job = ?", kept.id)
        return [Heard(row[0], row[1], row[2] == "done", "" if row[2] == "done" else row[3] or row[2]) for row in rows]
    found = []
    for device, attempt, text in run(f"SELECT b.device, b.attempt, d.reported {_REPORTED} AND b.job = ?", kept.id):
        told = msgspec.json.decode(text)
        reported, refused = told.get("reported", {}), told.get("refused", {})
        why = [
            f"{name}: {refused.get(name, 'changed by somebody else')}"
            for name, value in wanted.items()
            if value is not None and (name in refused or reported.get(name) != value)
        ]
        found.append(Heard(device, attempt, not why, "; ".join(why)[:200]))
    return found


def _ready(run: Run, kept: Kept, job: Rollout, now_ms: int) -> frozenset[str]:
    """Boxes that may be sent to now: online, their window open, their delay over."""
    if job.state != "running":
        return frozenset()
    spec, found = kept.spec, set()
    birth = "d.birth" if spec.window is not None else "'{}'"
    rows = run(
        f"SELECT b.device, {birth} FROM job_box b JOIN device d ON d.name = b.device WHERE b.job = ? AND b.phase <= ?"  # noqa: S608 - ours
        " AND b.state IN ('waiting', 'due') AND d.state = 'online'",
        *(kept.id, job.phase + 1),
    )
    for name, text in rows:
        box = job.boxes.get(name)
        if box is None or box.state not in ("waiting", "due"):
            continue
        delay = windows.share(kept.id, name, "delay") * spec.jitter_s if spec.jitter_s else 0.0
        if spec.window is None:
            since = now_ms if box.state == "waiting" else box.since  # its turn may come in this very step
            if now_ms >= since + delay * 1000:
                found.add(name)
            continue
        attributes = msgspec.json.decode(text, type=_Birth).attributes
        zone = windows.zone(attributes.get("timezone", "")) or windows.zone(spec.zone)
        if zone is not None and windows.is_open(windows.own_window(attributes) or spec.window, zone, now_ms, delay):
            found.add(name)
    return frozenset(found)


def _finish(
    tx: Transaction,
    old: Kept,
    rollout: Rollout,
    actions: Iterable[Action],
    now_ms: int,
    *,
    author: str = "",
    said: str = "",
    heard: frozenset[str] = frozenset(),
) -> Stepped:
    """Carry out what was decided, and keep it: all in this transaction."""
    done = Stepped(jobs={old.id})
    versions: dict[str, int] = {}
    for action in actions:
        if not isinstance(action, Send):
            id_ = command_id(old.id, action.name, action.attempt)
            tx.run("UPDATE command SET state = 'withdrawn' WHERE id = ? AND state IN ('queued', 'sent')", id_)
        elif old.spec.task.command:
            _command(tx, old, action, now_ms)
            done.commands.add(action.name)
        else:
            versions[action.name] = desired.change_own(tx, action.name, old.spec.task.settings, now_ms, anew=True)
            done.shadows.add(action.name)
    notes = [Note(now_ms, author, said)] if said else []
    before = old.rollout
    if rollout.phase != before.phase:
        notes.append(Note(now_ms, "", f"phase {rollout.phase + 1} began"))
    if rollout.state != before.state and not said:
        notes.append(Note(now_ms, "", f"stopped: {rollout.reason}" if rollout.state == "stopped" else rollout.state))
    new = msgspec.structs.replace(old, rollout=rollout, changed=now_ms, notes=(*old.notes, *notes))
    done.boxes = {name for name, box in rollout.boxes.items() if before.boxes.get(name) is not box}
    _save(tx, old, new, heard, versions)
    return done


def _command(tx: Transaction, kept: Kept, send: Send, now_ms: int) -> None:
    tx.run(
        "INSERT INTO command (id, device, name, args, author, issued, expires, state) VALUES (?, ?, ?, ?, ?, ?, ?, 'queued')"
        " ON CONFLICT (id) DO NOTHING",
        *(command_id(kept.id, send.name, send.attempt), send.name, kept.spec.task.command, _text(kept.spec.task.args)),
        *(f"rollout {kept.spec.title} ({kept.author})"[:200], now_ms, send.until),
    )


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
