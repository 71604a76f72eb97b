"""The wire contract between a box and the fleet: topics, envelopes, bodies, limits. No I/O; both ends use exactly this module.

Topics are `visavis/1/{tenant}/{device}/up/{...}` and `…/down/{...}`. Everything is JSON, QoS 1; only `up/status` is retained, and it is
the session's will. Site, model and group are attributes in `birth`, never topics: boxes move.

- A box's message is known by (device, boot, seq) for ever: sent twice, it is the same message. `boot` changes with each start of the
  machine and when the outbox had to begin anew; `seq` only grows within it. Times are compared by `mono` within a boot.
- A box keeps each message until `down/ack` names it: send it when it is *committed*, not when it arrived. Numbers may be missing
  (merged or evicted, the box counts them) and come late (`hist`), so acknowledge what came, not "all up to".
- Health is by exception: a body holds what changed, unless `full`. `n` > 1: so many reports were merged for want of space, the newest
  value of each metric counts.

    ContractError
    ├── Malformed     not JSON, not this shape, or a value that the catalogue does not allow
    └── TooLarge      more bytes than the limit of its direction

"""

from __future__ import annotations

import re
from enum import Enum
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from runtime.telemetry import catalogue

__all__ = [
    "MAX_DOWN",
    "MAX_UP",
    "PREFIX",
    "VERSION",
    "Ack",
    "Acked",
    "Answer",
    "Birth",
    "ClockState",
    "Command",
    "ContractError",
    "Down",
    "DownKind",
    "Envelope",
    "EventBody",
    "Health",
    "Malformed",
    "Outcome",
    "Renew",
    "Renewed",
    "Reported",
    "Shadow",
    "Status",
    "TooLarge",
    "Topic",
    "UpKind",
    "decode_down",
    "decode_up",
    "encode",
    "is_id",
    "parse_topic",
    "pattern",
    "topic",
]

VERSION = 1
PREFIX = f"visavis/{VERSION}"
MAX_DOWN = 64 * 1024
"""Bytes of a payload from the fleet; more is refused unread."""
MAX_UP = 256 * 1024
"""Bytes of a payload from a box; a snapshot or diagnostics stay below it."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

END = r"(?![\s\S])"
"""The end of a pattern, in Python and ECMAScript alike (`$` also matches before a last line feed)."""
Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}" + END, max_length=63)]
Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,31}" + END, max_length=32)]
Part = Annotated[str, Meta(pattern=r"^[a-z0-9_-]{1,32}" + END, max_length=32)]
Boot = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}" + END, max_length=16)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Milliseconds = Annotated[int, Meta(ge=0, le=2**53)]
Short = Annotated[str, Meta(max_length=200)]


class ContractError(Exception):
    """A message is not what the contract says."""


class Malformed(ContractError):
    """Not JSON, not this shape, or a value that the catalogue does not allow."""


class TooLarge(ContractError):
    """More bytes than the limit of its direction."""


class UpKind(str, Enum):
    """What a box says; also the last part of the topic. `log` is reserved: nothing is sent there."""

    STATUS = "status"
    BIRTH = "birth"
    HEALTH = "health"
    EVENT = "event"
    JOB = "job"
    SHADOW = "shadow"
    RENEW = "renew"
    LOG = "log"


class DownKind(str, Enum):
    """What the fleet says; also the last part of the topic."""

    COMMAND = "command"
    JOB = "job"
    SHADOW = "shadow"
    CERTIFICATE = "certificate"
    ACK = "ack"


class ClockState(str, Enum):
    """How far `ts` can be trusted."""

    SYNCED = "synced"
    UNSYNCED = "unsynced"  # the clock was never set: order by `mono`, place by arrival
    CORRECTED = "corrected"  # written before the clock was set, `ts` worked out afterwards from `mono`


class _Closed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From the fleet to a box: what the box does not know is refused, not guessed."""


class _Open(msgspec.Struct, frozen=True, kw_only=True):
    """From a box to the fleet: a newer box may say more than the controller knows."""


# --- from the box -------------------------------------------------------------------------------------------------------


class Status(_Open, frozen=True, kw_only=True):
    """`up/status`, retained: `online` while the session lives; `lost` is the will; `offline` was intended.

    `since` is the box's wall time (ms) of saying so; of the will, the time of connecting.
    """

    state: str  # online | offline | lost
    since: Milliseconds = 0


