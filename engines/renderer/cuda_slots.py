"""Where the GPU writes frames: straight into the ring's slots, or into one staging frame that the CPU copies on.

Which of the two is found out once, by trying: some drivers say they can map memory that exists and then refuse (Jetson Nano, some Thor
releases). A copy costs little (a frame of 512 x 512 is 384 KiB); drawing must never depend on it.
"""

from __future__ import annotations

from engines.renderer.cuda import Bytes, Gpu, GpuError, Pinned

__all__ = ["Slots"]


class Slots:
    """Addresses for the kernel to write to. `path` is "mapped" or "staged", `why` says why it is not the former."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._staging: Pinned | None = None
        self._ring: Bytes | None = None
        self._ring_address = 0
        self.path = "staged"
        self.why = "no ring was given yet"

    def attach(self, ring: Bytes) -> None:
        """Try to page-lock and map the memory that holds all slots. It must stay mapped until `close`."""
        self.detach()
        try:
            self._ring_address = self._gpu.register(ring)
        except GpuError as error:
            self.path, self.why = "staged", str(error)
            return
        self._ring = ring
        self.path, self.why = "mapped", ""

    def address(self, out: Bytes) -> int:
        """Where the GPU shall write the frame `out`."""
        if self._ring is not None and out.flags.c_contiguous:
            offset = out.ctypes.data - self._ring.ctypes.data
            if offset >= 0 and offset + out.nbytes <= self._ring.nbytes and offset % 4 == 0:
                return self._ring_address + offset
        if self._staging is None or self._staging.memory.nbytes < out.nbytes:
            self._staging = self._gpu.pinned(out.nbytes)
        return self._staging.address

    def finish(self, out: Bytes, address: int) -> None:
        """The GPU is done with `address`: copy if that was the staging frame."""
        if self._staging is not None and address == self._staging.address:
            out[...] = self._staging.memory[: out.nbytes].reshape(out.shape)

    def detach(self) -> None:
        """Undo `attach`; never raises, so that a GPU that is gone does not hinder the way back to the CPU."""
        if self._ring is not None:
            ring, self._ring = self._ring, None
            self.path, self.why = "staged", "the ring was detached"
            try:
                self._gpu.unregister(ring)
            except GpuError as error:
                self.why = str(error)
