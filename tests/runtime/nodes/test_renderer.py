"""The renderer draws at every tick, follows the loudspeaker and forgets what was interrupted."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from engines.animation import Animator
from engines.animation.card import Card
from engines.renderer import Rung, Selection
from engines.renderer.tensorrt_relay import Relay
from runtime.bus import StaleFrame
from runtime.clock import ManualClock
from runtime.config import Config
from runtime.context import Context
from runtime.following import NS, STALE_NS, Follower
from runtime.messages import (
    VOICE_RATE,
    Activity,
    ActivityKind,
    Drawn,
    Effort,
    Floor,
    Gesture,
    PackServes,
    Phoneme,
    Playhead,
    Posture,
    RungSize,
    Session,
    Speech,
)
from runtime.nodes import renderer
from runtime.nodes.renderer import Backdrop, Face, background, main, run
from runtime.rungs import Fade, Ladder, Spare
from tests.engines.animation.conftest import IDLE, NAMES, RANGES
from tests.support.harness import LIMIT_S, Bench

MS = 1_000_000
LEAD = 80 * MS


def speech(turn: int, start_s: float = 1.0, seconds: float = 1.0, *, seq: int = 0, last: bool = True) -> Speech:
    """A clause: m, a long ah, m."""
    marks = [start_s, start_s + 0.1, start_s + seconds - 0.1, start_s + seconds]
    at = [round(m * VOICE_RATE) for m in marks]
    phonemes = tuple(Phoneme(s, a, b) for s, a, b in zip(("m", "ˈɑː", "m"), at, at[1:], strict=False))
    return Speech(turn, 0, seq, at[0], at[-1] - at[0], "ma'am", last, phonemes)


def head(turn: int, seconds: float, t_ns: int, *, playing: bool = True) -> Playhead:
    return Playhead(turn, t_ns, round(seconds * VOICE_RATE), playing)


def floor(turn: int, posture: Posture = Posture.IDLE, session: Session = Session.ENGAGED) -> Floor:
    return Floor(turn, 0, posture, session, 1, turn)


# --- following the voice


@pytest.fixture
def follower() -> Follower:
    """A follower of the drawn card's mouth, with the usual lead."""
    card = Card()
    return Follower(Animator(card.controls, card.ranges, card.idle), LEAD)


def test_frames_are_for_what_is_heard_80_ms_later(follower: Follower):
    """Position and pts are the playhead's, carried on to now, plus the lead."""
    follower.speech(speech(1), 0)
    follower.playhead(head(1, 1.2, 10 * NS))
    moment = follower.moment(10 * NS + 100 * MS)
    assert abs(moment.position - 1.38) < 1e-4
    assert abs(moment.pts - 1.38 * VOICE_RATE) <= 1


def test_speech_that_does_not_play_is_not_shown(follower: Follower):
    """A prepared, not yet granted reply moves nothing."""
    follower.speech(speech(1), 0)
    assert follower.moment(NS).pts == -1
    follower.playhead(head(1, 1.2, NS, playing=False))
    assert follower.moment(NS).pts == -1


def test_an_announced_start_is_anticipated(follower: Follower):
    """Before the first sample the mouth already opens, in frames that wait for no sound."""
    follower.speech(speech(1), 0)
    follower.playhead(head(1, 1.0, NS))
    early = follower.moment(NS - 150 * MS)
    assert early.pts == -1
    assert abs(early.position - 0.93) < 1e-4
    assert follower.moment(NS - 70 * MS).pts >= VOICE_RATE


def test_frames_do_not_run_past_the_end(follower: Follower):
    """The last frames are for the end itself; after it the face is idle again."""
    follower.speech(speech(1), 0)
    follower.playhead(head(1, 1.95, NS))
    assert follower.moment(NS + 20 * MS).pts == 2 * VOICE_RATE
    after = follower.moment(NS + 60 * MS)
    assert after.pts == -1
    assert after.position < 2.02


def test_an_older_turn_is_dropped_at_once(follower: Follower):
    """When the turn rises the pts vanish with the next frame and the mouth closes within 200 ms."""
    follower.speech(speech(1), 0)
    follower.playhead(head(1, 1.4, NS))
    open_mouth = follower.moment(NS)
    follower.raise_turn(2, NS + 10 * MS)
    closing = follower.moment(NS + 40 * MS)
    assert closing.pts == -1
    assert not np.array_equal(closing.track.at(closing.position), follower._animator.silent.at(0))
    assert np.abs(closing.track.at(closing.position) - open_mouth.track.at(open_mouth.position)).max() < 0.4
    rest = follower.moment(NS + 200 * MS)
    assert rest.track is follower._animator.silent


