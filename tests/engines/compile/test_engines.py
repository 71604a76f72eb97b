"""Compiling for real, without a GPU: every network that a TensorRT may get, with TensorRT-RTX on this CPU; and the cache of engines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from engines.compile import Built, CompileError, EngineCache, Library, Target, Unsupported, engine_dir, find_libraries

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[3]
NETWORKS = sorted((ROOT / "engines" / "avatars").glob("*/*.onnx"))
ADA, TURING, HOPPER = Target("RTX 4070", (8, 9), 13000), Target("RTX 2060", (7, 5), 13000), Target("H200", (9, 0), 13000)


@pytest.fixture(scope="module")
def library() -> Library:
    """The real TensorRT-RTX; it has wheels for x86-64 alone."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install tensorrt-rtx-cu13)", exc_type=ImportError)
    return next(found for found in find_libraries().found if found.rtx)


@pytest.fixture(scope="module")
def onnx() -> bytes:
    return NETWORKS[0].read_bytes()


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


@pytest.mark.parametrize("network", NETWORKS, ids=[f"{n.parent.name}/{n.name}" for n in NETWORKS])
@pytest.mark.parametrize("target", [None, ADA], ids=["RTX 30, 40, 50", "one GPU"])
def test_every_shipped_face_compiles(library: Library, network: Path, target: Target | None) -> None:
    """Ahead of time, for the RTX generations at once and for one GPU; the steps are told."""
    steps: list[tuple[str, int, int]] = []
    plan = library.build(network.read_bytes(), target, lambda *step: steps.append(step))
    assert len(plan) > 100_000
    assert steps[0][1] == 0
    assert steps[-1][1] == steps[-1][2]


def test_a_gpu_without_a_place_is_refused_before_anything_is_built(library: Library, onnx: bytes) -> None:
    """TensorRT-RTX has no compute capability 9.0: one line names the GPU."""
    with pytest.raises(Unsupported, match=r"no target for compute capability 9\.0 \(H200\)"):
        library.build(onnx, HOPPER)


def test_a_network_that_the_library_refuses_is_told_in_its_words(library: Library, onnx: bytes) -> None:
    """No ONNX at all; and a network that Turing has no kernels for."""
    with pytest.raises(CompileError, match="does not take the network"):
        library.build(b"no onnx")
    with pytest.raises(CompileError, match="cannot build") as told:
        library.build(onnx, TURING)
    assert "\n" not in str(told.value)


def test_an_engine_without_a_driver_is_told(library: Library, onnx: bytes) -> None:
    """Loading gives None and a line in the log: both become one error."""
    with pytest.raises(CompileError, match=r"cannot load the engine: .+"):
        library.engine(library.build(onnx, ADA))


class Counted:
    """`Builds` that takes no time and can be of any version."""

    def __init__(self, name: str = "tensorrt_rtx", version: str = "1.7") -> None:
        self.name, self.version, self.built = name, version, 0

    def build(self, onnx: bytes, target: Target | None = None, progress: object = None) -> bytes:  # noqa: ARG002
        self.built += 1
        return b"plan of " + onnx + repr(target).encode()


def plan(cache: EngineCache, library: Counted, onnx: bytes = b"net", target: Target | None = ADA) -> Built:
    return cache.plan(library, onnx, target)


def test_an_engine_is_built_once(cache: EngineCache) -> None:
    """The second time it comes from the disk, with what building took."""
    library = Counted()
    first, second = plan(cache, library), plan(cache, library)
    assert (first.kept, second.kept, library.built) == (False, True, 1)
    assert first.plan == second.plan
    assert first.why == "there was none"
    assert second.seconds == pytest.approx(first.seconds, abs=1e-3)


@pytest.mark.parametrize(
    "other",
    [
        SimpleNamespace(onnx=b"another net"),
        SimpleNamespace(version="1.8"),
        SimpleNamespace(target=ADA._replace(gpu="RTX 4080")),
        SimpleNamespace(target=ADA._replace(capability=(8, 6))),
        SimpleNamespace(target=ADA._replace(driver=13010)),
    ],
)
def test_whatever_an_engine_depends_on_is_in_its_key(cache: EngineCache, other: SimpleNamespace) -> None:
    """Content, version, GPU, capability and driver: a change of any builds again and says why; the stale engine goes."""
    plan(cache, Counted())
    library = Counted(version=getattr(other, "version", "1.7"))
    onnx = getattr(other, "onnx", b"net")
    built = plan(cache, library, onnx, getattr(other, "target", ADA))
    assert library.built == 1
    if onnx == b"net":
        assert built.why == "the kept engine was made for another version, GPU or driver"
        assert [entry.path for entry in cache.entries()] == [built.path]
    else:
        assert len(cache.entries()) == 2


