"""A visitor played against the whole real kiosk, in real time, and measured from what the room heard and the page drew.

    rehearse(Path("tests/scenarios/coffee.toml"), Path("out"))

leaves room.wav, visit.mp4 (when recording), timeline.jsonl and report.json in `out`.
"""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from runtime.config import environment
from visavis import _processes, latency
from visavis.rehearse import analysis, frames, measure, mouth, report, voices
from visavis.rehearse.errors import KioskFailed, MissingProgram, RehearsalError, ScenarioError
from visavis.rehearse.kiosk import Browser, Kiosk
from visavis.rehearse.observer import Observer
from visavis.rehearse.room import RATE, Player, Recorder, Room, write_wav
from visavis.rehearse.scenario import Scenario, load
from visavis.rehearse.visitor import Visitor, cues

__all__ = ["KioskFailed", "MissingProgram", "RehearsalError", "ScenarioError", "rehearse"]

_MEMORY_EVERY_S = 10.0
_LISTEN_LIMIT_S = 90.0
_AFTER_S = 1.0
_NOISE_LIMIT_S = 600


def rehearse(
    path: Path,
    out: Path,
    *,
    record: bool = True,
    data: Path | None = None,
    seed: int = 1,
    config: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Play the scenario at `path`; returns the report that is also in out/report.json.

    `data` holds the recordings of people that draws take from; `say` gets a line for each step.
    Raises RehearsalError (one line) if it cannot be done.
    """
    scenario = load(path)
    plan = cues(scenario, data, seed)
    out.mkdir(parents=True, exist_ok=True)
    pixels = out / "frames"
    shutil.rmtree(pixels, ignore_errors=True)
    (out / "timeline.jsonl").unlink(missing_ok=True)
    run = _Run(scenario, out, pixels, record=record, data=data, config=config)
    run.play(plan, say)
    say("measuring …")
    result = run.measure(seed=seed, scenario=str(path))
    if record:
        task = environment().shared / "models" / "face-landmarker" / "face_landmarker.task"
        result["mouth"] = mouth.mouth_lag(pixels, run.drawn, run.room[:, 1], run.room_start_ns, task)
    report.save(result, out / "report.json")
    if record:
        say("writing visit.mp4 …")
        if frames.write_movie(out / "visit.mp4", pixels, run.drawn, run.room, run.room_start_ns):
            (pixels / "frames.nv12").unlink()
    return result


class _Run:
    """One rehearsal from the empty room to the samples it left."""

    def __init__(self, scenario: Scenario, out: Path, pixels: Path, *, record: bool, data: Path | None, config: Path | None) -> None:
        self._scenario, self._out, self._pixels = scenario, out, pixels
        self._record, self._data, self._config = record, data, config
        self.room: npt.NDArray[np.float32] = np.zeros((0, 2), np.float32)
        self.room_start_ns = 0
        self.drawn: list[frames.Drawn] = []
        self._memory: list[tuple[float, float]] = []
        self._sizes: dict[str, float] = {}
        self._spent: dict[int, tuple[str, float]] = {}
        self._weighed_s = 0.0
        self._visitor: Visitor | None = None
        self._observer: Observer | None = None
        self._face_s = self._ready_s = -1.0

    def play(self, plan: list[Any], say: Callable[[str], None]) -> None:
        """Everything in real time, the real kiosk and page included."""
        scenario = self._scenario
        debug = scenario.touches
        changes = {**scenario.config}
        with ExitStack() as stack:
            _end_on_sigterm(stack)
            room = stack.enter_context(Room(echo_db=scenario.room.echo_db, echo_ms=scenario.room.echo_ms, noise=bool(scenario.room.noise)))
            kiosk = stack.enter_context(
                Kiosk(self._out, room.env, config=self._config, changes=changes, probe=self._pixels, record=self._record)
            )  # fmt: skip
            self._observer = observer = Observer(kiosk.run_dir(), kiosk.pid)
            stack.callback(observer.close)
            kiosk.wait_for_page()
            browser = stack.enter_context(Browser(f"{kiosk.url}/?probe=1", self._out, room.env, debug=debug))
            say("waiting for the kiosk to listen …")
            self._wait_ready(kiosk, browser, room, observer)
            recorder = Recorder(room)
            self._murmur(room, stack)
            stop = threading.Event()
            weigher = threading.Thread(target=self._weigh, args=(kiosk.pid, browser.pid, stop), name="memory", daemon=True)
            weigher.start()

            def check() -> None:
                kiosk.check()
                browser.check()

            self._visitor = Visitor(room, observer, browser, check)
            try:
                self._visitor.play(plan, say)
                threading.Event().wait(_AFTER_S)
            finally:
                stop.set()
                weigher.join(5)
                self.room = recorder.stop()
                self.room_start_ns = recorder.start_ns
                write_wav(self._out / "room.wav", self.room)
        self.drawn = frames.read_drawn(self._pixels / "drawn.jsonl")

    def _wait_ready(self, kiosk: Kiosk, browser: Browser, room: Room, observer: Observer) -> None:
        deadline = time.monotonic() + _LISTEN_LIMIT_S
        while not (room.listens() and observer.view.floor is not None and "Visavis is ready" in kiosk.log.read_text(encoding="utf-8")):
            kiosk.check()
            browser.check()
            if time.monotonic() > deadline:
                what = "the page does not use the microphone" if not room.listens() else f"nodes are {observer.view.nodes or 'silent'}"
                raise KioskFailed(f"the kiosk does not listen within {_LISTEN_LIMIT_S:.0f} s: {what} (see {kiosk.log})")
            threading.Event().wait(0.1)
        threading.Event().wait(_AFTER_S)  # the browser's audio processing settles

    def _murmur(self, room: Room, stack: ExitStack) -> None:
        """The shop's noise, all along."""
        plan = self._scenario.room
        if not plan.noise:
            return
        found = next(
            (base / plan.noise for base in (Path(self._scenario.folder), self._data) if base and (base / plan.noise).is_file()), None
        )
        if found is None:
            raise ScenarioError(f"room.noise: no recording {plan.noise!r}; give --data")
        sound = voices.at_level(voices.read(found), plan.noise_db)
        player = Player(room, np.tile(sound, -(-_NOISE_LIMIT_S * RATE // len(sound))), sink="noise")
        stack.callback(player.stop)

    def _weigh(self, kiosk: int, browser: int, stop: threading.Event) -> None:
        begin = time.monotonic()
        used: dict[int, tuple[str, float]] = {}
        while True:
            pages = set(_processes.tree(browser))
            sizes: dict[str, float] = {}
            for pid in {*_processes.tree(kiosk), *pages}:
                name = "chromium" if pid in pages else "supervisor" if pid == kiosk else _processes.name_of(pid).removeprefix("vv-")
                sizes[name] = sizes.get(name, 0.0) + _processes.pss_mb(pid)
                spent = _processes.cpu_s(pid)
                used[pid] = (name, used[pid][1] if pid in used else spent)
                self._spent[pid] = (name, spent - used[pid][1])
            self._sizes = {name: round(mb, 1) for name, mb in sizes.items()}
            now = time.monotonic() - begin
            # The page's browser is weighed apart: its size is Chromium's, not ours.
            self._memory.append((now, sum(mb for name, mb in sizes.items() if name != "chromium")))
            self._weighed_s = now
            if stop.wait(_MEMORY_EVERY_S):
                return

    def _cpu_pct(self) -> dict[str, float]:
        """Percent of one core by node while the visitor was there."""
        seconds: dict[str, float] = {}
        for name, spent in self._spent.values():
            seconds[name] = seconds.get(name, 0.0) + spent
        return {name: round(100 * spent / max(self._weighed_s, 1.0), 1) for name, spent in sorted(seconds.items())}

    def measure(self, **about: Any) -> dict[str, Any]:
        """The report."""
        assert self._visitor is not None
        assert self._observer is not None
        left, right = self.room[:, 0], self.room[:, 1]
        lost: list[str] = []
        utterances = analysis.place_utterances(self._visitor.spoken, left, self.room_start_ns, lost)
        answers = analysis.place_replies(self._observer.log, self._observer.voice, right, self.room_start_ns, lost)
        acts = [round((t_ns - self.room_start_ns) * RATE / 1e9) for t_ns in self._visitor.acts]
        heard = analysis.Heard(utterances, answers, lost, acts)
        turns = analysis.judge(heard, left, right)
        try:
            records = latency.read(self._out / "timeline.jsonl")
        except latency.TimelineError as error:
            records = []
            self._visitor.trouble.append(str(error))
        return report.build(
            heard, turns, self.drawn, records, measure.levels_db(right, RATE), self.room_start_ns, self._memory,
            pss_mb_by_node=self._sizes, cpu_pct_by_node=self._cpu_pct(), trouble=self._visitor.trouble, recorded=self._record,
            debugger=self._scenario.touches, seconds=round(len(self.room) / RATE, 1), title=self._scenario.title,
            machine=_machine(), **about,
        )  # fmt: skip


def _end_on_sigterm(stack: ExitStack) -> None:
    """SIGTERM unwinds like Ctrl-C, so that sound server, browser and kiosk go with the rehearsal."""
    if threading.current_thread() is not threading.main_thread():
        return

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    stack.callback(signal.signal, signal.SIGTERM, before)


def _machine() -> dict[str, Any]:
    from visavis.bench._machine import machine

    found = machine()
    return found if isinstance(found, dict) else msgspec.to_builtins(found)
