"""What a box may say of itself, as data: metrics, events and the commands it knows.

Everything that leaves the box is named here; what is not named does not leave. The same rows make the JSON Schema, the console's
charts and the projections to Sparkplug B, Home Assistant and Prometheus.

A metric that exists once per node or per stage of a turn has `per` set and travels as `name.instance`, e.g. `stage_p95_ms.sound_heard`.
"""

from __future__ import annotations

from enum import Enum

import msgspec

__all__ = ["EVENTS", "METRICS", "STAGES", "Event", "Group", "Metric", "Per", "Severity", "Type", "instance", "metric", "valid"]


class Group(str, Enum):
    """Where an admin looks for a metric."""

    TALK = "talk"  # conversations and how fast they are
    FACE = "face"
    SOUND = "sound"
    HEAT = "heat"
    MACHINE = "machine"
    NODES = "nodes"
    UPLINK = "uplink"


class Type(str, Enum):
    """How the value travels in JSON."""

    COUNT = "count"  # a whole number that only grows until the process that counts is restarted
    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    NAME = "name"  # one of `values`


class Per(str, Enum):
    """What a metric exists several times for."""

    BOX = "box"
    NODE = "node"
    STAGE = "stage"


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the catalogue.

    A value is sent when it moved by more than `deadband` since it was last sent. `warn` and `bad` are where an admin should look and
    act, from `low` values if `falling` is true. Values outside `low` to `high` are measurement errors and are not sent.
    """

    name: str
    title: str
    group: Group
    type: Type
    unit: str = ""  # as Prometheus spells base units where there is one: seconds, bytes, celsius, ratio
    per: Per = Per.BOX
    deadband: float = 0.0
    low: float = 0.0
    high: float = 1e15
    warn: float | None = None
    bad: float | None = None
    falling: bool = False
    values: tuple[str, ...] = ()


class Severity(str, Enum):
    """What an event asks of an admin."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of event and the only details it may carry: names from a closed list, or numbers."""

    code: str
    title: str
    severity: Severity
    names: tuple[str, ...] = ()  # details that are names of nodes, states, kinds
    numbers: tuple[str, ...] = ()


STAGES = ("silence", "judged", "transcript", "asked", "reply_first", "granted", "speech_first", "sound_sent", "sound_heard", "frame_first")
"""Stages of a turn whose distance from the end of the visitor's speech is told."""


def _row(name: str, title: str, group: Group, type: Type, unit: str = "", **more: object) -> Metric:  # noqa: A002
    return msgspec.convert({"name": name, "title": title, "group": group, "type": type, "unit": unit, **more}, Metric)


