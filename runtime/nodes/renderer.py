"""The renderer: a frame at every tick, whatever the other nodes do (law 1), with the mouth of what is heard at that moment (law 4)."""

from __future__ import annotations

import gc
import time
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.animation import Animator, Phone, Track
from engines.animation.card import Card
from engines.errors import EngineError
from engines.renderer import PackError, Renderer, Rung, open_face
from runtime.bus import FrameWriter
from runtime.context import Context
from runtime.messages import VOICE_RATE, Activity, ActivityKind, Floor, Playhead, Posture, Session, Speech

__all__ = ["Face", "Follower", "Ladder", "Moment", "main", "run"]

NS = 1_000_000_000
STALE_NS = NS
"""So long the mouth goes on without news of the loudspeaker; the stage tells 30 times a second."""
MAX_LEAD_NS = NS // 5
"""So much further than configured frames may be drawn ahead; the page keeps twelve."""
_KEEP_S = 2.0
_NOD_EVERY_NS = 3 * NS
_TIDY_EVERY_NS = 60 * NS


class Moment(NamedTuple):
    """What of the voice a frame shows: the mouth's track, the place in it (s), and the frame's pts (speech-ring sample, -1 none)."""

    track: Track
    position: float
    pts: int


class Follower:
    """Follows the voice: speech and playhead in, the moment to draw out. Pure: time is a parameter (ns)."""

    def __init__(self, animator: Animator, lead_ns: int) -> None:
        self._animator = animator
        self.lead_ns = lead_ns
        self._turn = 0  # no older turn is shown
        self._speech_turn = -1
        self._phones: list[Phone] = []
        self._start = self._end = 0
        self._track = animator.silent
        self._head: Playhead | None = None
        self._shown: tuple[float, int] | None = None  # position and time of the last frame that followed the voice
        self._closing: tuple[Track, float, int] | None = None

    @property
    def turn(self) -> int:
        """The turn of the speech that is followed; -1 none."""
        return self._speech_turn

    def raise_turn(self, turn: int, now: int) -> None:
        """Law 2: the speech of older turns is over; its mouth closes."""
        if turn > self._turn:
            self._turn = turn
            if self._speech_turn < turn:
                self._drop(now)

    def speech(self, message: Speech, now: int) -> None:
        """One clause of the newest turn; it may not be granted yet, so only the playhead starts it."""
        if message.turn < max(self._turn, self._speech_turn):
            return
        if message.turn > self._speech_turn:
            self._drop(now)
            self._speech_turn, self._start = message.turn, message.start
        if not message.samples:
            return
        horizon = self._shown[0] - _KEEP_S if self._shown else 0.0
        self._phones = [p for p in self._phones if p[2] > horizon]
        self._phones += [Phone(p.symbol, p.start / VOICE_RATE, p.end / VOICE_RATE) for p in message.phonemes]
        self._end = message.start + message.samples
        self._track = self._animator.speak(self._phones)

    def playhead(self, message: Playhead) -> None:
        """Where the loudspeaker is, or will be in a moment."""
        self._head = message

    def _drop(self, now: int) -> None:
        self._close(now)
        self._speech_turn = -1
        self._phones, self._track = [], self._animator.silent

    def _close(self, now: int) -> None:
        """The voice went away in the middle: the mouth closes from where it was seen last."""
        if self._shown:
            position, _ = self._shown
            self._closing = (self._track.cut(position), position, now)
            self._shown = None

    def moment(self, now: int) -> Moment:
        """What to draw at `now`."""
        head = self._head
        if head is not None and head.playing and head.turn == self._speech_turn >= self._turn and now - head.t_ns < STALE_NS:
            heard = head.index + (now - head.t_ns) * VOICE_RATE / NS
            ahead = heard + self.lead_ns * VOICE_RATE / NS
            if heard < self._end:
                self._closing = None
                # Until the end itself is heard the frames are for the end: later ones would be shown before it.
                ahead = min(ahead, float(self._end))
                self._shown = (ahead / VOICE_RATE, now)
                return Moment(self._track, ahead / VOICE_RATE, int(ahead) if ahead >= self._start else -1)
            self._shown = None
            return Moment(self._track, heard / VOICE_RATE, -1)
        self._close(now)
        if self._closing:
            track, position, since = self._closing
            position += (now - since) / NS
            if position < track.end:
                return Moment(track, position, -1)
            self._closing = None
        return Moment(self._animator.silent, 0.0, -1)


