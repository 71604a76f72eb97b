"""The phone head: inner layers of the turn model in, log probabilities of phones out (PyTorch; training only).

Three layers, each normalised and weighed by a learned number, side by side → 192 channels → gated depthwise convolutions over time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engines.recognition.ears.alphabet import CLASSES
from engines.recognition.ears.encoder import LAYERS, WIDTH

__all__ = ["Head"]

_LAYER = WIDTH // len(LAYERS)


class _Block(nn.Module):  # type: ignore[misc] # torch is not typed here
    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.norm, self.drop = nn.LayerNorm(width), nn.Dropout(0.1)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.gate, self.out = nn.Linear(width, 2 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(self.norm(x).transpose(1, 2)).transpose(1, 2)
        a, b = self.gate(y).chunk(2, -1)
        kept: Tensor = x + self.drop(self.out(a * torch.sigmoid(b)))
        return kept


class Head(nn.Module):  # type: ignore[misc] # torch is not typed here
    """(batch, frames, WIDTH) → (batch, frames, CLASSES) log probabilities."""

    def __init__(self, width: int = 192, blocks: int = 4, kernel: int = 11) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(_LAYER) for _ in LAYERS)
        self.weights = nn.Parameter(torch.ones(len(LAYERS)))
        self.input, self.drop = nn.Linear(WIDTH, width), nn.Dropout(0.1)
        self.blocks = nn.Sequential(*(_Block(width, kernel) for _ in range(blocks)))
        self.norm, self.output = nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Log probabilities of layers side by side."""
        parts = [norm(part) * weight for norm, weight, part in zip(self.norms, self.weights, x.split(_LAYER, -1), strict=True)]
        y = self.norm(self.blocks(self.input(self.drop(torch.cat(parts, -1)))))
        logits: Tensor = self.output(y)
        return logits.float().log_softmax(-1)