def test_late_speech_of_a_dropped_turn_is_ignored(follower: Follower):
    """Nothing of a lower turn comes back, whatever still arrives."""
    follower.raise_turn(3, 0)
    follower.speech(speech(2), 0)
    follower.playhead(head(2, 1.4, NS))
    assert follower.moment(NS).pts == -1
    follower.speech(speech(3), 0)
    follower.playhead(head(3, 1.4, NS))
    assert follower.moment(NS).pts > 0


def test_clauses_join(follower: Follower):
    """The second clause of a turn goes on where the first one ended."""
    follower.speech(speech(1, last=False), 0)
    follower.playhead(head(1, 1.5, NS))
    follower.moment(NS)
    follower.speech(speech(1, 2.0, seq=1), NS)
    assert abs(follower.moment(NS + 700 * MS).pts - 2.28 * VOICE_RATE) <= 1


def test_without_news_of_the_loudspeaker_the_mouth_goes_on_for_a_second(follower: Follower):
    """A stage that hangs does not freeze the mouth at once, and does not let it talk to itself for long."""
    follower.speech(speech(1, seconds=5), 0)
    follower.playhead(head(1, 1.2, NS))
    assert follower.moment(NS + STALE_NS - MS).pts > 0
    assert follower.moment(NS + STALE_NS + MS).pts == -1
    assert follower.moment(NS + STALE_NS + 300 * MS).track is follower._animator.silent


def test_a_pause_of_the_loudspeaker_closes_the_mouth(follower: Follower):
    """When the page stops playing in the middle, the mouth closes; when it goes on, the mouth follows again."""
    follower.speech(speech(1, seconds=3), 0)
    follower.playhead(head(1, 1.5, NS))
    follower.moment(NS)
    follower.playhead(head(1, 1.6, NS + 100 * MS, playing=False))
    assert follower.moment(NS + 100 * MS).pts == -1
    assert follower.moment(NS + 400 * MS).track is follower._animator.silent
    follower.playhead(head(1, 1.6, NS + 500 * MS))
    assert follower.moment(NS + 500 * MS).pts > 0


def tagged(turn: int, *gestures: tuple[str, float]) -> Speech:
    """Three seconds of speech with gestures at these seconds."""
    plain = speech(turn, seconds=3)
    return msgspec.structs.replace(plain, gestures=tuple(Gesture(name, round(at * VOICE_RATE)) for name, at in gestures))


def test_moods_and_gestures_come_with_their_words(follower: Follower):
    """Each once, at its place in the voice; a mood stays until the next one."""
    follower.speech(tagged(1, ("sorry", 1.0), ("nod", 1.5), ("happy", 2.0)), 0)
    follower.playhead(head(1, 1.0, NS))
    seen = [follower.moment(NS + i * 40 * MS) for i in range(20)]
    moods = [moment.mood for moment in seen]
    assert moods[0] == "sorry"
    assert [moment.gestures for moment in seen if moment.gestures] == [("nod",)]
    assert abs(next(moment.position for moment in seen if moment.gestures) - 1.5) < 0.041
    follower.playhead(head(1, 1.9, 2 * NS))
    assert [follower.moment(2 * NS + i * 40 * MS).mood for i in range(5)][-1] == "happy"


def test_a_mood_outlasts_its_words_for_a_moment(follower: Follower):
    """A second after the voice it is still there, two seconds after it has gone."""
    follower.speech(tagged(1, ("happy", 1.0)), 0)
    follower.playhead(head(1, 3.9, NS))
    assert follower.moment(NS).mood == "happy"
    follower.playhead(head(1, 4.0, NS + 100 * MS, playing=False))
    assert follower.moment(2 * NS).mood == "happy"
    assert follower.moment(3 * NS).mood == "neutral"


def test_another_turn_has_its_own_mood(follower: Follower):
    """An interrupted reply takes its mood and what it was going to do with it."""
    follower.speech(tagged(1, ("happy", 1.0), ("nod", 1.3)), 0)
    follower.playhead(head(1, 1.0, NS))
    assert follower.moment(NS).mood == "happy"
    follower.raise_turn(2, NS)
    follower.speech(tagged(2), NS)
    follower.playhead(head(2, 1.5, NS))
    assert follower.moment(NS + 40 * MS)[3:] == ("neutral", ())


