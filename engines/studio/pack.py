"""Make an avatar pack from a trained face: network, plate, idle clip, thumbnail, manifest with checksums."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.renderer.compose import Composer, Hair
from engines.renderer.idle import BLINK_FRAMES, SWAY_FRAMES, TILE
from engines.renderer.onnx_runtime import infer, network_session
from engines.renderer.rewrite import unsigned_model
from engines.studio.rig import CONTROLS, INDEX, RANGES
from engines.studio.sampler import IDLE

if TYPE_CHECKING:
    from engines.studio.train import Face

__all__ = ["RUNGS", "nv12_to_rgb", "pack"]

RUNGS = (512, 384, 256)  # best first
NETWORK, PLATE, HAIR, CLIP, THUMBNAIL = "face-256.onnx", "plate.png", "hair.png", "idle.webp", "thumbnail.webp"
LICENCE = "LICENSE-ICT-FaceKit.txt"


def nv12_to_rgb(nv12: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Picture (h, w, 3) of a full-range BT.709 NV12 frame (h * 3 // 2, w)."""
    w = nv12.shape[1]
    h = nv12.shape[0] * 2 // 3
    y = nv12[:h].astype(np.float32)
    chroma = cv2.resize(nv12[h:].reshape(h // 2, w // 2, 2), (w, h), interpolation=cv2.INTER_LINEAR).astype(np.float32) - 128
    cb, cr = chroma[..., 0], chroma[..., 1]
    rgb = np.stack([y + 1.5748 * cr, y - 0.187324 * cb - 0.468124 * cr, y + 1.8556 * cb], -1)
    return np.asarray(np.clip(rgb + 0.5, 0, 255), np.uint8)


def _picture(path: Path, rgba: NDArray[np.uint8], options: Sequence[int] = ()) -> None:
    done, data = cv2.imencode(path.suffix, cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA), list(options))
    assert done, path
    path.write_bytes(data.tobytes())


def _clip_poses() -> list[NDArray[np.float32]]:
    """One breath as a slow nod and sway, then a blink at its first pose."""
    poses = []
    for k in range(SWAY_FRAMES):
        pose, phase = np.array(IDLE, np.float32), 2 * np.pi * k / SWAY_FRAMES
        pose[INDEX["pitch"]], pose[INDEX["yaw"]] = 0.4 * (1 - np.cos(phase)), 0.7 * np.sin(phase)
        pose[INDEX["gazePitch"]], pose[INDEX["gazeYaw"]] = -pose[INDEX["pitch"]], -pose[INDEX["yaw"]]
        poses.append(pose)
    for lid in (0.5, 1.0, 1.0, 0.5)[:BLINK_FRAMES]:
        pose = poses[0].copy()
        pose[[INDEX["eyeBlink_L"], INDEX["eyeBlink_R"]]] = lid
        poses.append(pose)
    return poses


class _Cutout:
    """Draws the face as straight-alpha RGBA at the size of the idle clip's frames."""

    def __init__(self, network: bytes, plate: NDArray[np.uint8], hair: Hair | None) -> None:
        self.session = network_session(network, 1)
        self.composer = Composer(plate, TILE, hair)

    def draw(self, controls: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Drawn over black and over white, the difference is the alpha."""
        drawing = infer(self.session, controls)
        over = []
        for colour in ((0, 0, 0), (255, 255, 255)):
            out = np.empty((TILE * 3 // 2, TILE), np.uint8)
            self.composer.set_background(colour)
            self.composer.draw(drawing, out)
            over.append(nv12_to_rgb(out).astype(np.float32))
        alpha = np.clip(255 - (over[1] - over[0]).mean(-1), 0, 255)
        alpha[alpha < 6] = 0
        colour = np.clip(over[0] * 255 / np.maximum(alpha, 1)[..., None], 0, 255)
        return np.asarray(np.concatenate([colour, alpha[..., None]], -1) + 0.5, np.uint8)


def _manifest(out: Path, name: str, title: str, voice: str, hair_scale: float) -> str:
    def words(values: Sequence[object]) -> str:
        return ", ".join(json.dumps(v) for v in values)

    files = {"network": NETWORK, "plate": PLATE, "idle": CLIP, "thumbnail": THUMBNAIL}
    if hair_scale:
        files["hair"] = HAIR
    lines = [
        "# An avatar pack; engines/renderer/pack.py reads it.",
        "format = 1",
        f"name = {json.dumps(name)}",
        f"title = {json.dumps(title)}",
        'licence = "Apache-2.0; face rig: ICT-FaceKit, MIT, see LICENSE-ICT-FaceKit.txt"',
        f"voice = {json.dumps(voice)}",
        "",
        "[controls]",
        f"names = [{words(CONTROLS)}]",
        f"ranges = [{', '.join(f'[{a:g}, {b:g}]' for a, b in RANGES.tolist())}]",
        f"idle = [{', '.join(f'{v:.4g}' for v in np.asarray(IDLE).tolist())}]",
        "",
    ]
    lines += [f'[[rungs]]\nname = "{s}"\nwidth = {s}\nheight = {s}\n' for s in RUNGS]
    lines += ["[files]", *[f"{k} = {json.dumps(v)}" for k, v in files.items()]]
    lines += [f"hair_scale = {hair_scale!r}"] if hair_scale else []
    lines += ["", "[sha256]"]
    lines += [f'{json.dumps(v)} = "{hashlib.sha256((out / v).read_bytes()).hexdigest()}"' for v in files.values()]
    return "\n".join(lines) + "\n"


def _clean(picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Premultiplied RGBA (h, w, 4), 0..1, as bytes; the optimiser leaves a breath of noise on the empty part."""
    rgba = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
    figure = cv2.dilate((rgba[..., 3] > 60).astype(np.uint8), np.ones((17, 17), np.uint8))
    rgba[(figure == 0) | (rgba[..., 3] < 4)] = 0
    rgba[..., :3] = np.minimum(rgba[..., :3], rgba[..., 3:])
    return np.asarray(rgba, np.uint8)


def _hair(face: Face) -> tuple[NDArray[np.uint8], float]:
    """The hair's file, its picture above its shades (7 * 376, 320, 4), and the scale of the shades; 0 without hair."""
    picture = _clean(face.hair[0].permute(1, 2, 0).numpy())
    near = cv2.dilate((picture[..., 3] > 0).astype(np.uint8), np.ones((9, 9), np.uint8))[..., None]
    shades = face.shades.permute(0, 2, 3, 1).numpy() * near
    if not picture[..., 3].any():
        return picture, 0.0
    scale = float(max(np.quantile(np.abs(shades[shades != 0]), 0.9999), 1e-4) / 127) if shades.any() else 1e-4
    return np.concatenate([picture, *(np.clip(shades / scale, -127, 127) + 128.5).astype(np.uint8)]), scale


def pack(
    checkpoint: Path,
    data: Path,
    out: Path,
    *,
    name: str = "stock",
    title: str = "Vera",
    voice: str = "en, warm, female",
    work: Path | None = None,
    samples: int = 160,
) -> Path:
    """Quantise ``checkpoint`` and write the pack into the folder ``out``; ``work`` receives the float model too,
    ``samples`` is the number of calibration poses.

    ``data`` is the rendered set (calibration poses, and the rig's licence text in ``rig/``).

    Raises:
        StudioError: no checkpoint, or no data.

    """
    from engines.studio.quantize import quantize  # with PyTorch, which looking at a pack does not need
    from engines.studio.train import load_checkpoint

    out.mkdir(parents=True, exist_ok=True)
    export = quantize(checkpoint, data, work or out / ".work", samples=samples)
    shutil.copyfile(export.int8_model, out / NETWORK)
    face = load_checkpoint(checkpoint)
    plate = _clean(face.plate[0].permute(1, 2, 0).numpy())
    sheet, hair_scale = _hair(face)
    hair = None
    if hair_scale:
        picture, *shades = np.split(sheet, 7)
        hair = Hair(picture, (np.stack(shades).astype(np.float32) - 128) * np.float32(hair_scale))
        _picture(out / HAIR, sheet, (cv2.IMWRITE_PNG_COMPRESSION, 9))
    _picture(out / PLATE, plate, (cv2.IMWRITE_PNG_COMPRESSION, 9))
    import onnx

    cutout = _Cutout(unsigned_model(onnx.load(str(out / NETWORK))).SerializeToString(), plate, hair)
    frames = [cutout.draw(pose) for pose in _clip_poses()]
    rows = [np.hstack(frames[k : k + 5]) for k in range(0, len(frames), 5)]
    _picture(out / CLIP, np.vstack(rows), (cv2.IMWRITE_WEBP_QUALITY, 90))
    _picture(out / THUMBNAIL, frames[0], (cv2.IMWRITE_WEBP_QUALITY, 90))
    licence = data / "rig" / LICENCE
    if licence.is_file():
        shutil.copyfile(licence, out / LICENCE)
    (out / "avatar.toml").write_text(_manifest(out, name, title, voice, hair_scale), "utf-8")
    if work is None:
        shutil.rmtree(out / ".work")
    return out
