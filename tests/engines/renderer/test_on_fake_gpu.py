"""Runs `gpu/on_fake_gpu.py` in processes that see a fake CUDA driver, once for each TensorRT and CUDA back end.

A process finds its driver when it starts, and no other test must see this one: hence the processes, each with all tests of the file.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

HERE = Path(__file__).parent / "gpu"
ROOT = HERE.parents[3]
KERNEL = ROOT / "engines" / "renderer" / "cuda_compose.cu"
TESTS = [node.name for node in ast.parse((HERE / "on_fake_gpu.py").read_text()).body if getattr(node, "name", "").startswith("test_")]
WAYS = {
    "tensorrt 10": ("10.3.0", "tensorrt", "cuda-bindings"),
    "tensorrt 11": ("11.4.1", "tensorrt", "cuda-bindings"),
    "tensorrt-rtx": ("rtx", "tensorrt_rtx", "cuda-bindings"),
    "pycuda": ("11.4.1", "tensorrt", "pycuda"),
}
ENOUGH_FOR_10 = ("test_the_picture_is_the_cpus", "test_the_engine_is_compiled_beside_the_face")
"""TensorRT 10 differs from 11 in how a network is made, and in nothing after that."""
Results = dict[str, list[tuple[str, str]]]

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]


@pytest.fixture(scope="session")
def fake_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a `libcuda.so.1` that runs our kernel on the CPU."""
    if shutil.which("g++") is None:
        pytest.skip("no g++: scripts/system.sh installs it")
    folder = tmp_path_factory.mktemp("driver")
    sources = [str(HERE / "fake_cuda.cpp")]
    if (linked := importlib.util.find_spec("pycuda")) and linked.origin:
        sources.append(str(_rest_of_the_driver(next(Path(linked.origin).parent.glob("_driver*.so")), folder)))
    flags = ["-std=gnu++17", "-O2", "-ffp-contract=off", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", f'-DKERNEL="{KERNEL}"']
    subprocess.run(["g++", *flags, "-o", str(folder / "libcuda.so.1"), *sources], check=True, timeout=120)
    return folder


def _rest_of_the_driver(pycuda: Path, folder: Path) -> Path:
    """What pycuda wants besides: it is linked against 143 functions of the driver: those that nobody calls here refuse."""
    listed = subprocess.run(["nm", "-D", "--undefined-only", str(pycuda)], check=True, capture_output=True, text=True).stdout
    wanted = {word for word in listed.split() if word.startswith("cu") and word[2:3].isupper()}
    missing = sorted(name for name in wanted if f"R {name}(" not in (HERE / "fake_cuda.cpp").read_text())
    stubs = folder / "rest.cpp"
    stubs.write_text('extern "C" {\n' + "".join(f"int {name}() {{ return 801; }}\n" for name in missing) + "}\n")
    return stubs


@pytest.fixture(scope="session", params=sorted(WAYS))
def results(request: pytest.FixtureRequest, fake_driver: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What became of each test of the file: (outcome, text) of its cases."""
    version, module, backend = WAYS[request.param]
    if importlib.util.find_spec("pycuda" if backend == "pycuda" else "cuda") is None:
        pytest.skip(f"{backend} is not installed: pip install {backend}")
    folder = tmp_path_factory.mktemp("run")
    shutil.copy(HERE / "fake_tensorrt.py", folder / f"{module}.py")
    environment = {
        **os.environ,
        "LD_PRELOAD": str(fake_driver / "libcuda.so.1"),
        "PYTHONPATH": f"{folder}:{ROOT}",
        "FAKE_TENSORRT": version,
        "FAKE_BACKEND": backend,
    }
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", str(HERE / "on_fake_gpu.py")]
    if version.startswith("10."):
        command += ["-k", " or ".join(ENOUGH_FOR_10)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=360, check=False)
    assert report.is_file(), f"the tests did not end: status {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    outcomes: Results = {}
    if version.startswith("10."):
        outcomes = {name: [("skipped", "as with TensorRT 11")] for name in TESTS if name not in ENOUGH_FOR_10}
    for case in ET.parse(report).getroot().iter("testcase"):
        bad = next((e for e in case if e.tag in ("failure", "error", "skipped")), None)
        name = str(case.get("name")).partition("[")[0]
        outcomes.setdefault(name, []).append(
            (bad.tag, bad.get("message", "") + "\n" + (bad.text or "")) if bad is not None else ("passed", "")
        )
    return outcomes


@pytest.mark.parametrize("name", TESTS)
def test_on_fake_gpu(results: Results, name: str) -> None:
    """The test of this name in gpu/on_fake_gpu.py."""
    cases = results.get(name, [("error", "it did not run")])
    bad = [text for outcome, text in cases if outcome not in ("passed", "skipped")]
    assert not bad, bad[0]
    if all(outcome == "skipped" for outcome, _ in cases):
        pytest.skip(cases[0][1].splitlines()[0])
