"""Turn the shipped signed INT8 graph (what TensorRT accepts) into the unsigned one that ONNX Runtime's CPU kernels like.

With zero point 0 ONNX Runtime does not absorb the Relu after a convolution and falls back to float, slower than no
quantisation at all. Every activation pair becomes uint8: zero point 128 at the same scale, or, where all values come from
a Relu, zero point 0 at half the scale, which keeps the range, drops the Relu and gains a bit. Weights stay untouched.

The large float matrices before the convolutions are read once a frame and wait for memory: in 8 bits (``MatMulNBits``, blocks of 64)
they take 0.35 ms less of 4.4 (ONNX Runtime 1.31, x86-64).

Doubling by nearest neighbour and pixel shuffle only move values, but ONNX Runtime's Resize looks for the source of every byte and its
shuffle of floats moves four times as many: doubling as Gather of whole pixels, channels last, and a shuffle before the values become
floats give the same bits in 3.4 ms instead of 4.0.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference

from engines.renderer.coarse import coarse_model
from engines.renderer.wiring import Wiring

__all__ = ["narrow_model", "swift_model", "unsigned_bytes", "unsigned_model"]

_SAME_RANGE = ("Resize", "Reshape", "Transpose", "MaxPool")
_REVISION = b"4"  # of this rewrite: part of the cache's key


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


class _Shaped(Wiring):
    """With the shapes of its tensors."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__(model)
        known = shape_inference.infer_shapes(model).graph
        self.shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in known.value_info}

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def same(self, *names: str) -> bool:
        """Whether these constants are equal."""
        first, *others = (numpy_helper.to_array(self.values[n]) for n in names)
        return all(np.array_equal(first, other) for other in others)

    def doubles(self, node: onnx.NodeProto) -> bool:
        """Whether it is a Resize to twice the height and width by nearest neighbour."""
        modes = {a.name: a.s for a in node.attribute}
        before, after = (self.shapes.get(name, ()) for name in (node.input[0], node.output[0]))
        if node.op_type != "Resize" or len(before) != 4 or after != (*before[:2], 2 * before[2], 2 * before[3]):
            return False
        wanted = {"mode": b"nearest", "coordinate_transformation_mode": b"asymmetric", "nearest_mode": b"floor"}
        return all(modes.get(name) == value for name, value in wanted.items())


def swift_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a Q/DQ model that doubles and shuffles bytes; what does not look as expected stays as it is."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    wiring, new, gone = _Shaped(out), {}, set[str]()
    for node in out.graph.node:
        dq = wiring.makers.get(node.input[0]) if node.input else None
        if dq is None or dq.op_type != "DequantizeLinear" or len(wiring.readers[dq.output[0]]) != 1:
            continue
        if node.op_type == "DepthToSpace":
            bytes_ = node.output[0] + "_bytes"
            modes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            shuffle = helper.make_node("DepthToSpace", [dq.input[0]], [bytes_], **modes)
            new[node.output[0]] = [shuffle, helper.make_node("DequantizeLinear", [bytes_, *dq.input[1:]], list(node.output))]
            gone.add(dq.output[0])
        elif wiring.doubles(node):
            readers = wiring.readers[node.output[0]]
            if len(readers) != 1 or readers[0].op_type != "QuantizeLinear":
                continue
            q = readers[0]
            if wiring.same(dq.input[1], q.input[1]) and wiring.same(dq.input[2], q.input[2]):
                new[node.output[0]] = _doubling(wiring, dq.input[0], q.output[0], wiring.shapes[node.input[0]])
                gone |= {dq.output[0], q.output[0]}
    nodes = [n for node in out.graph.node for n in new.get(node.output[0], [] if node.output[0] in gone else [node])]
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]  # the graph owns those it had
    del out.graph.node[:], out.graph.value_info[:]
    out.graph.node.extend(nodes)
    return out


def _doubling(wiring: _Shaped, source: str, target: str, shape: tuple[int, ...]) -> list[onnx.NodeProto]:
    """``source`` of ``shape`` (n, c, h, w) doubled to ``target``: the transpositions meet those of the convolutions' kernels and vanish."""
    n, c, h, w = shape
    rows, columns = np.arange(2 * h) // 2, np.arange(2 * w) // 2
    pixels = wiring.constant(target + "_pixels", (rows[:, None] * w + columns).ravel().astype(np.int32))
    flat = wiring.constant(target + "_flat", np.array([n, h * w, c], np.int64))
    doubled = wiring.constant(target + "_doubled", np.array([n, 2 * h, 2 * w, c], np.int64))
    return [
        helper.make_node("Transpose", [source], [target + "_last"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", [target + "_last", flat], [target + "_line"]),
        helper.make_node("Gather", [target + "_line", pixels], [target + "_more"], axis=1),
        helper.make_node("Reshape", [target + "_more", doubled], [target + "_grown"]),
        helper.make_node("Transpose", [target + "_grown"], [target], perm=[0, 3, 1, 2]),
    ]


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


def unsigned_bytes(path: Path, cache: Path | None = None, *, fast: bool = False, coarse: bool = False) -> bytes:
    """The unsigned flavour of an ONNX file, on demand swift and narrow, or with coarse patches, kept in ``cache`` under its content's hash
    when given.
    """
    data = path.read_bytes()
    flavour = "u8" + "f" * fast + "c" * coarse
    kept = cache / f"{hashlib.sha256(_REVISION + data).hexdigest()[:32]}-{flavour}.onnx" if cache else None
    if kept and kept.is_file():
        return kept.read_bytes()
    model = onnx.load_from_string(data)
    model = unsigned_model(coarse_model(model) if coarse else model)
    made = (narrow_model(swift_model(model)) if fast else model).SerializeToString()
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part")
        part.write_bytes(made)
        part.replace(kept)
    return bytes(made)