# --- the ladder

RUNGS = (Rung("big", 512, 512), Rung("mid", 384, 384), Rung("small", 256, 256))


def test_starts_on_the_best_rung_that_fits():
    """Half of the time of a frame belongs to others."""
    ladder = Ladder(RUNGS, 0.04)
    ladder.start([0.03, 0.015, 0.005])
    assert ladder.rung == 1
    ladder.start([0.9, 0.8, 0.7])
    assert ladder.rung == 2


def test_steps_down_when_frames_are_late_and_up_after_a_calm():
    """A quarter of late frames costs a rung; a minute of calm gives it back; single late frames change nothing."""
    ladder = Ladder(RUNGS, 0.04)
    for i in range(300):
        ladder.note(0.02, late=i % 20 == 0)
    assert ladder.rung == 0
    for _ in range(20):
        ladder.note(0.05, late=True)
    assert ladder.rung == 1
    for _ in range(Ladder.CALM + 5):
        ladder.note(0.005, late=False)
    assert ladder.rung == 0


def test_does_not_flap():
    """When the better rung would be too dear, calm alone does not bring it back."""
    ladder = Ladder(RUNGS, 0.04)
    for _ in range(20):
        ladder.note(0.05, late=True)
    for _ in range(3 * Ladder.CALM):
        ladder.note(0.0115, late=False)
    assert ladder.rung == 1


def test_knows_what_the_better_rung_costs_here():
    """Where more pixels cost little more, a calm machine gets them."""
    ladder = Ladder(RUNGS, 0.04)
    ladder.start([0.020, 0.0125, 0.011])
    assert ladder.rung == 1
    for _ in range(20):
        ladder.note(0.05, late=True)
    assert ladder.rung == 2
    for _ in range(3 * Ladder.CALM):
        ladder.note(0.0115, late=False)
    assert ladder.rung == 1


def test_a_rung_that_was_chosen_stays():
    """video.rung of the configuration is obeyed."""
    ladder = Ladder(RUNGS, 0.04, fixed=2)
    ladder.start([0.001, 0.001, 0.001])
    for _ in range(4000):
        ladder.note(0.001, late=False)
    assert ladder.rung == 2


# --- the node


class Studio:
    """A face on a real bus with a clock turned by hand."""

    def __init__(self, bench: Bench) -> None:
        self.clock = ManualClock(100 * NS)
        self.ctx = bench.context("renderer", self.clock)
        self.stage = bench.context("stage")
        self.others = {n: bench.context(n) for n in ("conductor", "voice", "listener", "health")}
        self.reader = self.stage.frame_reader("video")
        self.face = Face(self.ctx, Card(), self.ctx.frame_writer("video"))
        self.frames: list = []

    def tick(self, count: int = 1) -> None:
        """Frames at 25 per second, taken by the stage."""
        for _ in range(count):
            self.clock.advance(0.04)
            for _, message in self.ctx.receive(0):
                self.face.handle(message)
            self.face.tick(self.clock.now_ns)
            self.take()

    def take(self) -> None:
        """What the stage sees."""
        for link, message in self.stage.receive(0.02):
            if link == "video":
                with self.reader.lease(message) as view:
                    self.frames.append((message, view.copy()))

    def joined(self) -> Studio:
        """Wait until the links are connected."""
        deadline = time.monotonic() + LIMIT_S
        while not self.frames or self.face._floor is None:
            assert time.monotonic() < deadline
            self.others["conductor"].publish("floor", floor(1))
            self.tick()
        self.frames.clear()
        return self


@pytest.fixture
def studio() -> Iterator[Studio]:
    """A connected studio."""
    with Bench() as bench:
        yield Studio(bench).joined()


def test_idle_frames_move(studio: Studio):
    """Without any news the face lives: pts -1, pictures that change."""
    studio.tick(50)
    assert {-1} == {d.pts for d, _ in studio.frames}
    assert len({view.tobytes() for _, view in studio.frames}) > 5


