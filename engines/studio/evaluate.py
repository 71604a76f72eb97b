"""How close a pack's drawn frames come to the rendered test frames.

Everything is measured on the product's own path: INT8 network, compositor, NV12 and back. The reference is the test frame (32
samples per pixel) over the same grey. Two renders of one pose differ, too: at 512 by about 31.5 dB in the hair, so read the
figures against that ceiling.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.renderer import load_pack, select
from engines.renderer._types import Renderer
from engines.renderer.coarse import halved, is_small
from engines.renderer.compose import Composer
from engines.renderer.onnx_runtime import infer, network_session
from engines.renderer.pack import AvatarPack
from engines.studio import dataset
from engines.studio.metrics import GREY, REGIONS, over_grey, psnr, regions, ssim_map
from engines.studio.pack import nv12_to_rgb
from engines.studio.stillness import drawn_stillness, true_stillness

__all__ = ["TURNED_DEGREES", "compare", "evaluate"]

TURNED_DEGREES = 3.0

Drawer = Callable[[NDArray[np.float32], int], NDArray[np.uint8]]


def _drawer(face: Renderer) -> Drawer:
    """Draws controls at a rung (index) as RGB (size, size, 3)."""
    frames = [np.empty((r.height * 3 // 2, r.width), np.uint8) for r in face.rungs]

    def draw(controls: NDArray[np.float32], rung: int) -> NDArray[np.uint8]:
        face.draw(controls, frames[rung], rung=rung)
        return nv12_to_rgb(frames[rung])

    return draw


def _float_drawer(pack: AvatarPack, model: Path) -> Drawer:
    """The same with the float network of ``model``."""
    session = network_session(model.read_bytes(), 1)
    composers = [Composer(pack.plate, r.width, pack.hair) for r in pack.rungs]
    for composer in composers:
        composer.set_background((GREY, GREY, GREY))

    def draw(controls: NDArray[np.float32], rung: int) -> NDArray[np.uint8]:
        clean = np.clip(controls, pack.ranges[:, 0], pack.ranges[:, 1]).astype(np.float32)
        size = pack.rungs[rung].width
        out = np.empty((size * 3 // 2, size), np.uint8)
        drawing = infer(session, clean)
        if is_small(size):  # as the product does: what INT8 costs is asked, not what this costs
            drawing = drawing._replace(mouth=halved(drawing.mouth), eyes=halved(drawing.eyes), halved=True)
        composers[rung].draw(drawing, out)
        return nv12_to_rgb(out)

    return draw


def compare(made: NDArray[np.uint8], wanted: NDArray[np.uint8], masks: dict[str, NDArray[np.bool_]]) -> tuple[list[float], float]:
    """Mean squared error in each of ``REGIONS``, and SSIM of the face, of two RGB pictures."""
    squares = ((made.astype(np.float64) - wanted) ** 2).mean(-1)
    similar = ssim_map(cv2.cvtColor(made, cv2.COLOR_RGB2GRAY), cv2.cvtColor(wanted, cv2.COLOR_RGB2GRAY))
    return [float(squares[masks[name]].mean()) for name in REGIONS], float(similar[masks["face"]].mean())


def _nearest(values: NDArray[np.float32], ranges: NDArray[np.float32], test: NDArray[np.int64], train: NDArray[np.int64]) -> list[int]:
    """For each test frame the train frame with the nearest controls, each control in units of its range."""
    unit = values / np.abs(ranges).max(1)
    return [int(train[np.linalg.norm(unit[train] - unit[i], axis=1).argmin()]) for i in test]


def _table(errors: NDArray[np.float64], name: str) -> dict[str, float]:
    """``<name>_<region>_db`` from mean squared errors (frames, regions): the mean of the frames' PSNR."""
    return {f"{name}_{r}_db": round(float(v), 2) for r, v in zip(REGIONS, psnr(errors).mean(0), strict=True)}


