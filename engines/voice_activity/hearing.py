"""From speech probabilities to a person who begins, pauses, goes on and ends: the listener's rules, without clocks, models or messages.

The network is sure a little late and lets go later still, so both ends of speech are placed by loudness: an onset is put back to where the
sound rose, a silence begins where it fell 30 dB under the voice, whatever the network still says for a tenth of a second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "Hearing", "HearingRules", "Kind", "Noticed", "block_levels"]

RATE = 16_000
FRAME = 512
BLOCK = 128
"""Samples per loudness value: 8 ms."""
_MS = RATE / 1000


class Kind(str, Enum):
    """What was noticed."""

    HINT = "hint"  # over the avatar's voice or in a pause: the first frame that sounds like speech
    ONSET = "onset"
    LEVEL = "level"
    SILENCE = "silence"
    JUDGE = "judge"  # the silence has lasted long enough for a(nother) look at the turn
    RESUMED = "resumed"
    CLOSED = "closed"  # nobody went on for so long that the next voice is a new utterance


class _Phase(Enum):
    QUIET = 0
    VOICED = 1
    PAUSING = 2


@dataclass(frozen=True, slots=True)
class HearingRules:
    """Thresholds on P(speech) and times in milliseconds; `guarded` ones hold while the avatar itself is heard."""

    speech: float = 0.5
    quiet: float = 0.35
    frames: int = 2  # speech frames among the last `frames + 1` make an onset
    guarded_speech: float = 0.7
    guarded_frames: int = 2
    hint_speech: float = 0.4
    hint_loud_speech: float = 0.2  # … and this is enough where it is …
    hint_loud_db: float = 20.0  # … so much over what is usually heard: what an echo canceller leaves seldom jumps so far
    hint_every_ms: float = 300.0
    guarded_level_db: float = -45.0  # what an echo canceller leaves is softer than this
    silence_ms: float = 96.0
    sure_silence_ms: float = 160.0  # so long under the voice is a silence even if the network has not let go
    judge_ms: tuple[float, ...] = (96.0, 200.0, 320.0, 480.0, 800.0)
    close_ms: float = 2500.0
    level_ms: float = 32.0  # the avatar stops at one of these: what lies between two is lost
    under_voice_db: float = 30.0
    over_floor_db: float = 6.0
    reach_back_ms: float = 250.0


@dataclass(frozen=True, slots=True)
class Noticed:
    """One thing noticed; indices are absolute samples, times milliseconds."""

    kind: Kind
    onset: int
    index: int  # end of the last speech sound; ONSET: the onset; RESUMED: where the voice came back
    speech_ms: float = 0.0
    pause_ms: float = 0.0
    probability: float = 0.0
    level_db: float = -100.0
    longest_pause_ms: float = 0.0


def block_levels(frame: NDArray[np.int16]) -> list[float]:
    """DBFS of each 8 ms of `frame` (512 samples), without its offset."""
    sound = frame.astype(np.float32).reshape(-1, BLOCK)
    sound -= sound.mean()
    levels: list[float] = (10.0 * np.log10(np.square(sound).mean(axis=1) / 32768.0**2 + 1e-10)).tolist()
    return levels


class Hearing:
    """Takes frame after frame; memory does not grow with the length of an utterance."""

    def __init__(self, rules: HearingRules | None = None) -> None:
        self._rules = rules or HearingRules()
        self._recent: deque[tuple[int, float]] = deque(maxlen=round(self._rules.reach_back_ms * _MS) // BLOCK + 1)  # (end, dBFS)
        self._floor_db = -60.0
        self.forget()

    def forget(self) -> None:
        """As if nobody had spoken yet; the room's noise floor stays."""
        self._phase = _Phase.QUIET
        self._votes: deque[bool] = deque(maxlen=max(self._rules.frames, self._rules.guarded_frames) + 1)
        self._recent.clear()
        self._onset = self._last = self._edge = 0
        self._paused = self._longest = 0
        self._peak_db = -100.0
        self._judged = 0
        self._level_due = self._hint_due = 0
        self._guarded = False

    @property
    def voiced(self) -> bool:
        """Somebody is speaking now."""
        return self._phase is _Phase.VOICED

    @property
    def pausing(self) -> bool:
        """Somebody spoke and may go on."""
        return self._phase is _Phase.PAUSING

    @property
    def onset(self) -> int:
        """Where the running utterance began."""
        return self._onset

    def step(self, probability: float, levels: Sequence[float], end: int, *, guarded: bool = False) -> list[Noticed]:
        """Hear one frame that ends before sample `end`; `levels` are its `block_levels`."""
        first = end - len(levels) * BLOCK
        for number, level in enumerate(levels, start=1):
            self._recent.append((first + number * BLOCK, level))
        if self._phase is _Phase.QUIET:
            return self._quiet(probability, levels, end, guarded)
        self._peak_db = max(self._peak_db - 0.15, max(levels) if probability >= self._rules.speech else -100.0)
        if self._phase is _Phase.VOICED:
            return self._voiced(probability, levels, end)
        return self._pausing(probability, levels, end)

    def end_utterance(self, end: int) -> list[Noticed]:
        """The turn was taken: what follows is a new utterance, also when the voice is sounding (again) already."""
        if self._phase is not _Phase.VOICED:
            self._phase = _Phase.QUIET
            self._votes.clear()
            return []
        self._begin(max(self._edge, self._onset), end)
        return [self._noticed(Kind.ONSET, self._onset, 1.0)]

    def lose_sound(self, end: int) -> list[Noticed]:
        """No more sound comes (the microphone is gone): whoever was speaking is silent from here."""
        found = []
        if self._phase is _Phase.VOICED:
            found.append(self._noticed(Kind.SILENCE, self._last, 0.0, end))
        self.forget()
        return found

    # --- phases

    def _quiet(self, probability: float, levels: Sequence[float], end: int, guarded: bool) -> list[Noticed]:
        rules = self._rules
        threshold, needed = (rules.guarded_speech, rules.guarded_frames) if guarded else (rules.speech, rules.frames)
        if guarded is not self._guarded:  # votes of one rule do not count under the other
            self._guarded = guarded
            self._votes.clear()
        loud = not guarded or max(levels) >= rules.guarded_level_db
        self._votes.append(probability >= threshold and loud)
        if sum(list(self._votes)[-(needed + 1) :]) < needed:
            if probability < rules.quiet:
                self._follow_floor(levels)
            least = rules.hint_loud_speech if max(levels) >= self._floor_db + rules.hint_loud_db else rules.hint_speech
            if guarded and loud and probability >= least and end >= self._hint_due:
                self._hint_due = end + round(rules.hint_every_ms * _MS)
                return [Noticed(Kind.HINT, end, end, probability=probability, level_db=max(levels))]
            return []
        self._begin(self._rise(end - (needed + 1) * FRAME), end)
        return [self._noticed(Kind.ONSET, self._onset, probability)]

    def _begin(self, onset: int, end: int) -> None:
        self._phase = _Phase.VOICED
        self._onset = self._edge = onset
        self._last = end
        self._paused = self._longest = 0
        self._peak_db = max(level for _, level in self._recent)
        self._level_due = end + round(self._rules.level_ms * _MS)
        self._votes.clear()

    def _voiced(self, probability: float, levels: Sequence[float], end: int) -> list[Noticed]:
        rules = self._rules
        if probability >= rules.quiet:
            self._last = max(self._last_loud(end - len(levels) * BLOCK), self._last)
        if probability < rules.quiet:
            self._follow_floor(levels)
        pause_ms = (end - self._last) / _MS
        if pause_ms >= rules.sure_silence_ms or (pause_ms >= rules.silence_ms and probability < rules.speech):
            self._phase = _Phase.PAUSING
            self._judged = 0
            self._votes.clear()
            return [self._noticed(Kind.SILENCE, self._last, probability, end), *self._judge(probability, end)]
        if end < self._level_due:
            return []
        self._level_due = end + round(rules.level_ms * _MS) - FRAME // 2
        return [self._noticed(Kind.LEVEL, self._last, probability, end)]

    def _pausing(self, probability: float, levels: Sequence[float], end: int) -> list[Noticed]:
        rules = self._rules
        loud = self._loud_db()
        self._votes.append(probability >= rules.speech and max(levels) >= loud)
        if sum(list(self._votes)[-(rules.frames + 1) :]) >= rules.frames:
            edge = max(self._last, self._rise(end - (rules.frames + 1) * FRAME))
            pause = edge - self._last
            self._paused += pause
            self._longest = max(self._longest, pause)
            self._phase, self._edge, self._last = _Phase.VOICED, edge, end
            self._level_due = end + round(rules.level_ms * _MS)
            return [self._noticed(Kind.RESUMED, edge, probability, pause_ms=pause / _MS)]
        if self._votes[-1] and end >= self._hint_due:
            self._hint_due = end + round(rules.hint_every_ms * _MS)
            return [Noticed(Kind.HINT, self._onset, end, probability=probability, level_db=max(levels)), *self._judge(probability, end)]
        if probability < rules.quiet:
            self._follow_floor(levels)
        if (end - self._last) / _MS >= rules.close_ms:
            found = self._noticed(Kind.CLOSED, self._last, probability, end)
            self._phase = _Phase.QUIET
            self._votes.clear()
            return [found]
        return self._judge(probability, end)

    def _judge(self, probability: float, end: int) -> list[Noticed]:
        """One request, however many of the times have passed at once."""
        pause_ms = (end - self._last) / _MS
        due = sum(1 for at in self._rules.judge_ms if at <= pause_ms)
        if due <= self._judged:
            return []
        self._judged = due
        return [self._noticed(Kind.JUDGE, self._last, probability, end)]

    # --- loudness

    def _loud_db(self) -> float:
        rules = self._rules
        return min(max(self._peak_db - rules.under_voice_db, self._floor_db + rules.over_floor_db), self._peak_db - 6.0)

    def _last_loud(self, since: int) -> int:
        loud = self._loud_db()
        return max((end for end, level in self._recent if end > since and level >= loud), default=0)

    def _rise(self, sure: int) -> int:
        """Where the sound that is speech from `sure` on began: back over loud blocks as long as they touch."""
        peak = max((level for end, level in self._recent if end > sure), default=-100.0)
        loud = min(max(peak - self._rules.under_voice_db, self._floor_db + self._rules.over_floor_db), peak - 6.0)
        began, misses = None, 0
        for end, level in reversed(self._recent):
            if level >= loud:
                began, misses = end - BLOCK, 0
            elif end <= sure + FRAME and began is not None:
                misses += 1
                if misses > 2:
                    break
        return max(0, sure if began is None else began)

    def _follow_floor(self, levels: Sequence[float]) -> None:
        level = sum(levels) / len(levels)
        self._floor_db += (level - self._floor_db) * (0.3 if level < self._floor_db else 0.05)

    def _noticed(self, kind: Kind, index: int, probability: float, end: int | None = None, pause_ms: float | None = None) -> Noticed:
        pause = (0.0 if end is None or kind is Kind.LEVEL else (end - self._last) / _MS) if pause_ms is None else pause_ms
        tail = list(self._recent)[-12:]
        power = sum(10.0 ** (level / 10.0) for _, level in tail) / max(1, len(tail))
        return Noticed(
            kind,
            self._onset,
            index,
            speech_ms=max(0.0, (self._last - self._onset - self._paused) / _MS),
            pause_ms=pause,
            probability=probability,
            level_db=max(-100.0, 10.0 * float(np.log10(power + 1e-10))),
            longest_pause_ms=self._longest / _MS,
        )
