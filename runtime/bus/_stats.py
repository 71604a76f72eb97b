"""What rings and links tell about themselves; health publishes these records unchanged."""

from __future__ import annotations

import msgspec

__all__ = ["ConsumerStats", "LinkStats", "RingStats"]


class ConsumerStats(msgspec.Struct, frozen=True):
    """One consumer of a frame ring, as the control page knows it."""

    pinned: int  # slots it holds now
    lease_ns: int  # age of its oldest lease, 0: none
    last_seq: int  # newest frame it looked at
    skipped: int  # frames it never looked at
    stale: int  # leases refused or invalidated
    heartbeat_ns: int  # CLOCK_MONOTONIC of its last lease


class RingStats(msgspec.Struct, frozen=True):
    """Counters of one ring as one of its ends sees it. `dropped` goes by reason."""

    name: str
    role: str  # writer | reader | observer
    epoch: int  # lives of the writer so far
    depth: int  # frames: slots pinned now; audio: samples that can be read
    peak: int  # frames: most slots pinned when a frame began (reader: longest lease, ns); audio: as depth
    sent: int  # frames committed, frames leased, samples written or read: by role
    dropped: dict[str, int]
    oldest_lease_ns: int = 0
    heartbeat_ns: int = 0  # CLOCK_MONOTONIC of the writer's last sign of life
    stepped_over: int = 0  # times the writer met a pinned slot and took the next
    consumers: dict[str, ConsumerStats] = {}
    age_ns: int = 0  # reader of frames: how long the newest one was under way


class LinkStats(msgspec.Struct, frozen=True):
    """Counters of one end of a link. `dropped` goes by reason."""

    name: str
    kind: str  # latest | stream | command; a publisher serves both of the first two: publish
    role: str  # publisher | subscriber | sender | receiver
    sent: int = 0
    received: int = 0
    depth: int = 0  # sender: commands not yet received; receivers: messages of the last batch
    peak: int = 0  # the largest depth so far
    dropped: dict[str, int] = {}
    restarts: int = 0  # times the other end came back
    age_ns: int = 0  # receivers: how long the newest message was under way
