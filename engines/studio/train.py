"""Train the face on rendered frames: one thread, seeded, a checkpoint every two minutes, resumable.

Flow is supervised by the rig's projected points (also of poses nobody rendered), the picture by the frames: the warped
plate, the hair over it and the residual in random windows, the mouth and eye patches in their own stabilised space, weighted
by how much each patch pixel varies over the set (lips, teeth, lids and irises move; cheeks do not).
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from engines.renderer.compose import HAIR_BOX, patch_mask
from engines.studio import dataset
from engines.studio.geometry import Geometry
from engines.studio.geometry import load as load_geometry
from engines.studio.layers import Layers, part
from engines.studio.losses import bend, picture_loss, unlike
from engines.studio.motion import moved, spread
from engines.studio.network import FRAME, SHADES, VisavisFace

__all__ = ["Face", "load_checkpoint", "train"]

WINDOW, BATCH, BODY_BATCH, FLOW_BATCH = 224, 8, 4, 24
RATE, PLATE_RATE, SHADE_RATE, EMA = 1.5e-3, 4e-3, 2e-3, 0.998
LABELS = 0.03, 0.0008  # weight of the rig's points, first and last: hair has depth, in the end its picture knows better
UNLIKE = 0.2, 0.8  # weight of 1 - SSIM, first and last: it finds the strands once the features lie where they belong
TURNED_DEGREES, TURNED_SHARE = 3.0, 0.5  # half of the body's windows show a turned head, where hair and face part
SAVE_EVERY_S = 120.0


@dataclass
class Face:
    """What training makes: the network, its pictures and the fitted geometry.

    Premultiplied RGBA 0..1: plate (1, 4, 512, 512), hair (1, 4, 376, 320) which spans ``HAIR_BOX``, and shades
    (6, 4, 376, 320), which are added to the hair by the network's ``shades``.
    """

    network: VisavisFace
    plate: Tensor
    hair: Tensor
    shades: Tensor
    geometry: Geometry


class _Pictures(nn.Module):  # type: ignore[misc] # torch is not typed here
    """The learned pictures of a ``Face``; ``reach`` (376, 320) keeps the hair where hair is.

    Everything stays within what the pack's bytes can hold, else training leans on values that no renderer draws.
    """

    def __init__(self, layers: Layers) -> None:
        super().__init__()
        near = cv2.dilate((layers.hair[..., 3] > 0.5).astype(np.float32), np.ones((17, 17)))
        self.register_buffer("reach", torch.from_numpy(cv2.GaussianBlur(near, (0, 0), 2.0)))
        self.plate = nn.Parameter(torch.from_numpy(layers.plate).permute(2, 0, 1)[None].contiguous())
        self.hair = nn.Parameter(torch.from_numpy(layers.hair).permute(2, 0, 1)[None].contiguous())
        self.shades = nn.Parameter(torch.zeros(len(SHADES), *self.hair.shape[1:]))

    def shaded(self, shades: Tensor) -> Tensor:
        """The hair (b, 4, 376, 320) for weights (b, 6)."""
        return (self.hair + (shades @ self.shades.flatten(1)).reshape(-1, *self.hair.shape[1:])).clamp(0, 1)

    def confine(self) -> None:
        """Bring all pictures back into their bounds."""
        with torch.no_grad():
            self.hair.mul_(self.reach)
            self.shades.mul_(self.reach).clamp_(-0.5, 0.5)
            for picture in (self.plate, self.hair):
                picture.clamp_(0, 1)
                picture[:, :3] = torch.minimum(picture[:, :3], picture[:, 3:])


class _FlowLabels:
    """Rig points in memory; draws (controls, positions, backward flow, weight) of random training poses."""

    def __init__(self, data: Path) -> None:
        z, flow = dataset.labels(data)
        names = [str(n) for n in flow["kind_names"]]
        kind = np.array(names)[flow["kind"].astype(int)]
        keep = np.isin(kind, dataset.FLOW_KINDS)
        self.hair = torch.tensor(kind[keep] == "hair")
        self.canon = torch.tensor(flow["canon"][keep].astype(np.float32))
        pick = np.flatnonzero(z["split"] == 0)  # poses of test frames stay unseen, labels too
        self.rows = pick
        self.offsets = torch.tensor(flow["offsets"][pick][:, keep].astype(np.float16))
        seen = np.unpackbits(flow["visible"][pick].astype(np.uint8), axis=1)[:, : len(keep)][:, keep]
        self.seen = torch.tensor(seen.astype(np.bool_))
        self.controls = torch.tensor(z["values"][pick].astype(np.float32))

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Controls (b, 51), positions (b, p, 2) in pixels, wanted flow there (b, p, 2), weight (b, p)."""
        i = torch.from_numpy(rng.integers(0, len(self.controls), count))
        offsets = self.offsets[i].float()
        return self.controls[i], self.canon + offsets, -offsets, self.seen[i].float()

    def part(self, frames: dataset.Frames) -> Layers:
        """The frame nearest to the zero vector, brought to rest, where pictures and labels have their origin, and parted into layers."""
        scaled = np.abs(frames.controls)
        scaled[:, -5:] *= 0.2
        k = int(scaled.sum(1).argmin())
        row = int(np.searchsorted(self.rows, frames.index[k]))
        at, hair, seen = self.canon.numpy(), self.hair.numpy(), self.seen[row].numpy()
        rested = moved(frames.rgba[k], spread(at[seen]), -self.offsets[row].float().numpy()[seen])
        cloth = at[:, 1] > 435  # points of the garment; the neck ends above
        return part(rested, at[hair], at[~hair & ~cloth], at[cloth])


