"""kiosk.toml: what differs from box to box. Defaults stand here, in code; the file only names what is different.

Also the only module that reads the environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from runtime._strict import Mistakes, build, read_toml

__all__ = [
    "HOST",
    "THINKING_LIMIT_S",
    "Config",
    "ConfigError",
    "Environment",
    "Firmware",
    "Fleet",
    "Language",
    "Log",
    "MicrophoneIn",
    "Recognition",
    "SessionTimes",
    "StagePage",
    "TurnTaking",
    "Video",
    "VoiceOut",
    "environment",
    "load",
    "port_in",
    "secret",
]

HOST = "127.0.0.1"
"""The stage never listens anywhere else: what a visitor says must not be reachable from the shop's network."""

THINKING_LIMIT_S = 6.0
"""A visitor whose answer has not begun to sound by then is told that the kiosk lost its thread: every wait for a model is shorter."""

_ROOT = Path(__file__).resolve().parent.parent

Port = Annotated[int, Meta(ge=0, le=65535)]
Milliseconds = Annotated[int, Meta(ge=0, le=60_000)]
Seconds = Annotated[float, Meta(gt=0, le=3600)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]


class ConfigError(Exception):
    """kiosk.toml is wrong; the text has one line per mistake: file, key, what is wrong."""


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all tables of the file."""


class StagePage(Section, frozen=True, kw_only=True):
    """`[stage]`: the page's server, on loopback only. Port 0 takes any free one."""

    port: Port = 8088


class VoiceOut(Section, frozen=True, kw_only=True):
    """`[voice]`: who speaks, and how fast (1.0 is the voice's own rate)."""

    engine: Literal["auto", "piper", "espeak"] = "auto"
    piper_model: Path | None = None
    speaker: str = ""  # the engine's own name of a voice, "" its default
    rate: Annotated[float, Meta(ge=0.5, le=2.0)] = 1.0
    volume: Annotated[float, Meta(ge=0.0, le=1.0)] = 1.0


class Recognition(Section, frozen=True, kw_only=True):
    """`[recognition]`: who listens for words."""

    engine: Literal["auto", "vosk", "ears", "pocketsphinx"] = "auto"
    model: Path | None = None


class MicrophoneIn(Section, frozen=True, kw_only=True):
    """`[microphone]`: how the browser takes the sound. `auto_gain` is its own level control; off where the hardware has one."""

    auto_gain: bool = True


class Language(Section, frozen=True, kw_only=True):
    """`[language]`: who thinks. `openai` is any server that speaks the OpenAI chat API; the key is read from the variable `api_key_env`."""

    engine: Literal["auto", "grounded", "openai"] = "auto"
    base_url: str = ""
    model: str = ""
    api_key_env: str = ""
    timeout_s: Seconds = 5.0
    max_tokens: Annotated[int, Meta(ge=16, le=4096)] = 160


class TurnTaking(Section, frozen=True, kw_only=True):
    """`[turn]`: how long the kiosk waits after the last word, between sure (min) and unsure (max), and how interruptions are judged."""

    min_wait_ms: Milliseconds = 250
    max_wait_ms: Milliseconds = 1800
    interrupt_ms: Milliseconds = 510  # so much speech over the avatar's stops it, whatever the words
    resume_ms: Milliseconds = 1500  # ducked so long without words: back to full level


class SessionTimes(Section, frozen=True, kw_only=True):
    """`[session]`: silence until "still there?", countdown until everything is wiped, absence until a visitor counts as gone."""

    still_there_s: Seconds = 25.0
    wipe_s: Seconds = 10.0
    gone_s: Seconds = 8.0


class Video(Section, frozen=True, kw_only=True):
    """`[video]`: what the renderer draws. `background` is a colour (#rrggbb) or a picture; empty: the pack's own."""

    fps: Annotated[int, Meta(ge=5, le=60)] = 30
    rung: str = "auto"
    audio_lead_ms: Milliseconds = 80
    # The sound is heard so much later than the browser knows (Bluetooth, a television); negative: the picture is seen later.
    av_offset_ms: Annotated[int, Meta(ge=-200, le=200)] = 0
    background: str = ""


