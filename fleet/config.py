"""The controller's file: what is too long for options, as TOML, decoded once and strictly. Paths are relative to the file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from fleet.errors import BadRequest
from fleet.oidc import Oidc
from fleet.oidc import check as check_oidc
from fleet.projections.homeassistant import HomeAssistant
from fleet.projections.outlet import Target, target
from fleet.projections.sparkplug import Sparkplug, is_sparkplug_id

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Config", "Elsewhere", "HomeAssistantSection", "SparkplugSection", "check_config", "read_config", "with_options"]


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`broker = { … }`: another broker than the fleet's own. `url` is mqtt://HOST[:PORT] or mqtts://HOST[:PORT]."""

    url: str
    user: str = ""
    password_file: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @property
    def target(self) -> Target:
        """The broker. Raises BadRequest."""
        return target(self.url, user=self.user, password_file=self.password_file, ca=self.ca, certificate=self.certificate, key=self.key)


class SparkplugSection(Sparkplug, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[sparkplug]`; without `broker` the fleet's own."""

    broker: Elsewhere | None = None


class HomeAssistantSection(HomeAssistant, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[home_assistant]`; without `broker` the fleet's own."""

    broker: Elsewhere | None = None


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    sparkplug: SparkplugSection | None = None
    home_assistant: HomeAssistantSection | None = None
    oidc: Oidc | None = None


def read_config(file: Path | None) -> Config:
    """The file, or the defaults without one. Raises BadRequest with one line that says what is wrong and where."""
    if file is None:
        return Config()
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
        return check_config(msgspec.convert(found, Config, dec_hook=lambda kind, value: _path(kind, value, file)))
    except OSError as error:
        raise BadRequest(f"{file}: it cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise BadRequest(f"{file}: {error}") from error


def with_options(
    config: Config, *, sparkplug: str = "", sparkplug_broker: str = "", home_assistant: str = "", home_assistant_broker: str = ""
) -> Config:
    """The file with the command's options over it. Raises BadRequest."""
    spoken, shown = config.sparkplug, config.home_assistant
    if sparkplug:
        spoken = msgspec.structs.replace(spoken, group=sparkplug) if spoken else SparkplugSection(group=sparkplug)
    if home_assistant:
        try:
            shown = msgspec.convert({"prefix": home_assistant, "broker": shown and shown.broker}, HomeAssistantSection)
        except msgspec.ValidationError as error:
            raise BadRequest(f"--home-assistant {home_assistant!r} is no discovery prefix: {error}") from error
    for option, section in (("sparkplug", spoken if sparkplug_broker else 0), ("home-assistant", shown if home_assistant_broker else 0)):
        if section is None:
            raise BadRequest(f"--{option}-broker needs --{option}")
    if sparkplug_broker and spoken:
        spoken = msgspec.structs.replace(spoken, broker=Elsewhere(url=sparkplug_broker))
    if home_assistant_broker and shown:
        shown = msgspec.structs.replace(shown, broker=Elsewhere(url=home_assistant_broker))
    return check_config(msgspec.structs.replace(config, sparkplug=spoken, home_assistant=shown))


def check_config(config: Config) -> Config:
    """The same, if brokers and ids can be what they say. Raises BadRequest."""
    for section in (config.sparkplug, config.home_assistant):
        if section is not None and section.broker is not None:
            assert section.broker.target
    if config.oidc is not None:
        check_oidc(config.oidc)
    if config.sparkplug is not None:
        for text in (config.sparkplug.group, config.sparkplug.edge, config.sparkplug.primary_host or "none"):
            if not is_sparkplug_id(text):
                raise BadRequest(f"[sparkplug]: {text!r} cannot be an id: no '+', '/' and '#'")
    return config


def _path(kind: type[Any], value: Any, file: Path) -> Any:
    if kind is Path and isinstance(value, str):
        return file.parent / value
    raise NotImplementedError
