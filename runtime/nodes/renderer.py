"""The renderer: a frame at every tick, whatever the other nodes do (law 1), with the mouth of what is heard at that moment (law 4)."""

from __future__ import annotations

import gc
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from engines.animation import CUES, PLACES, Animator, levels_db
from engines.animation.card import Card
from engines.errors import EngineError
from engines.renderer import IdleLoop, PackError, Renderer, open_face
from engines.renderer.tensorrt_relay import Relay
from runtime.bus import FrameWriter, Gap
from runtime.context import Context
from runtime.following import NS, Follower
from runtime.governor_ladder import LOOP
from runtime.messages import Activity, ActivityKind, Drawn, Effort, Floor, PackServes, Playhead, Posture, RungSize, Session, Speech
from runtime.packs import PackError as ShopPackError
from runtime.packs import brand_of
from runtime.rungs import Fade, Ladder, Spare

__all__ = ["Face", "main", "run"]

MAX_LEAD_NS = NS // 5
"""So much further than configured frames may be drawn ahead; the page keeps twelve."""
_NOD_EVERY_NS = 3 * NS
_BROW_EVERY_NS = 2 * NS
_RISE = 2.5
"""So many semitones up within 320 ms are a question, or a word that the visitor puts weight on."""
Backing = NDArray[np.uint8] | tuple[int, int, int] | None
_HEARD_NS = NS // 12
"""A reaction begins when its cause was heard, no more than this before the next frame."""
_TIDY_EVERY_NS = 60 * NS


