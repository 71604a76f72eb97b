"""`visavis doctor`: one line per capability: what works, what falls back to what, why, and what to do."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from runtime.config import Config, ConfigError, environment
from runtime.config import load as load_config
from runtime.packchoice import kept_choice, serving
from runtime.packs import PackError

__all__ = ["Finding", "examine", "table"]

_CORE = (
    "aiohttp",
    "cyclopts",
    "httpx",
    "msgspec",
    "numpy",
    "onnx",
    "onnxruntime",
    "cv2",
    "pocketsphinx",
    "zmq",
    "rich",
    "soundfile",
    "soxr",
    "espeakng_loader",
)
_DISK_MB = 500
_GPU_NODES = ("/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/nvgpu")
"""What NVIDIA's drivers make: the first on a PC, the others on Jetson (older and newer)."""


class Finding(msgspec.Struct, frozen=True):
    """One capability. `state`: works, falls back (something lesser serves), or fails (the kiosk cannot run without it)."""

    what: str
    state: str
    detail: str
    remedy: str = ""


def examine(config: Path | None = None) -> list[Finding]:
    """Look at this machine; never raises, every trouble is a finding."""
    found = [_python(), _packages()]
    settings, about_config = _config(config)
    found.append(about_config)
    found.append(_pack(settings))
    found.append(_port(settings))
    found += [_guard(what, look, settings) for what, look in _ENGINES.items()]
    found += _models()
    found += [_browser(), _sound(), _gpu(settings), _disk(), _licences()]
    return found


def table(findings: list[Finding]) -> str:
    """The findings as lines of text, and the verdict."""
    marks = {"works": "ok  ", "falls back": "less", "fails": "FAIL"}
    width = max(len(f.what) for f in findings)
    lines = []
    for f in findings:
        lines.append(f"{marks[f.state]}  {f.what:<{width}}  {f.detail}")
        if f.remedy:
            lines.append(f"      {'':<{width}}  → {f.remedy}")
    failed = [f.what for f in findings if f.state == "fails"]
    lines.append(f"The kiosk cannot run: {', '.join(failed)}." if failed else "The kiosk can run.")
    return "\n".join(lines)


def _python() -> Finding:
    version = platform.python_version()
    if sys.version_info[:2] < (3, 10):  # noqa: UP036 - run from a clone, nothing has checked it before
        return Finding("Python", "fails", version, "Visavis needs Python 3.10 to 3.13")
    return Finding("Python", "works", f"{version} on {platform.machine()}")


def _packages() -> Finding:
    missing = [name for name in _CORE if importlib.util.find_spec(name) is None]
    if missing:
        return Finding("packages", "fails", f"missing: {', '.join(missing)}", "pip install -e . (or: make run)")
    return Finding("packages", "works", f"all {len(_CORE)} core packages are installed")


def _config(path: Path | None) -> tuple[Config | None, Finding]:
    chosen = path or environment().config
    try:
        return load_config(chosen), Finding("configuration", "works", str(chosen) if chosen else "defaults")
    except ConfigError as error:
        return None, Finding("configuration", "fails", "; ".join(str(error).splitlines()), "mend the file named")


def _pack(config: Config | None) -> Finding:
    if config is None:
        return Finding("experience pack", "falls back", "not looked at: the configuration is broken")
    try:
        path, why_not = serving(config)
    except PackError as error:
        return Finding("experience pack", "fails", "; ".join(str(error).splitlines()), "mend the pack, or set pack_path in kiosk.toml")
    if why_not:
        return Finding("experience pack", "falls back", why_not, "install that pack, or choose another one in the fleet's console")
    choice = kept_choice(config)
    chosen = f", chosen by the fleet ({choice.by}) instead of {config.pack_path.name}" if choice else ""
    return Finding("experience pack", "works", f"{path}{chosen}")


def _port(config: Config | None) -> Finding:
    from runtime.supervisor import PortInUse, check_port

    port = (config or Config()).stage.port
    try:
        check_port(port)
    except PortInUse as error:
        return Finding("port", "fails", str(error), "or is a kiosk running already?")
    return Finding("port", "works", f"{port} on loopback is free")


def _guard(what: str, look: Callable[[Config], Finding], config: Config | None) -> Finding:
    """An engine's finding; whatever it raises is one."""
    try:
        return look(config or Config())
    except ImportError as error:
        return Finding(what, "fails", f"cannot be loaded: {error}", "pip install -e .")
    except Exception as error:  # noqa: BLE001 - the doctor reports any trouble of any library, that is what it is for
        return Finding(
            what, "fails" if what in _NEEDED else "falls back", str(error).splitlines()[0] if str(error) else type(error).__name__
        )


def _reasons(selection: Any) -> str:
    """Why the better ones do not serve."""
    why = getattr(selection, "why_not", ()) or ()
    pairs = why.items() if isinstance(why, dict) else why
    return "; ".join(f"{name}: {reason}" for name, reason in pairs)


def _selected(what: str, selection: Any, name: str) -> Finding:
    reasons = _reasons(selection)
    return Finding(what, "falls back" if reasons else "works", name + (f" ({reasons})" if reasons else ""))


def _recognition(config: Config) -> Finding:
    from engines import recognition

    selection = recognition.select(config.recognition.engine, config.recognition.model)
    return _selected("recognition", selection, _engine_name(selection))