def _sample(field: Tensor, pixels: Tensor) -> Tensor:
    """Values of ``field`` (b, c, h, w), which spans the frame, at frame pixels (b, m, n, 2): (b, c, m, n)."""
    return functional.grid_sample(field, pixels * (2 / FRAME) - 1, mode="bilinear", padding_mode="border", align_corners=False)


def _flow_loss(net: VisavisFace, labels: _FlowLabels, rng: np.random.Generator, count: int) -> Tensor:
    controls, at, wanted, weight = labels.draw(rng, count)
    x = net.controls(controls)
    total = torch.zeros(())
    for flow, mine in ((net.warp(x), ~labels.hair), (net.hair_warp(x), labels.hair)):
        if not mine.any():
            continue
        made = _sample(flow, at[:, None, mine])[:, :, 0].transpose(1, 2)
        error = functional.smooth_l1_loss(made, wanted[:, mine], reduction="none", beta=0.5).sum(-1)
        total = total + (error * weight[:, mine]).sum() / weight[:, mine].sum() + 0.5 * bend(flow)
    return total


def _hair_at(pixels: Tensor, pictures: _Pictures, shades: Tensor) -> Tensor:
    """The hair layer (b, 4, m, n) at frame pixels (b, m, n, 2); clear outside its box."""
    x0, y0, x1, y1 = HAIR_BOX
    box = torch.tensor([x1 - x0, y1 - y0], dtype=torch.float32)
    at = (pixels - torch.tensor([x0, y0], dtype=torch.float32)) * (2 / box) - 1
    return functional.grid_sample(pictures.shaded(shades), at, mode="bilinear", padding_mode="zeros", align_corners=False)