def test_engines_made_ahead_and_for_this_gpu_lie_side_by_side(cache: EngineCache) -> None:
    """A build machine's engines do not drive out the device's."""
    plan(cache, Counted(), target=None)
    plan(cache, Counted())
    assert {entry.gpu for entry in cache.entries()} == {"", "RTX 4070"}


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "foreign", "header"])
def test_a_damaged_engine_is_built_again(cache: EngineCache, harm: str) -> None:
    """Cut short, a bit flipped, empty, something else, a header of nonsense: it is never loaded, and the file is whole again."""
    library = Counted()
    good = plan(cache, library)
    data = good.path.read_bytes()
    broken = {"cut": data[:-3], "flip": data[:-1] + bytes([data[-1] ^ 1]), "empty": b"", "foreign": b"PK\x03\x04" + data}
    broken["header"] = data.replace(b'"network"', b'"net"', 1)
    good.path.write_bytes(broken[harm])
    assert cache.entries()[0].state.startswith("damaged: ")
    again = plan(cache, library)
    assert library.built == 2
    assert again.why.startswith("the kept engine is damaged (")
    assert plan(cache, library).kept


def test_an_engine_renamed_to_another_key_is_not_believed(cache: EngineCache) -> None:
    """The header is the key; the file name only finds it."""
    library = Counted()
    good = plan(cache, library)
    other = cache.path(library, b"net", HOPPER)
    good.path.rename(other)
    assert not plan(cache, library, target=HOPPER).kept


def test_nothing_half_written_is_left(cache: EngineCache) -> None:
    """A build that fails leaves the folder as it was."""

    class Refuses(Counted):
        def build(self, *_: object) -> bytes:
            raise CompileError("no kernels")

    with pytest.raises(CompileError):
        plan(cache, Refuses())
    assert not list(cache.folder.glob("*"))


def test_a_disk_that_refuses_costs_only_the_next_start(tmp_path: Path) -> None:
    """The folder is a file: the engine is there, and it is told why it was not kept."""
    (tmp_path / "engines").write_text("in the way")
    built = plan(EngineCache(tmp_path / "engines"), Counted())
    assert built.plan
    assert "it could not be kept" in built.why


def test_what_lies_beside_an_engine_is_checked(cache: EngineCache) -> None:
    """Kernels are given back as they were, or not at all."""
    path = cache.folder / "some.kernels"
    assert cache.side(path) == b""
    assert cache.keep_side(path, b"kernels\nof two lines")
    assert cache.side(path) == b"kernels\nof two lines"
    path.write_bytes(path.read_bytes()[:-1])
    assert cache.side(path) == b""


def test_engines_lie_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """VISAVIS_CACHE, as for models."""
    monkeypatch.setenv("VISAVIS_CACHE", str(tmp_path))
    assert engine_dir() == tmp_path / "engines"


def test_a_process_of_its_own_builds_and_tells(library: Library, tmp_path: Path) -> None:
    """`python -m engines.compile`: progress as JSON lines, the engine in the cache, exit status 0; and one line for a mistake."""
    command = [sys.executable, "-m", "engines.compile", str(NETWORKS[0]), "--library", library.name, "--cache", str(tmp_path / "engines")]
    command += ["--gpu", ADA.gpu, "--driver", str(ADA.driver), "--capability"]
    done = subprocess.run([*command, "8", "9"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert '{"what":"Building engine","done":' in done.stdout
    assert EngineCache(tmp_path / "engines").kept(library, NETWORKS[0].read_bytes(), ADA) is not None
    refused = subprocess.run([*command, "9", "0"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert refused.returncode == 1
    assert "no target for compute capability 9.0" in refused.stderr.strip().splitlines()[-1]