def test_speech_is_drawn_with_its_pts(studio: Studio):
    """While the voice plays, each frame carries its sample index and turn, and the mouth is open at the vowel."""
    studio.face.handle(floor(2, Posture.SPEAKING))
    studio.face.handle(speech(2))
    studio.face.handle(head(2, 1.0, studio.clock.now_ns))
    studio.tick(12)
    played = [(d, v) for d, v in studio.frames if d.pts >= 0]
    assert len(played) >= 10
    assert {2} == {d.turn for d, _ in played}
    for (a, _), (b, _) in pairwise(played):  # the link keeps the newest: on a busy machine some frames in between are not seen
        assert abs((b.pts - a.pts) - 882 * (b.seq - a.seq)) <= 2 * (b.seq - a.seq)
    closed = studio.frames[0][1][250:300, 160:224].astype(int)
    vowel = played[0][0].pts + 8 * 882
    _, mouth = min(played, key=lambda seen: abs(seen[0].pts - vowel))
    assert np.abs(mouth[250:300, 160:224].astype(int) - closed).mean() > 10


class Slow(Card):
    """A face that takes its time."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.clock, self.seconds = clock, 0.1

    def draw(self, controls: np.ndarray, out: np.ndarray, *, rung: int = 0) -> None:
        """Draw, and let time pass."""
        self.clock.advance(self.seconds)
        super().draw(controls, out, rung=rung)


def test_a_slow_machine_looks_further_ahead():
    """Where a frame takes 100 ms its pts still lies ahead of the sound; once drawing is fast, the lead is the usual one."""
    with Bench() as bench:
        studio = Studio(bench)
        slow = Slow(studio.clock)
        face = Face(studio.ctx, slow, studio.face._ring)
        face.handle(speech(2, seconds=9.0))

        def lead(frames: int) -> float:
            for _ in range(frames):
                studio.clock.advance(0.04)
                due = studio.clock.now_ns
                face.handle(head(2, 1.2, due))
                face.tick(due)
            return face._follower.moment(due).pts / VOICE_RATE - 1.2

        assert 0.13 < lead(3) < 0.3
        slow.seconds = 0.01
        assert abs(lead(100) - 0.08) < 0.005


def test_first_frame_is_marked_once(studio: Studio):
    """Health hears of the first moving frame of a turn."""
    health = studio.others["health"]
    studio.face.handle(speech(2))
    marks = []
    deadline = time.monotonic() + LIMIT_S
    while not marks and time.monotonic() < deadline:
        studio.face.handle(head(2, 1.3, studio.clock.now_ns))
        studio.face._first_of = 0
        studio.tick()
        marks += [m for link, m in health.receive(0.02) if link == "marks" and m.stage == "frame_first"]
    assert marks[0].turn == 2


def test_held_slots_do_not_stop_the_ticks(studio: Studio):
    """A reader that holds a frame for long does not keep the next ones from being drawn."""
    studio.tick()
    with studio.reader.lease(studio.frames[-1][0]) as held:
        before = held.copy()
        studio.tick(20)
        assert np.array_equal(before, held)
    assert len(studio.frames) == 21


def test_reacts_to_the_visitor(studio: Studio):
    """Onset and pause of the visitor reach the face in the next frame."""
    studio.tick(5)
    for kind in (ActivityKind.ONSET, ActivityKind.SILENCE):
        studio.face.handle(Activity(1, 0, kind, 0, 0, speech_ms=1500.0))
    assert [cue for cue, _ in studio.face._cues] == ["glance", "nod"]
    studio.tick()
    assert studio.face._cues == []


class Flat(Card):
    """A face of one brightness that can be drawn at three sizes."""

    def __init__(self, luma: int) -> None:
        super().__init__()
        self.rungs, self.luma = RUNGS, luma

    def draw(self, controls: np.ndarray, out: np.ndarray, *, rung: int = 0) -> None:
        """Brighter by ten at each rung down."""
        assert controls.shape == self.idle.shape
        assert out.shape == (self.rungs[rung].height * 3 // 2, self.rungs[rung].width)
        out[:] = self.luma + 10 * rung


def _flat(studio: Studio, ladder: Ladder | None = None) -> Face:
    loop = Flat(200)
    loop.idle = loop.idle[:5]  # the clip of another avatar
    return Face(studio.ctx, Flat(50), studio.face._ring, ladder=ladder, spare=Spare(lambda: loop))


def _seen(studio: Studio, face: Face, frames: int) -> list[tuple[int, int]]:
    """(width, brightness) of every frame that is drawn now; the ring is looked into after each."""
    shown = []
    for _ in range(frames):
        studio.clock.advance(0.04)
        assert face.tick(studio.clock.now_ns)
        assert face._last is not None
        shown.append((face._last.shape[1], int(face._last[0, 0])))
        studio.take()
    return shown


def test_draws_no_more_than_the_governor_asks(studio: Studio):
    """From the next frame on, at every tick, with a short fade; names that this face has not are not obeyed."""
    face = _flat(studio)
    assert _seen(studio, face, 3) == [(512, 50)] * 3
    before = len(studio.frames)
    face.handle(Effort(0, 0, "small"))
    changed = _seen(studio, face, Fade.FRAMES + 2)
    assert {width for width, _ in changed} == {256}
    brightness = [luma for _, luma in changed]
    assert 50 < brightness[0] < 60
    assert brightness == sorted(brightness)
    assert brightness[-2:] == [70, 70]
    face.handle(Effort(0, 0, "nosuch"))
    assert {width for width, _ in _seen(studio, face, 3)} == {512}
    drawn = [descriptor for descriptor, _ in studio.frames[before - 1 :]]
    assert [d.seq for d in drawn] == list(range(drawn[0].seq, drawn[0].seq + len(drawn)))


def test_the_machine_itself_may_need_less_than_the_governor_asks(studio: Studio):
    """The lower of the two rungs holds."""
    ladder = Ladder(RUNGS, 0.04)
    ladder.start([0.03, 0.015, 0.005])
    face = _flat(studio, ladder)
    for asked, width in (("big", 384), ("mid", 384), ("small", 256)):
        face.handle(Effort(0, 0, asked))
        assert _seen(studio, face, 1)[0][0] == width


def test_the_last_rung_is_the_prepared_loop(studio: Studio):
    """Until it is open the smallest rung is drawn; then it moves at that size, and speech goes on being followed."""
    face = _flat(studio)
    _seen(studio, face, 1)
    face.handle(Effort(0, 0, "loop"))
    assert {width for width, _ in _seen(studio, face, 1)} == {256}
    face._spare._thread.join(LIMIT_S)
    face.handle(speech(2))
    face.handle(head(2, 1.0, studio.clock.now_ns))
    shown = _seen(studio, face, 2 * Fade.FRAMES)
    assert {width for width, _ in shown} == {256}
    assert shown[-1] == (256, 220)
    assert studio.frames[-1][0].pts > 0
    face.handle(Effort(0, 0, "big"))
    assert _seen(studio, face, 2 * Fade.FRAMES)[-1] == (512, 50)


class Backed(Flat):
    """A face as bright as what stands behind it."""

    def set_background(self, rgb: Any) -> None:
        """Its red."""
        self.luma = int(np.asarray(rgb).reshape(-1)[0])


def _pack(folder: Path, look: str) -> Path:
    """An experience pack that looks like this."""
    shutil.copytree(Config().pack_path, folder)
    file = folder / "pack.toml"
    file.write_text(file.read_text().replace('background = "#e9e4da"', f'background = "{look}"'))
    return folder


def _put_on(studio: Studio, face: Face, pack: Path) -> list[int]:
    """The brightness of the frames after the supervisor has said that this pack serves."""
    face.handle(PackServes(0, 1, str(pack)))
    reading = face._backdrop._reading
    if reading is not None:
        reading.join(LIMIT_S)
    return [luma for _, luma in _seen(studio, face, Fade.FRAMES + 2)]


def test_another_pack_s_background_comes_softly_and_no_frame_is_left_out(studio: Studio, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """A colour, a picture, for the prepared loop too; of a pack that cannot be read it is not taken, which is said once."""
    engine, loop = Backed(0), Backed(0)
    face = Face(studio.ctx, engine, studio.face._ring, backdrop=Backdrop(studio.ctx, engine))
    face._backdrop.behind(loop)
    assert (engine.luma, loop.luma) == (0xE9, 0xE9)
    _seen(studio, face, 3)
    before = len(studio.frames)
    tea = _pack(tmp_path / "tea", "#203040")
    shown = _put_on(studio, face, tea)
    assert 0xE9 > shown[0] > shown[3] > shown[-1] == 0x20 == loop.luma
    assert _put_on(studio, face, tea) == [0x20] * len(shown)
    cv2.imwrite(str(_pack(tmp_path / "art", "wall.png") / "wall.png"), np.full((8, 8, 3), 90, np.uint8))
    assert _put_on(studio, face, tmp_path / "art")[-1] == 90
    (tmp_path / "broken").mkdir()
    assert _put_on(studio, face, tmp_path / "broken")[-1] == 90
    _put_on(studio, face, tmp_path / "broken")
    assert caplog.text.count("the background stays as it is: pack.toml") == 1
    drawn = [descriptor.seq for descriptor, _ in studio.frames[before - 1 :]]
    assert drawn == list(range(drawn[0], drawn[0] + len(drawn)))


def test_kiosk_toml_s_own_background_stays(tmp_path: Path):
    """Whatever the packs say."""
    (tmp_path / "kiosk.toml").write_text('[video]\nbackground = "#112233"\n')
    with Bench(config=tmp_path / "kiosk.toml") as bench:
        engine = Backed(0)
        backdrop = Backdrop(bench.context("renderer"), engine)
        backdrop.take(PackServes(0, 1, str(_pack(tmp_path / "tea", "#203040"))))
        assert (engine.luma, backdrop._reading) == (0x11, None)


def test_what_the_governor_asked_outlives_the_renderer(studio: Studio):
    """The next life begins at that rung and rate, without being told again."""
    face = _flat(studio)
    assert face.period_ns(30) == round(NS / 30)
    face.handle(Effort(0, 0, "mid", 26.0))
    again = _flat(studio)
    assert _seen(studio, again, 1)[0][0] == 384
    assert again.period_ns(30) == round(NS / 26)
    assert again.period_ns(20) == round(NS / 20)


def test_the_governor_is_told_what_is_drawn_and_what_was_late():
    """Once a second: the rung, all that may be drawn, and the frames that were left out."""
    with Bench() as bench:
        other = Studio(bench)
        governor = bench.context("governor")
        face = _flat(other)
        told: list[Drawn] = []
        deadline = time.monotonic() + LIMIT_S
        while not told and time.monotonic() < deadline:  # until the link stands
            _seen(other, face, 25)
            told += [message for link, message in governor.receive(0.05) if link == "drawn"]
        start = told[-1]
        face.handle(Effort(0, 0, "mid"))
        other.clock.advance(0.12)
        face.tick(other.clock.now_ns, late=2)
        _seen(other, face, 30)
        drawn = bench.wait_for(governor, "drawn", lambda drawn: drawn.rung == 1)
    assert drawn.late == start.late + 2
    assert drawn.rungs == tuple(RungSize(*rung) for rung in RUNGS)


class Watched(Card):
    """The stock face's controls, kept instead of drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.controls, self.ranges, self.idle = tuple(NAMES), RANGES, IDLE
        self.drawn: list[dict[str, float]] = []

    def draw(self, controls: np.ndarray, out: np.ndarray, *, rung: int = 0) -> None:  # noqa: ARG002
        """Remember."""
        self.drawn.append(dict(zip(self.controls, controls.tolist(), strict=True)))


