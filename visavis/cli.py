"""The command `visavis`: run a kiosk, look what works here, rehearse it, measure it, fetch models, make faces."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cyclopts
import msgspec
from cyclopts import App, Parameter

from visavis._output import ReportFile
from visavis.avatar import app as avatar
from visavis.endurance import chaos, soak
from visavis.engines import app as engines
from visavis.firmware import app as firmware
from visavis.firmware import screen
from visavis.fleet import app as fleet
from visavis.sensors import sensors

if TYPE_CHECKING:
    from visavis.models import Row

__all__ = ["app", "main"]

BAD_USE = 2
"""Exit status when something could not be done at all: one line on stderr says why."""

app = App(name="visavis", help="A face that shop visitors talk to, entirely on the device.")
models = App(name="models", help="Model files: what there is, fetch, verify, import.")
ears = App(name="ears", help="Make the ears: train the phone head on recordings, judge it, pack it.")
app.command(models)
app.command(avatar)
app.command(ears)
app.command(engines)
app.command(firmware)
app.command(fleet)
app.command(screen)
app.command(sensors)
app.command(chaos)
app.command(soak)

_MISTAKES = {
    "BenchError", "BrowserMissing", "BusError", "ConfigError", "EngineError", "FileNotFoundError", "FirmwareError", "FleetError",
    "IsADirectoryError", "NoRunDir", "NotADirectoryError", "PackError", "PermissionError", "PortInUse", "RehearsalError", "TimelineError",
}  # fmt: skip
"""Errors that a person can mend: told in their own words, without a traceback."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    try:
        result = app(arguments, exit_on_error=False, result_action="return_value")
    except cyclopts.CycloptsError:
        return BAD_USE  # cyclopts has already said what is wrong
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] in ("visavis", "runtime", "engines", "kiosk", "firmware", "fleet"):
            raise
        sys.stderr.write(f"visavis: {missing}: it comes with an extra, e.g. pip install 'visavis[rehearse,bench,studio,fleet]'\n")
        return BAD_USE
    except Exception as error:
        if not any(kind.__name__ in _MISTAKES for kind in type(error).__mro__):
            raise
        sys.stderr.write(f"visavis: {error}\n")
        return BAD_USE
    return result if isinstance(result, int) else 0


def _options(pairs: Sequence[str]) -> dict[str, str]:
    from visavis.rehearse.errors import RehearsalError

    for pair in pairs:
        if "=" not in pair:
            raise RehearsalError(f"--option {pair}: must be key=value")
    return dict(pair.split("=", 1) for pair in pairs)


@app.command
def run(*, config: Path | None = None, timeline: Path | None = None, open_browser: Annotated[bool, Parameter(name="--open")] = False,
        option: tuple[str, ...] = ()) -> int:  # fmt: skip
    """Run the kiosk until Ctrl-C.

    Parameters
    ----------
    config
        kiosk.toml; without it the defaults, or the file that VISAVIS_CONFIG names.
    timeline
        Write the turn records (times, never words) to this file.
    open_browser
        Show the page in Chromium, full screen, once the face is there.
    option
        key=value for the nodes; for tests and rehearsals.

    """
    from contextlib import ExitStack

    from kiosk.browser import BrowserMissing, KioskBrowser, display
    from runtime import supervisor
    from runtime.config import environment

    with ExitStack() as opened:

        def ready(url: str) -> None:
            print(f"Visavis is ready: {url}", flush=True)
            if not open_browser:
                print(_how_to_look(url, bool(display())), flush=True)
                return
            try:
                opened.enter_context(KioskBrowser(url))
            except BrowserMissing as missing:
                print(f"visavis: {missing}", file=sys.stderr, flush=True)

        print("Visavis is starting ...", flush=True)
        chosen = config or environment().config
        return supervisor.run(chosen, timeline=str(timeline.resolve()) if timeline else "", options=_options(option), on_ready=ready)


def _how_to_look(url: str, screen: bool) -> str:
    if screen:
        return "Open it in a browser on this machine, or start with --open for the whole screen. Ctrl-C ends it."
    port = url.rsplit(":", 1)[1]
    tunnel = f"ssh -L {port}:localhost:{port} {socket.gethostname()}"
    return f"No display here: on another machine run '{tunnel}' and open {url} there. Ctrl-C ends it."


@app.command
def doctor(*, config: Path | None = None, json: ReportFile = None) -> int:
    """Say what works on this machine, what falls back to what, why, and what to do. Exit status 0 if the kiosk can run.

    Parameters
    ----------
    config
        kiosk.toml to look at.
    json
        Also write the findings to this file.

    """
    from visavis import doctor as surgery

    findings = surgery.examine(config)
    print(surgery.table(findings))
    if json:
        json.write_bytes(msgspec.json.encode(findings))
    return int(any(f.state == "fails" for f in findings))


