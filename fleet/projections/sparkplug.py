"""Sparkplug B 3.0: the controller is one edge node, the boxes are its devices. The rules without I/O.

Every rule has its name in the specification (tck-id-…, sections 4 to 6 of Sparkplug 3.0.0); the tests carry these names. The boxes take
no commands by this way: whoever may command has a name at the controller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from fleet.projections.outlet import Publish
from fleet.projections.payload import Datatype, Malformed, Metric, Payload, decode, encode
from fleet.projections.source import Box, values
from runtime.telemetry import METRICS, STAGES, Per, Type
from runtime.telemetry import Metric as Row

__all__ = ["Ask", "Edge", "Sparkplug", "following", "is_sparkplug_id"]

NAMESPACE = "spBv1.0"
REBIRTH = "Node Control/Rebirth"
_TYPES = {
    Type.COUNT: Datatype.INT64,
    Type.INT: Datatype.INT64,
    Type.FLOAT: Datatype.DOUBLE,
    Type.BOOL: Datatype.BOOLEAN,
    Type.NAME: Datatype.STRING,
}
_FACTS = ("site", "model", "release", "condition")


class Sparkplug(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[sparkplug]`: group and edge node as the hosts see them; `primary_host` is the host whose STATE is waited for, "" none.

    `datatypes`: send them with data too; the specification recommends not to, but decoders that keep no state need them.
    """

    group: Annotated[str, Meta(min_length=1, max_length=100)]
    edge: Annotated[str, Meta(min_length=1, max_length=100)] = "visavis"
    primary_host: Annotated[str, Meta(max_length=100)] = ""
    datatypes: bool = True


class Ask(Enum):
    """What a message of a host asks of the connection."""

    NOTHING = "nothing"
    BIRTH = "birth"  # tell everything anew
    LEAVE = "leave"  # the primary host went: say farewell, disconnect, connect again


def is_sparkplug_id(text: str) -> bool:
    """Whether `text` may name a group, an edge node or a host (tck-id-topic-structure-namespace-valid-group-id and its kin)."""
    return bool(text) and not set(text) & set("+/#")


class _Device:
    """What the hosts know of a box since its birth."""

    def __init__(self) -> None:
        self.aliases: dict[str, int] = {}
        self.told: dict[str, Any] = {}
        self.kinds: dict[str, Datatype] = {}


def following(bd_seq: int) -> int:
    """The number of the CONNECT after this one; that before the first is -1."""
    return (bd_seq + 1) % 256


