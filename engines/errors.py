"""What every engine raises when it cannot do its work.

EngineError
├── ModelError       a model file is missing, corrupt or of the wrong kind: fetch or verify it
└── EngineMissing    the library behind the engine is not installed here: another engine serves
"""

from __future__ import annotations

__all__ = ["EngineError", "EngineMissing", "ModelError"]


class EngineError(Exception):
    """Root of all engine errors; the text is one line that says what, where and what to do."""


class ModelError(EngineError):
    """A model file is missing, corrupt or not what its name promises."""


class EngineMissing(EngineError):
    """The library or hardware behind this engine is not present on this machine."""
