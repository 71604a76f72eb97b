"""Silero's voice activity network through ONNX Runtime: one probability for each 32 ms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineMissing, ModelError

__all__ = ["FRAME", "Silero", "one_thread_session"]

FRAME = 512
"""Samples per frame that the network was trained on, at 16 kHz."""
_CONTEXT = 64  # samples of the frame before, which the network wants in front
_STATE = (2, 1, 128)


def one_thread_session(model: Path, outputs: Sequence[str] = (), graph: bytes | None = None) -> Any:
    """An ONNX Runtime session that uses one thread and never spins: its cores are shared with the face and the recogniser.

    `outputs` are tensors inside the graph that the session shall give after its own; `graph` is run instead of the whole file.
    Raises ModelError when the file cannot be loaded or has no such tensors, EngineMissing without onnxruntime.
    """
    try:
        import onnxruntime
    except ImportError:
        raise EngineMissing("onnxruntime is not installed: pip install onnxruntime") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        source = graph or (model.read_bytes() + b"".join(map(_output, outputs)) if outputs else str(model))
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  ONNX Runtime's exceptions have no common base but Exception
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{model}: not a usable ONNX model ({line}): run `visavis models fetch`") from None


def _output(name: str) -> bytes:
    """Appended to a serialized model, this makes the tensor `name` an output: protobuf merges ModelProto{graph: {output: [name]}}."""

    def field(number: int, value: bytes) -> bytes:
        return bytes((number << 3 | 2, len(value))) + value

    float_tensor = field(1, b"\x08\x01")
    return field(7, field(12, field(1, name.encode()) + field(2, float_tensor)))


class Silero:
    """Speech probability by silero_vad.onnx; keeps the network's state from frame to frame. One thread at a time."""

    name = "silero"

    def __init__(self, model: Path) -> None:
        self._session = one_thread_session(model)
        names = {node.name for node in self._session.get_inputs()}
        if names != {"input", "state", "sr"}:
            raise ModelError(f"{model}: not a Silero voice activity model (inputs {sorted(names)}): run `visavis models fetch`")
        self._rate = np.array(16_000, np.int64)
        self.reset()

    def reset(self) -> None:
        """Forget what was heard."""
        self._state = np.zeros(_STATE, np.float32)
        self._input = np.zeros((1, _CONTEXT + FRAME), np.float32)

    def probability(self, frame: NDArray[np.int16]) -> float:
        """P(speech) in `frame`, 512 samples of 16 kHz that follow the frame before."""
        self._input[0, :_CONTEXT] = self._input[0, -_CONTEXT:]
        np.multiply(frame, np.float32(1 / 32768), out=self._input[0, _CONTEXT:], casting="unsafe")
        found, self._state = self._session.run(None, {"input": self._input, "state": self._state, "sr": self._rate})
        return float(found[0, 0])