METRICS: tuple[Metric, ...] = (
    # --- talk
    _row("visits", "Visits", Group.TALK, Type.COUNT),
    _row("turns", "Turns", Group.TALK, Type.COUNT),
    _row("turns_aborted", "Turns the visitor stopped", Group.TALK, Type.COUNT),
    _row("turns_superseded", "Answers prepared in vain", Group.TALK, Type.COUNT),
    _row("objectives", "Objectives of the pack that visits reached", Group.TALK, Type.COUNT),
    _row("session", "Visit", Group.TALK, Type.NAME, values=("attract", "engaged", "still_there")),
    _row("stage_p50_ms", "After the end of speech, median", Group.TALK, Type.FLOAT, "ms", per=Per.STAGE, deadband=20, high=60_000),
    _row(
        "stage_p95_ms",
        "After the end of speech, 95 %",
        Group.TALK,
        Type.FLOAT,
        "ms",
        per=Per.STAGE,
        deadband=50,
        high=60_000,
        warn=1500,
        bad=3000,
    ),
    # --- face
    _row("fps", "Frames drawn by the renderer", Group.FACE, Type.FLOAT, "hertz", deadband=1, high=240, warn=24, bad=15, falling=True),
    _row("frames_skipped", "Frames the stage passed over", Group.FACE, Type.COUNT),
    _row("page_fps", "Frames drawn by the page", Group.FACE, Type.FLOAT, "hertz", deadband=1, high=240, warn=24, bad=15, falling=True),
    _row("page_beats", "Heartbeats of the page", Group.FACE, Type.COUNT, deadband=30),
    _row("page_underruns", "Sound gaps at the page", Group.FACE, Type.COUNT),
    _row("rung", "Rung of the quality ladder, 0 is the best", Group.FACE, Type.INT, high=32),
    _row(
        "rung_reason",
        "Why that rung",
        Group.FACE,
        Type.NAME,
        values=("best", "heat", "throttle", "power", "memory", "late_frames", "load", "override", "other"),
    ),
    _row("rung_held", "The fleet holds that rung for another", Group.FACE, Type.INT, "seconds", high=100_000),
    # --- sound
    _row("mic_level_db", "Loudest voice since the last report", Group.SOUND, Type.FLOAT, "dBFS", deadband=3, low=-120, high=12),
    _row("mic_live", "Microphone there", Group.SOUND, Type.BOOL),
    # --- heat and power
    _row("temperature", "Hottest sensor", Group.HEAT, Type.FLOAT, "celsius", deadband=1, low=-40, high=150, warn=85, bad=95),
    _row(
        "thermal_margin",
        "Degrees to the first trip point",
        Group.HEAT,
        Type.FLOAT,
        "celsius",
        deadband=1,
        low=-60,
        high=150,
        warn=8,
        bad=2,
        falling=True,
    ),
    _row("throttled", "Clocks held down", Group.HEAT, Type.BOOL),
    _row("heat_steps", "Steps the governor has taken against heat", Group.HEAT, Type.INT, high=32, warn=1),
    _row("heat_alarm", "The governor calls for a technician", Group.HEAT, Type.BOOL),
    _row("power_watts", "Power of the largest rail", Group.HEAT, Type.FLOAT, "watts", deadband=1, high=2000),
    _row("gpu_load", "GPU load", Group.HEAT, Type.FLOAT, "ratio", deadband=0.1, high=1),
    # --- machine
    _row("uptime", "Since the machine started", Group.MACHINE, Type.INT, "seconds", deadband=600),
    _row("load", "Load per core, one minute", Group.MACHINE, Type.FLOAT, "ratio", deadband=0.2, high=1000, warn=1.5, bad=3),
    _row("memory_free", "Memory available", Group.MACHINE, Type.FLOAT, "ratio", deadband=0.02, high=1, warn=0.1, bad=0.04, falling=True),
    _row(
        "disk_free",
        "Space on the data partition",
        Group.MACHINE,
        Type.FLOAT,
        "ratio",
        deadband=0.01,
        high=1,
        warn=0.1,
        bad=0.02,
        falling=True,
    ),
    _row("clock_synced", "Wall clock set by a time server", Group.MACHINE, Type.BOOL),
    # --- nodes
    _row("node_state", "State", Group.NODES, Type.NAME, per=Per.NODE, values=("starting", "ready", "down", "given_up")),
    _row("node_restarts", "Restarts", Group.NODES, Type.COUNT, per=Per.NODE, warn=3),
    _row("node_cpu", "CPU, of one core", Group.NODES, Type.FLOAT, "percent", per=Per.NODE, deadband=5, high=10_000),
    _row("node_memory", "Memory (PSS)", Group.NODES, Type.FLOAT, "megabytes", per=Per.NODE, deadband=5, high=1e6),
    _row("bus_dropped", "Messages dropped between nodes", Group.NODES, Type.COUNT),
    # --- uplink
    _row("outbox_rows", "Waiting for the controller", Group.UPLINK, Type.INT, deadband=20),
    _row("outbox_size", "Size of the outbox", Group.UPLINK, Type.INT, "bytes", deadband=100_000),
    _row("outbox_merged", "Health reports merged to save space", Group.UPLINK, Type.COUNT),
    _row("outbox_evicted", "Reports dropped for want of space or age", Group.UPLINK, Type.COUNT, warn=1),
    _row("outbox_unstored", "Reports the disk did not take", Group.UPLINK, Type.COUNT, warn=1),
    _row("outbox_corrupt", "Times the outbox was found damaged", Group.UPLINK, Type.COUNT, warn=1),
    _row("connects", "Connections to the broker", Group.UPLINK, Type.COUNT),
    _row(
        "certificate_left",
        "Certificate still valid for",
        Group.UPLINK,
        Type.INT,
        "seconds",
        deadband=86_400,
        low=-1e10,
        warn=7 * 86_400,
        bad=86_400,
        falling=True,
    ),
    _row("refused_messages", "Messages from the fleet that were not obeyed", Group.UPLINK, Type.COUNT, warn=1),
)