def _watched(studio: Studio) -> tuple[Face, Watched]:
    card = Watched()
    return Face(studio.ctx, card, studio.face._ring), card


def _run(studio: Studio, face: Face, frames: int) -> None:
    for _ in range(frames):
        studio.clock.advance(0.04)
        face.tick(studio.clock.now_ns)
        studio.take()


@pytest.mark.parametrize("wait_ms", [1, 39])
@pytest.mark.parametrize(
    ("kind", "rise", "control", "change"),
    [
        (ActivityKind.SILENCE, 0.0, "pitch", 0.8),
        (ActivityKind.LEVEL, 4.0, "browInnerUp_L", 0.08),
        (ActivityKind.ONSET, 0.0, "browInnerUp_L", 0.05),
    ],
)
def test_answers_the_visitor_within_200_ms(studio: Studio, wait_ms: int, kind: ActivityKind, rise: float, control: str, change: float):
    """A nod at a pause, a lift of the brows at a rising voice, a look at the first sound: seen less than 200 ms after the cue."""
    (one, moved), (other, still) = _watched(studio), _watched(studio)
    for face in (one, other):
        face.handle(floor(1, Posture.LISTENING))
    for frames in (10, 5):
        start = studio.clock.now_ns
        for face in (one, other):
            studio.clock.now_ns = start
            _run(studio, face, frames)
        if frames == 10:
            cue_ns = studio.clock.now_ns + (40 - wait_ms) * MS
            one.handle(Activity(1, cue_ns, kind, 0, 0, speech_ms=1500.0, rise=rise))
    within = (200 - wait_ms) // 40 + 1
    seen = [a[control] - b[control] for a, b in zip(moved.drawn[10:], still.drawn[10:], strict=True)]
    assert max(seen[:within]) > change


