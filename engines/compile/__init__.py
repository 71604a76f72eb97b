"""ONNX in, TensorRT engine out, kept in a cache that knows what it was built for.

library = find_libraries().found[0]
plan = EngineCache(engine_dir()).plan(library, network.read_bytes(), target).plan
engine = library.engine(plan)
"""

from engines.compile.cache import Built, EngineCache, Entry, engine_dir
from engines.compile.errors import CompileError, OutOfMemory, Unsupported
from engines.compile.library import Found, Library, Progress, Target, find_libraries

__all__ = [
    "Built",
    "CompileError",
    "EngineCache",
    "Entry",
    "Found",
    "Library",
    "OutOfMemory",
    "Progress",
    "Target",
    "Unsupported",
    "engine_dir",
    "find_libraries",
]
