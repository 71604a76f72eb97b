"""Train the face on rendered frames: one thread, seeded, a checkpoint every two minutes, resumable.

Flow is supervised by the rig's projected points (also of poses nobody rendered), the picture by the frames: the warped
plate plus residual in random windows, the mouth and eye patches in their own stabilised space, weighted by how much each
patch pixel varies over the set (lips, teeth, lids and irises move; cheeks do not).
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from engines.renderer.compose import patch_mask
from engines.studio import dataset
from engines.studio.geometry import Geometry, fit
from engines.studio.network import FRAME, VisavisFace
from engines.studio.rig import Rig

__all__ = ["Face", "load_checkpoint", "train"]

WINDOW, BATCH, BODY_BATCH, FLOW_BATCH = 224, 8, 4, 24
RATE, PLATE_RATE, EMA = 1.5e-3, 4e-3, 0.998
SAVE_EVERY_S = 120.0


@dataclass
class Face:
    """What training makes: the network, its plate (1, 4, 512, 512) premultiplied RGBA 0..1, and the fitted geometry."""

    network: VisavisFace
    plate: Tensor
    geometry: Geometry


class _FlowLabels:
    """Rig points in memory; draws (controls, positions, backward flow, weight) of random training poses."""

    def __init__(self, data: Path) -> None:
        z, flow = dataset.labels(data)
        names = [str(n) for n in flow["kind_names"]]
        keep = np.isin(flow["kind"], [names.index(n) for n in dataset.FLOW_KINDS])
        self.canon = torch.tensor(flow["canon"][keep].astype(np.float32))
        pick = np.flatnonzero(z["split"] == 0)  # poses of test frames stay unseen, labels too
        self.offsets = torch.tensor(flow["offsets"][pick][:, keep].astype(np.float16))
        seen = np.unpackbits(flow["visible"][pick].astype(np.uint8), axis=1)[:, : len(keep)][:, keep]
        self.seen = torch.tensor(seen.astype(np.bool_))
        self.controls = torch.tensor(z["values"][pick].astype(np.float32))

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Controls (b, 51), positions (b, p, 2) in pixels, wanted flow there (b, p, 2), weight (b, p)."""
        i = torch.from_numpy(rng.integers(0, len(self.controls), count))
        offsets = self.offsets[i].float()
        return self.controls[i], self.canon + offsets, -offsets, self.seen[i].float()


def _sample(field: Tensor, pixels: Tensor) -> Tensor:
    """Values of ``field`` (b, c, h, w), which spans the frame, at frame pixels (b, m, n, 2): (b, c, m, n)."""
    return functional.grid_sample(field, pixels * (2 / FRAME) - 1, mode="bilinear", padding_mode="border", align_corners=False)


def _flow_loss(net: VisavisFace, labels: _FlowLabels, rng: np.random.Generator, count: int) -> Tensor:
    controls, at, wanted, weight = labels.draw(rng, count)
    flow = net.warp(net.controls(controls))
    error = functional.smooth_l1_loss(_sample(flow, at[:, None])[:, :, 0].transpose(1, 2), wanted, reduction="none", beta=0.5).sum(-1)
    bend = (flow[..., 2:] - 2 * flow[..., 1:-1] + flow[..., :-2]).abs().mean() + (
        flow[:, :, 2:] - 2 * flow[:, :, 1:-1] + flow[:, :, :-2]
    ).abs().mean()
    return (error * weight).sum() / weight.sum() + 0.5 * bend