def test_a_flat_voice_and_a_reply_of_its_own_raise_no_brow(studio: Studio):
    """Only a rise is answered, not more often than every two seconds, and not while the avatar itself speaks."""
    for posture, rise, cues in ((Posture.LISTENING, 1.0, 0), (Posture.SPEAKING, 5.0, 0), (Posture.LISTENING, 5.0, 1)):
        face, _ = _watched(studio)
        face.handle(floor(1, posture))
        studio.clock.advance(5.0)
        for _ in range(5):
            face.handle(Activity(1, studio.clock.now_ns, ActivityKind.LEVEL, 0, 0, rise=rise))
        assert len(face._cues) == cues


def test_a_loud_voice_opens_the_mouth_wider(studio: Studio):
    """The sound in the ring decides; where it is gone, the phonemes alone do."""
    writer = studio.others["voice"].audio_writer("speech")
    widest = {}
    for turn, amplitude in ((2, 300.0), (3, 6000.0)):
        clause = speech(turn, start_s=writer.position / VOICE_RATE)
        tone = amplitude * np.sin(np.arange(clause.samples) * 0.05)
        assert writer.write(tone.astype(np.int16), 0) == clause.start
        face, card = _watched(studio)
        face.handle(clause)
        face.handle(head(turn, clause.start / VOICE_RATE, studio.clock.now_ns))
        _run(studio, face, 25)
        widest[turn] = max(drawn["jawOpen"] for drawn in card.drawn)
    assert widest[2] < 0.75 * widest[3]
    face, card = _watched(studio)
    lost = speech(4, start_s=0.0)
    writer.write(np.zeros(studio.face._voice._spec.capacity, np.int16), 0)
    face.handle(lost)
    face.handle(head(4, 0.0, studio.clock.now_ns))
    _run(studio, face, 25)
    assert max(drawn["jawOpen"] for drawn in card.drawn) > 0.3


