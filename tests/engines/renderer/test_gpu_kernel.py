"""The composing kernel's arithmetic, without a GPU: the same source compiled for the CPU draws what compose.py draws."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.renderer import AvatarPack, OnnxRuntimeRenderer
from engines.renderer.compose import HAIR_BOX, Composer, Drawing, Hair
from engines.renderer.cuda import GpuError
from engines.renderer.cuda_bindings import nvrtc_image
from engines.renderer.cuda_compose import BLOCK, SOURCE, Tensor, background, fixed_pictures, scene

pytestmark = pytest.mark.unit

HERE = Path(__file__).parent / "gpu"
ADA, ORIN, THOR, HOPPER, BLACKWELL = (8, 9), (8, 7), (11, 0), (9, 0), (12, 0)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """cuda_compose.cu as a library for this processor; warnings are errors."""
    if shutil.which("g++") is None:
        pytest.skip("no g++: scripts/system.sh installs it")
    out = tmp_path_factory.mktemp("kernel") / "kernel.so"
    flags = [
        "-std=gnu++17",
        "-O2",
        "-Wall",
        "-Werror",
        "-Wno-unknown-pragmas",
        "-ffp-contract=off",
        "-shared",
        "-fPIC",
        f'-DKERNEL="{SOURCE}"',
    ]
    subprocess.run(["g++", *flags, "-o", str(out), str(HERE / "kernel_on_cpu.cpp")], check=True, timeout=120)
    library = ctypes.CDLL(str(out))
    library.scene_bytes.restype = ctypes.c_ulong
    return library


@pytest.fixture(scope="module")
def face(pack: AvatarPack) -> OnnxRuntimeRenderer:
    return OnnxRuntimeRenderer(pack)


def hair(pack: AvatarPack, seed: int) -> Hair:
    """A layer of hair cut out of the plate, with shades."""
    x0, y0, x1, y1 = HAIR_BOX
    picture = np.ascontiguousarray(pack.plate[y0:y1, x0:x1])
    return Hair(picture, np.random.default_rng(seed).normal(0, 0.02, (6, *picture.shape)).astype(np.float32))


def drawing(face: OnnxRuntimeRenderer, pack: AvatarPack, seed: int, *, haired: bool) -> Drawing:
    rng = np.random.default_rng(seed)
    low, high = pack.ranges.T
    made = face.infer(rng.uniform(low, high).astype(np.float32) if seed else pack.idle)
    if haired:
        flow = np.kron(rng.normal(0, 3, (2, 4, 4)), np.ones((8, 8))).astype(np.float32)
        made = made._replace(hair_flow=flow, shades=rng.normal(0, 1, 6).astype(np.float32))
    return made


def on_cpu(kernel: ctypes.CDLL, composer: Composer, drawn: Drawing) -> NDArray[np.uint8]:
    """One frame by the kernel."""
    arrays = {name: np.ascontiguousarray(value, np.float32) for name, value in drawn._asdict().items() if isinstance(value, np.ndarray)}
    tensors = {name: Tensor(array.ctypes.data, array.shape) for name, array in arrays.items()}
    pictures = {**fixed_pictures(composer, tensors), "behind": background(composer)}
    record = scene(tensors, {name: picture.ctypes.data for name, picture in pictures.items()}, composer)
    assert record.nbytes == kernel.scene_bytes()
    size = composer.size
    out = np.zeros((size * 3 // 2 + 2, size), np.uint8)  # a row before and one behind must stay untouched
    out[0], out[-1] = 77, 78
    where = ctypes.c_uint64(out[1:].ctypes.data)
    grid = -(-size // (4 * BLOCK[0])), -(-size // (2 * BLOCK[1]))
    kernel.compose_on_cpu(ctypes.c_void_p(record.ctypes.data), ctypes.byref(where), *grid, *BLOCK)
    assert (out[0] == 77).all()
    assert (out[-1] == 78).all()
    return out[1:-1]


@pytest.mark.parametrize("haired", [False, True])
@pytest.mark.parametrize("size", [512, 384, 256, 100])
def test_it_draws_what_the_cpu_draws(kernel: ctypes.CDLL, face: OnnxRuntimeRenderer, pack: AvatarPack, size: int, haired: bool) -> None:
    """With and without a layer of hair: bytes are equal or one apart, but where alpha falls on either side of its cut."""
    composer = Composer(pack.plate, size, hair(pack, 1) if haired else None)
    composer.set_background(np.random.default_rng(2).integers(0, 256, (60, 80, 3)).astype(np.uint8))
    for seed in range(3):
        drawn = drawing(face, pack, seed, haired=haired)
        expected = np.empty((size * 3 // 2, size), np.uint8)
        composer.draw(drawn, expected)
        apart = np.abs(on_cpu(kernel, composer, drawn).astype(int) - expected)
        assert (apart > 1).mean() < 1e-3
        assert (apart > 2).mean() < 1e-4
        assert expected[:size].std() > 20


def test_a_wild_network_stays_inside(kernel: ctypes.CDLL, face: OnnxRuntimeRenderer, pack: AvatarPack) -> None:
    """NaN and enormous flows, places that map everything to one point: the kernel reads and writes only what is its own."""
    composer = Composer(pack.plate, 128, hair(pack, 1))
    good = drawing(face, pack, 0, haired=True)
    for value in (np.nan, np.inf, -1e30, 1e30):
        wild = good._replace(
            flow=np.full_like(good.flow, value), hair_flow=np.full((2, 32, 32), value, np.float32), places=np.full_like(good.places, value)
        )
        assert on_cpu(kernel, composer, wild).shape == (192, 128)
    assert on_cpu(kernel, composer, good._replace(places=np.zeros_like(good.places))).any()


@pytest.mark.parametrize("capability", [ADA, ORIN, THOR, HOPPER, BLACKWELL])
def test_nvrtc_compiles_it_for_every_gpu_that_we_mean(capability: tuple[int, int]) -> None:
    """Machine code by the real compiler; it needs no GPU."""
    pytest.importorskip("cuda.bindings.nvrtc", reason="pip install cuda-bindings nvidia-cuda-nvrtc", exc_type=ImportError)
    assert nvrtc_image(SOURCE.read_text("utf-8"), capability).startswith(b"\x7fELF")


def test_a_gpu_newer_than_nvrtc_gets_code_that_its_driver_finishes() -> None:
    """PTX of the newest architecture that is known; an older one than any is refused with a word."""
    pytest.importorskip("cuda.bindings.nvrtc", reason="pip install cuda-bindings nvidia-cuda-nvrtc", exc_type=ImportError)
    assert b".target" in nvrtc_image(SOURCE.read_text("utf-8"), (99, 0))
    with pytest.raises(GpuError, match=r"no compute capability 3\.5"):
        nvrtc_image("", (3, 5))
    with pytest.raises(GpuError, match=r"visavis\.cu\(1\): error"):
        nvrtc_image("void nothing", ADA)
