"""The shipped ONNX file: what TensorRT accepts, and the flavour that ONNX Runtime gets from it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from engines.renderer import AvatarPack
from engines.renderer.coarse import coarse_model
from engines.renderer.onnx_runtime import HAIR_OUTPUTS, OUTPUTS, OnnxRuntimeRenderer, network_session
from engines.renderer.rewrite import narrow_model, swift_model, unsigned_bytes, unsigned_model

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def model(pack: AvatarPack) -> onnx.ModelProto:
    return onnx.load(str(pack.network))


def _kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(n.op_type for n in model.graph.node)


def test_is_a_valid_opset_17_graph(model: onnx.ModelProto) -> None:
    """The checker passes, the opset is one that both runtimes load, shapes are static."""
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert [i.name for i in model.graph.input] == ["controls"]
    assert {o.name for o in model.graph.output} - set(HAIR_OUTPUTS) == set(OUTPUTS)
    for value in [*model.graph.input, *model.graph.output]:
        assert all(d.dim_value > 0 for d in value.type.tensor_type.shape.dim)


def test_quantisation_is_what_tensorrt_accepts(model: onnx.ModelProto) -> None:
    """Activations int8 with zero point 0, weights int8 per output channel, bias float, on every convolution but that of coordinates."""
    values = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    makers = {o: n for n in model.graph.node for o in n.output}
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = values[node.input[2]]
            assert zero.dtype == np.int8
            assert not zero.any()
            assert (values[node.input[1]] > 0).all()
    assert [n.input[1] for n in model.graph.node if n.op_type == "Conv" and n.input[1] in values] == ["eye.maps.weight"]
    convolutions = [n for n in model.graph.node if n.op_type == "Conv" and n.input[1] not in values]
    assert len(convolutions) > 15
    for conv in convolutions:
        assert makers[conv.input[0]].op_type == "DequantizeLinear"
        weights = makers[conv.input[1]]
        assert weights.op_type == "DequantizeLinear"
        channels = values[weights.input[0]].shape[0]
        assert values[weights.input[0]].dtype == np.int8
        assert values[weights.input[1]].shape == (channels,)
        assert [a.i for a in weights.attribute if a.name == "axis"] == [0]
        assert values[conv.input[2]].dtype == np.float32
    assert "GridSample" not in _kinds(model)  # the warp is outside: dear on a CPU


def test_the_unsigned_flavour_keeps_weights_and_drops_relus(model: onnx.ModelProto) -> None:
    """Every activation becomes uint8, weights are the same bytes, Relus before a pair vanish."""
    made = unsigned_model(model)
    onnx.checker.check_model(made, full_check=True)
    before = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    after = {i.name: numpy_helper.to_array(i) for i in made.graph.initializer}
    for node in made.graph.node:
        if node.op_type == "QuantizeLinear":
            assert after[node.input[2]].dtype == np.uint8
            assert int(after[node.input[2]]) in (0, 128)
        if node.op_type == "Conv" and node.input[1] not in after:
            name = node.input[1].removesuffix("_dq") + "_q"
            assert np.array_equal(before[name], after[name])
    assert _kinds(made)["Conv"] == _kinds(model)["Conv"]
    assert _kinds(made)["Relu"] < _kinds(model)["Relu"] - 10


def test_coarse_patches_are_means_of_the_whole_ones(pack: AvatarPack) -> None:
    """Half as high and wide, to a hundredth of what is seen; motion, residual and all else are the same bits."""
    whole, coarse = (network_session(unsigned_bytes(pack.network, coarse=flag), 1) for flag in (False, True))
    for pose in (pack.idle, pack.ranges[:, 1]):
        a, b = (dict(zip(OUTPUTS, s.run(OUTPUTS, {"controls": pose[None]}), strict=True)) for s in (whole, coarse))
        for name in ("mouth", "eyes"):
            n, c, h, w = b[name].shape
            means = a[name].reshape(n, c, h, 2, w, 2).mean((3, 5))
            assert np.abs(means - b[name]).max() < 0.03
            assert np.abs(means - b[name]).mean() < 0.003
        for name in ("flow", "residual", "places"):
            assert np.array_equal(a[name], b[name])


def test_what_is_no_patch_stays_whole(model: onnx.ModelProto) -> None:
    """The residual has its shuffle yet; a graph without any is left as it is."""
    assert _kinds(coarse_model(model))["DepthToSpace"] == 1
    plain = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=2, mode="CRD")],
            "plain",
            [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4, 2, 2])],
            [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 1, 4, 4])],
        )
    )
    assert coarse_model(plain) == plain


def test_a_patch_that_is_not_quantised_stays_whole() -> None:
    """A pack's network of another make must not cost the face: last convolution in float, without a bias, or a mean of one colour."""
    value, tensor = onnx.helper.make_tensor_value_info, numpy_helper.from_array
    weights, scale = np.ones((4, 1, 1, 1), np.float32), np.float32(0.1)
    for bias, mean in (([], np.zeros((1, 1, 4, 4))), (["b"], np.zeros((1, 1, 4, 4))), (["b"], np.zeros((1, 1, 1, 1)))):
        nodes = [
            onnx.helper.make_node("Conv", ["x", "w", *bias], ["c"]),
            onnx.helper.make_node("QuantizeLinear", ["c", "s", "z"], ["q"]),
            onnx.helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
            onnx.helper.make_node("DepthToSpace", ["d"], ["p"], blocksize=2, mode="CRD"),
            onnx.helper.make_node("Add", ["p", "m"], ["mouth"]),
        ]
        fixed = {"w": weights, "s": scale, "z": np.int8(0), "m": mean.astype(np.float32)} | dict.fromkeys(bias, np.zeros(4, np.float32))
        graph = onnx.helper.make_graph(
            nodes,
            "other",
            [value("x", onnx.TensorProto.FLOAT, [1, 1, 2, 2])],
            [value("mouth", onnx.TensorProto.FLOAT, [1, 1, 4, 4])],
            [tensor(np.asarray(v), name) for name, v in fixed.items()],
        )
        model = onnx.helper.make_model(graph)
        assert coarse_model(model) == model