class Ladder:
    """Which rung to draw on: down when frames are late, up again after a long calm. Pure; costs in seconds per frame."""

    WINDOW = 75
    CALM = 1500

    def __init__(self, rungs: tuple[Rung, ...], period_s: float, fixed: int | None = None) -> None:
        self._rungs, self._period_s, self._fixed = rungs, period_s, fixed
        self.rung = fixed or 0
        self._costs: list[float] = []
        self._late: deque[bool] = deque(maxlen=self.WINDOW)
        self._calm = 0

    def start(self, costs: list[float]) -> None:
        """Choose by what each rung costs on this machine: the best that leaves more than half of the time to the others."""
        self._costs = costs
        if self._fixed is None:
            affordable = [i for i, cost in enumerate(costs) if cost < 0.45 * self._period_s]
            self.rung = affordable[0] if affordable else len(costs) - 1

    def note(self, cost_s: float, *, late: bool) -> None:
        """Take account of one frame."""
        if self._fixed is not None:
            return
        self._late.append(late)
        self._calm = self._calm + 1 if not late and cost_s < 0.3 * self._period_s else 0
        if sum(self._late) > self.WINDOW // 4 and self.rung < len(self._rungs) - 1:
            self._step(1)
        elif self._calm > self.CALM and self.rung > 0 and cost_s * self._growth() < 0.4 * self._period_s:
            self._step(-1)

    def _growth(self) -> float:
        """How much dearer the next better rung is: as measured at the start, else by its pixels."""
        if self._costs:
            return self._costs[self.rung - 1] / self._costs[self.rung]
        here, above = self._rungs[self.rung], self._rungs[self.rung - 1]
        return above.width * above.height / (here.width * here.height)

    def _step(self, by: int) -> None:
        self.rung += by
        self._late.clear()
        self._calm = 0


class Face:
    """The node's logic: messages in, a frame out for each tick."""

    def __init__(self, ctx: Context, engine: Renderer, ring: FrameWriter, *, lead_ms: int = 80, ladder: Ladder | None = None) -> None:
        self._ctx, self._engine, self._ring = ctx, engine, ring
        self._animator = Animator(engine.controls, engine.ranges, engine.idle, seed=1)
        self._lead_ns = lead_ms * NS // 1000
        self._follower = Follower(self._animator, self._lead_ns)
        self._slow_ns = 0.0
        self._ladder = ladder or Ladder(engine.rungs, 0.04)
        self._floor: Floor | None = None
        self._cues: list[str] = []
        self._nodded_ns = 0
        self._first_of = 0
        self.late = 0

    def handle(self, message: Any) -> None:
        """Take one message of any link."""
        now = self._ctx.clock.monotonic_ns()
        if isinstance(message, Floor):
            self._on_floor(message, now)
        elif isinstance(message, Playhead):
            self._follower.playhead(message)
        elif isinstance(message, Speech):
            self._follower.speech(message, now)
        elif isinstance(message, Activity):
            self._on_activity(message, now)

    def _on_floor(self, floor: Floor, now: int) -> None:
        before = self._floor
        self._floor = floor
        self._follower.raise_turn(floor.turn, now)
        if before is None or before.session is floor.session:
            return
        if floor.session is Session.ENGAGED and before.session is Session.ATTRACT:
            self._cues += ["smile", "brow"]
        elif floor.session is Session.STILL_THERE:
            self._cues.append("brow")

    def _on_activity(self, activity: Activity, now: int) -> None:
        """A look when somebody begins to speak, a nod in a pause after something worth it."""
        speaking = self._floor is not None and self._floor.posture is Posture.SPEAKING
        if activity.kind is ActivityKind.ONSET:
            self._cues.append("glance")
        elif activity.kind is ActivityKind.SILENCE and not speaking and activity.speech_ms > 700 and now - self._nodded_ns > _NOD_EVERY_NS:
            self._nodded_ns = now
            self._cues.append("nod")

    def tick(self, due_ns: int, *, late: bool = False) -> bool:
        """Draw and publish the frame of `due_ns`. False if every slot of the ring is held."""
        began = self._ctx.clock.monotonic_ns()
        at_s = due_ns / NS
        while self._cues:
            self._animator.cue(self._cues.pop(), at_s)
        rung = self._ladder.rung
        size = self._engine.rungs[rung]
        out = self._ring.begin(size.width, size.height)
        if out is None:
            return False
        moment = self._follower.moment(due_ns)
        controls = self._animator.frame(
            at_s,
            track=moment.track,
            position=moment.position,
            posture=self._floor.posture.value if self._floor else Posture.IDLE.value,
        )
        self._engine.draw(controls, out, rung=rung)
        turn = self._floor.turn if self._floor else 0
        if moment.pts >= 0:
            turn = self._follower.turn
        self._ctx.publish("video", self._ring.commit(turn=turn, t_capture_ns=began, pts=moment.pts))
        now = self._ctx.clock.monotonic_ns()
        if moment.pts >= 0 and turn > self._first_of:
            self._first_of = turn
            self._ctx.mark("frame_first", turn, now)
        self.late += late
        self._look_ahead(now - due_ns)
        self._ladder.note((now - began) / NS, late=late)
        return True

    def _look_ahead(self, took_ns: int) -> None:
        """On a machine that draws slowly, draw for later: a frame that comes after its sound shows another mouth than is heard."""
        self._slow_ns = max(float(took_ns), 0.95 * self._slow_ns)
        spare = self._lead_ns / 2  # for the way to the page
        self._follower.lead_ns = self._lead_ns + round(min(max(0.0, self._slow_ns - spare), MAX_LEAD_NS))

    @property
    def idle(self) -> bool:
        """Whether nobody would notice a hiccup."""
        return self._floor is None or self._floor.posture is Posture.IDLE


