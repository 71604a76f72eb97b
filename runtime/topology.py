"""The whole kiosk in two tables: which processes exist, and which links join them. Facts and reasons: DESIGN §4.

Adding a node is one row in NODES and one module with `main(ctx)`. A test walks both tables.
"""

from __future__ import annotations

from enum import Enum
from typing import NoReturn

import msgspec

from runtime import messages as m
from runtime.bus import NV12, AudioRingSpec, FrameRingSpec

__all__ = ["ANY", "LINKS", "NODES", "Kind", "Link", "Node", "PackUse", "link", "node", "prefix"]

ANY = "*"
SUPERVISOR = "supervisor"


class Kind(str, Enum):
    """How a link treats a slow reader."""

    LATEST = "latest"  # drained to the newest, the gap is the drop count
    STREAM = "stream"  # ordered, a gap is an error event
    COMMAND = "command"  # bounded, each with a deadline; overflow raises


class PackUse(str, Enum):
    """How a node comes to another experience pack."""

    NONE = "none"  # it reads none
    START = "start"  # it is started anew
    LIVE = "live"  # link `pack` tells it: the face must not be gone, nor the line to the fleet


class Node(msgspec.Struct, frozen=True):
    """One process. Budgets: CPU in percent of one core (while a visitor talks), PSS in MB, heartbeat period in seconds.

    `essential` nodes make the kiosk useless when they cannot come back; the others take their feature with them.
    """

    name: str
    module: str
    cpu_pct: int
    pss_mb: int
    beat_s: float
    essential: bool = False
    external: bool = False  # not started by the supervisor: Chromium, which has a row only for its budget
    nice: int = 0
    pack: PackUse = PackUse.NONE


class Link(msgspec.Struct, frozen=True):
    """One way from a source to its readers; `ring` is the shared memory whose descriptors or positions the messages carry."""

    name: str
    kind: Kind
    src: str
    dst: tuple[str, ...]
    payload: type[m.Message] | None
    hz: float
    ring: FrameRingSpec | AudioRingSpec | None = None
    deadline_ms: int = 0
    capacity: int = 0


NODES: tuple[Node, ...] = (
    Node("renderer", "runtime.nodes.renderer", cpu_pct=45, pss_mb=200, beat_s=0.5, essential=True, pack=PackUse.LIVE),
    Node("stage", "kiosk.stage", cpu_pct=15, pss_mb=120, beat_s=1.0, essential=True, nice=-2, pack=PackUse.LIVE),
    Node("listener", "runtime.nodes.listener", cpu_pct=30, pss_mb=160, beat_s=1.0),
    Node("recogniser", "runtime.nodes.recogniser", cpu_pct=35, pss_mb=160, beat_s=2.0, pack=PackUse.START),
    Node("conductor", "runtime.nodes.conductor", cpu_pct=4, pss_mb=50, beat_s=0.5, essential=True, pack=PackUse.START),
    Node("dialogue", "runtime.nodes.dialogue", cpu_pct=20, pss_mb=90, beat_s=2.0, pack=PackUse.START),
    Node("voice", "runtime.nodes.voice", cpu_pct=15, pss_mb=90, beat_s=1.0, pack=PackUse.START),
    Node("health", "runtime.nodes.health", cpu_pct=2, pss_mb=50, beat_s=2.0),
    Node("governor", "runtime.nodes.governor", cpu_pct=1, pss_mb=45, beat_s=2.0),
    Node("uplink", "runtime.nodes.uplink", cpu_pct=1, pss_mb=60, beat_s=2.0, nice=10, pack=PackUse.LIVE),
    Node("chromium", "", cpu_pct=45, pss_mb=450, beat_s=1.0, external=True),
)

# 1080p is the largest rung that any shipped avatar may have; smaller rungs use the same slots.
VIDEO_RING = FrameRingSpec(name="video", max_width=1920, max_height=1080, format=NV12, consumers=("stage",))
MIC_RING = AudioRingSpec(name="mic", rate=m.MIC_RATE, seconds=30)
SPEECH_RING = AudioRingSpec(name="speech", rate=m.VOICE_RATE, seconds=120)

