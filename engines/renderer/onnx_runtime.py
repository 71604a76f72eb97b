"""The renderer that needs nothing but one CPU core: ONNX Runtime for the network, OpenCV for the rest."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from engines.renderer._types import Colour, RendererError, Rung
from engines.renderer.coarse import is_small
from engines.renderer.compose import Composer, Drawing, check_background
from engines.renderer.pack import AvatarPack
from engines.renderer.rewrite import unsigned_bytes

__all__ = ["OnnxRuntimeRenderer", "check_call", "infer", "network_session"]

_log = logging.getLogger(__name__)

OUTPUTS = ["flow", "residual", "mouth", "eyes", "places"]
HAIR_OUTPUTS = ["hair_flow", "shades"]


def network_session(model: bytes, threads: int) -> ort.InferenceSession:
    """A CPU session that sleeps between frames instead of spinning."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _fastest(network: Path, cache: Path | None, threads: int, *, coarse: bool = False) -> ort.InferenceSession:
    """The network as it is fastest, or plain where this ONNX Runtime has no kernel for that."""
    try:
        return network_session(unsigned_bytes(network, cache, fast=True, coarse=coarse), threads)
    except Exception as error:  # noqa: BLE001 - ONNX Runtime has no class for it; a network that is broken fails again below
        _log.warning("%s is drawn the slower way: %s", network, str(error).splitlines()[0] if str(error) else type(error).__name__)
        return network_session(unsigned_bytes(network, cache, coarse=coarse), threads)


def check_call(
    controls: NDArray[np.float32], out: NDArray[np.uint8], idle: NDArray[np.float32], rungs: tuple[Rung, ...], rung: int
) -> Rung:
    """The rung of a ``draw`` call whose arguments fit.

    Raises:
        RendererError: they do not.

    """
    if not 0 <= rung < len(rungs):
        raise RendererError(f"rung {rung}: this face has {len(rungs)}, from 0 (best)")
    r = rungs[rung]
    if controls.shape != idle.shape:
        raise RendererError(f"controls of shape {controls.shape}: this face takes {idle.shape}")
    if out.shape != (r.height * 3 // 2, r.width) or out.dtype != np.uint8:
        raise RendererError(f"out of shape {out.shape} {out.dtype}: rung {r.name} needs uint8 {(r.height * 3 // 2, r.width)}")
    return r


def infer(session: ort.InferenceSession, controls: NDArray[np.float32], *, halved: bool = False) -> Drawing:
    """What the network gives for clean controls (n,); the hair's part is absent where the network has none. `halved`: see ``Drawing``."""
    names = OUTPUTS + [o.name for o in session.get_outputs() if o.name in HAIR_OUTPUTS]
    flow, residual, mouth, eyes, places, *hair = session.run(names, {"controls": controls[None]})
    return Drawing(flow[0], residual[0], mouth[0], eyes, places[0], *(h[0] for h in hair))._replace(halved=halved)


def _patches(session: ort.InferenceSession) -> list[int]:
    """How large mouth and eyes come out of it."""
    return [n for o in session.get_outputs() if o.name in ("mouth", "eyes") for n in o.shape[-2:]]


class OnnxRuntimeRenderer:
    """``Renderer`` on one core. Composers of the rungs are made when first drawn (a few ms)."""

    def __init__(self, pack: AvatarPack, *, threads: int = 1, cache: Path | None = None) -> None:
        self.controls, self.ranges, self.idle, self.rungs = pack.controls, pack.ranges, pack.idle, pack.rungs
        self._plate, self._hair = pack.plate, pack.hair
        self._session = _fastest(pack.network, cache, threads)
        # Both stay: a rung changes between two frames.
        small = any(is_small(r.width) for r in self.rungs)
        coarse = _fastest(pack.network, cache, threads, coarse=True) if small else None
        fits = coarse is not None and _patches(self._session) == [2 * n for n in _patches(coarse)]
        self._coarse = coarse if fits else None
        self._composers: dict[int, Composer] = {}
        self._background: NDArray[np.uint8] | Colour = (16, 18, 22)

    def set_background(self, rgb: NDArray[np.uint8] | Colour) -> None:
        """See ``Renderer``."""
        check_background(rgb)
        self._background = rgb
        for composer in self._composers.values():
            composer.set_background(rgb)

    def _composer(self, rung: int) -> Composer:
        if rung not in self._composers:
            composer = Composer(self._plate, self.rungs[rung].width, self._hair)
            composer.set_background(self._background)
            self._composers[rung] = composer
        return self._composers[rung]

    def infer(self, controls: NDArray[np.float32], rung: int = 0) -> Drawing:
        """The network's outputs for clean controls (n,), as this rung wants them."""
        if self._coarse is not None and is_small(self.rungs[rung].width):
            return infer(self._coarse, controls, halved=True)
        return infer(self._session, controls)

    def draw(self, controls: NDArray[np.float32], out: NDArray[np.uint8], *, rung: int = 0) -> None:
        """See ``Renderer``."""
        check_call(controls, out, self.idle, self.rungs, rung)
        clean = np.where(np.isnan(controls), self.idle, np.clip(controls, self.ranges[:, 0], self.ranges[:, 1])).astype(np.float32)
        self._composer(rung).draw(self.infer(clean, rung), out)
