"""`visavis avatar`: make a face from rendered frames or from a film of a person, judge it, look at it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from visavis._output import ReportFile

__all__ = ["app"]

app = App(name="avatar", help="Make a face: from rendered frames or a film of a person; train, pack, evaluate, look at it.")


@app.command
def person(
    films: Annotated[list[Path], Parameter(consume_multiple=True)], *, out: Path, anyway: bool = False, task: Path | None = None
) -> int:
    """Turn a film of a person (two minutes, MP4) into data for `train`; says what the film lacks and what to film again.

    Parameters
    ----------
    films
        One film, or several of the same person.
    out
        A new folder for the data.
    anyway
        Go on although the film is short or lacks something.
    task
        face_landmarker.task (default: the one under VISAVIS_SHARED).

    """
    from engines.studio.person import prepare

    result = prepare(films, out, task or _landmarker(), anyway=anyway)
    for found in result.findings:
        print(f"{'good   ' if found.good else 'lacking'} {found.what}: {found.value:.2f}{'' if found.good else f' - {found.advice}'}")
    print(f"{result.data}: {result.frames} frames; next: visavis avatar train {result.data} WORK")
    return 0


def _landmarker() -> Path:
    from runtime.config import environment

    return environment().shared / "models" / "face-landmarker" / "face_landmarker.task"


@app.command
def train(data: Path, out: Path, *, minutes: float = 60.0, seed: int = 7, resume: bool = False, start: Path | None = None) -> int:
    """Train a face on DATA (frames, controls.npz, flow.npz); OUT gets checkpoint.pt.

    Parameters
    ----------
    data
        A folder as `person` or the rig's tools write it.
    out
        Folder of the training.
    minutes
        Wall time, earlier runs counted when resuming.
    seed
        Of everything random.
    resume
        Go on from OUT/checkpoint.pt.
    start
        A checkpoint of another training whose weights to begin with.

    """
    from engines.studio.train import train as learn

    print(learn(data, out, minutes=minutes, seed=seed, resume=resume, start=start, log=print))
    return 0


@app.command
def pack(checkpoint: Path, data: Path, out: Path, *, name: str, title: str = "", voice: str = "", work: Path | None = None) -> int:
    """Quantize a trained face and write it as an avatar pack into the folder OUT.

    Parameters
    ----------
    checkpoint
        checkpoint.pt of a training.
    data
        What it was trained on: poses for the calibration.
    out
        Folder of the pack.
    name
        The pack's name.
    title
        The name that people read.
    voice
        Which voice fits, in words.
    work
        Folder for the float network too, by which `evaluate --float` tells the loss by INT8.

    """
    from engines.studio.pack import pack as write

    write(checkpoint, data, out, name=name, title=title or name.title(), voice=voice, work=work)
    return 0


@app.command
def evaluate(pack: Path, data: Path, *, float_model: Annotated[Path | None, Parameter(name="--float")] = None, limit: int | None = None,
             task: Path | None = None, card: bool = True, json: ReportFile = None) -> int:  # fmt: skip
    """Measure a pack on frames that no training saw, and write its card: figures by rung and the ten worst frames.

    Parameters
    ----------
    pack
        Folder of the avatar pack.
    data
        What it was trained on, with its test frames.
    float_model
        face-float.onnx of the same training, for the loss by INT8.
    limit
        Only so many test frames.
    task
        face_landmarker.task (default: the one under VISAVIS_SHARED); without it nothing is said of expression and of rung switches.
    card
        Write card.json, card.md and card-worst.webp into the pack.
    json
        Write the figures to this file too.

    """
    from engines.studio.card import card as write
    from engines.studio.evaluate import evaluate as judge
    from engines.studio.expression import evaluate_expression, evaluate_switch

    report = judge(pack, data, float_model=float_model, limit=limit)
    reader = task or _landmarker()
    if task or reader.is_file():
        report |= {"expression": evaluate_expression(pack, data, reader), "switch": evaluate_switch(pack, data, reader)}
    if card:
        write(report, pack, data)
        print((pack / "card.md").read_text(encoding="utf-8"))
    if json:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    return 0


@app.command
def show(pack: Path, out: Path, *, spoken: bool = False) -> int:
    """Write sheet.png and controls.mp4, all controls of a face, into the folder OUT; with --spoken a spoken minute, too."""
    from visavis.films import show as draw

    for file in draw(pack, out, spoken=spoken):
        print(file)
    return 0