def _picture_loss(made: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    """L1, gradient L1 and L1 of fourfold means, weighted per pixel (broadcast over batch and channels)."""
    d = made - wanted
    w = weight.expand_as(d[:, :1])
    loss = (d.abs() * w).mean()
    loss = loss + ((d[..., 1:] - d[..., :-1]).abs() * w[..., 1:]).mean() + ((d[..., 1:, :] - d[..., :-1, :]).abs() * w[..., 1:, :]).mean()
    return loss + (functional.avg_pool2d(d, 4).abs() * functional.avg_pool2d(w, 4)).mean()


def _body_loss(net: VisavisFace, plate: Tensor, frames: dataset.Frames, weight: Tensor, rng: np.random.Generator) -> Tensor:
    i = rng.integers(0, len(frames.index), BODY_BATCH)
    x = net.controls(torch.from_numpy(frames.controls[i]))
    flow = net.warp(x)
    with torch.autocast("cpu", torch.bfloat16):
        residual = net.body(x)
    corner = rng.integers(0, FRAME - WINDOW + 1, (BODY_BATCH, 2))
    wanted = np.stack([frames.rgba[k, y : y + WINDOW, x0 : x0 + WINDOW] for k, (x0, y) in zip(i, corner, strict=True)])
    w = torch.stack([weight[y : y + WINDOW, x0 : x0 + WINDOW] for x0, y in corner])[:, None]
    span = torch.arange(WINDOW) + 0.5
    grid = torch.stack(torch.meshgrid(span, span, indexing="xy"), -1) + torch.from_numpy(corner)[:, None, None].float()
    source = grid + _sample(flow, grid).permute(0, 2, 3, 1)
    made = _sample(plate.expand(BODY_BATCH, -1, -1, -1), source) + _sample(residual.float(), grid)
    return _picture_loss(made, torch.from_numpy(wanted).permute(0, 3, 1, 2).float() / 255, w)


def _patch_loss(
    net: VisavisFace, frames: dataset.Frames, weights: tuple[Tensor, Tensor], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    i = rng.integers(0, len(frames.index), BATCH)
    x = net.controls(torch.from_numpy(frames.controls[i]))
    with torch.autocast("cpu", torch.bfloat16):
        mouth, eyes = net.lips(x).float(), net.both_eyes(x).float()
    wanted = torch.from_numpy(frames.mouth[i]).permute(0, 3, 1, 2).float() / 255
    wanted_eyes = torch.from_numpy(frames.eyes[i]).flatten(0, 1).permute(0, 3, 1, 2).float() / 255
    return _picture_loss(mouth, wanted, weights[0]), _picture_loss(eyes, wanted_eyes, weights[1])


def _variation(patches: NDArray[np.uint8]) -> Tensor:
    """Loss weight (1, 1, h, w) of patches (n, h, w, 3): mask times 1 + how much the pixel varies over the set."""
    sd = patches[::4].astype(np.float32).mean(-1).std(0)
    return torch.from_numpy((patch_mask(*sd.shape) + 0.05) * (0.5 + 2.5 * sd / sd.max()))[None, None]


def _first_plate(frames: dataset.Frames) -> Tensor:
    """The frame nearest to the zero vector, where plate and flow labels have their origin."""
    scaled = np.abs(frames.controls)
    scaled[:, -5:] *= 0.2
    nearest = int(scaled.sum(1).argmin())
    return torch.from_numpy(frames.rgba[nearest]).permute(2, 0, 1)[None].float() / 255


def load_checkpoint(path: Path) -> Face:
    """The averaged (EMA) network, plate and geometry of a checkpoint.

    Raises:
        StudioError: no checkpoint there.

    """
    if not path.is_file():
        raise dataset.StudioError(f"{path}: no checkpoint; run the training first")
    state = torch.load(path, weights_only=True)
    geometry = Geometry(state["places"].numpy(), state["iris"].numpy())
    network = VisavisFace(geometry)
    network.load_state_dict(state["ema"])
    return Face(network.eval(), state["ema_plate"], geometry)


class _Run:
    """Everything that a checkpoint must bring back."""

    def __init__(self, geometry: Geometry, frames: dataset.Frames, seed: int) -> None:
        torch.manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.geometry = geometry
        self.net = VisavisFace(geometry).to(memory_format=torch.channels_last)
        with torch.no_grad():  # the decoders learn the change against the mean patch
            self.net.mouth_mean.copy_(torch.from_numpy(frames.mouth.mean(0, dtype=np.float32)).permute(2, 0, 1)[None] / 255)
            self.net.eye_mean.copy_(torch.from_numpy(frames.eyes.mean(0, dtype=np.float32)).permute(0, 3, 1, 2) / 255)
        plate = _first_plate(frames)
        self.plate = torch.nn.Parameter(plate.clone())
        self.ema, self.ema_plate = copy.deepcopy(self.net), plate.clone()
        self.optimizer = torch.optim.AdamW(
            [{"params": list(self.net.parameters()), "scale": RATE}, {"params": [self.plate], "scale": PLATE_RATE}],
            lr=RATE,
            betas=(0.9, 0.98),
            weight_decay=1e-3,
        )
        self.step, self.elapsed = 0, 0.0

    def save(self, path: Path) -> None:
        state = {
            "net": self.net.state_dict(),
            "plate": self.plate.data,
            "ema": self.ema.state_dict(),
            "ema_plate": self.ema_plate,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "elapsed": self.elapsed,
            "places": torch.from_numpy(self.geometry.places),
            "iris": torch.from_numpy(self.geometry.iris),
            "rng": json.dumps(self.rng.bit_generator.state),
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def restore(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.net.load_state_dict(state["net"])
        self.ema.load_state_dict(state["ema"])
        self.plate.data, self.ema_plate = state["plate"], state["ema_plate"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed = state["step"], state["elapsed"]
        self.rng.bit_generator.state = json.loads(state["rng"])

    def advance(self, loss: Tensor, progress: float, since: int) -> None:
        """One optimiser step at ``progress`` 0..1 of the schedule, ``since`` steps into its phase, then the moving average.

        Each phase warms up: at the full rate the first picture steps can kill every Relu of a decoder.
        """
        rate = min(1.0, (since + 1) / 400) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))
        for group in self.optimizer.param_groups:
            group["lr"] = group["scale"] * rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        keep = min(EMA, self.step / (self.step + 20))
        with torch.no_grad():
            for mean, now in zip(self.ema.parameters(), self.net.parameters(), strict=True):
                mean.lerp_(now, 1 - keep)
            self.ema_plate.lerp_(self.plate.data, 1 - keep)


def train(
    data: Path,
    out: Path,
    *,
    minutes: float,
    seed: int = 7,
    size: int = FRAME,
    resume: bool = False,
    log: Callable[[str], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Path:
    """Train for ``minutes`` of wall time (earlier runs counted when resuming); returns the checkpoint's path.

    ``size`` is the frame size of the data and must be 512: one training serves all rungs. The learning rate follows the
    clock, so two runs are equal only up to the machine's speed.

    Raises:
        StudioError: data missing or of another size.

    """
    if size != FRAME:
        raise dataset.StudioError(f"size {size}: the network is trained at {FRAME}; rungs are cut from it by the renderer")
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoint.pt"
    geometry = fit(Rig(str(data / "rig" / "ict_facekit_rig.npz")))
    frames = dataset.load(data, geometry, test=False)
    labels = _FlowLabels(data)
    run = _Run(geometry, frames, seed)
    if resume and checkpoint.is_file():
        run.restore(checkpoint)
    weights = _variation(frames.mouth), _variation(frames.eyes.reshape(-1, *frames.eyes.shape[2:]))
    body_weight = torch.ones(FRAME, FRAME)
    body_weight[300:350, 216:296] = body_weight[180:236, 176:240] = body_weight[180:236, 272:336] = 0.25
    budget, started, saved = minutes * 60, clock() - run.elapsed, run.elapsed
    warm = min(4000, int(budget * 2))  # flow-only steps first: the picture losses then see an aligned plate
    while run.elapsed < budget:
        loss_flow = _flow_loss(run.net, labels, run.rng, FLOW_BATCH)
        if run.step < warm:
            run.advance(loss_flow * 0.1, 0.0, run.step)
        else:
            body = _body_loss(run.net, run.plate, frames, body_weight, run.rng)
            mouth, eyes = _patch_loss(run.net, frames, weights, run.rng)
            run.advance(loss_flow * 0.03 + body + 2 * mouth + 2 * eyes, run.elapsed / budget, run.step - warm)
            if run.step % 100 == 0:
                line = {
                    "step": run.step,
                    "s": round(run.elapsed),
                    "flow": loss_flow.item(),
                    "body": body.item(),
                    "mouth": mouth.item(),
                    "eyes": eyes.item(),
                }
                text = json.dumps({k: round(v, 5) for k, v in line.items()})
                with (out / "train.jsonl").open("a") as f:
                    f.write(text + "\n")
                if log:
                    log(text)
        run.elapsed = clock() - started
        if run.elapsed - saved > SAVE_EVERY_S:
            run.save(checkpoint)
            saved = run.elapsed
    run.save(checkpoint)
    return checkpoint