def test_both_flavours_draw_the_same(pack: AvatarPack) -> None:
    """Signed and unsigned differ by rounding only: above 35 dB in the mouth, and the motion is float in both."""
    signed, unsigned = network_session(pack.network.read_bytes(), 1), network_session(unsigned_bytes(pack.network), 1)
    pose = pack.idle.copy()
    pose[pack.controls.index("jawOpen")] = 0.5
    a, b = (dict(zip(OUTPUTS, s.run(OUTPUTS, {"controls": pose[None]}), strict=True)) for s in (signed, unsigned))
    for name, floor in (("mouth", 35.0), ("eyes", 35.0), ("residual", 35.0)):
        assert a[name].std() > 1e-3  # a decoder whose Relus died is constant
        assert -10 * np.log10(np.mean((a[name] - b[name]) ** 2)) > floor
    assert np.abs(a["flow"] - b["flow"]).max() < 1e-3
    assert np.abs(a["places"] - b["places"]).max() < 1e-3


def test_the_rewrite_is_cached_by_content(pack: AvatarPack, tmp_path: Path) -> None:
    """A second load reads the kept file; another network gets another file."""
    first = unsigned_bytes(pack.network, tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(b"kept")
    assert unsigned_bytes(pack.network, tmp_path) == b"kept"
    other = tmp_path / "other.onnx"
    changed = onnx.load(str(pack.network))
    changed.producer_name = "another"
    other.write_bytes(changed.SerializeToString())
    assert unsigned_bytes(other, tmp_path) != b"kept"
    assert len(first) > 1e6


def test_tensorrt_rtx_compiles_it_without_a_gpu(pack: AvatarPack) -> None:
    """Parsed and built ahead of time for RTX 30, 40 and 50: the gate for the TensorRT side of the scheme."""
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install tensorrt-rtx-cu13)", exc_type=ImportError)
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(pack.network.read_bytes()), [str(parser.get_error(k)) for k in range(parser.num_errors)]
    config = builder.create_builder_config()
    targets = (trt.ComputeCapability.SM86, trt.ComputeCapability.SM89, trt.ComputeCapability.SM120)
    config.num_compute_capabilities = len(targets)
    for k, target in enumerate(targets):
        config.set_compute_capability(target, k)
    engine = builder.build_serialized_network(network, config)
    assert engine is not None
    assert engine.nbytes > 100_000