class Edge:
    """The edge node. `number` gives each CONNECT its own, as `following` does; where it is counted survives a restart."""

    def __init__(self, settings: Sparkplug, number: Callable[[int], int] = following) -> None:
        self._settings, self._bd_seq, self._number = settings, -1, number
        self._seq = 0
        self._next_alias = 0
        self._born = False
        self._devices: dict[str, _Device] = {}
        self._aliases: dict[tuple[str, str], int] = {}  # never given to another metric while this process lives
        self._host_ts = -1
        self.host_online = not settings.primary_host

    # --- the connection

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """Topics to subscribe to with QoS 1, before anything is published."""
        settings = self._settings
        own = (f"{NAMESPACE}/{settings.group}/NCMD/{settings.edge}",)
        return (*own, f"{NAMESPACE}/STATE/{settings.primary_host}") if settings.primary_host else own

    def will(self, now_ms: int) -> Publish:
        """The will of the next CONNECT: to be called once for each."""
        self._bd_seq = self._number(self._bd_seq)
        self._born, self._devices = False, {}
        # What the host said in the session before does not count: its STATE is retained and comes again.
        self.host_online = not self._settings.primary_host
        return self._death(now_ms, qos=1)

    def farewell(self, now_ms: int) -> list[Publish]:
        """The last words before an intended disconnect; none if there was no birth."""
        born, self._born = self._born, False
        return [self._death(now_ms, qos=0)] if born else []

    def _death(self, now_ms: int, qos: int) -> Publish:
        metric = Metric(name="bdSeq", ts=now_ms, datatype=Datatype.INT64, value=self._bd_seq)
        return Publish(self._topic("NDEATH"), encode(Payload(ts=now_ms, metrics=(metric,))), qos)

    # --- what the boxes say

    def begin(self, boxes: Iterable[Box], now_ms: int) -> Iterator[Publish]:
        """The whole birth: the node's, then that of every box that is online. None while the primary host is away."""
        if not self.host_online:
            return
        self._seq, self._devices, self._born = 0, {}, True
        metrics = (
            Metric(name="bdSeq", ts=now_ms, datatype=Datatype.INT64, value=self._bd_seq),
            Metric(name=REBIRTH, ts=now_ms, datatype=Datatype.BOOLEAN, value=False),
            Metric(name="Properties/maker", ts=now_ms, datatype=Datatype.STRING, value="Visavis"),
        )
        yield Publish(self._topic("NBIRTH"), encode(Payload(ts=now_ms, metrics=metrics, seq=0)))
        for box in boxes:
            yield from self.tell(box, now_ms)

    def tell(self, box: Box, now_ms: int) -> Iterator[Publish]:
        """What the hosts do not know of this box yet: its birth, what changed, or its death."""
        if not self._born:
            return
        device = self._devices.get(box.name)
        if not box.online:
            if device is not None:
                del self._devices[box.name]
                yield self._message("DDEATH", box.name, Payload(ts=now_ms, seq=self._count()))
            return
        current = _metrics(box)
        if device is None or current.keys() - device.told.keys():
            yield self._birth(box, current, now_ms)
            return
        changed = {name: (row, value) for name, (row, value) in current.items() if device.told[name] != value}
        if changed:
            device.told.update({name: value for name, (_, value) in changed.items()})
            ts = min(box.told, now_ms) or now_ms
            metrics = tuple(
                Metric(alias=device.aliases[name], ts=ts, datatype=device.kinds[name], value=value) for name, (_, value) in changed.items()
            )
            yield self._message("DDATA", box.name, Payload(ts=now_ms, metrics=metrics, seq=self._count()))

    def late(self, name: str, ts: int, health: dict[str, Any], now_ms: int) -> Iterator[Publish]:
        """Health that a box told long after it was so: as history, if the box is born and its birth named these metrics."""
        device = self._devices.get(name)
        if device is None or not self._born:
            return
        box = Box(name=name, state="online", condition="", site="", model="", release="", told=ts, values=health, gone=False)
        metrics = tuple(
            Metric(alias=device.aliases[path], ts=ts, datatype=device.kinds[path], historical=True, value=value)
            for path, (row, value) in _metrics(box).items()
            if row is not None and value is not None and path in device.aliases
        )
        if metrics:
            yield self._message("DDATA", name, Payload(ts=now_ms, metrics=metrics, seq=self._count()))

    def _birth(self, box: Box, current: dict[str, tuple[Row | None, Any]], now_ms: int) -> Publish:
        device = self._devices[box.name] = _Device()
        ts = min(box.told, now_ms) or now_ms
        metrics = []
        for name, (row, value) in current.items():
            kind = _TYPES[row.type] if row is not None else Datatype.STRING
            device.aliases[name], device.kinds[name], device.told[name] = self._alias(box.name, name), kind, value
            properties = {"documentation": row.title, **({"engUnit": row.unit} if row.unit else {})} if row is not None else {}
            metrics.append(Metric(name=name, alias=device.aliases[name], ts=ts, datatype=kind, value=value, properties=properties))
        return self._message("DBIRTH", box.name, Payload(ts=now_ms, metrics=tuple(metrics), seq=self._count()), birth=True)

    def _alias(self, device: str, name: str) -> int:
        key = (device, name)
        if key not in self._aliases:
            self._next_alias += 1
            self._aliases[key] = self._next_alias
        return self._aliases[key]

    def _count(self) -> int:
        self._seq = (self._seq + 1) % 256
        return self._seq

    def _message(self, verb: str, device: str, payload: Payload, *, birth: bool = False) -> Publish:
        return Publish(f"{self._topic(verb)}/{device}", encode(payload, datatypes=birth or self._settings.datatypes))

    def _topic(self, verb: str) -> str:
        return f"{NAMESPACE}/{self._settings.group}/{verb}/{self._settings.edge}"

    # --- what the hosts say

    def came(self, topic: str, payload: bytes) -> Ask:
        """A message of a host: a command to the node, or the state of the primary host. What is none of both is nothing."""
        commands, *state = self.subscriptions
        if topic == commands:
            try:
                asked = any(metric.name == REBIRTH and metric.value is True for metric in decode(payload).metrics)
            except (Malformed, msgspec.ValidationError):
                asked = False
            return Ask.BIRTH if asked and self._born else Ask.NOTHING
        return self._state(payload) if topic in state else Ask.NOTHING

    def _state(self, payload: bytes) -> Ask:
        try:
            state = msgspec.json.decode(payload, type=_State)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            return Ask.NOTHING
        if state.timestamp < self._host_ts:
            return Ask.NOTHING  # a will that the broker delivers after the host has long come back
        self._host_ts = state.timestamp
        was, self.host_online = self.host_online, state.online
        if state.online and not was:
            return Ask.BIRTH
        return Ask.LEAVE if was and not state.online else Ask.NOTHING


class _State(msgspec.Struct, frozen=True):
    """The host's word about itself."""

    online: bool
    timestamp: int


def _metrics(box: Box) -> dict[str, tuple[Row | None, Any]]:
    """All that may ever be told of this box, by its name there, with the value or None: of the catalogue, and what the box is."""
    found: dict[str, tuple[Row | None, Any]] = {}
    for row in METRICS:
        parts = {Per.BOX: ("",), Per.STAGE: STAGES, Per.NODE: ()}[row.per]
        for part in parts:
            found[_path(row, part)] = (row, None)
    for name, row, value in values(box):
        found[_path(row, name.partition(".")[2])] = (row, value)
    for fact in _FACTS:
        found[f"Properties/{fact}"] = (None, getattr(box, fact))
    return found


def _path(row: Row, part: str) -> str:
    return f"{row.group.value}/{row.name}/{part}" if part else f"{row.group.value}/{row.name}"
