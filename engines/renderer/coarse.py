"""The network's exit for frames of half the size and less: mouth and eyes come out at half their size.

Such a frame shows no more of them. The last convolution makes four values that a shuffle lays into a square of pixels; their mean is
linear, so it goes into the convolution's weights, and shuffle, conversion and three quarters of what the composer does with a patch fall
away.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from engines.renderer.compose import FRAME
from engines.renderer.wiring import Wiring

__all__ = ["coarse_model", "halved", "is_small"]


def is_small(width: int) -> bool:
    """Whether a frame of this width takes this exit."""
    return width <= FRAME // 2


def halved(patch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of 2 x 2 pixels of (…, h, w)."""
    h, w = patch.shape[-2:]
    return np.asarray(patch.reshape(*patch.shape[:-2], h // 2, 2, w // 2, 2).mean((-3, -1)), np.float32)


def coarse_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the shipped signed Q/DQ model whose patches (shuffled by two, added to a mean patch) have half the height and width.

    A graph that does not look as expected stays as it is; the shapes of its outputs tell.
    """
    out = onnx.ModelProto()
    out.CopyFrom(model)
    wiring = Wiring(out)
    for shuffle in [n for n in out.graph.node if n.op_type == "DepthToSpace"]:
        _coarsen(wiring, shuffle)
    del out.graph.value_info[:]
    used = {name for n in out.graph.node for name in n.input}
    kept = [i for i in out.graph.initializer if i.name in used]
    del out.graph.initializer[:]
    out.graph.initializer.extend(kept)
    return out


def _coarsen(wiring: Wiring, shuffle: onnx.NodeProto) -> None:
    """Replace one patch's shuffle by means, if it is one."""
    readers, graph = wiring.readers.get(shuffle.output[0], []), wiring.graph
    add = readers[0] if len(readers) == 1 and readers[0].op_type == "Add" else None
    mean = next((name for name in add.input if name in wiring.values), "") if add else ""
    last = wiring.makers.get(shuffle.input[0])
    pair = wiring.makers.get(last.input[0]) if last and last.op_type == "DequantizeLinear" else None
    conv = wiring.makers.get(pair.input[0]) if pair and pair.op_type == "QuantizeLinear" else None
    shown = next((o for o in graph.output if add and o.name == add.output[0]), None)
    modes = {a.name: a.s or a.i for a in shuffle.attribute}
    if not (add and mean and last and conv and shown) or conv.op_type != "Conv" or modes != {"blocksize": 2, "mode": b"CRD"}:
        return
    weights = wiring.makers.get(conv.input[1])
    sizes = [tuple(d.dim_value for d in shown.type.tensor_type.shape.dim), tuple(wiring.values[mean].dims)]
    if weights is None or weights.op_type != "DequantizeLinear" or len(conv.input) < 3 or sizes[0] != sizes[1]:
        return
    stored, scale = (numpy_helper.to_array(wiring.values[name]) for name in weights.input[:2])
    whole = stored.astype(np.float32) * scale[:, None, None, None]
    w = whole.reshape(-1, 4, *whole.shape[1:]).mean(1)
    scale = (np.maximum(np.abs(w).reshape(len(w), -1).max(1), 1e-8) / 127).astype(np.float32)
    quantized = np.clip(np.rint(w / scale[:, None, None, None]), -127, 127).astype(np.int8)
    bias = numpy_helper.to_array(wiring.values[conv.input[2]]).reshape(-1, 4).mean(1)
    patch = halved(numpy_helper.to_array(wiring.values[mean]))
    new = {
        weights.input[0]: quantized,
        weights.input[1]: scale,
        weights.input[2]: np.zeros(len(w), np.int8),
        conv.input[2]: bias,
        mean: patch,
    }
    for name, value in new.items():
        wiring.values[name].CopyFrom(numpy_helper.from_array(value, name))
    for k, name in enumerate(add.input):
        if name == shuffle.output[0]:
            add.input[k] = last.output[0]
    graph.node.remove(shuffle)
    for axis in (2, 3):
        shown.type.tensor_type.shape.dim[axis].dim_value //= 2
