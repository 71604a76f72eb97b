"""`engines.renderer.compose` on the GPU: one launch from the network's outputs, where they lie, to an NV12 frame in the ring.

Everything that stays the same from frame to frame comes from the CPU's own composer, so the two cannot drift apart; the kernel
(cuda_compose.cu) repeats what changes. Each rung's pictures stay on the GPU once they were needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engines.renderer._types import Colour, RendererError, Rung
from engines.renderer.compose import _CRISP, _YCCA, HAIR_BOX, Composer, Hair, _soften, check_background, patch_mask
from engines.renderer.cuda import Gpu

__all__ = ["BLOCK", "SOURCE", "Face", "GpuComposer", "Tensor", "background", "fixed_pictures", "kernel_name", "scene"]

SOURCE = Path(__file__).with_name("cuda_compose.cu")
BLOCK = (32, 4)  # threads; each draws 4 x 2 pixels
Bytes = NDArray[np.uint8]
_OUTPUTS = ("flow", "residual", "mouth", "eyes", "places", "hair_flow", "shades")
_FIXED = ("plate", "behind", "reach", "mouth_mask", "eye_mask", "crisp", "hair", "hair_shades")


class Tensor(NamedTuple):
    """A float32 output of the network: where it lies on the GPU, and its shape without the batch."""

    address: int
    shape: tuple[int, ...]


def kernel_name(gpu: Gpu) -> str:
    """A file name for the compiled kernel that differs whenever the kernel would."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    return f"compose-{digest}-sm{gpu.capability[0]}{gpu.capability[1]}.kernel"


def scene(tensors: Mapping[str, Tensor], fixed: Mapping[str, int], composer: Composer) -> Bytes:
    """The kernel's `struct Scene`, byte for byte. `fixed` holds the addresses of `fixed_pictures` and of the background, "behind"."""
    hair = composer.hair
    pointers = [tensors[name].address if name in tensors else 0 for name in _OUTPUTS] + [fixed.get(name, 0) for name in _FIXED]
    weights, shift = _softening(composer.scale)
    floats = [*_YCCA.ravel(), composer.scale, composer.grain, composer.grid[0, 0, 0], composer.grain / composer.scale, *weights, shift]
    floats += [HAIR_BOX[k] * composer.scale for k in (0, 1)]
    sizes = [composer.size, len(composer.plate)]
    for name, count in (("flow", 2), ("residual", 1), ("mouth", 2), ("eyes", 2)):
        sizes += tensors[name].shape[-count:]
    if hair is None:
        sizes += [0] * 9
    else:
        sizes += [*tensors["hair_flow"].shape[-2:], *tensors["shades"].shape, *hair.shape[:2], hair.left, hair.top, hair.right, hair.bottom]
    parts = np.array(pointers, np.uint64), np.array(floats, np.float32), np.array(sizes, np.int32)
    record = b"".join(p.tobytes() for p in parts)
    return np.frombuffer(record + bytes(-len(record) % 8), np.uint8)  # a struct ends where its next pointer could begin


def _softening(scale: float) -> tuple[NDArray[np.float32], float]:
    """How the composer softens patches for a frame of this scale: the weights of pixels -1, 0 and 1 (in x as in y), and the shift."""
    point = np.zeros((5, 5), np.float32)
    point[2, 2] = 1
    response, shift = _soften(point, scale)
    return np.ascontiguousarray(response.sum(1)[3:0:-1]), shift


def fixed_pictures(composer: Composer, tensors: Mapping[str, Tensor]) -> dict[str, NDArray[np.generic]]:
    """What one rung needs besides the network's outputs and the background."""
    pictures: dict[str, NDArray[np.generic]] = {
        "plate": composer.plate,
        "reach": composer.reach[..., 0],
        "mouth_mask": patch_mask(*tensors["mouth"].shape[-2:]) * np.float32(255),
        "eye_mask": patch_mask(*tensors["eyes"].shape[-2:]) * np.float32(255),
        "crisp": _CRISP,
    }
    if composer.hair:
        picture, *shades = composer.hair.whole()
        pictures |= {"hair": picture, "hair_shades": np.stack(shades)}
    return {name: np.ascontiguousarray(picture) for name, picture in pictures.items()}


