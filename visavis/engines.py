"""`visavis engines build|list|verify`: compile the faces for this box's GPU, see what is kept, prove that the GPU path works."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cyclopts
import msgspec

from engines.compile import CompileError, EngineCache, Library, Target, engine_dir, find_libraries
from engines.errors import EngineMissing
from visavis._output import ReportFile

__all__ = ["Row", "app", "build_all", "shipped", "state_here"]

app = cyclopts.App(name="engines", help="The face on a GPU: compile it, see what is kept, prove that it works.")

_AVATARS = Path(__file__).resolve().parent.parent / "engines" / "avatars"


class Row(msgspec.Struct, frozen=True):
    """An engine that was compiled, or why not."""

    network: str
    library: str
    gpu: str
    state: str  # built, kept or failed
    seconds: float
    megabytes: float
    note: str = ""


class Machine(NamedTuple):
    """What could compile here: the libraries, the GPU or None (then for RTX 30, 40 and 50), and why whatever is missing is."""

    libraries: tuple[Library, ...]
    target: Target | None
    why_not: dict[str, str]


def machine() -> Machine:
    """Look at this machine."""
    from engines.renderer.cuda import open_gpu
    from engines.renderer.tensorrt_relay import target_of

    gpu, why_gpu = open_gpu()
    target = None
    if gpu is not None:
        target = target_of(gpu)
        gpu.close()
    found, why_not = find_libraries()
    return Machine(found, target, {**why_not, **({} if gpu else why_gpu)})


def shipped() -> list[Path]:
    """The avatar packs of this installation."""
    return sorted(path.parent for path in _AVATARS.glob("*/avatar.toml"))


Report = Callable[[str, str, int, int], None]
"""Called with (network, what the builder does, steps done, steps in all)."""


def build_all(avatars: Sequence[Path], cache: EngineCache, here: Machine, report: Report) -> list[Row]:
    """Compile every avatar with every library of this machine, for its GPU if there is one.

    Raises:
        EngineMissing: there is nothing to compile with.
        PackError: an avatar pack is damaged.

    """
    from engines.renderer import load_pack

    if not here.libraries:
        raise EngineMissing("nothing to compile with: " + "; ".join(f"{name} {why}" for name, why in here.why_not.items()))
    rows = []
    for avatar in avatars:
        pack = load_pack(avatar)
        name, onnx = f"{pack.name}/{pack.network.name}", pack.network.read_bytes()
        for library in here.libraries:
            gpu = here.target.gpu if here.target else "RTX 30, 40, 50"
            step = partial(report, name)
            try:
                built = cache.plan(library, onnx, here.target, step)
            except CompileError as error:
                rows.append(Row(name, library.title, gpu, "failed", 0.0, 0.0, str(error)))
                continue
            state = "kept" if built.kept else "built"
            rows.append(Row(name, library.title, gpu, state, round(built.seconds, 2), round(len(built.plan) / 1e6, 2), built.why))
    return rows


@app.command
def build(*avatars: Path, cache: Path | None = None, json: ReportFile = None) -> int:
    """Compile the faces for this box's GPU (without one: for RTX 30, 40 and 50, which TensorRT-RTX can) and print the seconds.

    Exit status 1 if one does not compile, 2 if there is nothing to compile with.

    Parameters
    ----------
    avatars
        Folders of avatar packs (default: all that are installed).
    cache
        Where engines are kept (default: engines/ in VISAVIS_CACHE).
    json
        Also write the rows to this file.

    """
    with _progress() as report:
        rows = build_all(avatars or shipped(), EngineCache(cache or engine_dir()), machine(), report)
    lines = [(row.network, row.library, row.gpu, row.state, f"{row.seconds:.2f}", f"{row.megabytes:.1f}", row.note) for row in rows]
    _table("engines", ("network", "library", "for", "state", "seconds", "MB", "note"), lines)
    if json:
        json.write_bytes(msgspec.json.format(msgspec.json.encode({"engines": rows})))
    return int(any(row.state == "failed" for row in rows))


@app.command(name="list")
def list_engines(*, cache: Path | None = None) -> int:
    """What is kept, and whether this machine would use it.

    Parameters
    ----------
    cache
        Where engines are kept.

    """
    from engines.renderer import load_pack

    here, store = machine(), EngineCache(cache or engine_dir())
    wanted = {}
    for avatar in shipped():
        pack = load_pack(avatar)
        for library in here.libraries:
            wanted[store.path(library, pack.network.read_bytes(), here.target)] = f"{pack.name}/{pack.network.name}"
    lines = []
    for entry in store.entries():
        network, state = wanted.get(entry.path, entry.network[:12]), state_here(entry.path, entry.state, set(wanted))
        megabytes, seconds = f"{entry.size / 1e6:.1f}", f"{entry.seconds:.2f} s"
        lines.append((entry.path.name, network, entry.library, entry.gpu or "ahead of time", megabytes, seconds, state))
    _table(f"engines in {store.folder}", ("file", "network", "library", "for", "MB", "built in", "state"), lines)
    for path in sorted(set(wanted) - {entry.path for entry in store.entries()}):
        print(f"not yet built: {wanted[path]} ({path.name}); the kiosk does it at its first start, or now: visavis engines build")
    for name, why in here.why_not.items():
        print(f"{name}: {why}")
    return 0


def state_here(path: Path, state: str, wanted: set[Path]) -> str:
    """What a kept engine is worth to this machine."""
    if state != "ok":
        return f"{state}; it is built again when it is needed"
    return "in use" if path in wanted else "for another network, version, GPU or driver"


@app.command
def verify(*, avatar: Path | None = None, frames: int = 200, device: int = 0, json: ReportFile = None) -> int:
    """Prove on this box that the GPU draws what the CPU draws, and how fast. Exit status 1 if a check fails, 2 without a GPU.

    Parameters
    ----------
    avatar
        The avatar pack to draw (default: the first that is installed).
    frames
        How many frames are timed on each rung.
    device
        Number of the GPU.
    json
        Also write the checks to this file.

    """
    from visavis.engines_verify import Check
    from visavis.engines_verify import verify as prove

    def say(check: Check) -> None:
        figures = ", ".join(f"{name} {value:g}" for name, value in check.figures.items())
        print(f"{check.state:7}  {check.what}: {check.detail}{f' [{figures}]' if figures else ''}", flush=True)

    checks = prove(avatar or shipped()[0], frames=frames, device=device, say=say)
    count = {state: sum(check.state == state for check in checks) for state in ("ok", "failed", "skipped")}
    print(f"{count['ok']} ok, {count['failed']} failed, {count['skipped']} skipped")
    if json:
        json.write_bytes(msgspec.json.format(msgspec.json.encode({"checks": checks})))
    return int(count["failed"] > 0)


@contextmanager
def _progress() -> Iterator[Report]:
    from rich.progress import Progress

    with Progress(transient=True) as bar:
        tasks = {}

        def report(name: str, what: str, done: int, steps: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=steps)
            bar.update(tasks[name], description=f"{name}: {what}", completed=done, total=steps)

        yield report


def _table(title: str, head: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    from visavis.bench.report import print_table

    print_table(title, head, lines)