def test_a_reply_s_tags_reach_the_face(studio: Studio):
    """A happy word is said with a smile, and what is shown is looked at."""
    face, card = _watched(studio)
    plain, control = _watched(studio)
    for one, gestures in ((face, (("happy", 1.0), ("screen", 1.1), ("wink", 1.2))), (plain, ())):
        start = studio.clock.now_ns
        one.handle(floor(2, Posture.SPEAKING))
        one.handle(tagged(2, *gestures))
        one.handle(head(2, 1.0, studio.clock.now_ns))
        _run(studio, one, 12)
        studio.clock.now_ns = start
    assert card.drawn[-1]["mouthSmile_L"] > control.drawn[-1]["mouthSmile_L"] + 0.1
    assert card.drawn[-1]["gazePitch"] > control.drawn[-1]["gazePitch"] + 4


def test_the_visitor_s_feeling_reaches_the_face(studio: Studio):
    """Whose words were sad is met with raised brows while the answer is looked for, and no more when nothing of it is felt."""
    face, card = _watched(studio)
    thinking = floor(2, Posture.THINKING)
    face.handle(thinking)
    _run(studio, face, 30)
    calm = card.drawn[-1]["browInnerUp_L"]
    face.handle(msgspec.structs.replace(thinking, feeling="sad"))
    _run(studio, face, 30)
    felt = card.drawn[-1]["browInnerUp_L"]
    face.handle(thinking)
    _run(studio, face, 60)
    assert felt > calm + 0.1
    assert card.drawn[-1]["browInnerUp_L"] < felt - 0.1


def test_greets_with_the_eyes(studio: Studio):
    """A visit that begins is answered with a smile and a lift of the brows."""
    studio.face.handle(floor(1, session=Session.ATTRACT))
    studio.face.handle(floor(1, Posture.ATTENTIVE, Session.ENGAGED))
    assert [cue for cue, _ in studio.face._cues] == ["smile", "brow"]


def test_runs_at_its_rate_and_ends_when_told():
    """The loop delivers frames by itself, beats, and leaves at stop()."""
    with Bench() as bench:
        ctx, stage = bench.context("renderer"), bench.context("stage")
        face = Face(ctx, Card(), ctx.frame_writer("video"))
        thread = threading.Thread(target=run, args=(ctx, face, 25))
        thread.start()
        try:
            seen = [bench.wait_for(stage, "video") for _ in range(5)]
        finally:
            ctx.stop()
            thread.join(LIMIT_S)
        assert not thread.is_alive()
        assert [d.seq for d in seen] == sorted({d.seq for d in seen})