def test_narrow_matrices_draw_the_same_and_leave_the_motion_alone(model: onnx.ModelProto) -> None:
    """Large matrices before the convolutions are in 8 bits, the flow's stay float and give the same bytes; patches differ by a breath."""
    plain, narrow = unsigned_model(model), narrow_model(unsigned_model(model))
    assert _kinds(narrow)["MatMulNBits"] >= 3
    assert len(narrow.SerializeToString()) < len(plain.SerializeToString())
    controls = np.random.default_rng(3).uniform(-0.5, 0.5, (1, 51)).astype(np.float32)
    names = [o.name for o in model.graph.output]
    made = [network_session(m.SerializeToString(), 1).run(names, {"controls": controls}) for m in (plain, narrow)]
    for name, a, b in zip(names, *made, strict=True):
        if name in ("flow", "hair_flow", "shades", "places"):
            assert np.array_equal(a, b), name
        else:
            assert np.abs(a - b).mean() < 0.01, name


def test_the_swift_flavour_gives_the_same_bits(model: onnx.ModelProto) -> None:
    """Every doubling is a Gather and every shuffle moves bytes; all outputs are equal to the last bit."""
    plain = unsigned_model(model)
    swift = swift_model(plain)
    assert _kinds(plain)["Resize"] >= 9
    assert not _kinds(swift)["Resize"]
    floats = {n.output[0] for n in swift.graph.node if n.op_type == "DequantizeLinear"}
    assert not [n for n in swift.graph.node if n.op_type == "DepthToSpace" and n.input[0] in floats]
    controls = np.random.default_rng(4).uniform(-0.5, 0.5, (1, 51)).astype(np.float32)
    names = [o.name for o in model.graph.output]
    made = [network_session(m.SerializeToString(), 1).run(names, {"controls": controls}) for m in (plain, swift)]
    for name, a, b in zip(names, *made, strict=True):
        assert np.array_equal(a, b), name


@pytest.mark.parametrize("attribute", ["mode", "coordinate_transformation_mode", "nearest_mode"])
def test_another_kind_of_resize_is_left_alone(model: onnx.ModelProto, attribute: str) -> None:
    """Only the doubling that Gather can do to the bit is replaced."""
    plain = unsigned_model(model)
    first = next(n for n in plain.graph.node if n.op_type == "Resize")
    for a in first.attribute:
        if a.name == attribute:
            a.s = {"mode": b"linear", "coordinate_transformation_mode": b"half_pixel", "nearest_mode": b"ceil"}[attribute]
    swift = swift_model(plain)
    assert [n.output[0] for n in swift.graph.node if n.op_type == "Resize"] == [first.output[0]]


def test_without_a_kernel_for_narrow_matrices_the_plain_ones_serve(
    pack: AvatarPack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An ONNX Runtime that cannot load them draws all the same, and says why it is slower."""
    from engines.renderer import onnx_runtime

    def old(model: bytes, threads: int) -> object:
        if b"MatMulNBits" in model:
            raise RuntimeError("com.microsoft:MatMulNBits is not a registered function/op")
        return network_session(model, threads)

    monkeypatch.setattr(onnx_runtime, "network_session", old)
    face = OnnxRuntimeRenderer(pack)
    assert "MatMulNBits is not a registered" in caplog.text
    out = np.zeros((384, 256), np.uint8)
    face.draw(face.idle, out, rung=2)
    assert out[:256].std() > 20
