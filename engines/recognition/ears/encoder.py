"""What the inner layers of the turn model hear: its encoder, cut after the last block that the words need, and to a shorter window.

smart-turn is a Whisper-tiny encoder over 8 s. Phones need the residual stream after the first three of its four blocks and no more than
four seconds (positions 200 to 399, the sound's end at the last), which costs 12 ms of one core instead of 41. Sound is brought to the
level that the turn model sees: unit variance over 8 s with silence in front.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineMissing, ModelError
from engines.voice_activity.features import RATE, log_mel
from engines.voice_activity.silero import one_thread_session

__all__ = ["FRAME", "FRAMES", "LAYERS", "WIDTH", "Encoder", "cut"]

LAYERS = ("add_146", "add_268", "add_390")
"""Names in the published graph: the residual stream after blocks 1, 2 and 3."""
FRAMES = 200
"""Frames of 20 ms in a window."""
FRAME = RATE // 50
"""Samples per frame."""
WIDTH = 384 * len(LAYERS)
_POSITIONS, _LENGTH = "inner.encoder.embed_positions.weight", "val_21"


def cut(model: Path, layers: tuple[str, ...] = LAYERS, frames: int = FRAMES) -> bytes:
    """The part of the turn model in `model` that gives `layers` of a window of `frames`, serialized. Raises EngineMissing, ModelError."""
    try:
        import onnx
        from onnx import helper, numpy_helper
    except ImportError:
        raise EngineMissing("onnx is not installed: pip install onnx") from None
    try:
        whole = onnx.load(model)
    except Exception as error:  # noqa: BLE001  protobuf raises many kinds
        raise ModelError(f"{model}: cannot be read ({type(error).__name__}): run 'visavis models fetch smart-turn'") from None
    graph = whole.graph
    wanted, nodes = set(layers), []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            nodes.append(node)
            wanted |= set(node.input)
    tensors = {tensor.name: tensor for tensor in graph.initializer if tensor.name in wanted}
    if not set(layers) <= {name for node in nodes for name in node.output} or not {_POSITIONS, _LENGTH} <= set(tensors):
        raise ModelError(f"{model}: not the Smart Turn v3.2 that the ears were trained on: run 'visavis models fetch smart-turn'")
    positions = numpy_helper.to_array(tensors[_POSITIONS])
    tensors[_POSITIONS].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(positions[-frames:]), _POSITIONS))
    tensors[_LENGTH].CopyFrom(numpy_helper.from_array(np.array([frames], np.int64), _LENGTH))
    shape = graph.input[0].type.tensor_type.shape
    shape.dim[2].dim_value = 2 * frames
    part = helper.make_graph(
        list(reversed(nodes)),
        "ears",
        [graph.input[0]],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in layers],
        list(tensors.values()),
    )
    found: bytes = helper.make_model(part, opset_imports=whole.opset_import, ir_version=whole.ir_version).SerializeToString()
    return found


class Encoder:
    """Windows of sound in, inner layers out; one thread."""

    def __init__(self, model: Path) -> None:
        """`model`: the turn model's file. Raises EngineMissing, ModelError."""
        self._session = one_thread_session(model, graph=cut(model))

    def __call__(self, audio: NDArray[np.int16]) -> NDArray[np.float32]:
        """(FRAMES, WIDTH) for the last 4 s of `audio` (16 kHz), zeros in front of a shorter one."""
        features = np.ascontiguousarray(log_mel(audio[-FRAMES * FRAME :])[None, :, -2 * FRAMES :])
        found: NDArray[np.float32] = np.concatenate([layer[0] for layer in self._session.run(None, {"input_features": features})], axis=1)
        return found