def run(ctx: Context, face: Face, fps: int) -> None:
    """Tick on a grid that never drifts. A frame that would come a whole period late is left out and counted."""
    gc.collect()
    gc.freeze()
    gc.disable()  # a collection takes longer than a frame may wait
    try:
        _loop(ctx, face, NS // fps)
    finally:
        gc.enable()
        gc.unfreeze()


def _loop(ctx: Context, face: Face, period: int) -> None:
    clock = ctx.clock.monotonic_ns
    tidied = due = clock() + period
    while not ctx.stopping:
        while (left := due - clock()) > 0 and not ctx.stopping:
            for _, message in ctx.receive(left / NS):
                face.handle(message)
        for _, message in ctx.receive(0):
            face.handle(message)
        behind = max(0, clock() - due) // period
        due += behind * period
        face.tick(due, late=behind > 0)
        ctx.beat()
        if face.idle and due - tidied > _TIDY_EVERY_NS:
            tidied = due
            gc.collect()
        due += period


def _open(ctx: Context) -> Renderer:
    """The avatar, or its idle loop, or a drawn card: something always moves."""
    path = ctx.config.avatar_path
    try:
        chosen = open_face(path)
    except (PackError, EngineError, OSError) as error:
        ctx.notice("avatar", f"no avatar can be drawn, a plain face serves: {error}")
        return Card()
    if chosen.name == "idle":
        ctx.notice("avatar", f"the avatar only breathes: {chosen.why_not.get('onnxruntime', 'its network does not run')}")
    ctx.log.info("%s", chosen.name)
    return chosen.engine


def background(spec: str, folder: Path) -> NDArray[np.uint8] | tuple[int, int, int] | None:
    """A colour #rrggbb, or the picture (h, w, 3) RGB of that name beside the pack; None if it is neither."""
    if spec.startswith("#") and len(spec) == 7:
        try:
            value = int(spec[1:], 16)
        except ValueError:
            return None
        return value >> 16, value >> 8 & 255, value & 255
    picture = cv2.imread(str(folder / spec), cv2.IMREAD_COLOR) if spec else None
    return None if picture is None else np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def _costs(engine: Renderer) -> list[float]:
    """CPU seconds per frame of each rung, the best of three after one to warm up.

    Not wall time: at the start all nodes load at once, and a rung given up then would come back only after a minute of calm.
    """
    costs = []
    for i, rung in enumerate(engine.rungs):
        out = np.empty((rung.height * 3 // 2, rung.width), np.uint8)
        times = []
        for _ in range(4):
            began = time.process_time_ns()
            engine.draw(engine.idle, out, rung=i)
            times.append(time.process_time_ns() - began)
        costs.append(min(times[1:]) / NS)
    return costs


def main(ctx: Context) -> None:
    """Draw until told to stop."""
    video = ctx.config.video
    engine = _open(ctx)
    behind = background(video.background, Path()) or background(ctx.pack.brand.background, ctx.pack.path)
    if behind is not None:
        engine.set_background(behind)
    named = next((i for i, rung in enumerate(engine.rungs) if rung.name == video.rung), None)
    if named is None and video.rung != "auto":
        ctx.notice("rung", f"video.rung {video.rung!r}: this avatar has {', '.join(r.name for r in engine.rungs)}; it is chosen by itself")
    ladder = Ladder(engine.rungs, 1 / video.fps, named)
    ladder.start(_costs(engine))
    lead_ms = video.audio_lead_ms + max(0, -video.av_offset_ms)  # the page will ask for the frames so much earlier
    face = Face(ctx, engine, ctx.frame_writer("video"), lead_ms=lead_ms, ladder=ladder)
    ctx.ready()
    run(ctx, face, video.fps)