class Face:
    """The node's logic: messages in, a frame out for each tick."""

    def __init__(
        self,
        ctx: Context,
        engine: Renderer,
        ring: FrameWriter,
        *,
        lead_ms: int = 80,
        ladder: Ladder | None = None,
        spare: Spare | None = None,
        backdrop: Backdrop | None = None,
    ) -> None:
        self._ctx, self._engine, self._ring = ctx, engine, ring
        self._animator = Animator(engine.controls, engine.ranges, engine.idle, seed=1)
        self._lead_ns = lead_ms * NS // 1000
        self._follower = Follower(self._animator, self._lead_ns)
        self._slow_ns = 0.0
        self._ladder = ladder or Ladder(engine.rungs, 0.04)
        self._spare, self._backdrop = spare, backdrop
        self._effort = _kept(ctx)
        self._fade = Fade()
        self._shown: tuple[Renderer, int] = (engine, -1)
        self._last: NDArray[np.uint8] | None = None  # the newest frame, in the ring
        self._told_ns = 0
        self._floor: Floor | None = None
        self._voice = ctx.audio_reader("speech")
        self._cues: list[tuple[str, int]] = []  # with the time of what calls for them
        self._nodded_ns = self._raised_ns = 0
        self._first_of = 0
        self.frames = self.late = 0

    def handle(self, message: Any) -> None:
        """Take one message of any link."""
        now = self._ctx.clock.monotonic_ns()
        if isinstance(message, Floor):
            self._on_floor(message, now)
        elif isinstance(message, Playhead):
            self._follower.playhead(message)
        elif isinstance(message, Speech):
            self._follower.speech(message, now, self._levels(message))
        elif isinstance(message, Activity):
            self._on_activity(message, now)
        elif isinstance(message, Effort):
            if (message.rung, message.fps) != (self._effort.rung, self._effort.fps):
                self._ctx.checkpoint.save(msgspec.msgpack.encode(message))  # the next life begins where this one was told to be
            self._effort = message
        elif isinstance(message, PackServes) and self._backdrop is not None:
            self._backdrop.take(message)

    def _on_floor(self, floor: Floor, now: int) -> None:
        before = self._floor
        self._floor = floor
        self._follower.raise_turn(floor.turn, now)
        if before is None or before.session is floor.session:
            return
        if floor.session is Session.ENGAGED and before.session is Session.ATTRACT:
            self._cues += [("smile", now), ("brow", now)]
        elif floor.session is Session.STILL_THERE:
            self._cues.append(("brow", now))

    def _on_activity(self, activity: Activity, now: int) -> None:
        """A look when somebody begins to speak, a nod in a pause after something worth it, a lift of the brows where the voice rises."""
        speaking = self._floor is not None and self._floor.posture is Posture.SPEAKING
        heard = min(activity.t_ns, now)
        if activity.kind is ActivityKind.ONSET:
            self._cues.append(("glance", heard))
        elif speaking:
            return
        elif activity.kind is ActivityKind.SILENCE and activity.speech_ms > 700 and now - self._nodded_ns > _NOD_EVERY_NS:
            self._nodded_ns = now
            self._cues.append(("nod", heard))
        elif activity.kind is ActivityKind.LEVEL and activity.rise > _RISE and now - self._raised_ns > _BROW_EVERY_NS:
            self._raised_ns = now
            self._cues.append(("brow", heard))

    def _levels(self, speech: Speech) -> list[float]:
        """The loudness of each phoneme in dBFS; nothing where the ring has lost the sound."""
        try:
            sound = self._voice.read(speech.start, speech.samples)
        except Gap:
            return []
        return levels_db(sound, ((p.start - speech.start, p.end - speech.start) for p in speech.phonemes))

    def _react(self, due_ns: int, gestures: tuple[str, ...]) -> None:
        """Begin what was called for since the last frame, and what goes with the words of this one."""
        for cue, heard_ns in self._cues:
            self._animator.cue(cue, max(heard_ns, due_ns - _HEARD_NS) / NS)
        self._cues.clear()
        for name in gestures:
            if name in CUES:
                self._animator.cue(name, due_ns / NS)
            elif name in PLACES:
                self._animator.look(PLACES[name], due_ns / NS)

    def period_ns(self, fps: int) -> int:
        """From one frame to the next: as configured, or slower if the governor asks for it."""
        return round(NS / min(fps, self._effort.fps) if self._effort.fps > 0 else NS / fps)

    def tick(self, due_ns: int, *, late: int = 0) -> bool:
        """Draw and publish the frame of `due_ns`; `late` frames before it were left out. False if every slot of the ring is held."""
        began = self._ctx.clock.monotonic_ns()
        if self._backdrop is not None and self._backdrop.change():
            self._shown = (self._engine, -1)  # soft, as to another rung
        engine, rung = self._choose()
        size = engine.rungs[rung]
        if self._shown != (engine, rung):
            if self._last is not None:
                self._fade.begin(self._last, size.width, size.height)
            self._shown = (engine, rung)
        out = self._ring.begin(size.width, size.height)
        if out is None:
            return False
        moment = self._follower.moment(due_ns)
        self._react(due_ns, moment.gestures)
        controls = self._animator.frame(
            due_ns / NS,
            track=moment.track,
            position=moment.position,
            posture=self._floor.posture.value if self._floor else Posture.IDLE.value,
            mood=moment.mood,
            visitor=self._floor.feeling if self._floor else "",
        )
        engine.draw(controls if engine is self._engine else engine.idle, out, rung=rung)
        self._fade.blend(out)
        turn = self._floor.turn if self._floor else 0
        if moment.pts >= 0:
            turn = self._follower.turn
        self._ctx.publish("video", self._ring.commit(turn=turn, t_capture_ns=began, pts=moment.pts))
        self._last = out
        now = self._ctx.clock.monotonic_ns()
        if moment.pts >= 0 and turn > self._first_of:
            self._first_of = turn
            self._ctx.mark("frame_first", turn, now)
        self._look_ahead(now - due_ns)
        if engine is self._engine and rung == self._ladder.rung:
            self._ladder.note((now - began) / NS, late=late > 0, quiet=not self._talking)
        self._account(now, late)
        return True

    def _choose(self) -> tuple[Renderer, int]:
        """Who draws, and at which rung: what the machine can do in time, or less if the governor asks for less."""
        rungs, wanted = self._engine.rungs, self._effort.rung
        if wanted == LOOP:
            loop = self._spare.get() if self._spare else None
            return (loop, len(loop.rungs) - 1) if loop else (self._engine, len(rungs) - 1)
        asked = next((i for i, rung in enumerate(rungs) if rung.name == wanted), 0)
        return self._engine, max(asked, self._ladder.rung)

    def _account(self, now: int, late: int) -> None:
        """Count, and tell the governor once a second."""
        self.frames += 1 + late
        self.late += late
        if now - self._told_ns < NS:
            return
        self._told_ns = now
        engine, rung = self._shown
        place = rung if engine is self._engine else len(self._engine.rungs)
        self._ctx.measure("rung", place)
        rungs = tuple(RungSize(*rung) for rung in self._ladder.open)
        self._ctx.publish("drawn", Drawn(0, now, self.frames, self.late, place, rungs))

    def _look_ahead(self, took_ns: int) -> None:
        """On a machine that draws slowly, draw for later: a frame that comes after its sound shows another mouth than is heard."""
        self._slow_ns = max(float(took_ns), 0.95 * self._slow_ns)
        spare = self._lead_ns / 2  # for the way to the page
        self._follower.lead_ns = self._lead_ns + round(min(max(0.0, self._slow_ns - spare), MAX_LEAD_NS))

    @property
    def _talking(self) -> bool:
        return self._floor is not None and self._floor.posture in (Posture.SPEAKING, Posture.THINKING)

    @property
    def idle(self) -> bool:
        """Whether nobody would notice a hiccup."""
        return self._floor is None or self._floor.posture is Posture.IDLE


def _kept(ctx: Context) -> Effort:
    """What the governor asked of the life before, or nothing in particular."""
    try:
        return msgspec.msgpack.decode(ctx.checkpoint.load() or b"", type=Effort)
    except msgspec.DecodeError:
        return Effort(0, 0)


