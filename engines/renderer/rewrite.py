"""Turn the shipped signed INT8 graph (what TensorRT accepts) into the unsigned one that ONNX Runtime's CPU kernels like.

With zero point 0 ONNX Runtime does not absorb the Relu after a convolution and falls back to float, slower than no
quantisation at all. Every activation pair becomes uint8: zero point 128 at the same scale, or, where all values come from
a Relu, zero point 0 at half the scale, which keeps the range, drops the Relu and gains a bit. Weights stay untouched.

The large float matrices before the convolutions are read once a frame and wait for memory: in 8 bits (``MatMulNBits``, blocks of 64)
they take 0.35 ms less of 4.4 (ONNX Runtime 1.31, x86-64).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = ["narrow_model", "unsigned_bytes", "unsigned_model"]

_SAME_RANGE = ("Resize", "Reshape", "Transpose", "MaxPool")
_REVISION = b"2"  # of this rewrite: part of the cache's key


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


_BLOCK, _LARGE = 64, 100_000


def narrow_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with the weights of large Gemms in 8 bits, except where a Gemm makes an output: motion has no steps."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    graph = out.graph
    values = {i.name: i for i in graph.initializer}
    cast_from = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "Cast"}
    shown = {o.name for o in graph.output}
    direct = {n.input[0] for n in graph.node if n.op_type == "Reshape" and n.output[0] in shown} | shown
    for node in graph.node:
        if node.op_type != "Gemm" or node.output[0] in direct or not any(a.name == "transB" and a.i == 1 for a in node.attribute):
            continue
        stored = values.get(cast_from.get(node.input[1], node.input[1]))
        if stored is None or int(np.prod(stored.dims)) < _LARGE:
            continue
        name, w = node.input[1], numpy_helper.to_array(stored).astype(np.float32)
        rows, columns = w.shape
        blocks = np.zeros((rows, -(-columns // _BLOCK) * _BLOCK), np.float32)
        blocks[:, :columns] = w
        blocks = blocks.reshape(rows, -1, _BLOCK)
        scale = np.maximum(np.abs(blocks).max(-1) / 127, 1e-8)
        packed = np.clip(np.rint(blocks / scale[..., None]) + 128, 0, 255).astype(np.uint8)
        graph.initializer.extend([numpy_helper.from_array(packed, name + "_b8"), numpy_helper.from_array(scale, name + "_b8_scale")])
        inputs = [node.input[0], name + "_b8", name + "_b8_scale", "", "", node.input[2]]
        sizes = {"K": columns, "N": rows, "bits": 8, "block_size": _BLOCK, "accuracy_level": 4}
        node.CopyFrom(helper.make_node("MatMulNBits", inputs, [node.output[0]], node.name, domain="com.microsoft", **sizes))
    used = {name for n in graph.node for name in n.input}
    nodes = [n for n in graph.node if n.op_type != "Cast" or n.output[0] in used]
    used = {name for n in nodes for name in n.input}
    initializers = [i for i in graph.initializer if i.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(initializers)
    out.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return out


def unsigned_bytes(path: Path, cache: Path | None = None, *, narrow: bool = False) -> bytes:
    """The unsigned flavour of an ONNX file, on demand ``narrow`` too, kept in ``cache`` under the file's content hash when given."""
    data = path.read_bytes()
    flavour = "u8n" if narrow else "u8"
    kept = cache / f"{hashlib.sha256(_REVISION + data).hexdigest()[:32]}-{flavour}.onnx" if cache else None
    if kept and kept.is_file():
        return kept.read_bytes()
    model = unsigned_model(onnx.load_from_string(data))
    made = (narrow_model(model) if narrow else model).SerializeToString()
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part")
        part.write_bytes(made)
        part.replace(kept)
    return bytes(made)
