"""A trained head as the ONNX file that ships: 8-bit matrices, one input, one output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engines.recognition.ears.encoder import FRAMES, LAYERS, WIDTH
from engines.recognition.training.network import Head

__all__ = ["write_head"]


def write_head(weights: Path, out: Path, *, whole_numbers: bool = True) -> None:
    """Write the PyTorch state in `weights` as ONNX to `out`; `whole_numbers`: matrices in 8 bits (a quarter of the size)."""
    import onnx

    head = Head()
    head.load_state_dict(torch.load(weights, weights_only=True))
    out.parent.mkdir(parents=True, exist_ok=True)
    model = _Graph(head).model()
    if not whole_numbers:
        onnx.save(model, out)
        return
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = out.with_suffix(".whole")
    onnx.save(model, whole)
    quantize_dynamic(whole, out, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=["MatMul"])
    whole.unlink()


class _Graph:
    """The head's layers as ONNX nodes, in eval mode: no dropout, the layers' learned weights folded into their norms."""

    def __init__(self, head: Head) -> None:
        self._nodes: list[Any] = []
        self._tensors: list[Any] = []
        self._head = head

    def model(self) -> Any:
        """The whole graph."""
        from onnx import TensorProto, helper

        head = self._head
        split = [f"layer{i}" for i in range(len(LAYERS))]
        sizes = self._tensor("sizes", np.full(len(LAYERS), WIDTH // len(LAYERS), np.int64))
        self._nodes.append(helper.make_node("Split", ["layers", sizes], split, axis=-1))
        weights = head.weights.detach().tolist()
        parts = [self._norm(name, norm, weight) for name, norm, weight in zip(split, head.norms, weights, strict=True)]
        x = self._linear(self._node("Concat", parts, axis=-1), head.input)
        for block in head.blocks:
            kernel = block.depthwise.kernel_size[0]
            y = self._node("Transpose", [self._norm(x, block.norm)], perm=[0, 2, 1])
            weight, bias = self._array(block.depthwise.weight), self._array(block.depthwise.bias)
            y = self._node("Conv", [y, weight, bias], group=block.depthwise.groups, pads=[kernel // 2] * 2)
            y = self._linear(self._node("Transpose", [y], perm=[0, 2, 1]), block.gate)
            halves = self._tensor("halves", np.array([block.out.in_features] * 2, np.int64))
            a, b = f"{y}_a", f"{y}_b"
            self._nodes.append(helper.make_node("Split", [y, halves], [a, b], axis=-1))
            gated = self._node("Mul", [a, self._node("Sigmoid", [b])])
            x = self._node("Add", [x, self._linear(gated, block.out)])
        logits = self._linear(self._norm(x, head.norm), head.output)
        self._nodes.append(helper.make_node("LogSoftmax", [logits], ["phones"], axis=-1))
        graph = helper.make_graph(
            self._nodes,
            "phone head",
            [helper.make_tensor_value_info("layers", TensorProto.FLOAT, [1, "frames", WIDTH])],
            [helper.make_tensor_value_info("phones", TensorProto.FLOAT, [1, "frames", head.output.out_features])],
            self._tensors,
            doc_string=f"phones from {', '.join(LAYERS)} of smart-turn v3.2, windows of {FRAMES} frames",
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def _node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        from onnx import helper

        name = f"{kind.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def _tensor(self, name: str, values: NDArray[Any]) -> str:
        from onnx import numpy_helper

        name = f"{name}{len(self._tensors)}"
        self._tensors.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def _array(self, values: Any) -> str:
        return self._tensor("w", values.detach().numpy().astype(np.float32))

    def _norm(self, x: str, norm: Any, weight: float = 1.0) -> str:
        return self._node("LayerNormalization", [x, self._array(norm.weight * weight), self._array(norm.bias * weight)], epsilon=norm.eps)

    def _linear(self, x: str, layer: Any) -> str:
        return self._node("Add", [self._node("MatMul", [x, self._array(layer.weight.T)]), self._array(layer.bias)])
