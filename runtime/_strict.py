"""TOML into frozen structs, strictly, with every mistake collected instead of only the first."""

from __future__ import annotations

import difflib
import sys
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Mistakes", "build", "did_you_mean", "read_toml"]

T = TypeVar("T")


class Mistakes:
    """Lines of the form `file: key: what is wrong`, in the order they were found."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, file: str, key: str, what: str) -> None:
        """Note one mistake; an empty key means the file as a whole."""
        self.lines.append(f"{file}: {key}: {what}" if key else f"{file}: {what}")

    def __bool__(self) -> bool:
        return bool(self.lines)

    def __str__(self) -> str:
        return "\n".join(self.lines)


def read_toml(path: Path, mistakes: Mistakes, label: str = "") -> dict[str, Any] | None:
    """The tables of a TOML file; None with a mistake noted when it is missing or no TOML."""
    file = label or path.name
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        mistakes.add(file, "", f"no such file ({path})")
    except OSError as error:
        mistakes.add(file, "", f"cannot be read: {error.strerror} ({path})")
    except UnicodeDecodeError as error:
        mistakes.add(file, "", f"is not UTF-8 (byte {error.start})")
    except tomllib.TOMLDecodeError as error:
        mistakes.add(file, "", f"is no valid TOML: {error}")
    else:
        return tables
    return None


def did_you_mean(name: str, known: typing.Iterable[str]) -> str:
    """' (did you mean x?)' when something known is close, else ''."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def build(kind: type[T], value: Any, file: str, mistakes: Mistakes, path: Callable[[str], Path] | None = None) -> T | None:
    """`value` (as TOML gives it) as an instance of the Struct `kind`; None when anything in it was wrong.

    `path` turns a string into a Path where a field wants one.
    """
    before = len(mistakes.lines)
    made = _Builder(file, mistakes, path or Path).convert(kind, value, "")
    return typing.cast("T", made) if len(mistakes.lines) == before else None


class _Builder:
    def __init__(self, file: str, mistakes: Mistakes, path: Callable[[str], Path]) -> None:
        self._file, self._mistakes, self._path = file, mistakes, path

    def convert(self, kind: Any, value: Any, key: str) -> Any:
        origin = typing.get_origin(kind)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return self._struct(kind, value, key)
        if origin is tuple and _is_struct(typing.get_args(kind)[0]):
            return self._array(typing.get_args(kind)[0], value, key)
        if origin is dict and _is_struct(typing.get_args(kind)[1]):
            return self._table(typing.get_args(kind)[1], value, key)
        if origin in (typing.Union, types.UnionType):  # Optional[Struct]
            inner = [arg for arg in typing.get_args(kind) if _is_struct(arg)]
            if inner:
                return self._struct(inner[0], value, key)
        return self._leaf(kind, value, key)

    def _leaf(self, kind: Any, value: Any, key: str) -> Any:
        try:
            return msgspec.convert(value, kind, dec_hook=self._decode_path)
        except msgspec.ValidationError as error:
            text = str(error).replace("`", "")
            where = text.rpartition(" - at $")
            if where[0]:
                key, text = key + where[2].replace("$", ""), where[0]
            self._mistakes.add(self._file, key, text[:1].lower() + text[1:])
            return None

    def _decode_path(self, kind: type, value: Any) -> Any:
        if kind is Path and isinstance(value, str):
            return self._path(value)
        raise msgspec.ValidationError(f"Expected str, got {type(value).__name__}")

    def _struct(self, kind: Any, value: Any, key: str) -> Any:
        if not isinstance(value, dict):
            self._mistakes.add(self._file, key, f"expected a table, got {type(value).__name__}")
            return None
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        made: dict[str, Any] = {}
        before = len(self._mistakes.lines)
        for name, item in value.items():
            if name not in fields:
                self._mistakes.add(self._file, _join(key, name), f"unknown key{did_you_mean(name, fields)}")
                continue
            made[fields[name].name] = self.convert(fields[name].type, item, _join(key, name))
        for name, field in fields.items():
            if field.required and name not in value:
                self._mistakes.add(self._file, _join(key, name), "is missing")
        return kind(**made) if len(self._mistakes.lines) == before else None

    def _array(self, kind: Any, value: Any, key: str) -> Any:
        if not isinstance(value, list):
            self._mistakes.add(self._file, key, f"expected an array of tables, got {type(value).__name__}")
            return ()
        return tuple(self.convert(kind, item, f"{key}[{self._label(item, i)}]") for i, item in enumerate(value))

    @staticmethod
    def _label(item: Any, index: int) -> str:
        """An element is called by its name where it has one: `tool[orderDrink]` finds the place faster than `tool[3]`."""
        for name in ("name", "value"):
            if isinstance(item, dict) and isinstance(item.get(name), str) and item[name]:
                return str(item[name])
        return str(index + 1)

    def _table(self, kind: Any, value: Any, key: str) -> Any:
        if not isinstance(value, dict):
            self._mistakes.add(self._file, key, f"expected a table, got {type(value).__name__}")
            return {}
        return {name: self.convert(kind, item, _join(key, name)) for name, item in value.items()}


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