@pytest.mark.system
def test_a_broken_avatar_still_gives_a_face(tmp_path: Path):
    """Without a readable avatar pack a drawn face moves and the technician is told why."""
    config = tmp_path / "kiosk.toml"
    config.write_text(f'avatar_path = "{tmp_path / "nothing"}"\n')
    with Bench(config=config) as bench:
        ctx, stage = bench.context("renderer"), bench.context("stage")
        thread = threading.Thread(target=main, args=(ctx,))
        thread.start()
        seen = {}
        deadline = time.monotonic() + LIMIT_S
        try:
            while {"video", "notice"} - seen.keys() and time.monotonic() < deadline:
                seen.update(stage.receive(0.1))
        finally:
            ctx.stop()
            thread.join(LIMIT_S)
        assert not thread.is_alive()
    assert (seen["video"].width, seen["video"].height) == (384, 384)
    assert "nothing" in seen["notice"].text


@contextlib.contextmanager
def _node(bench: Bench) -> Iterator[Context]:
    """The node as it is started, and the stage that sees it."""
    ctx, stage = bench.context("renderer"), bench.context("stage")
    thread = threading.Thread(target=main, args=(ctx,))
    thread.start()
    try:
        yield stage
    finally:
        ctx.stop()
        thread.join(LIMIT_S)
    assert not thread.is_alive()


def _corner(bench: Bench, stage: Context) -> int:
    """The first pixel of a frame that is still there when it is looked at."""
    for _ in range(100):
        with contextlib.suppress(StaleFrame), stage.frame_reader("video").lease(bench.wait_for(stage, "video")) as view:
            return int(view[0, 0])
    raise AssertionError("a hundred frames were gone before they were looked at")


@pytest.mark.system
def test_a_picture_is_behind_the_face(tmp_path: Path):
    """The node starts with a picture as [video] background and draws over it."""
    import cv2

    picture = tmp_path / "shop.png"
    cv2.imwrite(str(picture), np.full((4, 6, 3), 250, np.uint8))
    config = tmp_path / "kiosk.toml"
    config.write_text(f'avatar_path = "{tmp_path / "nothing"}"\n[video]\nbackground = "{picture}"\n')
    with Bench(config=config) as bench, _node(bench) as stage:
        assert _corner(bench, stage) > 200


class Gpu(Card):
    """Takes over from the CPU; keeps what it is told."""

    path = "a GPU"

    def __init__(self) -> None:
        super().__init__()
        self.attached, self.told = threading.Event(), list[str]()

    def attach_ring(self, memory: np.ndarray) -> str:
        """The memory of all slots."""
        self.told.append(f"{len(memory)} bytes")
        self.attached.set()
        return "mapped"

    def close(self) -> None:
        """Given back."""
        self.told.append("closed")


@pytest.mark.system
def test_a_gpu_draws_into_the_ring_and_is_given_back(monkeypatch: pytest.MonkeyPatch):
    """It gets the ring's memory when it takes over, is closed at the end, and a network that the CPU cannot run is told all the same."""
    gpu = Gpu()
    chosen = Selection(Relay(Card(), lambda _report: gpu), "tensorrt", {"onnxruntime": "the network is odd"})
    monkeypatch.setattr(renderer, "open_face", lambda _path: chosen)
    with Bench() as bench:
        with _node(bench) as stage:
            assert "the avatar only breathes: the network is odd" in bench.wait_for(stage, "notice").text
            assert gpu.attached.wait(LIMIT_S)
        size = len(bench.context("renderer").frame_writer("video").memory)
    assert gpu.told == [f"{size} bytes", "closed"]


def test_backgrounds(tmp_path: Path):
    """A colour, a picture beside the pack, or nothing."""
    import cv2

    assert background("#e9e4da", tmp_path) == (233, 228, 218)
    cv2.imwrite(str(tmp_path / "shop.png"), np.full((4, 6, 3), (10, 20, 30), np.uint8))
    picture = background("shop.png", tmp_path)
    assert isinstance(picture, np.ndarray)
    assert picture[0, 0].tolist() == [30, 20, 10]
    assert background("", tmp_path) is background("gone.png", tmp_path) is background("#12345g", tmp_path) is None