def evaluate(path: Path, data: Path, *, float_model: Path | None = None, limit: int | None = None) -> dict[str, Any]:
    """Figures of every rung over the rendered test frames of ``data``.

    ``rungs.<size>`` holds ``psnr_<region>_db`` and ``baseline_<region>_db`` (the train frame with the nearest controls shown instead),
    ``ssim_face``, ``int8_loss_db`` (the most any region loses against ``float_model``, the float network of the same training),
    ``pooled_<region>_db`` (PSNR of the error over all frames, which the worst frames rule), the same with ``turned_`` in front over
    frames with the head turned by more than 3 degrees, and ``stillness`` (its ``truth_`` figures need a rig in
    ``data``). ``worst`` lists frames by their PSNR at the best rung.

    Raises:
        EngineError: the pack or the data cannot be read, or their controls differ.

    """
    pack = load_pack(path)
    z, _ = dataset.labels(data)
    if list(pack.controls) != [str(n) for n in z["names"]]:
        raise dataset.StudioError(f"{path}: its controls are not those of {data}; evaluate it on the data it was trained on")
    face = select(pack).engine
    face.set_background((GREY, GREY, GREY))
    rendered = z["rendered"].astype(bool)
    test, train = np.flatnonzero(rendered & (z["split"] == 1))[:limit], np.flatnonzero(rendered & (z["split"] == 0))
    if not len(test):
        raise dataset.StudioError(f"{data}: no rendered test frames")
    values = z["values"].astype(np.float32)
    beside = _nearest(values, z["ranges"].astype(np.float32), test, train) if len(train) else []
    drawers = {"psnr": _drawer(face)} | ({"float": _float_drawer(pack, float_model)} if float_model else {})
    errors: dict[tuple[int, str], list[list[float]]] = {}
    alike: dict[int, list[float]] = {}
    for k, i in enumerate(test):
        rgba = dataset.read_frame(data / "frames" / f"{i:05d}.webp")
        other = dataset.read_frame(data / "frames" / f"{beside[k]:05d}.webp") if beside else None
        for rung, size in enumerate(r.width for r in face.rungs):
            wanted, masks = over_grey(rgba, size), regions(z["boxes"][i], z["landmarks"][i], size)
            shown = {name: draw(values[i], rung) for name, draw in drawers.items()}
            if other is not None:
                shown["baseline"] = over_grey(other, size)
            for name, picture in shown.items():
                squares, similar = compare(picture, wanted, masks)
                errors.setdefault((size, name), []).append(squares)
                if name == "psnr":
                    alike.setdefault(size, []).append(similar)
    turned = np.abs(values[test][:, -3:]).max(1) > TURNED_DEGREES
    best = face.rungs[0].width
    true = true_stillness(data, face.idle, [r.width for r in face.rungs])
    order = np.argsort(np.array(errors[best, "psnr"])[:, 0])[::-1]
    return {
        "pack": pack.name,
        "network_sha256": pack.digests[pack.network.name],
        "frames": len(test),
        "turned_frames": int(turned.sum()),
        "rungs": {
            str(r.width): _rung(r.width, errors, alike[r.width], turned)
            | {"stillness": drawn_stillness(drawers["psnr"], rung, face.idle, face.ranges) | true.get(r.width, {})}
            for rung, r in enumerate(face.rungs)
        },
        "worst": [{"frame": int(test[k]), "psnr_whole_db": round(float(psnr(errors[best, "psnr"][k][0])), 2)} for k in order],
        "bytes": {f.name: f.stat().st_size for f in sorted(path.iterdir()) if f.is_file() and not f.name.startswith("card")},
    }


def _rung(size: int, errors: dict[tuple[int, str], list[list[float]]], alike: list[float], turned: NDArray[np.bool_]) -> dict[str, Any]:
    """The figures of one rung."""
    drawn = np.array(errors[size, "psnr"])
    report: dict[str, Any] = _table(drawn, "psnr") | {"ssim_face": round(float(np.mean(alike)), 4)}
    if (size, "baseline") in errors:
        report |= _table(np.array(errors[size, "baseline"]), "baseline")
    if (size, "float") in errors:
        loss = psnr(np.array(errors[size, "float"])).mean(0) - psnr(drawn).mean(0)
        report["int8_loss_db"] = round(float(loss.max()), 2)
    report |= {f"pooled_{r}_db": round(float(psnr(v)), 2) for r, v in zip(REGIONS, drawn.mean(0), strict=True)}
    if turned.any():
        report |= _table(drawn[turned], "turned") | {"turned_ssim_face": round(float(np.mean(np.array(alike)[turned])), 4)}
    return report
