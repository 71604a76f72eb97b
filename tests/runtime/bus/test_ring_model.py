"""The frame ring against a model: any order of drawing, leasing, dying and restarting."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runtime.bus import RGB, FrameDescriptor, FrameReader, FrameRingSpec, FrameWriter, StaleFrame, clear_pins, create_frame_ring
from runtime.bus._reader import Lease

pytestmark = pytest.mark.unit

CONSUMERS = ("stage", "recorder")
SPEC = FrameRingSpec(name="model", max_width=8, max_height=4, format=RGB, consumers=CONSUMERS)
SLOTS = len(CONSUMERS) + 3
SHAPES = st.sampled_from([(8, 4), (4, 8), (2, 2)])


class Held:
    """A lease that a consumer has open, and what it must show."""

    def __init__(self, lease: Lease, frame: np.ndarray, descriptor: FrameDescriptor) -> None:
        self.lease, self.frame, self.descriptor = lease, frame, descriptor


class Ring(RuleBasedStateMachine):
    """What the model knows: which frame each slot holds (0 while it is drawn), who holds what, and the life of the writer."""

    def __init__(self) -> None:
        super().__init__()
        self.fds = create_frame_ring(SPEC)
        self.writer = FrameWriter(SPEC, self.fds)
        self.readers = {name: FrameReader(SPEC, self.fds, name) for name in CONSUMERS}
        self.held: dict[str, list[Held]] = {name: [] for name in CONSUMERS}
        self.slots = [0] * SLOTS
        self.published: list[FrameDescriptor] = []
        self.epoch, self.seq, self.drawing = 1, 0, False
        self.received = dict.fromkeys(CONSUMERS, 0)

    def pinned(self) -> set[int]:
        return {held.descriptor.slot for open_ in self.held.values() for held in open_}

    @rule(shape=SHAPES)
    def draw(self, shape: tuple[int, int]) -> None:
        """A frame is begun and committed, unless every slot is held."""
        frame = self.writer.begin(*shape)
        self.drawing = False
        assert (frame is None) == (len(self.pinned()) == SLOTS)
        if frame is None:
            return
        self.seq += 1
        frame[:] = self.seq % 251
        descriptor = self.writer.commit(turn=self.seq % 3, t_capture_ns=self.seq, pts=self.seq % 5 - 1)
        assert descriptor.slot not in self.pinned()
        assert (descriptor.seq, descriptor.epoch) == (self.seq, self.epoch)
        self.slots[descriptor.slot] = self.seq
        self.published.append(descriptor)

    @rule()
    def scribble(self) -> None:
        """A frame is begun and half drawn; then it is abandoned, or the next begins, or the writer dies."""
        before = {slot: self.writer._words[word] for slot, word in enumerate(self.writer._generations)}
        frame = self.writer.begin(8, 4)
        self.drawing = frame is not None
        if frame is None:
            return
        frame[:2] = 255
        after = {slot: self.writer._words[word] for slot, word in enumerate(self.writer._generations)}
        changed = {slot for slot in after if after[slot] != before[slot]}
        assert changed <= {self.writer._slot}
        assert self.writer._slot not in self.pinned()
        self.slots[self.writer._slot] = 0

    @precondition(lambda self: self.drawing)
    @rule()
    def abandon(self) -> None:
        """What was begun is dropped."""
        self.writer.abandon()
        self.drawing = False

    @rule()
    def restart_writer(self) -> None:
        """The writer dies wherever it is and comes back."""
        self.writer = FrameWriter(SPEC, self.fds)
        self.epoch += 1
        self.drawing = False

    @rule(name=st.sampled_from(CONSUMERS))
    def receive(self, name: str) -> None:
        """A consumer gets the newest frame as it was committed, once, unless it is being drawn over."""
        there = bool(self.published) and self.slots[self.published[-1].slot] == self.seq
        news = there and self.received[name] != self.seq
        got = self.readers[name].receive()
        assert got == (self.published[-1:] if news else [])
        if got:
            self.received[name] = self.seq

    @precondition(lambda self: self.published)
    @rule(name=st.sampled_from(CONSUMERS), back=st.integers(0, SLOTS + 1))
    def lease(self, name: str, back: int) -> None:
        """A consumer asks for one of the last frames; it gets it exactly if it is there, of this life."""
        descriptor = self.published[-1 - min(back, len(self.published) - 1)]
        there = self.slots[descriptor.slot] == descriptor.seq and descriptor.epoch == self.epoch
        lease = self.readers[name].lease(descriptor)
        try:
            frame = lease.__enter__()
        except StaleFrame:
            assert not there
        else:
            assert there
            self.held[name].append(Held(lease, frame, descriptor))

    @rule(name=st.sampled_from(CONSUMERS), which=st.integers(0, 9))
    def release(self, name: str, which: int) -> None:
        """A consumer gives one back: what was pinned has stayed whole, so this never fails."""
        if self.held[name]:
            self.held[name].pop(which % len(self.held[name])).lease.__exit__(None, None, None)

    @rule(name=st.sampled_from(CONSUMERS))
    def consumer_dies(self, name: str) -> None:
        """A consumer dies with what it holds; the supervisor clears its pins; it comes back."""
        self.held[name].clear()
        clear_pins(SPEC, self.fds, name)
        self.readers[name] = FrameReader(SPEC, self.fds, name)
        self.received[name] = 0

    @invariant()
    def held_frames_are_whole(self) -> None:
        """Nothing that is held has changed."""
        for open_ in self.held.values():
            for held in open_:
                assert (held.frame == held.descriptor.seq % 251).all()

    @invariant()
    def depth_is_what_is_held(self) -> None:
        """The control page knows the slots that are held."""
        assert self.writer.stats().depth == len(self.pinned())

    def teardown(self) -> None:
        """The kernel gets its descriptors back."""
        self.fds.close()


Ring.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRing = pytest.mark.unit(Ring.TestCase)