@app.command
def rehearse(scenario: Path, *, out: Path, record: bool = True, data: Path | None = None, seed: int = 1, config: Path | None = None,
             json: ReportFile = None) -> int:  # fmt: skip
    """Play a visitor against the whole kiosk in real time and measure it from what the room heard and the page drew.

    Parameters
    ----------
    scenario
        A TOML file, e.g. tests/scenarios/coffee.toml.
    out
        Folder for room.wav, visit.mp4, timeline.jsonl and report.json.
    record
        Keep the frames and write visit.mp4; figures of fps, gaps and CPU count only with --no-record.
    data
        Folder of recorded people (the layout of `data` in the shared folder).
    seed
        Chooses the recordings that a draw takes.
    config
        kiosk.toml to start from.
    json
        Write the report to this file too.

    """
    from visavis import rehearse as rehearsal
    from visavis.bench.report import print_table
    from visavis.rehearse import report

    result = rehearsal.rehearse(
        scenario, out, record=record, data=data, seed=seed, config=config, say=lambda line: print(line, file=sys.stderr, flush=True)
    )  # fmt: skip
    print_table(f"{result['title']} ({result['seconds']} s)", ("figure", "n", "p50", "p95", "p99"), report.rows(result))
    if "mouth" in result:
        print("mouth against sound:", ", ".join(f"{key} {value}" for key, value in result["mouth"].items()))
    for line in result["trouble"] + result["not_found"]:
        print(f"! {line}")
    if json:
        report.save(result, json)
    return 0


@app.command
def latency(timeline: Path, *, json: ReportFile = None) -> int:
    """Times of each stage after the end of the visitor's speech, from the kiosk's own turn records.

    Parameters
    ----------
    timeline
        timeline.jsonl of `visavis run --timeline` or of a rehearsal.
    json
        Also write the table to this file.

    """
    from visavis import latency as records
    from visavis.bench.report import print_table, quantile_row

    table = records.table(records.read(timeline))
    print_table("ms after the end of speech", ("stage", "n", "p50", "p95", "p99"), [quantile_row(*row) for row in table.items()])
    if json:
        json.write_bytes(msgspec.json.encode(table))
    return 0


@app.command
def bench(what: str, *, data: Path | None = None, json: ReportFile = None, seed: int = 1, minutes: float = 5.0,
          seconds: float | None = None, negatives: tuple[Path, ...] = (), noise: Path | None = None, snr: tuple[float, ...] = (),
          engine: str | None = None, weights: Path | None = None, folds: Path | None = None, pack: Path | None = None,
          limit: int | None = None, plants: Path | None = None, hours: float | None = None, cases: int | None = None,
          plots: Path | None = None, suppressor: Path | None = None, results: Path | None = None, devices: int | None = None,
          health_s: float | None = None, faults: str | None = None, storm: bool | None = None, kill: str | None = None,
          growth: bool | None = None, days: int | None = None, database: str | None = None) -> int:  # fmt: skip
    """Measure: orders, shop, words, bus, turns, interruptions, frames, lips, start, thermal, fleet, memory, all; `report` makes the page.

    Parameters
    ----------
    what
        Which benchmark; `all` runs each that can run here.
    data
        Recordings to measure on (default: those under VISAVIS_SHARED).
    json
        Write the result to this file. Results in docs/benchmarks/*.json go into the report.
    seed
        Chooses samples.
    minutes
        How long `memory` watches, and `fleet` is under load.
    seconds
        How long `bus` measures.
    negatives
        For `orders`: folders of recordings that are no orders.
    noise
        For `orders`: a recording of noise, or a folder of them.
    snr
        For `orders`: signal to noise in dB; may be given several times.
    engine
        For `orders`, `shop`, `words`, `interruptions`: the recogniser, or all that work here.
    weights
        For `orders`, `shop`, `words`: weights of the ears instead of the shipped ones.
    folds
        For `orders`: JSON, recording → file of weights that never saw it.
    pack
        For `shop`: the experience pack; for `lips`: the avatar pack.
    limit
        Take only so many recordings; for `lips`: sentences.
    plants
        For `thermal`: the data file of boxes (default: the one that comes along).
    hours
        For `thermal`: of simulated time (default 8).
    cases
        For `thermal`: random boxes, each on eight kinds of days (default 200).
    plots
        For `thermal`: a folder for pictures (needs matplotlib).
    suppressor
        For `orders`: a GTCRN network (.onnx) that takes out the noise before the kiosk hears.
    results
        For `report`: the folder of kept results (default docs/benchmarks).
    devices
        For `fleet`: simulated boxes (default 200; with --growth 1000).
    health_s
        For `fleet`: seconds between two reports of a box (default 10).
    faults
        For `fleet`: as in `visavis fleet simulate`.
    storm
        For `fleet`: SIGKILL the broker in the middle and wait until every box is back.
    kill
        For `fleet`: broker, controller, device (real uplinks), with commas between: one by chance every 15 to 45 seconds.
    growth
        For `fleet`: no load; generate the store of a chain instead, time the console's queries and weigh it.
    days
        For `fleet --growth`: how many (default 30).
    database
        For `fleet --growth`: an empty PostgreSQL (postgresql://…) to fill instead of a file.

    """
    from visavis.bench import report as bench_report
    from visavis.bench import suite

    if what == "report":
        print(bench_report.write(results))
        return 0
    given = {"data": data, "seed": seed, "minutes": minutes, "seconds": seconds, "negatives": negatives or None, "noise": noise,
             "snr": snr or None, "engine": engine, "weights": weights, "folds": folds, "pack": pack, "limit": limit,
             "plants": plants, "hours": hours, "cases": cases, "plots": plots, "suppressor": suppressor,
             "devices": devices, "health_s": health_s, "faults": faults, "storm": storm, "kill": kill, "growth": growth,
             "days": days, "database": database}  # fmt: skip
    return suite.main(what, json, **given)


