"""Turn the shipped signed INT8 graph (what TensorRT accepts) into the unsigned one that ONNX Runtime's CPU kernels like.

With zero point 0 ONNX Runtime does not absorb the Relu after a convolution and falls back to float, slower than no
quantisation at all. Every activation pair becomes uint8: zero point 128 at the same scale, or, where all values come from
a Relu, zero point 0 at half the scale, which keeps the range, drops the Relu and gains a bit. Weights stay untouched.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

__all__ = ["unsigned_bytes", "unsigned_model"]

_SAME_RANGE = ("Resize", "Reshape", "Transpose", "MaxPool")
_REVISION = b"1"  # of this rewrite: part of the cache's key


def _from_relu(name: str, makers: dict[str, onnx.NodeProto]) -> bool:
    """Whether the tensor comes from a Relu, directly or through nodes that only move values."""
    while name in makers:
        node = makers[name]
        if node.op_type == "Relu":
            return True
        if node.op_type not in (*_SAME_RANGE, "DequantizeLinear", "QuantizeLinear"):
            return False
        name = node.input[0]
    return False


def unsigned_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a signed Q/DQ model with unsigned activations."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    graph = out.graph
    makers = {o: n for n in graph.node for o in n.output}
    values = {i.name: i for i in graph.initializer}
    dequantizers = {n.input[0]: n for n in graph.node if n.op_type == "DequantizeLinear"}
    dropped: dict[str, str] = {}
    for q in [n for n in graph.node if n.op_type == "QuantizeLinear"]:
        positive = _from_relu(q.input[0], makers)
        scale = numpy_helper.to_array(values[q.input[1]])
        scale_name, zero_name = q.output[0] + "_scale_u8", q.output[0] + "_zero_u8"
        graph.initializer.append(
            numpy_helper.from_array((scale * np.float32(127 / 255) if positive else scale).astype(np.float32), scale_name)
        )
        graph.initializer.append(numpy_helper.from_array(np.array(0 if positive else 128, np.uint8), zero_name))
        dq = dequantizers[q.output[0]]
        for node in (q, dq):
            node.input[1], node.input[2] = scale_name, zero_name
        relu = makers.get(q.input[0])
        if relu is not None and relu.op_type == "Relu" and sum(relu.output[0] in n.input for n in graph.node) == 1:
            dropped[relu.output[0]] = relu.input[0]
    kept = [n for n in graph.node if n.output[0] not in dropped]
    for node in kept:
        for k, name in enumerate(node.input):
            node.input[k] = dropped.get(name, name)
    del graph.node[:]
    graph.node.extend(kept)
    used = {name for n in kept for name in n.input}
    initializers = [i for i in graph.initializer if i.name in used]
    del graph.initializer[:]
    graph.initializer.extend(initializers)
    del graph.value_info[:]
    return out


def unsigned_bytes(path: Path, cache: Path | None = None) -> bytes:
    """The unsigned flavour of an ONNX file, kept in ``cache`` under the file's content hash when given."""
    data = path.read_bytes()
    kept = cache / f"{hashlib.sha256(_REVISION + data).hexdigest()[:32]}-u8.onnx" if cache else None
    if kept and kept.is_file():
        return kept.read_bytes()
    made = unsigned_model(onnx.load_from_string(data)).SerializeToString()
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part")
        part.write_bytes(made)
        part.replace(kept)
    return bytes(made)
