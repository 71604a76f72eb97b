"""A pack's evaluation card: figures as JSON and as a page, and the ten worst frames as pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.renderer import load_pack, select
from engines.studio import dataset
from engines.studio.expression import EXPRESSION
from engines.studio.metrics import GREY, REGIONS, over_grey
from engines.studio.pack import nv12_to_rgb

__all__ = ["ASKED", "card", "worst_frames"]

ASKED = {
    "256": {"whole": 36, "face": 32, "mouth": 29, "eyes": 29},
    "512": {"whole": 34, "face": 30, "mouth": 27, "eyes": 27},
}
"""PSNR in dB that a face for the kiosk should reach at least."""
_WORST = 10


def worst_frames(path: Path, data: Path, frames: list[int], size: int = 256) -> NDArray[np.uint8]:
    """A sheet of rendered, drawn and four times their difference, two frames in a row (RGB)."""
    face = select(load_pack(path)).engine
    face.set_background((GREY, GREY, GREY))
    best = face.rungs[0].width
    out = np.empty((best * 3 // 2, best), np.uint8)
    z, _ = dataset.labels(data)
    strips = []
    for i in frames:
        face.draw(z["values"][i].astype(np.float32), out)
        made, wanted = nv12_to_rgb(out).astype(int), over_grey(dataset.read_frame(data / "frames" / f"{i:05d}.webp"), best).astype(int)
        strip = np.hstack([wanted, made, np.clip(np.abs(made - wanted) * 4, 0, 255)]).astype(np.uint8)
        strip = cv2.resize(strip, (3 * size, size), interpolation=cv2.INTER_AREA)
        strips.append(cv2.putText(strip, str(i), (4, size - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA))
    if len(strips) % 2:
        strips.append(np.zeros_like(strips[0]))
    return np.vstack([np.hstack(strips[k : k + 2]) for k in range(0, len(strips), 2)])


def card(report: dict[str, Any], path: Path, data: Path | None = None) -> None:
    """Write ``card.json`` and ``card.md`` into a pack, with ``data`` also ``card-worst.webp``."""
    (path / "card.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    rungs = report["rungs"]
    lines = [
        f"# Evaluation of the pack `{report['pack']}`",
        "",
        f"{report['frames']} rendered test frames never trained on, {report['turned_frames']} of them with the head turned by more than",
        "3 degrees, drawn by the INT8 network through the whole renderer (NV12 and back), compared with the render over grey 128.",
        "PSNR in dB, the mean of the frames; in brackets the PSNR of the error over all frames, which the worst frames rule.",
        "",
        f"| | {' | '.join(rungs)} |",
        f"| --- |{' ---: |' * len(rungs)}",
    ]
    for region in REGIONS:
        cells = [f"{r[f'psnr_{region}_db']:.2f} ({r[f'pooled_{region}_db']:.2f}){_asked(size, region)}" for size, r in rungs.items()]
        lines.append(f"| {region} | {' | '.join(cells)} |")
    lines.append(f"| SSIM, face | {' | '.join(format(r['ssim_face'], '.4f') for r in rungs.values())} |")
    rows = [(f"{name}, {region}", f"{key}_{region}_db") for name, key in _MORE.items() for region in REGIONS]
    rows += [("loss by INT8, at most", "int8_loss_db")]
    for name, key in rows:
        if all(key in r for r in rungs.values()):
            lines.append(f"| {name} | {' | '.join(format(r[key], '.2f') for r in rungs.values())} |")
    for name, key in _STILL.items():
        if all(key + "mean" in r["stillness"] for r in rungs.values()):
            still = [f"{r['stillness'][key + 'mean']:.2f} / {r['stillness'][key + 'p999']:.0f}" for r in rungs.values()]
            lines.append(f"| change by 0.5 % noise on {name}, mean / p99.9 of 255 | {' | '.join(still)} |")
    lines.append("")
    lines += [f"Network sha256 `{report['network_sha256'][:16]}…`; the pack has {sum(report['bytes'].values()) / 1e6:.1f} MB.", ""]
    lines += _switch_rows(report.get("switch")) + _expression_rows(report.get("expression"))
    if data:
        frames = [w["frame"] for w in report["worst"][:_WORST]]
        _, encoded = cv2.imencode(".webp", worst_frames(path, data, frames)[..., ::-1], (cv2.IMWRITE_WEBP_QUALITY, 80))
        (path / "card-worst.webp").write_bytes(encoded.tobytes())
        lines += ["The ten worst frames, rendered, drawn and four times their difference:", "", "![worst frames](card-worst.webp)", ""]
    (path / "card.md").write_text("\n".join(lines).rstrip() + "\n", "utf-8")


_STILL = {
    "all controls": "",
    "all controls, true by the rig": "truth_",
    "all but the head's angles": "held_",
    "all but the head's angles, true by the rig": "truth_held_",
}
_MORE = {"nearest train frame": "baseline", "head turned": "turned"}


def _asked(size: str, region: str) -> str:
    wanted = ASKED.get(size, {}).get(region)
    return f", asked {wanted}" if wanted else ""


def _switch_rows(report: dict[str, Any] | None) -> list[str]:
    """The table of ``evaluate_switch``, if it was measured."""
    if not report:
        return []
    rows = [f"| {n} | {r['colour']:.2f} | {r['landmarks_px']:.2f} | {r['render_px']:.2f} |" for n, r in report.items()]
    head = "| rung | colour, steps of 255 | landmarks, px of 512 | of which the landmark model's own |"
    return ["Switched from the best rung to a smaller one:", "", head, "| --- | ---: | ---: | ---: |", *rows, ""]


def _expression_rows(report: dict[str, Any] | None) -> list[str]:
    """The table of ``evaluate_expression``, if it was measured."""
    if not report:
        return []
    rows = [f"| {n} | {report[n]['correlation']:.3f} | {report[n]['difference']:.4f} |" for n in EXPRESSION]
    return [
        f"Drawn against rendered, as MediaPipe's FaceLandmarker reads both ({report['frames']} test frames):",
        "",
        "| quantity | correlation | mean absolute difference |",
        "| --- | --- | --- |",
        *rows,
        "",
        f"Mouth opening at the pack's rest pose: {report['idle_mouth']} of the face's height.",
        "",
    ]