class Fleet(Section, frozen=True, kw_only=True):
    """`[fleet]`: the controller's broker, HOST or HOST:PORT (8883), and as whom this box speaks; without a broker nothing leaves the box.

    `device` is the name in the certificate. `attributes` are told as they stand: site, model, group. `allow` is what the fleet may do
    here. `outbox_path` is a folder that survives a restart.
    """

    broker: str = ""
    tenant: Name = "default"
    device: Name | Literal[""] = ""
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    attributes: dict[Annotated[str, Meta(pattern="^[a-z0-9_-]{1,32}$")], Annotated[str, Meta(max_length=200)]] = {}
    allow: tuple[Literal["observe", "operate", "change"], ...] = ("observe", "operate", "change")
    health_s: Annotated[float, Meta(ge=5, le=3600)] = 30.0
    backlog_hz: Annotated[float, Meta(ge=1, le=1000)] = 10.0  # messages a second of what waited, behind what is new
    outbox_path: Path | None = None
    outbox_mb: Annotated[int, Meta(ge=1, le=4096)] = 64
    renewal: str = ""  # HOST:PORT where the controller takes boxes whose certificate has ended; else the broker's host, the port above its

    @property
    def renewal_address(self) -> tuple[str, int]:
        """Host and port of the renewal of certificates that have ended."""
        host, colon, port = self.renewal.rpartition(":")
        return (host, int(port)) if colon else (self.renewal or self.address[0], self.address[1] + 1)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the broker."""
        host, colon, port = self.broker.rpartition(":")
        return (host, int(port)) if colon else (self.broker, 8883)


class Firmware(Section, frozen=True, kw_only=True):
    """`[firmware]`: under `root` lie the box's sys and proc; another one only for tests."""

    root: Path = Path("/")


class Log(Section, frozen=True, kw_only=True):
    """`[log]`: how much the nodes tell."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Section, frozen=True, kw_only=True):
    """The whole file. Relative paths are relative to the file."""

    pack_path: Path = _ROOT / "kiosk" / "packs" / "coffee-bar"
    packs_path: Path | None = None  # a folder of further packs that the fleet may choose, beside those next to pack_path
    avatar_path: Path = _ROOT / "engines" / "avatars" / "stock"
    stage: StagePage = StagePage()
    voice: VoiceOut = VoiceOut()
    microphone: MicrophoneIn = MicrophoneIn()
    recognition: Recognition = Recognition()
    language: Language = Language()
    turn: TurnTaking = TurnTaking()
    session: SessionTimes = SessionTimes()
    video: Video = Video()
    fleet: Fleet = Fleet()
    firmware: Firmware = Firmware()
    log: Log = Log()


class Environment(msgspec.Struct, frozen=True):
    """The variables that Visavis knows, with their defaults."""

    config: Path | None  # VISAVIS_CONFIG: kiosk.toml
    shared: Path  # VISAVIS_SHARED: recordings and models for tests and benchmarks
    models: str  # VISAVIS_MODELS: mirror that the model store asks first, a folder or an http(s) address; "": none
    cache: Path  # VISAVIS_CACHE: downloaded models, compiled engines
    run_dir: Path | None  # VISAVIS_RUN: where the sockets of a running kiosk live
    state: Path  # VISAVIS_STATE: what survives a restart, e.g. what the fleet has not acknowledged yet


def load(path: Path | None) -> Config:
    """The configuration in the file at `path`, or the defaults for None.

    Raises ConfigError with one line for every mistake in the file.
    """
    if path is None:
        return Config()
    mistakes = Mistakes()
    base = path.resolve().parent
    tables = read_toml(path, mistakes)
    config = None
    if tables is not None:
        config = build(Config, tables, path.name, mistakes, lambda text: base / Path(text).expanduser())
    if config is None:
        raise ConfigError(str(mistakes))
    _check(config, path.name, mistakes)
    if mistakes:
        raise ConfigError(str(mistakes))
    return config


def port_in(path: Path) -> int:
    """The stage's port by the file at `path`, whatever else is wrong in it. Raises ConfigError."""
    mistakes = Mistakes()
    stage = (read_toml(path, mistakes) or {}).get("stage", {})
    tables = {"port": stage["port"]} if isinstance(stage, dict) and "port" in stage else {}
    page = build(StagePage, tables, path.name, mistakes)
    if page is None or mistakes:
        raise ConfigError(str(mistakes))
    return page.port


