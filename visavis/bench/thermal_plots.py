"""Pictures of the thermal benchmark: one day of each kind with its margin and its picture, and all policies in one view."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from visavis.bench.thermal_simulation import TRACE_S, Batch, Outcome

__all__ = ["draw"]

_COLOURS = {"governor": "#0b6e4f", "none": "#b3001b", "two_threshold": "#8a6d00", "openpilot": "#2a4d9b", "pid": "#7a3e9d"}
_DPI = 80
_SHOWN = ("summer", "blocked", "fan_failure", "sun", "power_cap")
_EVERY = 6  # points of a trace: a minute is fine enough for a day
_COLOURS_KEPT = 48


def draw(folder: Path, batch: Batch, outcomes: Mapping[str, Outcome], figures: Mapping[str, Mapping[str, Any]]) -> None:
    """Write thermal-days.png and thermal-policies.png. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    _days(folder / "thermal-days.png", batch, outcomes)
    _policies(folder / "thermal-policies.png", figures)


def _days(path: Path, batch: Batch, outcomes: Mapping[str, Outcome]) -> None:
    """Of each profile, among the cases that the governor held and where it had to touch the picture, the middle one by quality."""
    governor = outcomes["governor"]
    figure, axes = plt.subplots(2, len(_SHOWN), figsize=(3.0 * len(_SHOWN), 5), dpi=_DPI, sharex=True, sharey="row")
    for column, profile in enumerate(_SHOWN):
        cases = [i for i, (_, _, of) in enumerate(batch.names) if of == profile]
        touched = [i for i in cases if governor.hottest[i] <= 0 and governor.changes[i] > 0] or cases
        case = sorted(touched, key=lambda i: float(governor.quality[i]))[len(touched) // 2]
        top, bottom = axes[0, column], axes[1, column]
        for name in ("none", "openpilot", "governor"):
            trace = outcomes[name].trace
            hours = np.arange(len(trace["margin"]))[::_EVERY] * TRACE_S / 3600
            top.plot(hours, trace["margin"][::_EVERY, case], color=_COLOURS[name], linewidth=0.8, label=name)
            bottom.plot(hours, _smooth(trace["quality"][:, case])[::_EVERY], color=_COLOURS[name], linewidth=0.8)
        top.axhline(0, color="black", linewidth=0.6)
        top.set_ylim(-6, 40)
        top.set_title(f"{profile}\n{batch.names[case][0]} {batch.names[case][1]}", fontsize=9)
        bottom.set_ylim(-0.05, 1.05)
        bottom.set_xlabel("hours")
    axes[0, 0].set_ylabel("°C below the trip")
    axes[1, 0].set_ylabel("picture quality")
    axes[0, 0].legend(fontsize=8)
    figure.tight_layout()
    _save(figure, path)


def _smooth(values: Any) -> Any:
    """Over two minutes: frames that are lost for a moment would fill the picture."""
    width = max(1, min(120 // TRACE_S, len(values)))
    return np.convolve(values, np.ones(width), mode="same") / np.convolve(np.ones(len(values)), np.ones(width), mode="same")


def _save(figure: Figure, path: Path) -> None:
    """As a PNG with a palette: these pictures lie in the repository."""
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]  # type: ignore[attr-defined]
    Image.fromarray(pixels).quantize(_COLOURS_KEPT).save(path, optimize=True)
    plt.close(figure)


def _policies(path: Path, figures: Mapping[str, Mapping[str, Any]]) -> None:
    figure, axis = plt.subplots(figsize=(6, 4), dpi=_DPI)
    for name, row in figures.items():
        if row["mean_quality"] is None:
            continue
        axis.scatter(row["seconds_above_trip"], row["mean_quality"], color=_COLOURS[name], s=30)
        label = f"{name} ({row['changes_per_hour_p95']:g} changes/h)"
        axis.annotate(label, (row["seconds_above_trip"], row["mean_quality"]), xytext=(4, 4), textcoords="offset points", fontsize=8)
    axis.set_xscale("symlog")
    axis.set_xlim(left=-0.5)
    axis.margins(x=0.35)
    axis.set_xlabel("seconds above the passive trip, feasible cases")
    axis.set_ylabel("mean picture quality")
    figure.tight_layout()
    _save(figure, path)
