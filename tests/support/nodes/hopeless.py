"""A node whose model is missing."""

from __future__ import annotations

from engines.errors import ModelError
from runtime.context import Context


def main(ctx: Context) -> None:
    """Fail as an engine does."""
    raise ModelError(f"{ctx.name}: model.onnx is missing: run `visavis models fetch`")
