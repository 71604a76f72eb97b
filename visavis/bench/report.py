"""Results as tables: on the terminal, and as docs/benchmarks.md from the JSON files kept in docs/benchmarks/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from visavis.bench import thermal_page
from visavis.rehearse.measure import Quantiles

__all__ = ["BenchError", "flatten", "print_table", "quantile_row", "render", "write"]

_ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = _ROOT / "docs" / "benchmarks"
PAGE = _ROOT / "docs" / "benchmarks.md"
HEAT = _ROOT / "docs" / "heat.md"
"""It has the figures of `thermal`, with what they mean."""
_ABOUT = {"machine", "turns", "not_found", "trouble", "title", "note"}
_QUANTILES = ("n", "p50", "p95", "p99")
_INTRO = """# Benchmarks

Made by `visavis bench report` from the JSON files in `docs/benchmarks/`; do not edit. Each table says on which machine and from which
commit. Quantiles are p50/p95/p99; a dash means that nothing was measured. How things are measured: the docstring of each benchmark.
"""


class BenchError(Exception):
    """A benchmark could not measure; one line says why."""


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def quantile_row(name: str, value: Quantiles) -> tuple[str, str, str, str, str]:
    """A line: name, n, p50, p95, p99."""
    return name, _cell(value.n), _cell(value.p50), _cell(value.p95), _cell(value.p99)


def print_table(title: str, head: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    # In a pipe rich would cut the lines at 80 columns.
    console = Console(width=None if Console().is_terminal else 180)
    table = Table(title=title, box=box.SIMPLE, title_justify="left")
    for number, column in enumerate(head):
        table.add_column(column, justify="left" if number == 0 or len(head) > 5 else "right", overflow="fold")
    for line in lines:
        table.add_row(*line)
    console.print(table)


def flatten(result: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """(path, scalar or quantiles) of all that can stand in a table; lists and free text are left out."""
    found: list[tuple[str, Any]] = []
    for key, given in result.items():
        if key in _ABOUT and not prefix:
            continue
        value = msgspec.to_builtins(given) if isinstance(given, msgspec.Struct) else given
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and ("p50" in value and "p95" in value):
            found.append((path, {k: value.get(k) for k in _QUANTILES}))
        elif isinstance(value, Mapping):
            found += flatten(value, f"{path} · ")
        elif isinstance(value, (bool, int, float)) or value is None or (isinstance(value, str) and len(value) < 80):
            found.append((path, value))
    return found


def lines_of(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The lines of a result: figure, n, p50 (or the value), p95, p99."""
    lines: list[tuple[str, ...]] = []
    for path, value in flatten(result):
        if isinstance(value, dict):
            lines.append((path, *(_cell(value[key]) for key in _QUANTILES)))
        else:
            lines.append((path, "", _cell(value), "", ""))
    return lines


def tables_of(result: Mapping[str, Any]) -> list[tuple[str, Sequence[str], Sequence[Sequence[str]]]]:
    """(title, head, lines) of a result: its own tables, the report of a rehearsal, or all its figures."""
    head = ("figure", "n", "p50 or value", "p95", "p99")
    if "tables" in result:
        return [(title, columns, lines) for title, columns, lines in result["tables"]]
    if "scenario" in result:
        from visavis.rehearse.report import rows

        return [("", head, rows(result))]
    return [("", head, lines_of(result))]


def render(results: Mapping[str, Mapping[str, Any]]) -> str:
    """docs/benchmarks.md from results by name."""
    parts = [_INTRO]
    for name, result in sorted(results.items()):
        parts.append(f"## {name}\n")
        if result.get("note"):
            parts.append(f"{result['note']}\n")
        machine = result.get("machine") or {}
        parts.append(", ".join(f"{key}: {_cell(value)}" for key, value in flatten(machine)) + "\n")
        for title, head, lines in tables_of(result):
            if title:
                parts.append(f"{title[0].upper()}{title[1:]}:\n")
            parts.append(f"| {' | '.join(head)} |\n| --- |{' ---: |' * (len(head) - 1)}")
            parts.append("\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines) + "\n")
    return "\n".join(parts)


def write(folder: Path | None = None, page: Path = PAGE) -> Path:
    """Make the page from all results in `folder`. Raises BenchError where there are none or one is broken."""
    folder = folder or RESULTS
    results = {}
    for path in sorted(folder.glob("*.json")):
        try:
            results[path.stem] = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        except (OSError, msgspec.DecodeError) as error:
            raise BenchError(f"{path}: is no benchmark result: {error}") from error
    if not results:
        raise BenchError(f"no results in {folder}: run `visavis bench orders --json {folder}/orders.json` and the like first")
    page.write_text(render(results), encoding="utf-8")
    if page == PAGE and "thermal" in results:
        thermal_page.fill(HEAT, results["thermal"])
    return page
