"""What goes wrong between an ONNX file and an engine that runs.

EngineError
└── CompileError     the library refuses the network or the engine: the text has its own words
    ├── Unsupported  this GPU has no place in this library: another engine serves
    └── OutOfMemory  the GPU had no room: free some, or let another engine serve
"""

from __future__ import annotations

from engines.errors import EngineError

__all__ = ["CompileError", "OutOfMemory", "Unsupported"]


class CompileError(EngineError):
    """The network cannot be compiled, or what was compiled cannot be loaded."""


class Unsupported(CompileError):
    """The library cannot work for this GPU at all."""


class OutOfMemory(CompileError):
    """There was not enough memory on the GPU."""