def run(ctx: Context, face: Face, fps: int) -> None:
    """Tick on a grid that never drifts. A frame that would come a whole period late is left out and counted."""
    gc.disable()  # a collection takes longer than a frame may wait
    try:
        _loop(ctx, face, fps)
    finally:
        gc.enable()


def _loop(ctx: Context, face: Face, fps: int) -> None:
    clock = ctx.clock.monotonic_ns
    tidied = due = clock() + NS // fps
    while not ctx.stopping:
        while (left := due - clock()) > 0 and not ctx.stopping:
            for _, message in ctx.receive(left / NS):
                face.handle(message)
        for _, message in ctx.receive(0):
            face.handle(message)
        period = face.period_ns(fps)
        behind = max(0, clock() - due) // period
        due += behind * period
        face.tick(due, late=behind)
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
    if "onnxruntime" in chosen.why_not:
        ctx.notice("avatar", f"the avatar only breathes: {chosen.why_not['onnxruntime']}")
    ctx.log.info("%s", chosen.name)
    return chosen.engine


class Backdrop:
    """What stands behind the face: kiosk.toml's, or else that of the pack, which may become another one while frames are drawn."""

    def __init__(self, ctx: Context, engine: Renderer) -> None:
        self._ctx, self._drawn = ctx, [engine]
        own = ctx.config.video.background
        self._own = background(own, Path())
        self._path = ctx.pack_path
        self._behind = background(brand_of(self._path).background, self._path) if self._own is None else self._own
        self._next: tuple[Path, Backing] | None = None
        self._reading: threading.Thread | None = None
        if self._behind is not None:
            engine.set_background(self._behind)

    def behind(self, engine: Renderer) -> None:
        """Stand behind this one too; called where it is opened."""
        self._drawn.append(engine)
        if self._behind is not None:
            engine.set_background(self._behind)

    def take(self, told: PackServes) -> None:
        """Read another pack's in a thread: no frame waits for a file."""
        path = Path(told.pack)
        if told.pack and path != self._path and self._own is None and (self._reading is None or not self._reading.is_alive()):
            self._reading = threading.Thread(target=self._read, args=(path,), name="backdrop", daemon=True)
            self._reading.start()

    def _read(self, path: Path) -> None:
        try:
            self._next = path, background(brand_of(path).background, path)
        except ShopPackError as error:
            self._ctx.log.warning("the background stays as it is: %s", error)
            self._next = path, self._behind

    def change(self) -> bool:
        """Put what was read behind the face; whether there was anything."""
        if self._next is None:
            return False
        (self._path, self._behind), self._next = self._next, None
        for engine in self._drawn:
            engine.set_background((0, 0, 0) if self._behind is None else self._behind)
        return True


def background(spec: str, folder: Path) -> Backing:
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

    Of this thread: a GPU may be getting ready in another one. Not wall time: at the start all nodes load at once, and a rung given up
    then would come back only after a minute of calm.
    """
    costs = []
    for i, rung in enumerate(engine.rungs):
        out = np.empty((rung.height * 3 // 2, rung.width), np.uint8)
        times = []
        for _ in range(4):
            began = time.thread_time_ns()
            engine.draw(engine.idle, out, rung=i)
            times.append(time.thread_time_ns() - began)
        costs.append(min(times[1:]) / NS)
    return costs


def main(ctx: Context) -> None:
    """Draw until told to stop."""
    engine, writer = _open(ctx), ctx.frame_writer("video")
    if not isinstance(engine, Relay):
        _serve(ctx, engine, writer)
        return
    engine.attach_ring(writer.memory)
    try:
        _serve(ctx, engine, writer)
    finally:
        engine.close()


def _serve(ctx: Context, engine: Renderer, writer: FrameWriter) -> None:
    video = ctx.config.video
    backdrop = Backdrop(ctx, engine)
    named = next((i for i, rung in enumerate(engine.rungs) if rung.name == video.rung), None)
    if named is None and video.rung != "auto":
        ctx.notice("rung", f"video.rung {video.rung!r}: this avatar has {', '.join(r.name for r in engine.rungs)}; it is chosen by itself")
    ladder = Ladder(engine.rungs, 1 / video.fps, named)
    ladder.start(_costs(engine))

    def open_loop() -> Renderer:
        loop = IdleLoop(ctx.config.avatar_path)
        backdrop.behind(loop)
        return loop

    lead_ms = video.audio_lead_ms + max(0, -video.av_offset_ms)  # the page will ask for the frames so much earlier
    face = Face(ctx, engine, writer, lead_ms=lead_ms, ladder=ladder, spare=Spare(open_loop), backdrop=backdrop)
    ctx.ready()
    run(ctx, face, video.fps)