class Birth(_Open, frozen=True, kw_only=True):
    """`up/birth`, at each start of the kiosk and when something in it changed: what this box is."""

    attributes: dict[Part, Short] = {}  # site, model, group … as configured
    versions: dict[Part, Short] = {}  # visavis, python, pack, avatar, engines' packages
    pack: Short = ""
    avatar: Short = ""
    commands: tuple[Name, ...] = ()  # those that this box carries out; others are answered `unsupported`
    health_s: float = 0.0
    packs: tuple[Short, ...] | msgspec.UnsetType = msgspec.UNSET  # those that `switch_pack` and the setting `pack` can choose from


class Health(_Open, frozen=True, kw_only=True):
    """`up/health`: metrics of the catalogue, by name or `name.instance`."""

    m: dict[str, int | float | bool | str]
    full: bool = False
    n: Annotated[int, Meta(ge=1)] = 1


class EventBody(_Open, frozen=True, kw_only=True):
    """`up/event`: something happened; `code` and details are of the catalogue."""

    code: Name
    names: dict[Name, Part] = {}
    numbers: dict[Name, int] = {}


class Outcome(str, Enum):
    """What became of a command or job."""

    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"  # not allowed on this box
    UNSUPPORTED = "unsupported"  # nothing on this box can do it; `reason` says what is missing
    INTERRUPTED = "interrupted"  # begun, then the box lost power or the uplink was restarted: it is not known how far it came


class Answer(_Open, frozen=True, kw_only=True):
    """`up/job`: the one answer to a command, with its correlation data. `result` depends on the command."""

    id: Id
    name: Short
    outcome: Outcome
    reason: Short = ""
    result: dict[str, Any] = {}
    took_ms: Count = 0


class Reported(_Open, frozen=True, kw_only=True):
    """`up/shadow`: the settings as they are, why desired ones are not, and the rung that a command holds, until when by the box's clock."""

    version: Count
    reported: dict[Name, int | float | bool | str]
    refused: dict[Name, Short] = {}
    held_rung: Count | msgspec.UnsetType = msgspec.UNSET
    held_until: Milliseconds | msgspec.UnsetType = msgspec.UNSET


class Renew(_Open, frozen=True, kw_only=True):
    """`up/renew`: the certificate request (PKCS#10, PEM) of the box that the topic names, for a key that never leaves it."""

    request: Annotated[str, Meta(max_length=4096)]


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """Around every body from a box. `ts` is wall time in ms, `mono` ms since the machine started; `seq` 0 is not counted (status)."""

    v: int = VERSION
    dev: Id
    boot: Boot
    seq: Count
    ts: Milliseconds
    mono: Milliseconds
    clk: ClockState
    kind: UpKind
    hist: bool = False
    body: msgspec.Raw


UP_BODIES: dict[UpKind, type[_Open]] = {
    UpKind.STATUS: Status,
    UpKind.BIRTH: Birth,
    UpKind.HEALTH: Health,
    UpKind.EVENT: EventBody,
    UpKind.JOB: Answer,
    UpKind.SHADOW: Reported,
    UpKind.RENEW: Renew,
}


# --- from the fleet -----------------------------------------------------------------------------------------------------


class Command(_Closed, frozen=True, kw_only=True):
    """`down/command` and `down/job`: do this once before `expires` (wall time, ms).

    `id` is the idempotency key: the same id again is the same command and gets the same answer, whoever sends it. MQTT's message expiry
    interval should be set too; it is demanded by a box whose clock is not set. The answer goes to `up/job` of the box with the
    correlation data of the request.
    """

    id: Id
    name: Short
    issued: Milliseconds
    expires: Milliseconds
    by: Short = ""  # who asked, for the audit log of the box
    args: dict[str, Any] = {}  # as runtime.telemetry.commands says for `name`


class Shadow(_Closed, frozen=True, kw_only=True):
    """`down/shadow`: the settings as they should be; an older or equal `version` is ignored."""

    version: Count
    desired: Annotated[dict[Name, int | float | bool | str], Meta(max_length=64)]


class Renewed(_Closed, frozen=True, kw_only=True):
    """`down/certificate`: the answer to `up/renew`: a certificate (PEM) for the key of the request, or why there is none."""

    certificate: Annotated[str, Meta(max_length=16_384)] = ""
    reason: Short = ""


Range = Annotated[tuple[Count, Count], Meta(description="first and last seq, both included")]


class Acked(_Closed, frozen=True, kw_only=True):
    """Messages of one boot that the controller has committed."""

    boot: Boot
    ranges: Annotated[tuple[Range, ...], Meta(max_length=1000)]


