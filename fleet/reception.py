"""What comes from the boxes: judged in the loop, committed in a thread, and only then acknowledged, to the broker and to the box."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable

from fleet.errors import Unavailable
from fleet.flood import Flood
from fleet.intake import Accepted, Committed, Intake, Rejected, judge
from fleet.link import Came
from runtime import telemetry as t
from runtime.telemetry.times import Times

__all__ = ["Reception"]

log = logging.getLogger("fleet")

_BATCH = 1000
_BUSY, _GATHER_S = 20, 0.1
"""After a batch of so many, the next may gather: a commit waits for the disk however much it holds, and boxes share its pages."""


class Reception:
    """`release` lets the broker forget a message, `send` tells a box what is safe, `done` hears of each commit. For one loop."""

    def __init__(
        self,
        intake: Intake,
        times: Times,
        tenant: str,
        counts: Counter[str],
        *,
        release: Callable[[tuple[int, int, int]], None],
        send: Callable[[str, t.Ack], int],
        done: Callable[[Committed], Awaitable[None]],
    ) -> None:
        self.counts, self.flood = counts, Flood()
        self._intake, self._times, self._tenant = intake, times, tenant
        self._let_go, self._send, self._done = release, send, done
        self._waiting: deque[tuple[Accepted, tuple[int, int, int]]] = deque()
        self._arrived = asyncio.Event()
        self._acks: dict[str, dict[str, list[int]]] = {}
        self._told: set[tuple[str, str]] = set()

    def came(self, came: Came) -> None:
        """A message of a box, as the broker hands it on."""
        self.counts["received"] += 1
        if not self.flood.passes(came.topic, self._times.mono_ms()):
            self.counts["strange_flood"] += 1
            self._let_go(came.token)  # to the broker; the box was not told that it is safe, and sends it again later
            return
        try:
            found = judge(came.topic, came.payload, came.retained, self._tenant, self._times.wall_ms())
        except Exception:  # whatever a box can send: it shall not stop those behind it
            log.exception("a message cannot be judged")
            found = Rejected("", "poison")
        if isinstance(found, Rejected):
            self.strange(found.device, found.cause)
            self._let_go(came.token)
            return
        self._waiting.append((found, came.token))
        self._arrived.set()

    async def ingest(self) -> None:
        """Commit what came, until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
                await self._commit(batch)
                if len(batch) >= _BUSY and len(self._waiting) < _BUSY:
                    await asyncio.sleep(_GATHER_S)

    async def _commit(self, batch: list[tuple[Accepted, tuple[int, int, int]]]) -> None:
        now = self._times.wall_ms()
        while True:
            try:
                done = await asyncio.to_thread(self._intake.commit, [message for message, _ in batch], now)
                break
            except Unavailable as error:
                self.strange("", "store")
                log.warning("%s; tried again", error)
                await asyncio.sleep(1.0)
            except (ValueError, OverflowError, TypeError) as error:
                if len(batch) == 1:  # a message that no check foresaw: it shall not stop those behind it
                    log.error("a message of %s cannot be kept: %s", batch[0][0].device, error)  # noqa: TRY400 - one line
                    self.strange(batch[0][0].device, "poison")
                    self._release(batch)
                    return
                for one in batch:
                    await self._commit([one])
                return
        self.counts["committed"] += len(batch) - done.duplicates
        self.counts["duplicates"] += done.duplicates
        for device, cause in done.strange:
            self.strange(device, cause)
        self._release(batch)
        await self._done(done)

    def _release(self, batch: list[tuple[Accepted, tuple[int, int, int]]]) -> None:
        for message, token in batch:
            self._let_go(token)
            if message.envelope.seq:
                self._acks.setdefault(message.device, {}).setdefault(message.envelope.boot, []).append(message.envelope.seq)

    def strange(self, device: str, cause: str) -> None:
        """Count what cannot be used, and say so once."""
        self.counts[f"strange_{cause}"] += 1
        if (device, cause) not in self._told and len(self._told) < 10_000:
            self._told.add((device, cause))
            log.warning("%s sends what cannot be used: %s (told once; counted)", device or "somebody", cause.replace("_", " "))

    async def acknowledge(self, every_s: float) -> None:
        """Tell the boxes what is safe, until cancelled; batched: one message a box and period, whatever it sent."""
        while True:
            await asyncio.sleep(every_s)
            acks, self._acks = self._acks, {}
            for device, boots in acks.items():
                groups = [t.Acked(boot=boot, ranges=part) for boot, seqs in boots.items() for part in _ranges(seqs)]
                for begin in range(0, len(groups), 16):
                    self._send(device, t.Ack(acked=tuple(groups[begin : begin + 16])))


def _ranges(seqs: list[int]) -> list[tuple[tuple[int, int], ...]]:
    """Numbers as ranges, in parts of at most 1000."""
    ranges: list[tuple[int, int]] = []
    for seq in sorted(set(seqs)):
        if ranges and ranges[-1][1] == seq - 1:
            ranges[-1] = (ranges[-1][0], seq)
        else:
            ranges.append((seq, seq))
    return [tuple(ranges[begin : begin + 1000]) for begin in range(0, len(ranges), 1000)]
