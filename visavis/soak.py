"""`visavis soak`: conversation after conversation with the real kiosk, for hours; says whether anything grows, drifts or is left.

    result = run(hours=1.0)

The kiosk is `visavis run` with its default engines, the page one without a browser (visavis/chaos), the visitor types and speaks.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec

from runtime import messages as m
from runtime.messages import VOICE_RATE
from visavis import _processes
from visavis.chaos.hearing import Span
from visavis.chaos.house import House, what_is_left
from visavis.rehearse import measure

__all__ = ["LIMITS", "Sample", "judge", "run", "skews_ms"]

LIMITS = {"pss_mb_per_hour": 1.0, "skew_drift_ms": 5.0, "fps_lost": 1.0}
"""Above any of these, or with a descriptor or thread more, a node that fell, or an unanswered question, the verdict is `fails`."""
WARM_UP = 0.25, 600.0
"""Of the time, and seconds at most: what is measured before is not judged."""
_EVERY_S = 10.0
_TALK = (
    ("typed", "What departments are there?"),
    ("spoken", "what are your opening hours"),
    ("typed", "A latte please."),
    ("typed", "A large one."),
    ("start_over", ""),
    ("typed", "How can I pay?"),
    ("typed", "Do you have a loyalty card?"),
    ("start_over", ""),
)
_GIVE_UP_AFTER = 5
"""So many questions in a row without an answer: there is nothing to soak any more."""
_NS = 1_000_000_000
_FALLS = (m.NodeState.DOWN, m.NodeState.GIVEN_UP)


class Sample(msgspec.Struct, frozen=True):
    """The kiosk at one moment, by node: PSS in MB, open descriptors, threads. And what the page got since the sample before."""

    at_s: float
    pss_mb: dict[str, float]
    descriptors: dict[str, int]
    threads: dict[str, int]
    fps: float
    skew_ms: float | None = None


class Picture(NamedTuple):
    """A frame as it came to the page: when, and the speech-ring sample it was drawn for (-1: idle)."""

    t_ns: int
    pts: float


def run(
    *, hours: float = 1.0, every_s: float = _EVERY_S, out: Path | None = None, say: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:  # fmt: skip
    """Talk for `hours`; returns the report with its verdict. Raises RehearsalError if the kiosk does not come up or ends."""
    with tempfile.TemporaryDirectory(prefix="visavis-soak-") as name:
        folder = out or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        with House(folder) as house:
            talk = _Talk(house)
            samples: list[Sample] = []
            for _ in _until(hours * 3600, talk):
                samples += talk.pass_time(every_s)
                if len(samples) % 30 == 0 and samples:
                    say(f"{samples[-1].at_s / 60:.0f} min, {talk.questions} questions, {sum(samples[-1].pss_mb.values()):.0f} MB")
            pids, run_dir, fallen = _processes.tree(house.kiosk.pid), house.run_dir, talk.fallen
        left = what_is_left(pids, run_dir)
    return judge(samples, fallen=fallen, unanswered=talk.unanswered, leftovers=left) | {
        "hours": round(talk.now_s() / 3600, 4),
        "questions": talk.questions,
    }


def _until(seconds: float, talk: _Talk) -> Iterator[None]:
    """Steps of the conversation until the time is over or it makes no sense any more."""
    for kind, text in cycle(_TALK):
        if talk.now_s() >= seconds or talk.deaf >= _GIVE_UP_AFTER:
            return
        talk.step(kind, text)
        yield


class _Talk:
    """The visitor, and who looks at the processes meanwhile."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._began = self._sampled = time.monotonic()
        self._mark = house.seen.mark()
        self.questions = self.deaf = 0
        self.unanswered: list[str] = []
        self._fallen: list[str] = []

    def now_s(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def step(self, kind: str, text: str) -> None:
        """One thing that the visitor does, to its end. Raises KioskFailed."""
        house = self._house
        house.kiosk.check()
        if kind == "start_over":
            since = house.seen.mark()
            house.page.input("start_over")
            house.seen.wait("bus floor", lambda floor: floor.session is m.Session.ATTRACT, since=since, limit_s=10.0)
            return
        self.questions += 1
        answer = house.say(text) if kind == "spoken" else house.ask(text)
        if answer is None:
            self.deaf += 1
            self.unanswered.append(text)
            return
        self.deaf = 0
        house.rest(house.seen.mark())

    def pass_time(self, every_s: float) -> list[Sample]:
        """A sample, if one is due."""
        house = self._house
        now, mark = time.monotonic(), self._house.seen.mark()
        if now - self._sampled < every_s:
            return []
        pictures = [Picture(entry.t_ns, entry.what[1]) for entry in house.seen.all("page frame", self._mark, mark)]
        skews = skews_ms(pictures, house.page.speaker.spans)
        del house.page.speaker.spans[:-1]
        self._fallen += self._falls(mark)
        pids = {**house.nodes(), "supervisor": house.kiosk.pid}
        sample = Sample(
            round(now - self._began, 1),
            {name: round(_processes.pss_mb(pid), 2) for name, pid in pids.items()},
            {name: _count(pid, "fd") for name, pid in pids.items()},
            {name: _count(pid, "task") for name, pid in pids.items()},
            round(len(pictures) / (now - self._sampled), 2),
            round(median(skews), 2) if skews else None,
        )
        self._sampled, self._mark = now, mark  # reading the processes takes long: what came meanwhile is the next sample's
        house.seen.forget(mark)
        return [sample]

    @property
    def fallen(self) -> list[str]:
        """The nodes that fell or were given up so far, and why: a leak ends with its process, and would be nowhere else to be seen."""
        return self._fallen + self._falls(None)

    def _falls(self, before: int | None) -> list[str]:
        events = [entry.what for entry in self._house.seen.all("bus nodes", self._mark, before)]
        return [f"{event.node} {event.state.value}: {event.reason}" for event in events if event.state in _FALLS and not event.again]


def _count(pid: int, what: str) -> int:
    with suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/{what}"))
    return 0


def skews_ms(pictures: Sequence[Picture], spans: Sequence[Span]) -> list[float]:
    """How much later than its sound each speaking picture is seen. The page shows it when its sample is heard, or when it comes, if that
    is later.
    """
    found = []
    for picture in pictures:
        if picture.pts < 0:
            continue
        for span in spans:
            heard_ns = span.begin_ns + round((picture.pts - span.index) * _NS / VOICE_RATE)
            if span.begin_ns <= heard_ns <= span.end_ns:
                found.append(max(0, picture.t_ns - heard_ns) / 1e6)
                break
    return found


def judge(
    samples: Sequence[Sample], *, fallen: Sequence[str] = (), unanswered: Sequence[str] = (), leftovers: Sequence[str] = ()
) -> dict[str, Any]:
    """The report over the samples after the warm-up, and the verdict. What cannot be judged for want of samples is a failure too."""
    whole = samples[-1].at_s if samples else 0.0
    settled = [one for one in samples if one.at_s >= min(WARM_UP[0] * whole, WARM_UP[1])]
    part = max(1, len(settled) // 3)
    first, last = settled[:part], settled[-part:]
    names = sorted({name for one in settled for name in one.pss_mb})
    figures = {
        "pss_mb_per_hour": _per_hour(settled, lambda one: sum(one.pss_mb.values())),
        "skew_drift_ms": _change(first, last, lambda one: one.skew_ms),
        "fps_lost": _change(last, first, lambda one: one.fps),
    }
    constant = {
        kind: {name: _both(first, last, lambda one, kind=kind, name=name: getattr(one, kind).get(name)) for name in names}  # type: ignore[misc]
        for kind in ("descriptors", "threads")
    }
    worst = {**figures, "skew_drift_ms": None if figures["skew_drift_ms"] is None else abs(figures["skew_drift_ms"])}
    failed = [name for name, limit in LIMITS.items() if (found := worst[name]) is None or found >= limit]
    failed += [f"{kind} of {name}" for kind, rows in constant.items() for name, (before, after) in rows.items() if before != after]
    failed += [name for name, found in (("fallen", fallen), ("unanswered", unanswered), ("leftovers", leftovers)) if found]
    return {
        **figures, **constant,
        "pss_mb": {name: {"first": _middle(first, name), "last": _middle(last, name),
                          "per_hour": _per_hour(settled, lambda one, name=name: one.pss_mb.get(name))} for name in names},  # type: ignore[misc]
        "fps": measure.quantiles([one.fps for one in settled]),
        "skew_ms": measure.quantiles([one.skew_ms for one in settled if one.skew_ms is not None]),
        "fallen": list(fallen), "unanswered": list(unanswered), "leftovers": list(leftovers),
        "samples": len(samples), "settled": len(settled),
        "limits": LIMITS, "failed": failed, "verdict": "fails" if failed else "holds",
    }  # fmt: skip


Value = Callable[[Sample], float | None]


def _per_hour(samples: Sequence[Sample], value: Value) -> float | None:
    points = [(one.at_s, found) for one in samples if (found := value(one)) is not None]
    if len(points) < 2:
        return None
    return round(measure.slope_per_hour([at for at, _ in points], [found for _, found in points]), 2)


def _both(first: Sequence[Sample], last: Sequence[Sample], value: Value) -> tuple[float | None, float | None]:
    def middle(samples: Sequence[Sample]) -> float | None:
        found = [number for one in samples if (number := value(one)) is not None]
        return round(median(found), 2) if found else None

    return middle(first), middle(last)


def _change(first: Sequence[Sample], last: Sequence[Sample], value: Value) -> float | None:
    before, after = _both(first, last, value)
    return None if before is None or after is None else round(after - before, 2)


def _middle(samples: Sequence[Sample], name: str) -> float | None:
    return _both(samples, samples, lambda one: one.pss_mb.get(name))[0]


def rows(result: dict[str, Any]) -> list[list[str]]:
    """A line per process: PSS and what became of it, descriptors, threads."""
    return [
        [name, *(str(found[key]) for key in ("first", "last", "per_hour")),
         *(" → ".join(f"{number:g}" for number in result[kind][name] if number is not None) for kind in ("descriptors", "threads"))]
        for name, found in result["pss_mb"].items()
    ]  # fmt: skip
