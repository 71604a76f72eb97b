"""Tests that run in a process with the fake CUDA driver and a fake TensorRT; `test_on_fake_gpu.py` starts them.

What they prove: the right calls with the right addresses in the right order, the same picture as on the CPU, what happens when a call
fails. What they cannot prove: that a GPU does what the fake does.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.compile import CompileError, EngineCache, Found, Library, OutOfMemory, Target, find_libraries
from engines.compile.library import MODULES
from engines.renderer import AvatarPack, OnnxRuntimeRenderer, RendererError, cuda, load_pack, open_face, select
from engines.renderer._select import find_gpu
from engines.renderer.compose import Composer, Drawing
from engines.renderer.cuda import Gpu, GpuError, GpuOutOfMemory, open_gpu
from engines.renderer.onnx_runtime import network_session
from engines.renderer.tensorrt import TensorRTRenderer
from engines.renderer.tensorrt_relay import Relay, prepare, target_of
from runtime.bus import NV12, FrameReader, FrameRingSpec, FrameWriter, create_frame_ring
from visavis import doctor, engines_verify
from visavis.cli import main

STOCK = Path(__file__).resolve().parents[4] / "engines" / "avatars" / "stock"
RTX = os.environ["FAKE_TENSORRT"] == "rtx"
BACKEND = os.environ["FAKE_BACKEND"]
GRAPHS = not RTX and BACKEND == "cuda-bindings"
Bytes = NDArray[np.uint8]

driver = ctypes.CDLL("libcuda.so.1")
cuda.BACKENDS = {BACKEND: cuda.BACKENDS[BACKEND]}
MODULES.pop("tensorrt" if RTX else "tensorrt_rtx")  # it may be installed, and does not run on this driver


def calls(name: str) -> int:
    return int(driver.fake_calls(name.encode()))


def fail(name: str, code: int, after: int = 0) -> None:
    driver.fake_fail(name.encode(), code, after)


def live() -> dict[str, int]:
    kinds = ["device", "pinned", "registered", "graphs", *(["contexts"] if BACKEND != "pycuda" else [])]  # pycuda may keep an empty one
    return {kind: driver.fake_live(kind.encode()) for kind in kinds}


@pytest.fixture(autouse=True)
def _healthy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("FAKE_TENSORRT_FAILS", raising=False)
    driver.fake_heal()
    driver.fake_set(b"capability", 89)
    driver.fake_set(b"register", 1)
    yield
    driver.fake_heal()


@pytest.fixture(scope="module")
def avatar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stock face on small rungs: here a CPU does what a GPU should."""
    folder = tmp_path_factory.mktemp("avatar") / "stock"
    shutil.copytree(STOCK, folder)
    text = (folder / "avatar.toml").read_text()
    for size, small in ((512, 192), (384, 128), (256, 96)):
        text = text.replace(f"= {size}\n", f"= {small}\n").replace(f'name = "{size}"', f'name = "{small}"')
    (folder / "avatar.toml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def pack(avatar: Path) -> AvatarPack:
    return load_pack(avatar)


@pytest.fixture(scope="module")
def library() -> Library:
    return find_libraries().found[0]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, pack: AvatarPack, library: Library) -> EngineCache:
    """A cache in which the engine is already, for tests that are not about building."""
    cache = EngineCache(tmp_path_factory.mktemp("kept"))
    cache.plan(library, pack.network.read_bytes(), Target("Fake RTX", (8, 9), 13000))
    return cache


@pytest.fixture
def cache(tmp_path: Path, kept: EngineCache) -> EngineCache:
    """An empty cache, but for the composing kernel: NVRTC takes a second each time."""
    (tmp_path / "engines").mkdir()
    for path in kept.folder.glob("compose-*.kernel"):
        shutil.copy(path, tmp_path / "engines")
    return EngineCache(tmp_path / "engines")


def opened() -> Gpu:
    gpu, why_not = open_gpu()
    assert gpu, why_not
    return gpu


@pytest.fixture
def face(pack: AvatarPack, library: Library, kept: EngineCache) -> Iterator[TensorRTRenderer]:
    renderer = prepare(pack, opened(), library, kept, lambda _line: None)
    yield renderer
    renderer.close()