def _body_loss(
    net: VisavisFace,
    pictures: _Pictures,
    frames: dataset.Frames,
    turned: NDArray[np.int64],
    weight: Tensor,
    dislike: float,
    rng: np.random.Generator,
) -> Tensor:
    i = rng.integers(0, len(frames.index), BODY_BATCH)
    if len(turned):
        i = np.where(rng.random(BODY_BATCH) < TURNED_SHARE, rng.choice(turned, BODY_BATCH), i)
    x = net.controls(torch.from_numpy(frames.controls[i]))
    with torch.autocast("cpu", torch.bfloat16):
        residual = net.body(x)
    corner = rng.integers(0, FRAME - WINDOW + 1, (2, BODY_BATCH, 2)).sum(0) // 2  # the face, in the middle, more often than the rim
    wanted = np.stack([frames.rgba[k, y : y + WINDOW, x0 : x0 + WINDOW] for k, (x0, y) in zip(i, corner, strict=True)])
    w = torch.stack([weight[y : y + WINDOW, x0 : x0 + WINDOW] for x0, y in corner])[:, None]
    span = torch.arange(WINDOW) + 0.5
    grid = torch.stack(torch.meshgrid(span, span, indexing="xy"), -1) + torch.from_numpy(corner)[:, None, None].float()
    back = _sample(pictures.plate.expand(BODY_BATCH, -1, -1, -1), grid + _sample(net.warp(x), grid).permute(0, 2, 3, 1))
    front = _hair_at(grid + _sample(net.hair_warp(x), grid).permute(0, 2, 3, 1), pictures, net.shades(x))
    made = front + (1 - front[:, 3:]) * back + _sample(residual.float(), grid)
    rendered = torch.from_numpy(wanted).permute(0, 3, 1, 2).float() / 255
    return picture_loss(made, rendered, w) + dislike * unlike(made, rendered, w)


