"""Rebuild `voice.onnx`: a voice in Piper's shape that hums. Vowels are tones, consonants quieter ones, pauses silent.

    python tests/models/piper-tiny/build.py

Same inputs (input, input_lengths, scales), output and single Ceil node as a real Piper voice, so the real library, its phonemes and its
alignments run in the tests; the sound itself carries no words. Every weight is made here; the id map is a plain numbering of IPA letters.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RATE, HOP = 22_050, 256
PAUSES = "_^$ !'(),-.:;?\""
VOWELS = "aeiouyæɐɑɒɔəɚɛɜɪʊʌʉɨøœ"
CONSONANTS = "bcdfhjklmnpqrstvwxzçðŋɡɟɫɬɭɲɹɾʁʃʒʔθβχʍʎʲˈˌːˑ̩̃"
SYMBOLS = PAUSES + VOWELS + CONSONANTS


def tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per symbol: frames, Hz, amplitude, each (n,) float32."""
    frames = [1.6 if s in VOWELS else 0.4 if s in "ˈˌ_^$" else 4.2 if s in PAUSES and s != " " else 1.2 for s in SYMBOLS]
    tones = [180.0 + 11 * i for i in range(len(SYMBOLS))]
    level = [0.0 if s in PAUSES else 0.5 if s in VOWELS else 0.2 for s in SYMBOLS]
    return np.array(frames, np.float32), np.array(tones, np.float32), np.array(level, np.float32)


def model() -> onnx.ModelProto:
    """The graph: durations by a table, their Ceil, then a tone per frame."""
    frames, tones, level = tables()
    constants = {
        "frames": frames * 2.4, "tones": tones * np.float32(2 * np.pi / RATE), "level": level, "one": np.array([1], np.int64),
        "zero": np.array(0, np.int64), "step": np.array(1, np.int64), "axis": np.array(0, np.int64), "flat": np.array([-1], np.int64),
        "hop": np.array([1, HOP], np.int64), "out": np.array([1, 1, 1, -1], np.int64), "w_shape": np.array([1, 1, -1], np.int64),
        "column": np.array([-1, 1], np.int64), "row": np.array([1, -1], np.int64),
    }  # fmt: skip
    n = helper.make_node
    nodes = [
        n("Reshape", ["input", "flat"], ["ids"]),
        n("Gather", ["frames", "ids"], ["w"]),
        n("Gather", ["scales", "one"], ["speed"]),
        n("Mul", ["w", "speed"], ["w_scaled"]),
        n("Reshape", ["w_scaled", "w_shape"], ["w_three"]),
        n("Ceil", ["w_three"], ["w_ceil"]),
        n("Reshape", ["w_ceil", "flat"], ["w_flat"]),
        n("Cast", ["w_flat"], ["w_int"], to=TensorProto.INT64),
        n("CumSum", ["w_int", "axis"], ["ends"]),
        n("ReduceSum", ["w_int"], ["total"], keepdims=0),
        n("Range", ["zero", "total", "step"], ["at"]),
        n("Reshape", ["at", "column"], ["at_column"]),
        n("Reshape", ["ends", "row"], ["ends_row"]),
        n("GreaterOrEqual", ["at_column", "ends_row"], ["passed"]),
        n("Cast", ["passed"], ["passed_int"], to=TensorProto.INT64),
        n("ReduceSum", ["passed_int", "one"], ["which"], keepdims=0),
        n("Gather", ["ids", "which"], ["symbol"]),
        n("Gather", ["tones", "symbol"], ["tone"]),
        n("Gather", ["level", "symbol"], ["loud"]),
        n("Reshape", ["tone", "column"], ["tone_column"]),
        n("Reshape", ["loud", "column"], ["loud_column"]),
        n("Tile", ["tone_column", "hop"], ["tone_samples"]),
        n("Tile", ["loud_column", "hop"], ["loud_samples"]),
        n("Reshape", ["tone_samples", "flat"], ["step_phase"]),
        n("CumSum", ["step_phase", "axis"], ["phase"]),
        n("Sin", ["phase"], ["wave"]),
        n("Reshape", ["loud_samples", "flat"], ["gain"]),
        n("Mul", ["wave", "gain"], ["sound"]),
        n("Reshape", ["sound", "out"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "piper-tiny",
        [
            helper.make_tensor_value_info("input", TensorProto.INT64, [1, "phonemes"]),
            helper.make_tensor_value_info("input_lengths", TensorProto.INT64, [1]),
            helper.make_tensor_value_info("scales", TensorProto.FLOAT, [3]),
        ],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 1, 1, "samples"])],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="visavis")
    onnx.checker.check_model(made)
    return made


def config() -> dict[str, object]:
    """The voice's .onnx.json."""
    return {
        "audio": {"sample_rate": RATE},
        "espeak": {"voice": "en-gb-x-rp"},
        "phoneme_type": "espeak",
        "inference": {"noise_scale": 0.667, "length_scale": 1.0, "noise_w": 0.8},
        "hop_length": HOP,
        "num_symbols": len(SYMBOLS),
        "num_speakers": 1,
        "speaker_id_map": {},
        "phoneme_id_map": {s: [i] for i, s in enumerate(SYMBOLS)},
    }


if __name__ == "__main__":
    here = Path(__file__).parent
    onnx.save(model(), here / "voice.onnx")
    (here / "voice.onnx.json").write_text(json.dumps(config(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