@pytest.fixture(scope="module")
def truth(pack: AvatarPack) -> Callable[..., Bytes]:
    """The CPU's picture from the same signed network that the engine is."""
    session = network_session(pack.network.read_bytes(), 1)
    names = [o.name for o in session.get_outputs()]
    composers = [Composer(pack.plate, rung.width, pack.hair) for rung in pack.rungs]

    def draw(controls: NDArray[np.float32], rung: int, background: tuple[int, int, int] = (16, 18, 22)) -> Bytes:
        made = dict(zip(names, session.run(names, {"controls": controls[None]}), strict=True))
        drawing = Drawing(**{name: value if name == "eyes" else value[0] for name, value in made.items()})
        composers[rung].set_background(background)
        out = np.empty((pack.rungs[rung].height * 3 // 2, pack.rungs[rung].width), np.uint8)
        composers[rung].draw(drawing, out)
        return out

    return draw


def poses(pack: AvatarPack, count: int = 3) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(5)
    low, high = pack.ranges.T
    return [pack.idle, *(rng.uniform(low, high).astype(np.float32) for _ in range(count - 1))]


def frame(pack: AvatarPack, rung: int) -> Bytes:
    return np.zeros((pack.rungs[rung].height * 3 // 2, pack.rungs[rung].width), np.uint8)


def same(a: Bytes, b: Bytes) -> None:
    """Equal but for rounding: a byte in a thousand may be two apart (and where alpha is cut, a few more)."""
    apart = np.abs(a.astype(int) - b)
    assert (apart > 1).mean() < 1e-3
    assert (apart > 3).mean() < 1e-4
    assert a.std() > 5


def test_the_picture_is_the_cpus(face: TensorRTRenderer, pack: AvatarPack, truth: Callable[..., Bytes]) -> None:
    """Every rung, several poses, two backgrounds: network, composition and NV12 come out as on the CPU."""
    for background in ((16, 18, 22), (200, 30, 90)):
        face.set_background(background)
        for controls in poses(pack):
            for rung in range(len(pack.rungs)):
                out = frame(pack, rung)
                face.draw(controls, out, rung=rung)
                same(out, truth(controls, rung, background))


def test_controls_out_of_range_and_nan_are_mended(face: TensorRTRenderer, pack: AvatarPack) -> None:
    """As the contract of Renderer says."""
    wild, tame = pack.idle.copy(), pack.idle.copy()
    wild[0], wild[1] = 99, np.nan
    tame[0] = pack.ranges[0, 1]
    a, b = frame(pack, 0), frame(pack, 0)
    face.draw(wild, a)
    face.draw(tame, b)
    assert np.array_equal(a, b)


def test_a_frame_is_as_few_calls_as_possible(face: TensorRTRenderer, pack: AvatarPack) -> None:
    """One graph where the library lets us capture, else upload, network and kernel; one wait; nothing is allocated or copied."""
    out = frame(pack, 1)
    names = (
        "cuGraphLaunch",
        "cuLaunchKernel",
        "cuMemcpyHtoDAsync_v2",
        "cuStreamSynchronize",
        "cuMemAlloc_v2",
        "cuMemcpyDtoHAsync_v2",
        "cuMemHostAlloc",
    )
    before = {name: calls(name) for name in names}
    for _ in range(3):
        face.draw(pack.idle, out, rung=1)
    spent = [(calls(name) - before[name]) / 3 for name in names]
    assert spent == ([1, 0, 0, 1, 0, 0, 0] if GRAPHS else [0, 1, 1, 1, 0, 0, 0])


def test_a_change_of_rung_loads_nothing(face: TensorRTRenderer, pack: AvatarPack) -> None:
    """All rungs are on the GPU after the start."""
    before = calls("cuMemAlloc_v2"), calls("cuMemcpyHtoDAsync_v2")
    for rung in (0, 2, 1, 0):
        face.draw(pack.idle, frame(pack, rung), rung=rung)
    assert calls("cuMemAlloc_v2") == before[0]
    assert calls("cuMemcpyHtoDAsync_v2") - before[1] == (0 if GRAPHS else 4)


@pytest.fixture
def ring(pack: AvatarPack) -> Iterator[tuple[FrameWriter, FrameReader]]:
    spec = FrameRingSpec("video", pack.rungs[0].width, pack.rungs[0].height, NV12, ("page",))
    fds = create_frame_ring(spec)
    writer = FrameWriter(spec, fds)
    reader = FrameReader(spec, fds, "page")
    yield writer, reader
    reader.close()
    writer.close()
    fds.close()


def test_frames_land_in_the_rings_slots(
    face: TensorRTRenderer, pack: AvatarPack, ring: tuple[FrameWriter, FrameReader], truth: Callable[..., Bytes]
) -> None:
    """Page-locked once, then every slot is written in place by the GPU at the address it sees; a consumer finds the picture."""
    if BACKEND == "pycuda":
        pytest.skip("pycuda cannot register memory")
    writer, reader = ring
    registered = calls("cuMemHostRegister_v2")
    assert face.attach_ring(writer.memory) == "mapped"
    pinned = live()["pinned"]
    for i, controls in enumerate(poses(pack, 7)):
        rung = i % 3
        out = writer.begin(pack.rungs[rung].width, pack.rungs[rung].height)
        assert out is not None
        out[:] = 0
        face.draw(controls, out, rung=rung)
        with reader.lease(writer.commit(turn=0, t_capture_ns=0)) as seen:
            same(seen, truth(controls, rung))
    assert calls("cuMemHostRegister_v2") == registered + 1
    assert live()["registered"] == 1
    assert live()["pinned"] == pinned
    face.slots.detach()
    assert live()["registered"] == 0


@pytest.mark.parametrize("how", ["says so", "refuses", "has no address"])
def test_a_ring_that_cannot_be_mapped_costs_one_copy(
    face: TensorRTRenderer, pack: AvatarPack, ring: tuple[FrameWriter, FrameReader], truth: Callable[..., Bytes], how: str
) -> None:
    """The attribute is 0 (Jetson Nano), the call is refused (801) or the address is missing: frames come all the same, and it is told."""
    if how == "says so":
        driver.fake_set(b"register", 0)
    else:
        fail("cuMemHostRegister_v2" if how == "refuses" else "cuMemHostGetDevicePointer_v2", 801)
    told = face.attach_ring(ring[0].memory)
    driver.fake_heal()
    assert told.startswith("staged: ")
    assert len(told) > 20
    assert live()["registered"] == 0
    out = ring[0].begin(pack.rungs[0].width, pack.rungs[0].height)
    assert out is not None
    face.draw(pack.idle, out)
    same(out, truth(pack.idle, 0))


def test_memory_outside_of_the_ring_is_drawn_too(
    face: TensorRTRenderer, pack: AvatarPack, ring: tuple[FrameWriter, FrameReader], truth: Callable[..., Bytes]
) -> None:
    """The node measures each rung on arrays of its own before it draws into the ring."""
    face.attach_ring(ring[0].memory)
    out = frame(pack, 2)
    face.draw(pack.idle, out, rung=2)
    same(out, truth(pack.idle, 2))


def test_another_thread_may_draw(face: TensorRTRenderer, pack: AvatarPack) -> None:
    """The context follows the thread, as long as the one before let go."""
    drawn: list[Bytes] = []

    def draw() -> None:
        out = frame(pack, 2)
        face.draw(pack.idle, out, rung=2)
        drawn.append(out)
        face.release()

    thread = threading.Thread(target=draw)
    thread.start()
    thread.join()
    out = frame(pack, 2)
    face.draw(pack.idle, out, rung=2)
    assert np.array_equal(out, drawn[0])


def test_closing_gives_everything_back(
    pack: AvatarPack, library: Library, kept: EngineCache, ring: tuple[FrameWriter, FrameReader]
) -> None:
    """No memory, no page lock, no graph and no context is left."""
    before = live()
    face = prepare(pack, opened(), library, kept, lambda _line: None)
    face.attach_ring(ring[0].memory)
    face.draw(pack.idle, frame(pack, 0))
    assert live() != before
    face.close()
    assert live() == before


@pytest.mark.parametrize(
    ("name", "code", "after"),
    [
        ("cuMemAlloc_v2", 2, 0), ("cuMemAlloc_v2", 2, 5), ("cuMemAlloc_v2", 2, 20), ("cuMemHostAlloc", 2, 0), ("cuMemHostAlloc", 2, 2),
        ("cuModuleLoadData", 209, 0), ("cuStreamCreate", 999, 0), ("cuMemcpyHtoDAsync_v2", 719, 3), ("cuLaunchKernel", 701, 1),
        ("cuStreamSynchronize", 719, 4),
    ],
)  # fmt: skip
def test_what_fails_at_the_start_is_told_and_given_back(
    pack: AvatarPack, library: Library, kept: EngineCache, name: str, code: int, after: int
) -> None:
    """Out of memory (early, late, page-locked), a kernel that does not load, a launch that fails: one line, and nothing is left."""
    before, gpu = live(), opened()
    fail(name, code, after)
    with pytest.raises(GpuOutOfMemory if code == 2 else GpuError) as told:
        prepare(pack, gpu, library, kept, lambda _line: None)
    assert "\n" not in str(told.value)
    assert live() == before


def test_graphs_that_cannot_be_captured_are_done_without(
    pack: AvatarPack, library: Library, kept: EngineCache, truth: Callable[..., Bytes]
) -> None:
    """A driver that refuses the capture costs some launches a frame, and the path says so."""
    if not GRAPHS:
        pytest.skip("no graphs of ours here")
    fail("cuGraphInstantiateWithFlags", 801)
    face = prepare(pack, opened(), library, kept, lambda _line: None)
    assert "without graphs (cuGraphInstantiate" in face.path
    out = frame(pack, 0)
    face.draw(pack.idle, out)
    same(out, truth(pack.idle, 0))
    face.close()


def test_the_engine_is_compiled_beside_the_face(pack: AvatarPack, library: Library, cache: EngineCache) -> None:
    """The first frame is the CPU's; meanwhile a process compiles, tells its steps and keeps the engine; then the GPU draws."""
    lines: list[str] = []
    gpu = opened()

    relay = Relay(OnnxRuntimeRenderer(pack), lambda _report: prepare(pack, gpu, library, cache, lines.append))
    before = calls("cuLaunchKernel")
    relay.draw(pack.idle, frame(pack, 2), rung=2)
    assert relay.wait(120)
    assert any("Building engine 1/2" in line for line in lines)
    assert cache.kept(library, pack.network.read_bytes(), target_of(gpu)) is not None
    launched = calls("cuLaunchKernel") - before, calls("cuGraphLaunch")
    relay.draw(pack.idle, frame(pack, 2), rung=2)
    assert (calls("cuLaunchKernel") - before, calls("cuGraphLaunch")) != launched
    assert relay.state.startswith(f"{library.title} on Fake RTX ({BACKEND})")
    relay.close()


def relay_on(pack: AvatarPack, library: Library, cache: EngineCache) -> Relay:
    gpu = opened()
    return Relay(OnnxRuntimeRenderer(pack), lambda report: prepare(pack, gpu, library, cache, report))


def test_a_gpu_that_fails_while_drawing_is_left_at_that_frame(
    pack: AvatarPack, library: Library, kept: EngineCache, ring: tuple[FrameWriter, FrameReader]
) -> None:
    """The frame is drawn by the CPU, so are all that follow, the log has one line, and the GPU is given back."""
    before = live()
    relay = relay_on(pack, library, kept)
    relay.attach_ring(ring[0].memory)
    relay.set_background((90, 10, 10))
    relay.draw(pack.idle, frame(pack, 0))
    assert relay.wait(60)
    good, rescued, after = frame(pack, 0), frame(pack, 0), frame(pack, 0)
    relay.draw(pack.idle, good)
    fail("cuStreamSynchronize", 719)
    relay.draw(pack.idle, rescued)
    assert relay.state.startswith("the CPU draws: ")
    driver.fake_heal()
    relay.draw(pack.idle, after)
    cpu = OnnxRuntimeRenderer(pack)
    cpu.set_background((90, 10, 10))
    expected = frame(pack, 0)
    cpu.draw(pack.idle, expected)
    assert np.array_equal(rescued, expected)
    assert np.array_equal(after, expected)
    assert np.abs(good.astype(int) - expected).mean() < 1  # the engine's signed network is not ONNX Runtime's unsigned one
    assert live() == before


@pytest.mark.parametrize(("what", "words"), [("build", "could not find any implementation"), ("memory", "OutOfMemory")])
def test_a_network_that_does_not_compile_leaves_the_cpu_drawing(
    pack: AvatarPack,
    library: Library,
    cache: EngineCache,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    what: str,
    words: str,
) -> None:
    """The reason of the library is in the one line that is told."""
    monkeypatch.setenv("FAKE_TENSORRT_FAILS", what)
    before = live()
    relay = relay_on(pack, library, cache)
    relay.draw(pack.idle, frame(pack, 2), rung=2)
    assert relay.wait(120)
    relay.draw(pack.idle, frame(pack, 2), rung=2)
    assert relay.state.startswith(f"the CPU draws: {library.title} cannot build")
    assert words in relay.state
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [relay.state]
    assert live() == before


def test_an_engine_that_is_refused_is_built_again_next_time(
    pack: AvatarPack, library: Library, cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the key says: what does not load is not kept."""
    onnx, target = pack.network.read_bytes(), Target("Fake RTX", (8, 9), 13000)
    path = cache.plan(library, onnx, target).path
    monkeypatch.setenv("FAKE_TENSORRT_FAILS", "load")
    with pytest.raises(CompileError) as told:
        prepare(pack, opened(), library, cache, lambda _line: None)
    assert not path.exists()
    assert library.title in str(told.value)
    monkeypatch.delenv("FAKE_TENSORRT_FAILS")
    assert not cache.plan(library, onnx, target).kept


@pytest.mark.parametrize("what", ["room", "context"])
def test_an_engine_that_finds_no_room_is_kept(
    pack: AvatarPack, library: Library, cache: EngineCache, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A GPU that was full when the engine was loaded says nothing about the file."""
    path = cache.plan(library, pack.network.read_bytes(), Target("Fake RTX", (8, 9), 13000)).path
    monkeypatch.setenv("FAKE_TENSORRT_FAILS", what)
    with pytest.raises(OutOfMemory):
        prepare(pack, opened(), library, cache, lambda _line: None)
    assert path.exists()


def test_kernels_compiled_at_the_first_run_are_kept(pack: AvatarPack, library: Library, cache: EngineCache) -> None:
    """TensorRT-RTX's runtime cache lies beside the engine, is handed to the next life, and a damaged one is made again."""
    cache.plan(library, pack.network.read_bytes(), Target("Fake RTX", (8, 9), 13000))
    for _ in range(2):
        prepare(pack, opened(), library, cache, lambda _line: None).close()
    found = [p for p in cache.folder.iterdir() if p.suffix == ".kernels"]
    assert len(found) == (1 if RTX else 0)
    for path in found:
        assert cache.side(path).startswith(b"kernels of")
        path.write_bytes(b"half of it")
        prepare(pack, opened(), library, cache, lambda _line: None).close()
        assert cache.side(path).startswith(b"kernels of")


def test_a_callers_mistake_does_not_cost_the_gpu(pack: AvatarPack, library: Library, kept: EngineCache) -> None:
    """A wrong shape is told as ever, and the GPU draws on."""
    relay = relay_on(pack, library, kept)
    relay.draw(pack.idle, frame(pack, 2), rung=2)
    assert relay.wait(60)
    relay.draw(pack.idle, frame(pack, 2), rung=2)
    with pytest.raises(RendererError):
        relay.draw(pack.idle[:3], frame(pack, 2), rung=2)
    assert "Fake RTX" in relay.state
    relay.close()


def test_the_kiosk_finds_the_gpu_by_itself(monkeypatch: pytest.MonkeyPatch, avatar: Path, tmp_path: Path) -> None:
    """`open_face` takes over to the GPU; `select` leaves it alone unless asked."""
    monkeypatch.setenv("VISAVIS_CACHE", str(tmp_path))
    chosen = open_face(avatar)
    assert chosen.name == "onnxruntime"  # until the GPU has been found
    assert isinstance(chosen.engine, Relay)
    chosen.engine.draw(chosen.engine.idle, frame(load_pack(avatar), 0))
    assert chosen.engine.wait(120)
    chosen.engine.draw(chosen.engine.idle, frame(load_pack(avatar), 0))
    assert "Fake RTX" in chosen.engine.state
    assert list((tmp_path / "engines").glob("*.engine"))
    chosen.engine.close()
    assert select(load_pack(avatar)).name == "onnxruntime"


def test_a_gpu_that_the_library_does_not_know_is_told() -> None:
    """Compute capability 9.0: no engine of TensorRT-RTX runs there; the full TensorRT is tried."""
    driver.fake_set(b"capability", 90)
    found, why_not = find_gpu()
    if RTX:
        assert found is None
        assert "no target for compute capability 9.0 (Fake RTX)" in why_not["tensorrt_rtx"]
    else:
        assert found
        found[0].close()


@pytest.mark.parametrize("name", ["cuInit", "cuDeviceGetCount", "cuDevicePrimaryCtxRetain"])
def test_a_driver_that_does_not_start_is_told(name: str) -> None:
    """No CUDA-capable device (100), or the card is taken: no GPU, one line for each back end."""
    before = live()
    fail(name, 100)
    gpu, why_not = open_gpu()
    assert gpu is None
    assert set(why_not) == {BACKEND}
    assert "\n" not in why_not[BACKEND]
    assert live() == before


def test_no_such_gpu() -> None:
    """A number that the driver does not know."""
    assert "the driver knows 1" in open_gpu(3).why_not[BACKEND]


def test_events_take_the_time() -> None:
    """What `visavis engines verify` measures with."""
    gpu = opened()
    gpu.activate()
    stream, first, last = gpu.stream(), gpu.event(), gpu.event()
    gpu.record(first, stream)
    gpu.record(last, stream)
    gpu.synchronize(stream)
    assert 0 <= gpu.elapsed_ms(first, last) < 1000
    gpu.close()


def test_verify_proves_the_whole_path(
    avatar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`visavis engines verify`: every check is ok or says why it cannot be made, and what it took is given back."""
    monkeypatch.setenv("VISAVIS_CACHE", str(tmp_path))
    before = live()
    assert main(["engines", "verify", "--avatar", str(avatar), "--frames", "2", "--json", str(tmp_path / "checks.json")]) == 0, (
        capsys.readouterr().out
    )
    checks = json.loads((tmp_path / "checks.json").read_text())["checks"]
    states = {check["what"]: check["state"] for check in checks}
    assert sum(state == "ok" for state in states.values()) >= 15
    assert set(states.values()) <= {"ok", "skipped"}
    assert live() == before


@pytest.mark.parametrize(("name", "code"), [("cuMemcpyDtoHAsync_v2", 719), ("cuModuleLoadData", 209), ("cuLaunchKernel", 1)])
def test_verify_finds_what_is_broken(
    avatar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, code: int
) -> None:
    """A failing call is a failed check with its name, the others are made all the same, exit status 1."""
    monkeypatch.setenv("VISAVIS_CACHE", str(tmp_path))
    monkeypatch.setattr(engines_verify, "find_libraries", lambda: Found((), {}))
    fail(name, code)
    assert main(["engines", "verify", "--avatar", str(avatar), "--frames", "1"]) == 1
    told = capsys.readouterr().out
    assert any(line.startswith("failed ") and str(code) in line for line in told.splitlines()) or BACKEND == "pycuda"
    assert "1 failed" in told or " failed, " in told


def test_the_doctor_has_one_line_for_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What draws, and whether its engine is there; or that the CPU draws although there is a GPU, and why."""
    monkeypatch.setenv("VISAVIS_CACHE", str(tmp_path))
    before = live()
    before_build = doctor._gpu(None)
    assert main(["engines", "build"]) == 0
    after = doctor._gpu(None)
    assert (before_build.state, after.state) == ("works", "works")
    assert "Fake RTX draws by TensorRT" in after.detail
    assert "meanwhile the CPU draws" in before_build.detail
    assert after.detail.endswith("its engine is there")
    fail("cuInit", 999)
    monkeypatch.setattr(doctor, "_GPU_NODES", (str(tmp_path),))
    broken = doctor._gpu(None)
    assert broken.state == "falls back"
    assert broken.detail.startswith("there is one, but the CPU draws: ")
    assert live() == before


def test_the_fake_has_no_call_that_the_library_has_not() -> None:
    """Names used on the fake exist in the real bindings, where those are installed."""
    try:
        real = importlib.import_module("tensorrt_rtx_bindings.tensorrt_rtx")
    except ImportError as error:
        pytest.skip(f"no real bindings ({error}): pip install tensorrt-rtx-cu13")
    fake = importlib.import_module("tensorrt_rtx" if RTX else "tensorrt")
    pairs = {"Builder": fake.Builder, "OnnxParser": fake.OnnxParser, "Runtime": fake.Runtime, "IBuilderConfig": fake._Config,
             "ICudaEngine": fake._Engine, "IExecutionContext": fake._Context, "ParserError": fake._Error,
             "IProgressMonitor": fake.IProgressMonitor, "ILogger": fake.ILogger, "IRuntimeConfig": fake._RuntimeConfig,
             "IRuntimeCache": fake._RuntimeCache, "DataType": fake.DataType, "TensorIOMode": fake.TensorIOMode}  # fmt: skip
    own = {"first", "data", "targets", "shapes", "session", "logger", "cache"}
    for name, kind in pairs.items():
        theirs = set(dir(getattr(real, name)))
        assert {n for n in vars(kind) if not n.startswith("_")} - own <= theirs, name
