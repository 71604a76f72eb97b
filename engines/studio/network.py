"""The neural face: controls in, a warp of the plate and of the hair before it, a residual and three patches out.

The picture is composed outside the network (``engines.renderer.compose``), so that one network serves every rung and
the CPU can warp with OpenCV. All pixels below refer to a 512 x 512 frame:

    flow      (1, 2, 64, 64)     where each cell of the frame looks into the plate, minus its own place, pixels
    hair_flow (1, 2, 32, 32)     the same for the hair, which lies before the plate and turns with the head alone
    shades    (1, 6)             how much of each shade picture is added to the hair: products of the head's angles
    residual  (1, 4, 128, 128)   added to the warped, premultiplied RGBA plate, 0..1
    mouth     (1, 3, 112, 144)   opaque RGB patch, 0..1, in head-stabilised space
    eyes      (2, 3, 96, 96)     the subject's left and right eye with the brow; the right one is mirrored
    places    (1, 3, 2, 3)       affine maps patch pixel -> frame pixel of mouth, left and right eye

The conditioning is factorised: the mouth decoder never sees the eyes and the other way round, so few frames teach free
combinations. The flow is a small basis (Gemm) of smooth coefficients: no convolution, no quantisation, no tremble. The hair has a layer
of its own because it stands away from the face: one warp of one picture tears or smears where the two part. Its strands
glint as the head turns, so its picture is a polynomial of the head's angles (a polynomial texture map, Malzbender et al. 2001).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.studio.geometry import EYE_SHAPE, MOUTH_SHAPE, Geometry, gaze_features, pose_features
from engines.studio.rig import CONTROLS, INDEX, RANGES

__all__ = ["FLOW_GRID", "FRAME", "HAIR_GRID", "RESIDUAL_GRID", "SHADES", "VisavisFace"]

FRAME, FLOW_GRID, HAIR_GRID, RESIDUAL_GRID = 512, 64, 32, 128
SHADES = (1, 2, 3, 5, 6, 10)  # of pose_features: yaw, pitch, roll, yaw yaw, yaw pitch, pitch pitch
HEAD = [INDEX[n] for n in ("yaw", "pitch", "roll")]
MOUTH = [i for i, n in enumerate(CONTROLS) if n.startswith(("mouth", "jaw", "tongue", "cheek", "noseSneer"))] + HEAD
_SIDED = (
    "browDown",
    "browInnerUp",
    "browOuterUp",
    "cheekSquint",
    "eyeBlink",
    "eyeSquint",
    "eyeWide",
    "noseSneer",
    "mouthSmile",
    "cheekPuff",
)
_EYE_COMMON = [INDEX[n] for n in ("gazeYaw", "gazePitch", "yaw", "pitch", "roll")]
EYE_LEFT = [INDEX[n + "_L"] for n in _SIDED] + [INDEX["browInnerUp_R"], INDEX["browDown_R"]] + _EYE_COMMON
EYE_RIGHT = [INDEX[n + "_R"] for n in _SIDED] + [INDEX["browInnerUp_L"], INDEX["browDown_L"]] + _EYE_COMMON
_MIRROR = np.array([1.0] * (len(EYE_LEFT) - 5) + [-1, 1, -1, 1, -1], np.float32)
GAZE_SCALES = (5.0, 8.0, 13.0)  # pixels: pupil, iris, surroundings


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU())


class Decoder(nn.Module):  # type: ignore[misc] # torch is not typed here
    """Vector -> seed map -> three doublings by nearest neighbour and convolutions -> pixel shuffle (16 x the seed)."""

    def __init__(
        self, inputs: int, hidden: int, seed: tuple[int, int, int], widths: tuple[int, int, int], outputs: int, maps: int = 0
    ) -> None:
        super().__init__()
        self.seed = seed
        self.mlp = _mlp(inputs, hidden, seed[0] * seed[1] * seed[2])
        a, b, c = widths
        self.first = nn.Sequential(_conv(seed[0], a), _conv(a, a))
        self.second = nn.Sequential(_conv(a, b), _conv(b, b))
        self.third = nn.Conv2d(b, c, 3, padding=1)
        self.maps = nn.Conv2d(maps, c, 1) if maps else None
        self.last = _conv(c, c)
        self.out = nn.Conv2d(c, outputs * 4, 1)  # 3 x 3 costs half a millisecond of the whole network and shows nowhere
        for layer in self.modules():  # PyTorch's default is too faint for a chain of Relus: a decoder may die in its first steps
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor, maps: Tensor | None = None) -> Tensor:
        y = torch.relu(self.mlp(x)).reshape(-1, *self.seed)
        y = self.first(functional.interpolate(y, scale_factor=2.0, mode="nearest"))
        y = self.second(functional.interpolate(y, scale_factor=2.0, mode="nearest"))
        y = self.third(functional.interpolate(y, scale_factor=2.0, mode="nearest"))
        if self.maps is not None and maps is not None:
            y = y + self.maps(maps)
        y = torch.relu(y)
        y = y + self.last(y)
        return functional.pixel_shuffle(self.out(y), 2)


class VisavisFace(nn.Module):  # type: ignore[misc] # torch is not typed here
    """The whole network. ``forward`` takes controls (n, 51) in their own units."""

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        low, high = torch.tensor(RANGES).T
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        self.register_buffer("scale", torch.where(low < 0, 1 / high, torch.ones_like(high)))
        self.register_buffer("mirror", torch.tensor(_MIRROR))
        self.register_buffer("place_table", torch.tensor(geometry.places, dtype=torch.float32), persistent=False)
        self.register_buffer("iris_table", torch.tensor(geometry.iris, dtype=torch.float32), persistent=False)
        h, w = EYE_SHAPE[0] // 2, EYE_SHAPE[1] // 2
        ys, xs = torch.meshgrid(torch.arange(h) * 2.0 + 1, torch.arange(w) * 2.0 + 1, indexing="ij")
        self.register_buffer("eye_grid", torch.stack([xs, ys])[None])
        self.flow = nn.Sequential(nn.Linear(51, 192), nn.ReLU(), nn.Linear(192, 192), nn.ReLU(), nn.Linear(192, 64))
        self.flow_linear = nn.Linear(51, 64)
        self.basis = nn.Linear(64, 2 * FLOW_GRID * FLOW_GRID)
        nn.init.normal_(self.basis.weight, std=0.02)
        nn.init.zeros_(self.basis.bias)
        self.hair = nn.Linear(64, 2 * HAIR_GRID * HAIR_GRID, bias=False)
        nn.init.zeros_(self.hair.weight)
        self.body = Decoder(51, 128, (48, 8, 8), (48, 32, 16), 4)
        self.mouth = Decoder(len(MOUTH), 224, (64, MOUTH_SHAPE[0] // 16, MOUTH_SHAPE[1] // 16), (96, 48, 32), 3)
        self.eye = Decoder(len(EYE_LEFT) + 1, 160, (64, EYE_SHAPE[0] // 16, EYE_SHAPE[1] // 16), (64, 32, 32), 3, maps=5)
        self.mouth_mean = nn.Parameter(torch.full((1, 3, *MOUTH_SHAPE), 0.5))
        self.eye_mean = nn.Parameter(torch.full((2, 3, *EYE_SHAPE), 0.5))  # left, right: the light is not symmetric

    def controls(self, values: Tensor) -> Tensor:
        """Clamp to the ranges and bring angles to -1..1; (n, 51)."""
        return torch.minimum(torch.maximum(values, self.low), self.high) * self.scale

    def warp(self, x: Tensor) -> Tensor:
        """Flow (n, 2, 64, 64) in pixels for normalised controls."""
        return self.basis(self.flow(x) + self.flow_linear(x)).reshape(-1, 2, FLOW_GRID, FLOW_GRID)

    def hair_warp(self, x: Tensor) -> Tensor:
        """Flow of the hair (n, 2, 32, 32) in pixels for normalised controls."""
        return self.hair(pose_features(x[:, HEAD])).reshape(-1, 2, HAIR_GRID, HAIR_GRID)

    def shades(self, x: Tensor) -> Tensor:
        """Weights of the hair's shade pictures (n, 6) for normalised controls."""
        return pose_features(x[:, HEAD])[:, SHADES]

    def lips(self, x: Tensor) -> Tensor:
        """Mouth patch (n, 3, 112, 144) for normalised controls."""
        return self.mouth_mean + self.mouth(x[:, MOUTH])

    def both_eyes(self, x: Tensor) -> Tensor:
        """Eye patches (2 n, 3, 96, 96), left and right alternating, right ones mirrored."""
        n = x.shape[0]
        left = torch.cat([x[:, EYE_LEFT], torch.ones_like(x[:, :1])], 1)
        right = torch.cat([x[:, EYE_RIGHT] * self.mirror, -torch.ones_like(x[:, :1])], 1)
        e = torch.stack([left, right], 1).reshape(2 * n, -1)
        k = len(EYE_LEFT)
        centre = gaze_features(e[:, k - 5 : k - 3]) @ self.iris_table
        d = self.eye_grid - centre[:, :, None, None]
        r2 = (d * d).sum(1, keepdim=True)
        bumps = [torch.exp(r2 * (-1.0 / (s * s))) for s in GAZE_SCALES]
        change = self.eye(e, torch.cat([torch.clamp(d / 16.0, -1.0, 1.0), *bumps], 1))
        return change + self.eye_mean.repeat(n, 1, 1, 1) if n > 1 else change + self.eye_mean

    def forward(self, values: Tensor) -> tuple[Tensor, ...]:
        """Flow, hair flow, shades, residual, mouth, eyes and places for controls (n, 51)."""
        x = self.controls(values)
        places = (pose_features(x[:, HEAD]) @ self.place_table).reshape(-1, 3, 2, 3)
        return self.warp(x), self.hair_warp(x), self.shades(x), self.body(x), self.lips(x), self.both_eyes(x), places