class Ack(_Closed, frozen=True, kw_only=True):
    """`down/ack`: these need not be kept any longer. Batch them, about once a second a box."""

    acked: Annotated[tuple[Acked, ...], Meta(max_length=16)]


class Down(_Closed, frozen=True, kw_only=True):
    """Around every body from the fleet."""

    v: int = VERSION
    ts: Milliseconds
    kind: DownKind
    body: msgspec.Raw


DOWN_BODIES: dict[DownKind, type[_Closed]] = {
    DownKind.COMMAND: Command,
    DownKind.JOB: Command,
    DownKind.SHADOW: Shadow,
    DownKind.CERTIFICATE: Renewed,
    DownKind.ACK: Ack,
}


# --- topics -------------------------------------------------------------------------------------------------------------


class Topic(msgspec.Struct, frozen=True):
    """A topic of the contract, taken apart."""

    tenant: str
    device: str
    kind: UpKind | DownKind


def is_id(text: str) -> bool:
    """Whether `text` may name a tenant or a device: 1 to 63 letters, digits, `.`, `_`, `-`, the first no sign."""
    return _ID.fullmatch(text) is not None


def topic(tenant: str, device: str, kind: UpKind | DownKind) -> str:
    """Where messages of this kind go. ValueError if tenant or device cannot be part of a topic."""
    for text in (tenant, device):
        if not is_id(text):
            raise ValueError(f"{text!r} cannot name a tenant or a device: letters, digits, '.', '_', '-', at most 63")
    return f"{PREFIX}/{tenant}/{device}/{_way(kind)}/{kind.value}"


def pattern(way: str, tenant: str = "+", device: str = "+") -> str:
    """The subscription for a whole direction, `up` or `down`, of one or all boxes."""
    return f"{PREFIX}/{tenant}/{device}/{way}/+"


def parse_topic(text: str) -> Topic:
    """The parts of a topic. Raises Malformed if it is none of this contract."""
    parts = text.split("/")
    if len(parts) == 6 and "/".join(parts[:2]) == PREFIX and is_id(parts[2]) and is_id(parts[3]):
        for kinds in (UpKind, DownKind):
            if parts[5] in kinds._value2member_map_ and parts[4] == _way(kinds(parts[5])):
                return Topic(parts[2], parts[3], kinds(parts[5]))
    raise Malformed("no topic of this contract")


def _way(kind: UpKind | DownKind) -> str:
    return "up" if isinstance(kind, UpKind) else "down"


# --- reading and writing ------------------------------------------------------------------------------------------------

T = TypeVar("T", bound=msgspec.Struct)


def encode(message: Envelope | Down | msgspec.Struct) -> bytes:
    """JSON of an envelope or a body."""
    return msgspec.json.encode(message)


def decode_up(payload: bytes) -> tuple[Envelope, Any]:
    """A box's envelope and its body (a struct of `UP_BODIES`). Raises Malformed or TooLarge; never anything else, whatever came.

    Metrics that this catalogue does not know are left out: a newer box may have more.
    """
    envelope = _decode(payload, Envelope, MAX_UP)
    if envelope.v != VERSION or envelope.kind not in UP_BODIES:
        raise Malformed(f"version {envelope.v}, kind {envelope.kind.value} is not known here")
    body = _decode(envelope.body, UP_BODIES[envelope.kind], MAX_UP)
    if isinstance(body, Health):
        body = msgspec.structs.replace(body, m={name: value for name, value in body.m.items() if _allowed(name, value)})
    return envelope, body


def decode_down(payload: bytes, kind: DownKind) -> tuple[Down, Any]:
    """The fleet's envelope and its body (a struct of `DOWN_BODIES`), which must be of the topic's `kind`. Raises Malformed or TooLarge."""
    envelope = _decode(payload, Down, MAX_DOWN)
    if envelope.v != VERSION or envelope.kind is not kind:
        raise Malformed(f"version {envelope.v}, kind {envelope.kind.value} does not belong here")
    return envelope, _decode(envelope.body, DOWN_BODIES[kind], MAX_DOWN)


def _allowed(name: str, value: object) -> bool:
    row = catalogue.metric(name)
    return row is not None and catalogue.valid(row, value)


def _decode(payload: bytes | msgspec.Raw, kind: type[T], limit: int) -> T:
    if len(memoryview(payload)) > limit:
        raise TooLarge(f"more than {limit} bytes")
    try:
        return msgspec.json.decode(payload, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        # Only the class: the text of a parser may quote what it read.
        raise Malformed(f"not a {kind.__name__} ({type(error).__name__})") from None
