"""Runs the benchmarks by name: each is a module of this folder with `run(...) -> dict`."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import msgspec

from engines.errors import EngineError
from runtime.config import environment
from visavis.bench.report import BenchError, print_table, tables_of

__all__ = ["BENCHES", "main", "measure"]

BENCHES = {
    "orders": "recorded coffee orders: words, slots, whole orders",
    "shop": "sentences of another shop, whose pack was written for them",
    "words": "word errors in connected talk, by group of people",
    "bus": "messages and frames between processes, against peers",
    "turns": "end of turn on recorded people, in virtual time",
    "interruptions": "words, and what only sounds, over the avatar's voice, in virtual time",
    "frames": "the renderer alone, by rung",
    "renderer": "what a frame costs at each rung beside a busy neighbour, and the face's image figures",
    "lips": "lips and teeth against the phonemes, on the rig and in drawn frames, in virtual time",
    "start": "from `visavis run` to the face and to the first possible answer",
    "thermal": "heat on simulated boxes and hot days: the governor against four others",
    "fleet": "the controller under the load of simulated boxes and real uplinks, with kills and storms",
    "memory": "PSS of every node over minutes, and its slope",
}


def main(what: str, json: Path | None, **wanted: Any) -> int:
    """Run `what` (or all), print tables, write JSON. Each benchmark takes what it knows of `wanted`; None means its own default.

    Raises BenchError for an unknown name or where it cannot measure.
    """
    if what != "all" and what not in BENCHES:
        raise BenchError(f"there is no benchmark {what!r}: known are {', '.join(BENCHES)}, all, report")
    results: dict[str, Any] = {}
    failures = []
    for name in BENCHES if what == "all" else (what,):
        try:
            results[name] = measure(name, **wanted)
        except BenchError as error:
            failures.append(str(error))
            continue
        for title, head, lines in tables_of(results[name]):
            print_table(title or f"{name}: {BENCHES[name]}", head, lines)
    if json and results:
        body = results if what == "all" else results[what]
        json.write_bytes(msgspec.json.format(msgspec.json.encode(body), indent=1) + b"\n")
    if failures and (what != "all" or not results):
        raise BenchError(failures[0])
    for line in failures:
        print(f"not measured: {line}")
    return 0


def measure(name: str, **wanted: Any) -> dict[str, Any]:
    """One benchmark's result with the machine it was measured on. Raises BenchError (one line) if it cannot be measured here."""
    from visavis.bench._machine import machine

    module = importlib.import_module(f"visavis.bench.{name}")
    run = module.run
    known = inspect.signature(run).parameters
    arguments = {key: value for key, value in wanted.items() if key in known and value is not None}
    if "data" in known and "data" not in arguments:
        default = environment().shared / getattr(module, "DATA", "data")
        if known["data"].default is inspect.Parameter.empty:
            if not default.is_dir():
                raise BenchError(f"{name}: there is nothing to measure on at {default}: give --data or set VISAVIS_SHARED")
            arguments["data"] = default
        elif default.is_dir():
            arguments["data"] = default
    try:
        result = dict(run(**arguments))
    except (EngineError, ImportError, OSError, ValueError, RuntimeError) as error:
        raise BenchError(f"{name}: cannot measure here: {error}") from error
    return {"machine": machine()} | result
