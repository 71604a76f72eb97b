"""The bus: frames and sound in shared memory, messages over ZeroMQ. Contract and figures: DESIGN §4.

Rings are made by the supervisor (`create_frame_ring`, `create_audio_ring`) and inherited by the nodes; links are made by the nodes.
Nothing here starts a thread of its own (zmq's one I/O thread apart); every object belongs to the thread that made it.
"""

from __future__ import annotations

from runtime.bus._audio import AudioReader, AudioRingSpec, AudioWriter, create_audio_ring
from runtime.bus._commands import CommandReceiver, CommandSender
from runtime.bus._fence import FENCE
from runtime.bus._frames import NV12, RGB, FrameDescriptor, FrameRingSpec, clear_pins, create_frame_ring, ring_stats
from runtime.bus._links import LinkKind, Publisher, Subscriber
from runtime.bus._memory import RingFds, mend_ring
from runtime.bus._peek import peek_frame
from runtime.bus._reader import FrameReader
from runtime.bus._sockets import Receiver, attach
from runtime.bus._stats import ConsumerStats, LinkStats, RingStats
from runtime.bus._writer import FrameWriter
from runtime.bus.errors import BusError, DeadlineMissed, Gap, LinkError, Overflow, PeerGone, StaleFrame

__all__ = [
    "FENCE",
    "NV12",
    "RGB",
    "AudioReader",
    "AudioRingSpec",
    "AudioWriter",
    "BusError",
    "CommandReceiver",
    "CommandSender",
    "ConsumerStats",
    "DeadlineMissed",
    "FrameDescriptor",
    "FrameReader",
    "FrameRingSpec",
    "FrameWriter",
    "Gap",
    "LinkError",
    "LinkKind",
    "LinkStats",
    "Overflow",
    "PeerGone",
    "Publisher",
    "Receiver",
    "RingFds",
    "RingStats",
    "StaleFrame",
    "Subscriber",
    "attach",
    "clear_pins",
    "create_audio_ring",
    "create_frame_ring",
    "mend_ring",
    "peek_frame",
    "ring_stats",
]
