"""The contract as files for other programmers: `python -m runtime.telemetry.schema docs/contract` writes them anew.

`schema.json` is a JSON Schema (2020-12) of every envelope, body and command's arguments; `catalogue.json` the metrics, events, commands,
settings and topics as data.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from runtime.telemetry import catalogue, commands, contract, settings

__all__ = ["documents", "main"]


def documents() -> dict[str, str]:
    """The files by name."""
    return {"schema.json": _text(_schema()), "catalogue.json": _text(_catalogue())}


def _schema() -> dict[str, Any]:
    arguments = {row.name: row.args for row in commands.COMMANDS}
    bodies = [*contract.UP_BODIES.values(), *contract.DOWN_BODIES.values()]
    types = [contract.Envelope, contract.Down, *bodies, *arguments.values()]
    _, parts = msgspec.json.schema_components(list(dict.fromkeys(types)), ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:{contract.PREFIX.replace('/', ':')}",
        "title": "Messages between a Visavis box and its fleet",
        "$comment": "Written by `python -m runtime.telemetry.schema docs/contract`.",
        "oneOf": [{"$ref": "#/$defs/Envelope"}, {"$ref": "#/$defs/Down"}],
        "x-body-of-kind": {
            "up": {kind.value: f"#/$defs/{body.__name__}" for kind, body in contract.UP_BODIES.items()},
            "down": {kind.value: f"#/$defs/{body.__name__}" for kind, body in contract.DOWN_BODIES.items()},
        },
        "x-arguments-of-command": {name: f"#/$defs/{kind.__name__}" for name, kind in arguments.items()},
        "$defs": parts,
    }


def _catalogue() -> dict[str, Any]:
    topics = {
        "up": [contract.topic("TENANT", "DEVICE", kind) for kind in contract.UpKind],
        "down": [contract.topic("TENANT", "DEVICE", kind) for kind in contract.DownKind],
    }
    return {
        "version": contract.VERSION,
        "topics": topics,
        "limits": {"up_bytes": contract.MAX_UP, "down_bytes": contract.MAX_DOWN, "command_life_ms": commands.LONGEST_MS},
        "stages": catalogue.STAGES,
        "metrics": msgspec.to_builtins(catalogue.METRICS),
        "events": msgspec.to_builtins(catalogue.EVENTS),
        "commands": [
            {"name": row.name, "title": row.title, "duty": row.duty.value, "arguments": row.args.__name__, "result": row.result}
            for row in commands.COMMANDS
        ],
        "settings": [{"name": row.name, "title": row.title, "duty": row.duty.value, "value": row.schema} for row in settings.SETTINGS],
    }


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def main(folder: Path) -> None:
    """Write the documents into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in documents().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