def _synthesis(config: Config) -> Finding:
    from engines import synthesis

    voice = config.voice
    selection = synthesis.select(voice.engine, voice.piper_model, speaker=voice.speaker, rate=voice.rate)
    return _selected("voice", selection, selection.name)


def _engine_name(selection: Any) -> str:
    return str(getattr(selection, "name", "") or type(getattr(selection, "engine", selection)).__name__)


def _renderer(config: Config) -> Finding:
    from engines import renderer

    pack = renderer.load_pack(config.avatar_path)
    selection = renderer.select(pack)
    other = {name: why for name, why in selection.why_not.items() if not name.startswith("tensorrt")}  # that is the line GPU
    return _selected("face", replace(selection, why_not=other), f"{pack.name}, {_engine_name(selection)}")


def _language(config: Config) -> Finding:
    if config.language.engine == "openai" or (config.language.engine == "auto" and config.language.base_url):
        return Finding("language", "works", f"server {config.language.base_url} (grounded answers where it does not answer)")
    return Finding("language", "works", "grounded answers from the pack, no language model", "" if config.language.engine == "grounded" else
                   "set language.base_url in kiosk.toml to use a language model (any OpenAI-compatible server)")  # fmt: skip


_ENGINES: dict[str, Callable[[Config], Finding]] = {
    "recognition": _recognition,
    "voice": _synthesis,
    "face": _renderer,
    "language": _language,
}
_NEEDED = ("face",)


def _models() -> list[Finding]:
    from engines.models import manifest, state_of

    found = []
    for model in manifest():
        state = state_of(model)
        if state.status == "ok":
            found.append(Finding(f"model {model.name}", "works", f"{model.version}, {model.licence}"))
        elif model.default or state.status == "corrupt":
            detail = f"{state.status}: {state.detail or model.without} ({model.size / 1e6:.0f} MB)"
            found.append(Finding(f"model {model.name}", "falls back", detail, f"visavis models fetch {model.name}"))
    return found


def _browser() -> Finding:
    from visavis.rehearse.errors import MissingProgram
    from visavis.rehearse.kiosk import find_chromium

    try:
        return Finding("browser", "works", find_chromium())
    except MissingProgram as error:
        return Finding("browser", "falls back", "no Chromium: open the page in any browser that speaks getUserMedia", str(error))


def _sound() -> Finding:
    missing = [name for name in ("pulseaudio", "pactl", "parec", "pacat") if not shutil.which(name)]
    cards = Path("/proc/asound/cards")
    devices = cards.exists() and "no soundcards" not in cards.read_text()
    if missing:
        return Finding("sound", "falls back", f"no {', '.join(missing)}: rehearsals cannot run (the kiosk's page uses the browser's sound)",
                       "apt install pulseaudio pulseaudio-utils")  # fmt: skip
    return Finding("sound", "works", "PulseAudio" + ("" if devices else "; no sound card: the virtual sink plays, visitors type and read"))


def _gpu(config: Config | None) -> Finding:
    """What draws on the GPU, or why the CPU does."""
    try:
        return _gpu_path(config or Config())
    except Exception as error:  # noqa: BLE001 - the doctor reports any trouble of any library, that is what it is for
        return Finding("GPU", "falls back", f"the CPU draws: {' '.join(str(error).split())}", "visavis engines verify")


def _gpu_path(config: Config) -> Finding:
    from engines.compile import EngineCache, engine_dir
    from engines.renderer import load_pack as load_avatar
    from engines.renderer._select import find_gpu
    from engines.renderer.tensorrt_relay import target_of

    found, why_not = find_gpu()
    if found is None:
        if not any(Path(node).exists() for node in _GPU_NODES):
            return Finding("GPU", "works", "none here: the face runs on the CPU")
        reasons = "; ".join(f"{name}: {why}" for name, why in why_not.items())
        return Finding("GPU", "falls back", f"there is one, but the CPU draws: {reasons}", "visavis engines verify")
    gpu, library = found
    gpu.close()
    kept = EngineCache(engine_dir()).kept(library, load_avatar(config.avatar_path).network.read_bytes(), target_of(gpu))
    engine = "its engine is there" if kept else "its engine is compiled at the first start, meanwhile the CPU draws"
    return Finding(
        "GPU", "works", f"{gpu.name} draws by {library.title} ({gpu.backend}); {engine}", "" if kept else "visavis engines build"
    )


def _disk() -> Finding:
    cache = environment().cache
    place = next(path for path in (cache, *cache.parents) if path.exists())
    free = shutil.disk_usage(place).free >> 20
    if free < _DISK_MB:
        return Finding("disk", "falls back", f"{free} MB free at {place}", f"models and caches want {_DISK_MB} MB")
    return Finding("disk", "works", f"{free // 1024} GB free at {place}")


def _licences() -> Finding:
    gpl = []
    for module, name in (("espeakng_loader", "espeak-ng (GPL-3)"), ("piper", "piper-tts (GPL-3)"), ("jtop", "jetson-stats (AGPL-3)")):
        if importlib.util.find_spec(module) is not None:
            gpl.append(name)
    if not gpl:
        return Finding("licences", "works", "Apache-2.0 and permissive parts only")
    return Finding("licences", "works", f"an image that contains {' and '.join(gpl)} is as a whole under those terms (NOTICE)")