EVENTS: tuple[Event, ...] = (
    Event(
        code="node_down", title="A node ended and is restarted", severity=Severity.WARNING, names=("node", "cause"), numbers=("restarts",)
    ),
    Event(code="node_given_up", title="A node cannot come back", severity=Severity.ERROR, names=("node", "cause"), numbers=("restarts",)),
    Event(code="node_ready", title="A node is back", severity=Severity.INFO, names=("node",), numbers=("restarts",)),
    Event(code="kiosk_started", title="The kiosk started", severity=Severity.INFO),
    Event(code="pack_changed", title="Another experience pack serves", severity=Severity.INFO),
    Event(code="pack_waits", title="The experience pack changes when the visitor has gone", severity=Severity.INFO),
    # cause: broken, start (a node did not come up with it), waited (somebody was there all the time), lost (chosen, but not there any more)
    Event(code="pack_refused", title="The experience pack stays as it is", severity=Severity.WARNING, names=("cause",)),
    Event(code="outbox_damaged", title="The outbox was damaged and began anew", severity=Severity.ERROR, numbers=("times",)),
    Event(code="outbox_unwritable", title="The disk takes no reports", severity=Severity.ERROR, names=("cause",)),
    Event(code="outbox_writable", title="The disk takes reports again", severity=Severity.INFO, numbers=("unstored",)),
    Event(code="certificate_renewed", title="The box has a new certificate", severity=Severity.INFO),
    Event(code="certificate_refused", title="The box gets no new certificate", severity=Severity.ERROR, names=("cause",)),
    Event(code="identity_in_use", title="Another machine uses this box's identity", severity=Severity.ERROR),
    Event(
        code="message_refused",
        title="A message from the fleet was not obeyed",
        severity=Severity.WARNING,
        names=("cause",),
        numbers=("times",),
    ),
    Event(code="command_run", title="A command was carried out", severity=Severity.INFO, names=("name", "outcome")),
)

_METRICS = {row.name: row for row in METRICS}
_EVENTS = {row.code: row for row in EVENTS}


def metric(name: str) -> Metric | None:
    """The row of a metric as it travels (`name` or `name.instance`); None if there is none."""
    base, dot, part = name.partition(".")
    row = _METRICS.get(base)
    return row if row is not None and bool(dot) == (row.per is not Per.BOX) and bool(part) == bool(dot) else None


def event(code: str) -> Event:
    """The row of an event; KeyError if there is none."""
    return _EVENTS[code]


def instance(name: str) -> str:
    """The instance in a metric's name: `voice` of `node_cpu.voice`, "" where there is none."""
    return name.partition(".")[2]


def valid(row: Metric, value: object) -> bool:
    """Whether `value` may travel as this metric: right type, in range, a name from the row's own list."""
    if row.type is Type.NAME:
        return isinstance(value, str) and value in row.values
    if row.type is Type.BOOL:
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    whole = row.type in (Type.COUNT, Type.INT)
    return row.low <= value <= row.high and (not whole or isinstance(value, int))