def background(composer: Composer) -> Bytes:
    """The composer's background as NV12 (size * 3 // 2, size)."""
    luma, chroma = composer.background
    return np.concatenate([luma, chroma.reshape(len(chroma), composer.size)])


class _Stage:
    """One rung on the GPU."""

    def __init__(self, gpu: Gpu, composer: Composer, tensors: Mapping[str, Tensor], stream: int) -> None:
        self.size, self.composer = composer.size, composer
        self._gpu, self._stream = gpu, stream
        self._behind = gpu.alloc(self.size * self.size * 3 // 2)
        fixed = {"behind": self._behind}
        for name, picture in fixed_pictures(self.composer, tensors).items():
            fixed[name] = gpu.alloc(picture.nbytes)
            gpu.upload(fixed[name], picture, stream)
            gpu.synchronize(stream)  # the picture may go now
        record = scene(tensors, fixed, composer)
        self.scene = gpu.alloc(record.nbytes)
        gpu.upload(self.scene, record, stream)
        gpu.synchronize(stream)

    def set_background(self, rgb: Bytes | Colour) -> None:
        self.composer.set_background(rgb)
        self._gpu.upload(self._behind, background(self.composer), self._stream)
        self._gpu.synchronize(self._stream)


class Face(NamedTuple):
    """What of an avatar pack is composed."""

    plate: Bytes
    hair: Hair | None
    rungs: tuple[Rung, ...]


class GpuComposer:
    """Draws frames of all rungs from `tensors` (the network's outputs by name). One stream, one thread."""

    def __init__(self, gpu: Gpu, face: Face, tensors: Mapping[str, Tensor], stream: int, image: bytes) -> None:
        """`image` is the compiled kernel (``gpu.compile(SOURCE.read_text())``).

        Raises:
            GpuError: no room, or the kernel does not load.
            RendererError: the network's outputs are not those the kernel composes.

        """
        self._has_hair = face.hair is not None and "hair_flow" in tensors and "shades" in tensors
        _check(tensors)
        self._gpu, self._face, self._tensors, self._stream = gpu, face, tensors, stream
        self._function = gpu.function(image, "compose")
        self._where = gpu.pinned(8)
        self._target: NDArray[np.uint64] = self._where.memory.view(np.uint64)
        self._stages: dict[int, _Stage] = {}
        self._background: Bytes | Colour = (16, 18, 22)

    def set_background(self, rgb: Bytes | Colour) -> None:
        """See ``Renderer``."""
        check_background(rgb)
        self._background = rgb
        for stage in self._stages.values():
            stage.set_background(rgb)

    def prepare(self, rung: int) -> None:
        """Bring a rung's pictures to the GPU, if they are not there."""
        if rung not in self._stages:
            hair = self._face.hair if self._has_hair else None
            composer = Composer(self._face.plate, self._face.rungs[rung].width, hair)
            stage = _Stage(self._gpu, composer, self._tensors, self._stream)
            stage.set_background(self._background)
            self._stages[rung] = stage

    def aim(self, address: int) -> None:
        """The frame goes to this address (as the GPU sees it), whatever graph or launch follows. No frame is in flight."""
        self._target[0] = address

    def enqueue(self, rung: int) -> None:
        """Put the launch on the stream (or into the graph being captured); the rung is prepared."""
        stage = self._stages[rung]
        grid = (-(-stage.size // (4 * BLOCK[0])), -(-stage.size // (2 * BLOCK[1])))
        self._gpu.launch(self._function, grid, BLOCK, (stage.scene, self._where.address), self._stream)


def _check(tensors: Mapping[str, Tensor]) -> None:
    ranks = {"flow": (2, 3), "residual": (4, 3), "mouth": (3, 3), "eyes": (2, 4), "places": (3, 3)}
    for name, (first, rank) in ranks.items():
        shape = tensors[name].shape if name in tensors else ()
        if len(shape) != rank or shape[0] != first:
            raise RendererError(
                f"the network's output {name} has shape {shape}: this program composes another network, update one of the two"
            )
