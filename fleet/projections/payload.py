"""The payload of Sparkplug B 3.0, as far as an edge node writes and reads it.

Protocol buffers, sparkplug_b.proto of Eclipse Tahu (proto2): field numbers and datatypes are those of the specification, section 6.4.
No sets, templates and files: the catalogue has none.
"""

from __future__ import annotations

import struct
from enum import IntEnum

import msgspec

__all__ = ["Datatype", "Malformed", "Metric", "Payload", "decode", "encode"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MASK64 = (1 << 64) - 1


class Malformed(Exception):
    """These bytes are no payload."""


class Datatype(IntEnum):
    """What a metric's value is."""

    INT32 = 3
    INT64 = 4
    UINT64 = 8
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One metric; without `value` it is null. `ts` in ms. `properties` are texts by name. A `datatype` of None is not sent."""

    name: str = ""
    alias: int | None = None
    ts: int | None = None
    datatype: int | None = None
    historical: bool = False
    value: int | float | bool | str | None = None
    properties: dict[str, str] = {}


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """A message; NDEATH has no `seq`."""

    ts: int
    metrics: tuple[Metric, ...] = ()
    seq: int | None = None


def encode(payload: Payload, *, datatypes: bool = True) -> bytes:
    """The message's bytes. `datatypes` false leaves them out, as the specification recommends for data by alias."""
    out = _field_int(1, payload.ts)
    for metric in payload.metrics:
        out += _field_bytes(2, _metric(metric, datatypes=datatypes))
    return out if payload.seq is None else out + _field_int(3, payload.seq)


def decode(data: bytes) -> Payload:
    """A message of somebody else, e.g. a command. Values of kinds that are not ours are None. Raises Malformed, never anything else."""
    try:
        ts, seq, metrics = 0, None, []
        for number, value in _fields(data):
            if number == 1 and isinstance(value, int):
                ts = value
            elif number == 2 and isinstance(value, bytes):
                metrics.append(_read_metric(value))
            elif number == 3 and isinstance(value, int):
                seq = value
        return Payload(ts=ts, metrics=tuple(metrics), seq=seq)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise Malformed(f"no Sparkplug payload: {error}") from None


# --- one metric


def _metric(metric: Metric, *, datatypes: bool) -> bytes:
    out = b""
    if metric.name:
        out += _field_bytes(1, metric.name.encode())
    if metric.alias is not None:
        out += _field_int(2, metric.alias)
    if metric.ts is not None:
        out += _field_int(3, metric.ts)
    if metric.datatype is not None and datatypes:
        out += _field_int(4, metric.datatype)
    if metric.historical:
        out += _field_int(5, 1)
    if metric.value is None:
        out += _field_int(7, 1)
    if metric.properties:
        out += _field_bytes(9, _properties(metric.properties))
    return out if metric.value is None else out + _value(metric.datatype, metric.value)


def _value(datatype: int | None, value: float | bool | str) -> bytes:
    if datatype == Datatype.STRING:
        return _field_bytes(15, str(value).encode())
    if datatype == Datatype.BOOLEAN:
        return _field_int(14, int(bool(value)))
    if datatype == Datatype.DOUBLE:
        return _key(13, _FIXED64) + struct.pack("<d", float(value))
    if datatype == Datatype.INT32:
        return _field_int(10, int(value) & 0xFFFFFFFF)  # two's complement in an unsigned field
    return _field_int(11, int(value) & _MASK64)


def _properties(texts: dict[str, str]) -> bytes:
    keys = b"".join(_field_bytes(1, name.encode()) for name in texts)
    kind = _field_int(1, Datatype.STRING)
    return keys + b"".join(_field_bytes(2, kind + _field_bytes(8, text.encode())) for text in texts.values())


def _read_metric(data: bytes) -> Metric:
    found: dict[str, int | float | bool | str | None] = {}
    names = {2: "alias", 3: "ts", 4: "datatype"}
    raw: tuple[int, int | bytes] | None = None
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            found["name"] = value.decode()
        elif number in names and isinstance(value, int):
            found[names[number]] = value
        elif number == 5:
            found["historical"] = bool(value)
        elif 10 <= number <= 15:
            raw = number, value
    return msgspec.convert({**found, "value": _read_value(raw, found.get("datatype"))}, Metric)


def _read_value(raw: tuple[int, int | bytes] | None, datatype: object) -> int | float | bool | str | None:
    if raw is None:
        return None
    number, value = raw
    if isinstance(value, int):
        if number == 14:
            return bool(value)
        bits = {10: 32, 11: 64}.get(number, 64)
        signed = datatype in (Datatype.INT32, Datatype.INT64)
        return value - (1 << bits) if signed and value >> (bits - 1) else value
    if number == 13:
        return float(struct.unpack("<d", value)[0])
    if number == 12:
        return float(struct.unpack("<f", value)[0])
    return value.decode() if number == 15 else None


# --- the wire format of protocol buffers


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _key(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _field_int(number: int, value: int) -> bytes:
    return _key(number, _VARINT) + _varint(value)


def _field_bytes(number: int, value: bytes) -> bytes:
    return _key(number, _BYTES) + _varint(len(value)) + value


def _fields(data: bytes) -> list[tuple[int, int | bytes]]:
    found: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _read_varint(data, at)
            found.append((key >> 3, value))
            continue
        if kind == _BYTES:
            size, at = _read_varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise Malformed(f"no Sparkplug payload: wire type {kind}")
        if at + size > len(data):
            raise Malformed("no Sparkplug payload: it ends too soon")
        found.append((key >> 3, data[at : at + size]))
        at += size
    return found


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value & _MASK64, at
    raise Malformed("no Sparkplug payload: a number without an end")
