"""Export the trained face as one INT8 ONNX file in the flavour that TensorRT accepts.

Opset 17, convolutions only: int8 activations with zero point 0, int8 weights per output channel, float bias. The small Gemms (flow,
seeds) and the convolution of the eye's coordinates stay float, so that motion has no steps; the Gemms' weights are stored as float16.
ONNX Runtime gets its faster unsigned flavour from ``engines.renderer.rewrite`` at load.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engines.renderer.wiring import Wiring
from engines.studio.dataset import StudioError
from engines.studio.network import VisavisFace
from engines.studio.rig import CONTROLS
from engines.studio.train import load_checkpoint

__all__ = ["OPSET", "OUTPUTS", "Export", "export_float", "quantize", "quantize_model"]

OPSET = 17
OUTPUTS = ["flow", "hair_flow", "shades", "residual", "mouth", "eyes", "places"]
_PERCENTILE = 99.995


class Export(NamedTuple):
    """The two files of an export and their sizes in bytes."""

    float_model: Path
    int8_model: Path
    float_bytes: int
    int8_bytes: int


def export_float(network: VisavisFace) -> onnx.ModelProto:
    """The network for one frame: ``controls`` (1, 51) in, ``OUTPUTS`` out, float32."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecation notices
        torch.onnx.export(
            network.eval(),
            (torch.zeros(1, len(CONTROLS)),),
            buffer,
            input_names=["controls"],
            output_names=OUTPUTS,
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_from_string(buffer.getvalue())
    onnx.checker.check_model(model, full_check=True)
    return model


class _Graph(Wiring):
    """What of a graph is quantized."""

    def convolutions(self) -> list[onnx.NodeProto]:
        """All but those that read where a pixel lies: with steps in it, the rim of the pupil costs a quarter of a decibel."""
        return [n for n in self.graph.node if n.op_type == "Conv" and not n.input[1].endswith(".maps.weight")]

    def activations(self) -> list[str]:
        """Tensors that get a Q/DQ pair, in graph order: what convolutions read and make, after a Relu where one follows."""
        wanted: set[str] = set()
        for conv in self.convolutions():
            wanted.add(conv.input[0])
            made = conv.output[0]
            follow = self.readers.get(made, [])
            if len(follow) == 1 and follow[0].op_type == "Relu":
                made = follow[0].output[0]
            elif len(follow) == 1 and follow[0].op_type == "Add":
                total = follow[0].output[0]
                after = self.readers.get(total, [])
                wanted.add(after[0].output[0] if len(after) == 1 and after[0].op_type == "Relu" else total)
            wanted.add(made)
        for name in list(wanted):
            maker = self.makers.get(name)
            if maker is not None and maker.op_type == "Resize":
                wanted.add(maker.input[0])
        order = [i.name for i in self.graph.input] + [o for n in self.graph.node for o in n.output]
        return [name for name in order if name in wanted]


def _ranges(model: onnx.ModelProto, names: list[str], controls: NDArray[np.float32]) -> dict[str, float]:
    """The largest magnitude of each tensor over the calibration controls (a high percentile per frame, then the mean top)."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    known = {o.name for o in probe.graph.output}
    probe.graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names if n not in known)
    session = ort.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    tops: dict[str, list[float]] = {n: [] for n in names}
    for row in controls:
        for name, value in zip(names, session.run(names, {"controls": row[None]}), strict=True):
            tops[name].append(float(np.percentile(np.abs(value), _PERCENTILE)))
    return {n: max(float(np.quantile(v, 0.98)), 1e-6) for n, v in tops.items()}


def quantize_model(model: onnx.ModelProto, controls: NDArray[np.float32]) -> onnx.ModelProto:
    """Insert signed, symmetric Q/DQ pairs around every convolution, calibrated on ``controls`` (n, 51)."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    g = _Graph(out)
    names, convolutions = g.activations(), {n.output[0] for n in g.convolutions()}
    tops = _ranges(model, names, controls)
    for name in names:  # values that are only moved keep their scale, so that the pair around the move costs nothing
        maker = g.makers.get(name)
        if maker is not None and maker.op_type == "Resize" and maker.input[0] in tops:
            tops[name] = tops[maker.input[0]]
    initializers, replaced = [numpy_helper.from_array(np.array(0, np.int8), "zero_i8")], {}
    nodes: list[onnx.NodeProto] = []
    outputs = {o.name for o in out.graph.output}
    pairs: dict[str, list[onnx.NodeProto]] = {}
    for name in names:
        if name in outputs:
            raise StudioError(f"tensor {name}: an output of the network is a quantised tensor; put an operation after it")
        initializers.append(numpy_helper.from_array(np.array(tops[name] / 127, np.float32), name + "_scale"))
        pairs[name] = [
            helper.make_node("QuantizeLinear", [name, name + "_scale", "zero_i8"], [name + "_q"], name + "_Q"),
            helper.make_node("DequantizeLinear", [name + "_q", name + "_scale", "zero_i8"], [name + "_dq"], name + "_DQ"),
        ]
        replaced[name] = name + "_dq"
    for source in [i.name for i in out.graph.input]:
        nodes.extend(pairs.get(source, []))
    for node in out.graph.node:
        if node.output[0] in convolutions:
            nodes.append(_weights(node, g, initializers))
        for k, name in enumerate(node.input):
            node.input[k] = replaced.get(name, name)
        nodes.append(node)
        for made in node.output:
            nodes.extend(pairs.get(made, []))
    _replace(out, nodes, initializers)
    return out


def _weights(conv: onnx.NodeProto, g: _Graph, initializers: list[TensorProto]) -> onnx.NodeProto:
    """Store a convolution's weights as int8 per output channel; returns the node that brings them back."""
    name = conv.input[1]
    w = numpy_helper.to_array(g.values[name])
    scale = (np.maximum(np.abs(w).reshape(len(w), -1).max(1), 1e-8) / 127).astype(np.float32)
    q = np.clip(np.rint(w / scale[:, None, None, None]), -127, 127).astype(np.int8)
    initializers += [
        numpy_helper.from_array(q, name + "_q"),
        numpy_helper.from_array(scale, name + "_scale"),
        numpy_helper.from_array(np.zeros(len(w), np.int8), name + "_zero"),
    ]
    conv.input[1] = name + "_dq"
    return helper.make_node("DequantizeLinear", [name + "_q", name + "_scale", name + "_zero"], [name + "_dq"], name + "_DQ", axis=0)


def _replace(model: onnx.ModelProto, nodes: list[onnx.NodeProto], extra: list[TensorProto]) -> None:
    """Put the new nodes in, drop initializers nobody reads, store large float matrices as float16."""
    used = {name for n in nodes for name in n.input}
    kept, casts = [], []
    for value in [*model.graph.initializer, *extra]:
        if value.name not in used:
            continue
        array = numpy_helper.to_array(value)
        if array.dtype == np.float32 and array.ndim == 2 and array.size > 4096:
            kept.append(numpy_helper.from_array(array.astype(np.float16), value.name + "_f16"))
            casts.append(helper.make_node("Cast", [value.name + "_f16"], [value.name], value.name + "_cast", to=TensorProto.FLOAT))
        else:
            kept.append(value)
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend([*casts, *nodes])
    model.graph.initializer.extend(kept)


def quantize(checkpoint: Path, data: Path, out: Path, *, samples: int = 160, seed: int = 7) -> Export:
    """Write ``face-float.onnx`` and ``face-256.onnx`` of a checkpoint into ``out``, calibrated on training poses.

    Raises:
        StudioError: no checkpoint, or no controls.npz in ``data``.

    """
    file = data / "controls.npz"
    if not file.is_file():
        raise StudioError(f"{file}: missing; calibration needs the training poses")
    z = np.load(file)
    train = np.flatnonzero(z["split"] == 0)
    pick = np.random.default_rng(seed).choice(train, min(samples, len(train)), replace=False)
    model = export_float(load_checkpoint(checkpoint).network)
    int8 = quantize_model(model, z["values"][pick].astype(np.float32))
    onnx.checker.check_model(int8, full_check=True)
    out.mkdir(parents=True, exist_ok=True)
    files = out / "face-float.onnx", out / "face-256.onnx"
    for path, made in zip(files, (model, int8), strict=True):
        path.write_bytes(made.SerializeToString())
    return Export(*files, files[0].stat().st_size, files[1].stat().st_size)