@ears.command(name="train")
def train_ears(data: Path, work: Path, *, copies: int = 4, passes: int = 20) -> int:
    """Train on the recordings in DATA (about two hours on two cores); WORK keeps what is done, and a second call goes on from there."""
    from visavis.ears import train as learn

    learn(data, work, copies=copies, passes=passes)
    return 0


@ears.command(name="evaluate")
def evaluate_ears(data: Path, *, weights: Path | None = None, limit: int | None = None, json: ReportFile = None) -> int:
    """Phone errors on people whom no training heard, by group."""
    from visavis import ears as bench

    report = bench.evaluate(data, weights or bench.WEIGHTS, limit)
    for group, row in report["groups"].items():
        print(f"{group:32} {row['phone_errors']:.3f} of phones wrong, {row['recordings']} recordings")
    print(f"{'all':32} {report['phone_errors']:.3f} of phones wrong, {report['recordings']} recordings")
    if json:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    return 0


@ears.command(name="pack")
def pack_ears(work: Path, *, name: str = "ears", out: Path | None = None) -> int:
    """Write the weights WORK/NAME.pt as they ship: ONNX, 8-bit."""
    from visavis import ears as bench

    target = out or bench.WEIGHTS
    print(f"{target}: {bench.pack(work, target, name) / 1e6:.2f} MB")
    return 0


@ears.command(name="talk")
def talk_of_ears(*, out: Path | None = None) -> int:
    """Cut the general English that ships out of the model in the pocketsphinx wheel."""
    from visavis import ears as bench

    print(f"{bench.talk(out) / 1e3:.0f} kB")
    return 0


@models.command(name="list")
def list_models() -> int:
    """All models: where they stand, their size and licence, and what serves while one is missing."""
    from visavis import models as store

    return _show_models(store.listing())


@models.command
def fetch(*names: str) -> int:
    """Download models (all default ones if none is named), verify and keep them. A mirror (VISAVIS_MODELS) is asked first."""
    from rich.progress import Progress, TaskID

    from runtime.config import environment
    from visavis import models as store

    with Progress(transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done, total=total)

        rows = store.fetch(names, default=not names, mirror=environment().models, progress=progress)
    return _show_models(rows)


@models.command
def verify(*names: str) -> int:
    """Check model files against their checksums. Exit status 1 if one is damaged."""
    from visavis import models as store

    rows = store.verify(names)
    _show_models(rows)
    return int(any(row.status == "corrupt" for row in rows))


@models.command(name="import")
def import_models(source: Path) -> int:
    """Take models from a folder, e.g. a USB stick; each is verified before it is kept."""
    from visavis import models as store

    return _show_models(store.import_dir(source))


def _show_models(rows: Sequence[Row]) -> int:
    from visavis.bench.report import print_table

    print_table("models", ("name", "version", "size", "licence", "here", "note"), [
        (row.name, row.version, f"{row.size / 1e6:.1f} MB", row.licence, row.status, row.note) for row in rows])  # fmt: skip
    return int(any(row.status in ("failed", "corrupt") for row in rows))
