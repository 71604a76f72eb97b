"""What `visavis engines verify` holds a GPU's frames against: the CPU's, in a real frame ring, and how far apart they may be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from engines.renderer import AvatarPack
from engines.renderer.compose import Composer, Drawing
from engines.renderer.onnx_runtime import infer, network_session
from runtime.bus import NV12, FrameRingSpec, FrameWriter, create_frame_ring

__all__ = ["Bytes", "Ring", "Truth", "compare", "poses", "quantiles"]

Bytes = NDArray[np.uint8]
_APART_1, _APART_3 = 1e-3, 2e-4  # shares of bytes that may be more than 1 and more than 3 from the CPU's
_ENGINE_MEAN = 1.0  # mean difference of a compiled network: it may round INT8 otherwise than ONNX Runtime does


def compare(seen: Bytes, expected: Bytes, *, network: bool = False) -> str:
    """How far apart two frames are. Raises AssertionError if further than rounding explains."""
    apart = np.abs(seen.astype(np.int16) - expected)
    told = f"mean {apart.mean():.4f}, {(apart > 1).mean() * 100:.4f} % of bytes more than 1 apart, most {apart.max()}"
    fine = apart.mean() < _ENGINE_MEAN if network else (apart > 1).mean() < _APART_1 and (apart > 3).mean() < _APART_3
    if not fine:
        raise AssertionError(f"not the CPU's picture: {told}")
    return told


def quantiles(times: list[float]) -> dict[str, float]:
    """p50, p95 and p99 of `times`, in their unit."""
    return {f"p{q}": round(float(np.percentile(times, q)), 3) for q in (50, 95, 99)}


def poses(pack: AvatarPack, count: int) -> Iterator[NDArray[np.float32]]:
    """The idle pose, then random ones within the ranges of the pack; always the same."""
    rng = np.random.default_rng(5)
    low, high = pack.ranges.T
    yield pack.idle
    for _ in range(count - 1):
        yield rng.uniform(low, high).astype(np.float32)


class Truth:
    """The CPU's frames, from the signed network that TensorRT gets too."""

    def __init__(self, pack: AvatarPack) -> None:
        self._session = network_session(pack.network.read_bytes(), 1)
        self._composers = [Composer(pack.plate, rung.width, pack.hair) for rung in pack.rungs]
        for composer in self._composers:
            composer.set_background((16, 18, 22))

    def drawing(self, controls: NDArray[np.float32]) -> Drawing:
        """What the network says for `controls`."""
        return infer(self._session, controls)

    def frame(self, drawing: Drawing, rung: int) -> Bytes:
        """The NV12 picture of `drawing` at a rung, (1.5 height, width)."""
        composer = self._composers[rung]
        out = np.empty((composer.size * 3 // 2, composer.size), np.uint8)
        composer.draw(drawing, out)
        return out


class Ring:
    """A real frame ring of the kiosk."""

    def __init__(self, pack: AvatarPack) -> None:
        spec = FrameRingSpec("verify", pack.rungs[0].width, pack.rungs[0].height, NV12, ("page",))
        self._fds = create_frame_ring(spec)
        self.writer = FrameWriter(spec, self._fds)

    def slot(self, pack: AvatarPack, rung: int) -> Bytes:
        """The next slot of the ring at a rung, emptied."""
        out = self.writer.begin(pack.rungs[rung].width, pack.rungs[rung].height)
        assert out is not None
        out[:] = 0
        return out

    def publish(self) -> None:
        """Show the slot to readers."""
        self.writer.commit(turn=0, t_capture_ns=0)

    def close(self) -> None:
        """Give the memory back."""
        self.writer.close()
        self._fds.close()