_ALL = ("renderer", "stage", "listener", "recogniser", "dialogue", "voice", "health", "governor", "uplink")

LINKS: tuple[Link, ...] = (
    Link("mic", Kind.STREAM, "stage", ("listener", "recogniser"), m.MicTick, hz=50, ring=MIC_RING),
    Link("activity", Kind.STREAM, "listener", ("conductor", "stage", "recogniser", "renderer", "uplink"), m.Activity, hz=10),
    Link("words", Kind.STREAM, "recogniser", ("conductor", "stage"), m.Transcript, hz=20),
    Link("floor", Kind.STREAM, "conductor", (*_ALL, SUPERVISOR), m.Floor, hz=2),
    Link("ask", Kind.COMMAND, "conductor", ("dialogue",), m.Ask, hz=1, deadline_ms=5000, capacity=16),
    Link("reply", Kind.STREAM, "dialogue", ("voice", "conductor", "stage", "recogniser"), m.Reply, hz=3),
    Link("say", Kind.COMMAND, "conductor", ("voice",), m.Say, hz=1, deadline_ms=5000, capacity=64),
    Link("speech", Kind.STREAM, "voice", ("stage", "renderer", "conductor"), m.Speech, hz=3, ring=SPEECH_RING),
    Link("sound", Kind.COMMAND, "conductor", ("stage",), m.Sound, hz=1, deadline_ms=1000, capacity=16),
    Link("playhead", Kind.LATEST, "stage", ("renderer", "conductor", "voice", "listener"), m.Playhead, hz=30),
    Link("heard", Kind.STREAM, "stage", ("conductor", "dialogue"), m.Heard, hz=1),
    Link("visitor", Kind.COMMAND, "stage", ("conductor",), m.VisitorInput, hz=1, deadline_ms=15_000, capacity=16),
    Link("notice", Kind.COMMAND, ANY, ("stage",), m.Notice, hz=1, deadline_ms=120_000, capacity=32),
    Link("house", Kind.COMMAND, "uplink", ("stage",), m.HouseSetting, hz=1, deadline_ms=120_000, capacity=16),
    Link("wish", Kind.COMMAND, "uplink", (SUPERVISOR,), m.PackWanted, hz=1, deadline_ms=10_000, capacity=4),
    Link("pack", Kind.LATEST, SUPERVISOR, ("renderer", "stage", "uplink"), m.PackServes, hz=1),
    # The payload of `video` is the frame descriptor itself.
    Link("video", Kind.LATEST, "renderer", ("stage",), None, hz=30, ring=VIDEO_RING),
    Link("drawn", Kind.LATEST, "renderer", ("governor",), m.Drawn, hz=1),
    Link("effort", Kind.LATEST, "governor", ("renderer", "dialogue"), m.Effort, hz=1),
    Link("hold", Kind.COMMAND, "uplink", ("governor",), m.Hold, hz=1, deadline_ms=5000, capacity=16),
    Link("held", Kind.LATEST, "governor", ("uplink",), m.Held, hz=1),
    Link("nodes", Kind.STREAM, SUPERVISOR, ("conductor", "stage", "health", "uplink"), m.NodeEvent, hz=1),
    Link("marks", Kind.COMMAND, ANY, ("health",), m.Mark, hz=10, deadline_ms=10_000, capacity=1024),
    Link("stats", Kind.COMMAND, ANY, ("health",), m.NodeStats, hz=8, deadline_ms=5000, capacity=64),
)


def node(name: str) -> Node:
    """The row of node `name`; KeyError if there is none."""
    return next((row for row in NODES if row.name == name), None) or _missing("node", name)


def link(name: str) -> Link:
    """The row of link `name`; KeyError if there is none."""
    return next((row for row in LINKS if row.name == name), None) or _missing("link", name)


def prefix(name: str) -> int:
    """The byte that begins each message of link `name`; KeyError if there is none."""
    return LINKS.index(link(name)) + 1


def _missing(what: str, name: str) -> NoReturn:
    raise KeyError(f"topology has no {what} {name!r}")