def _patch_loss(
    net: VisavisFace, frames: dataset.Frames, weights: tuple[Tensor, Tensor], dislike: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    i = rng.integers(0, len(frames.index), BATCH)
    x = net.controls(torch.from_numpy(frames.controls[i]))
    with torch.autocast("cpu", torch.bfloat16):
        mouth, eyes = net.lips(x).float(), net.both_eyes(x).float()
    wanted = torch.from_numpy(frames.mouth[i]).permute(0, 3, 1, 2).float() / 255
    wanted_eyes = torch.from_numpy(frames.eyes[i]).flatten(0, 1).permute(0, 3, 1, 2).float() / 255
    pairs = ((mouth, wanted, weights[0]), (eyes, wanted_eyes, weights[1]))
    lips, lids = (picture_loss(*p) + dislike * unlike(*p) for p in pairs)
    return lips, lids


def _variation(patches: NDArray[np.uint8]) -> Tensor:
    """Loss weight (1, 1, h, w) of patches (n, h, w, 3): mask times 1 + how much the pixel varies over the set."""
    sd = patches[::4].astype(np.float32).mean(-1).std(0)
    return torch.from_numpy((patch_mask(*sd.shape) + 0.05) * (0.5 + 2.5 * sd / sd.max()))[None, None]


def load_checkpoint(path: Path) -> Face:
    """The averaged (EMA) network, its pictures and the geometry of a checkpoint.

    Raises:
        StudioError: no checkpoint there.

    """
    if not path.is_file():
        raise dataset.StudioError(f"{path}: no checkpoint; run the training first")
    state = torch.load(path, weights_only=True)
    geometry = Geometry(state["places"].numpy(), state["iris"].numpy())
    network = VisavisFace(geometry)
    network.load_state_dict(state["ema"])
    pictures = state["ema_pictures"]
    return Face(network.eval(), pictures["plate"], pictures["hair"], pictures["shades"], geometry)


class _Run:
    """Everything that a checkpoint must bring back."""

    def __init__(self, geometry: Geometry, frames: dataset.Frames, layers: Layers, seed: int) -> None:
        torch.manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.geometry = geometry
        self.net = VisavisFace(geometry).to(memory_format=torch.channels_last)
        with torch.no_grad():  # the decoders learn the change against the mean patch
            self.net.mouth_mean.copy_(torch.from_numpy(frames.mouth.mean(0, dtype=np.float32)).permute(2, 0, 1)[None] / 255)
            self.net.eye_mean.copy_(torch.from_numpy(frames.eyes.mean(0, dtype=np.float32)).permute(0, 3, 1, 2) / 255)
        self.pictures = _Pictures(layers)
        self.ema, self.ema_pictures = copy.deepcopy(self.net), copy.deepcopy(self.pictures)
        shown = [self.pictures.plate, self.pictures.hair]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": list(self.net.parameters()), "scale": RATE},
                {"params": shown, "scale": PLATE_RATE},
                {"params": [self.pictures.shades], "scale": SHADE_RATE},
            ],
            lr=RATE,
            betas=(0.9, 0.98),
            weight_decay=1e-3,
            fused=True,
        )
        self.step, self.elapsed, self.warm = 0, 0.0, 0

    def save(self, path: Path) -> None:
        state = {
            "net": self.net.state_dict(),
            "pictures": self.pictures.state_dict(),
            "ema": self.ema.state_dict(),
            "ema_pictures": self.ema_pictures.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "elapsed": self.elapsed,
            "warm": self.warm,
            "places": torch.from_numpy(self.geometry.places),
            "iris": torch.from_numpy(self.geometry.iris),
            "rng": json.dumps(self.rng.bit_generator.state),
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def begin_with(self, path: Path) -> None:
        """Take the weights and pictures of another run's checkpoint, nothing else."""
        face = load_checkpoint(path)
        for own in (self.net, self.ema):
            own.load_state_dict(face.network.state_dict())
        for pictures in (self.pictures, self.ema_pictures):
            pictures.load_state_dict({"plate": face.plate, "hair": face.hair, "shades": face.shades, "reach": pictures.reach})
            pictures.confine()

    def restore(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.net.load_state_dict(state["net"])
        self.ema.load_state_dict(state["ema"])
        self.pictures.load_state_dict(state["pictures"])
        self.ema_pictures.load_state_dict(state["ema_pictures"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed, self.warm = state["step"], state["elapsed"], state["warm"]
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
        self.pictures.confine()
        self.step += 1
        keep = min(EMA, self.step / (self.step + 20))
        with torch.no_grad():
            for average, current in ((self.ema, self.net), (self.ema_pictures, self.pictures)):
                torch._foreach_lerp_(list(average.parameters()), list(current.parameters()), 1 - keep)


def train(
    data: Path,
    out: Path,
    *,
    minutes: float,
    seed: int = 7,
    size: int = FRAME,
    resume: bool = False,
    start: Path | None = None,
    log: Callable[[str], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Path:
    """Train for ``minutes`` of wall time (earlier runs counted when resuming); returns the checkpoint's path.

    ``start`` is a checkpoint whose weights a new run begins with.

    ``size`` is the frame size of the data and must be 512: one training serves all rungs. The learning rate follows the
    clock, so two runs are equal only up to the machine's speed.

    Raises:
        StudioError: data missing or of another size.

    """
    if size != FRAME:
        raise dataset.StudioError(f"size {size}: the network is trained at {FRAME}; rungs are cut from it by the renderer")
    torch.set_num_threads(1)
    labels = _FlowLabels(data)
    geometry = load_geometry(data)
    frames = dataset.load(data, geometry, test=False)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoint.pt"
    run = _Run(geometry, frames, labels.part(frames), seed)
    if resume and checkpoint.is_file():
        run.restore(checkpoint)
    elif start:
        run.begin_with(start)
    else:  # flow-only steps first: the picture losses then see an aligned plate
        run.warm = min(4000, int(minutes * 120))
    turned = np.flatnonzero(np.abs(frames.controls[:, -3:]).max(1) > TURNED_DEGREES)
    weights = _variation(frames.mouth), _variation(frames.eyes.reshape(-1, *frames.eyes.shape[2:]))
    body_weight = torch.ones(FRAME, FRAME)
    body_weight[300:350, 216:296] = body_weight[180:236, 176:240] = body_weight[180:236, 272:336] = 0.25
    budget, started, saved = minutes * 60, clock() - run.elapsed, run.elapsed
    while run.elapsed < budget:
        loss_flow = _flow_loss(run.net, labels, run.rng, FLOW_BATCH)
        if run.step < run.warm:
            run.advance(loss_flow * 0.1, 0.0, run.step)
        else:
            progress = min(run.elapsed / budget, 1.0)
            labelled, dislike = (first + (last - first) * progress for first, last in (LABELS, UNLIKE))
            body = _body_loss(run.net, run.pictures, frames, turned, body_weight, dislike, run.rng)
            mouth, eyes = _patch_loss(run.net, frames, weights, dislike, run.rng)
            run.advance(loss_flow * labelled + body + 2 * mouth + 2 * eyes, progress, run.step - run.warm)
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