def _check(config: Config, file: str, mistakes: Mistakes) -> None:
    """What no single field can know."""
    if config.turn.min_wait_ms > config.turn.max_wait_ms:
        mistakes.add(file, "turn.min_wait_ms", f"{config.turn.min_wait_ms} is more than turn.max_wait_ms ({config.turn.max_wait_ms})")
    if not (config.pack_path / "pack.toml").is_file():
        mistakes.add(file, "pack_path", f"no experience pack there (no pack.toml in {config.pack_path})")
    if config.packs_path is not None and not config.packs_path.is_dir():
        mistakes.add(file, "packs_path", f"no such folder ({config.packs_path})")
    if config.language.engine == "openai" and not config.language.base_url:
        mistakes.add(file, "language.base_url", "is missing: engine openai needs the server's address, e.g. http://127.0.0.1:8080/v1")
    if config.language.base_url and not config.language.base_url.startswith(("http://", "https://")):
        mistakes.add(file, "language.base_url", f"{config.language.base_url!r} is no http:// or https:// address")
    if config.language.timeout_s >= THINKING_LIMIT_S:
        why = f"after {THINKING_LIMIT_S:g} s a visitor is told that no answer came"
        mistakes.add(file, "language.timeout_s", f"{config.language.timeout_s:g} is too long: {why}")
    if config.voice.engine == "piper" and config.voice.piper_model is None:
        mistakes.add(file, "voice.piper_model", "is missing: engine piper needs a voice (.onnx)")
    _check_fleet(config.fleet, file, mistakes)
    for key, model in (("voice.piper_model", config.voice.piper_model), ("recognition.model", config.recognition.model)):
        if model is not None and not model.exists():
            mistakes.add(file, key, f"no such file ({model})")


def _check_fleet(fleet: Fleet, file: str, mistakes: Mistakes) -> None:
    if not fleet.broker:
        return
    host, colon, port = fleet.broker.rpartition(":")
    if "/" in fleet.broker or (colon and not (host and port.isdigit() and 0 < int(port) < 65536)):
        mistakes.add(file, "fleet.broker", f"{fleet.broker!r} is no HOST or HOST:PORT, e.g. fleet.example.org:8883")
    if not fleet.device:
        mistakes.add(file, "fleet.device", "is missing: the name in this box's certificate")
    if (fleet.certificate is None) != (fleet.key is None):
        mistakes.add(file, "fleet.key" if fleet.key is None else "fleet.certificate", "is missing: a certificate and its key go together")
    for name, path in (("ca", fleet.ca), ("certificate", fleet.certificate), ("key", fleet.key)):
        try:
            missing = path is not None and not path.is_file()
        except OSError as error:  # e.g. in a folder that is closed to this user
            mistakes.add(file, f"fleet.{name}", f"cannot be read: {error.strerror} ({path})")
        else:
            if missing:
                mistakes.add(file, f"fleet.{name}", f"no such file ({path})")


def environment(environ: Mapping[str, str] | None = None) -> Environment:
    """What the environment says; `environ` stands in for os.environ in tests."""
    env = os.environ if environ is None else environ

    def path(name: str) -> Path | None:
        return Path(env[name]).expanduser() if env.get(name) else None

    cache_home = path("XDG_CACHE_HOME") or Path(env.get("HOME", "/")) / ".cache"
    state_home = path("XDG_STATE_HOME") or Path(env.get("HOME", "/")) / ".local" / "state"
    return Environment(
        config=path("VISAVIS_CONFIG"),
        shared=path("VISAVIS_SHARED") or _ROOT.parent / "shared",
        models=env.get("VISAVIS_MODELS", ""),
        cache=path("VISAVIS_CACHE") or cache_home / "visavis",
        run_dir=path("VISAVIS_RUN"),
        state=path("VISAVIS_STATE") or path("STATE_DIRECTORY") or state_home / "visavis",
    )


def secret(name: str, environ: Mapping[str, str] | None = None) -> str:
    """The value of the variable `name` (an API key); "" where it is not set. Never logged, never in a Config."""
    return (os.environ if environ is None else environ).get(name, "") if name else ""
