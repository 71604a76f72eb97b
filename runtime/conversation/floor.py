"""The floor: who speaks, who listens, and when that changes. Rules only: `decide(rules, state, event, now) → (state, actions)`.

    idle ──presence, voice, touch──► attentive ──voice──► listening ──end of turn──► thinking ──sound──► speaking ──end──► attentive
                                                              ▲                                            │
                                                              └──────────── interruption ──────────────────┘

An answer is prepared on speculation as soon as the words of a silence are final, under a turn number of its own; it is heard only when
`Floor.granted` reaches that number. If the visitor goes on, the number rises and every stage drops the old work (law 2).

Parameters, state and events: floor_state.py.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from engines.animation.moods import take_tags
from runtime.conversation.feelings import feeling
from runtime.conversation.floor_state import QUIET_DB, Action, Back, Barge, Clause, Event, FloorRules, FloorState, Step, Tick, Utterance
from runtime.conversation.interruption import Overlap, judge_overlap, tokens
from runtime.messages import (
    Activity,
    ActivityKind,
    Ask,
    Floor,
    Heard,
    HeardKind,
    InputKind,
    Posture,
    Reply,
    Say,
    Session,
    Sound,
    SoundAction,
    Speech,
    Transcript,
    VisitorInput,
)

__all__ = ["HANGING", "Action", "Back", "Barge", "Clause", "Event", "FloorRules", "FloorState", "Tick", "Utterance", "decide", "floor_of"]

MS = 1_000_000


HANGING = frozenset(
    "a an the with and or of to for some my i i'd i'll can could may have make get give me like want without plus but".split()
)
"""No sentence ends with these: "a large latte with" is not finished, whatever the melody says."""


def floor_of(state: FloorState, now_ns: int) -> Floor:
    """The message that tells the others."""
    left = max(0, round((state.countdown_ns - now_ns) / MS)) if state.countdown_ns else -1
    return Floor(state.turn, now_ns, state.posture, state.session, state.visit, state.granted, left, state.reason, _felt(state))


def _felt(state: FloorState) -> str:
    """How the visitor feels who is being answered. The kiosk's own sentences, and those on the page's buttons, are nobody's feelings."""
    asked = state.asked
    if asked is None or asked.source == "touch" or asked.turn != state.granted or state.posture not in (Posture.THINKING, Posture.SPEAKING):
        return ""
    return feeling(asked.text)


def decide(rules: FloorRules, state: FloorState, event: Event, now_ns: int) -> Step:
    """The next state and what to do. `now_ns`: CLOCK_MONOTONIC."""
    if isinstance(event, Activity):
        return _activity(rules, state, event, now_ns)
    if isinstance(event, Transcript):
        return _transcript(rules, state, event, now_ns)
    if isinstance(event, Heard):
        return _heard(rules, state, event, now_ns)
    if isinstance(event, Reply):
        return _reply(state, event)
    if isinstance(event, Speech):
        return _speech(state, event)
    if isinstance(event, VisitorInput):
        return _input(rules, state, event, now_ns)
    if isinstance(event, Back):
        return _back(state, event, now_ns)
    return _tick(rules, state, now_ns)


# --- the visitor's voice


def _activity(rules: FloorRules, state: FloorState, event: Activity, now_ns: int) -> Step:
    if event.kind is ActivityKind.ONSET:
        return _onset(rules, state, event, now_ns)
    said = state.utterance
    if said is None or event.onset != said.onset:
        # After a "mm-hm" the floor has forgotten an utterance that the listener still holds: what follows is new to it.
        return _onset(rules, state, event, now_ns) if event.kind is ActivityKind.RESUMED else (state, ())
    if event.kind is ActivityKind.RESUMED:
        pause_ms = max(said.longest_pause_ms, event.pause_ms)
        said = replace(said, voiced=True, final=False, seen_ns=now_ns, complete=-1.0, silent_ns=0, longest_pause_ms=pause_ms, fallen_db=0.0)
        if state.barge:
            return replace(state, utterance=said), ()
        return replace(_next_turn(state), posture=Posture.LISTENING, utterance=said, reason="goes on"), ()
    if event.kind is ActivityKind.HINT:
        return replace(state, utterance=replace(said, hold_ns=now_ns + round(rules.hold_ms * MS))), ()
    level_db = max(said.level_db, event.level_db)
    heard_ms = max(said.speech_ms, event.speech_ms - said.before_ms)
    said = replace(said, speech_ms=heard_ms, level_db=level_db, fallen_db=level_db - event.level_db, seen_ns=now_ns)
    if event.kind is ActivityKind.LEVEL:
        return _overlap(rules, replace(state, utterance=said), now_ns)
    silent_ns = said.silent_ns or event.t_ns - round(event.pause_ms * MS)
    complete = event.complete if event.kind is ActivityKind.JUDGED else said.complete
    state = replace(state, utterance=replace(said, voiced=False, silent_ns=silent_ns, complete=complete))
    return _overlap(rules, state, now_ns) if state.barge else _tick(rules, state, now_ns)


def _onset(rules: FloorRules, state: FloorState, event: Activity, now_ns: int) -> Step:
    # What the listener still holds of before (the question, an "mm-hm") says nothing about the voice that is heard now.
    before_ms = event.speech_ms if event.kind is ActivityKind.RESUMED else 0.0
    said = Utterance(
        onset=event.onset, speech_ms=event.speech_ms - before_ms, before_ms=before_ms, level_db=event.level_db, seen_ns=now_ns,
        still_there=state.session is Session.STILL_THERE,
    )  # fmt: skip
    # A voice alone begins no visit and keeps none: in a shop there is always one. Words do (`_ask`).
    if state.posture is Posture.SPEAKING:
        return replace(state, utterance=said, barge=Barge(now_ns), reason="voice over the avatar"), ()
    if state.posture is Posture.THINKING and state.asked and state.asked.text != rules.sorry:
        # Nothing of the answer has sounded: the question is kept until it is known whether this voice says anything. What was granted
        # too early is the beginning of what follows.
        early = state.asked.source == "speech" and now_ns - state.granted_ns < rules.continue_ms * MS
        said = replace(said, carried=state.asked, joined=early)
    elif state.posture is Posture.LISTENING and state.utterance:  # its end got lost
        said = replace(said, carried=state.utterance.carried, joined=state.utterance.joined)
    return replace(_next_turn(state), posture=Posture.LISTENING, utterance=said, barge=None, reason="voice"), ()


def _transcript(rules: FloorRules, state: FloorState, event: Transcript, now_ns: int) -> Step:
    said = state.utterance
    if said is None or event.onset != said.onset:
        return state, ()
    said = replace(
        said, text=event.text, final=event.final and not said.voiced, confidence=event.confidence, ends=event.ends, worded=event.worded
    )
    state = replace(state, utterance=said)
    if state.barge:
        return _overlap(rules, state, now_ns)
    if said.final and state.posture is Posture.LISTENING:
        state, actions = _ask(state, said, now_ns)
        after, more = _tick(rules, state, now_ns)
        return after, actions + more
    return state, ()


def _ask(state: FloorState, said: Utterance, now_ns: int) -> Step:
    """Have the answer prepared; it is heard only if the visitor does not go on. Words that are sure begin a visit, or renew it."""
    ask = _question(state, said, now_ns)
    if ask is None or (state.asked and state.asked.text == ask.text and state.asked.turn == state.turn):
        return state, ()
    state = replace(state, turn=ask.turn, asked=ask, clauses=(), expects="")
    return _renewed(state, now_ns) if said.sure else state, (ask,)


def _question(state: FloorState, said: Utterance, now_ns: int) -> Ask | None:
    """What to ask after `said`; None where it was no words, or not said to the kiosk."""
    turn, before = state.turn + 1, said.carried
    if before and not said.sure:  # a sound, or somebody's words from afar: the question of before stands
        return msgspec.structs.replace(before, turn=turn, t_ns=now_ns, speculative=True, instead_of=before.turn)
    if not said.text or (not said.sure and state.session is not Session.ENGAGED):
        return None  # somebody talks near the kiosk, not to it
    ask = Ask(turn, now_ns, said.text, state.visit, "speech", said.confidence, speculative=True, still_there=said.still_there)
    if before and said.joined:
        return msgspec.structs.replace(ask, text=f"{before.text} {said.text}", instead_of=before.turn, still_there=before.still_there)
    return ask


def _overlap(rules: FloorRules, state: FloorState, now_ns: int) -> Step:
    said = state.utterance
    if not state.barge or said is None:
        return state, ()
    spoken = {word for clause in state.clauses for word in tokens(take_tags(clause.text)[0])}
    ended = not said.voiced and said.final
    softer_db = state.voice_db - said.level_db if state.voice_db > QUIET_DB else 0.0
    verdict = judge_overlap(
        rules.overlap, said.text, said.speech_ms, spoken=spoken, question_open=bool(state.expects), ended=ended,
        confidence=said.confidence, worded=said.worded, softer_db=softer_db, fallen_db=said.fallen_db,
    )  # fmt: skip
    if verdict is Overlap.INTERRUPTION:
        return _interrupt(rules, state, now_ns, "interrupted")
    timed_out = now_ns - state.barge.since_ns > rules.resume_ms * MS
    if ended or (timed_out and not said.voiced):
        return replace(state, barge=None, utterance=None, reason=verdict.value), (Sound(state.turn, now_ns, SoundAction.RESUME),)
    if timed_out and verdict is Overlap.DISTANT and not state.barge.played_on:
        return replace(state, barge=replace(state.barge, played_on=True)), (Sound(state.turn, now_ns, SoundAction.RESUME),)
    return state, ()


def _interrupt(rules: FloorRules, state: FloorState, now_ns: int, reason: str) -> Step:
    state = replace(_next_turn(_answered(rules, state, now_ns)), posture=Posture.LISTENING, barge=None, reason=reason)
    stop = Sound(state.turn, now_ns, SoundAction.STOP)
    said = state.utterance
    if said and said.final:  # the words were complete before the verdict: answer them
        state, actions = _ask(state, said, now_ns)
        after, more = _tick(rules, state, now_ns)
        return after, (stop, *actions, *more)
    return state, (stop,)


# --- the avatar's answer


def _reply(state: FloorState, event: Reply) -> Step:
    if event.turn != state.turn:
        return state, ()
    clause = Clause(event.seq, event.text, event.last)
    state = replace(state, clauses=(*state.clauses, clause), expects=event.expects or state.expects)
    return (_unanswered(state) if state.granted == state.turn else state), ()


def _unanswered(state: FloorState) -> FloorState:
    """Back to rest where the whole reply is empty: what was heard was not meant for us."""
    if state.clauses and state.clauses[-1].last and not any(take_tags(clause.text)[0] for clause in state.clauses):
        return replace(state, posture=_rest(state.session), asked=None, reason="not for us")
    return state


def _speech(state: FloorState, event: Speech) -> Step:
    if event.turn != state.turn:
        return state, ()
    end = event.start + event.samples
    return replace(state, clauses=tuple(replace(one, end=end) if one.seq == event.clause else one for one in state.clauses)), ()


def _heard(rules: FloorRules, state: FloorState, event: Heard, now_ns: int) -> Step:
    if event.turn != state.turn:
        return state, ()
    if event.kind is HeardKind.STARTED:
        return replace(state, posture=Posture.SPEAKING, utterance=None, reason="sound"), ()
    state = replace(_answered(rules, state, now_ns), granted_ns=0)
    if state.barge:  # spoke to its end under the visitor's voice: what they say is now an ordinary utterance
        return replace(_next_turn(state), posture=Posture.LISTENING, barge=None, reason="finished under a voice"), ()
    return replace(state, posture=Posture.ATTENTIVE, utterance=None, reason="finished"), ()


def _back(state: FloorState, event: Back, now_ns: int) -> Step:
    """A node died under the conversation and is here again: repeat what was lost with it, under a new turn."""
    if state.posture not in (Posture.THINKING, Posture.SPEAKING):
        return state, ()
    if event.node == "dialogue" and not any(clause.last for clause in state.clauses) and state.asked:
        again = replace(_next_turn(state), asked=state.asked, posture=Posture.THINKING, granted_ns=now_ns, reason="asked again")
        ask = msgspec.structs.replace(state.asked, turn=again.turn, t_ns=now_ns, speculative=False)
        return replace(again, granted=again.turn, asked=ask), (ask,)
    if event.node not in ("voice", "stage") or not state.clauses:
        return state, ()
    if event.node == "voice" and state.clauses[-1].last and all(clause.end >= 0 for clause in state.clauses):
        return state, ()  # it had made all of the sound, which is in the ring and plays on
    rest = [clause for clause in state.clauses if clause.end < 0 or clause.end > event.index]
    if not rest:
        return replace(_next_turn(state), posture=_rest(state.session), active_ns=now_ns, reason="said already"), ()
    again = replace(_next_turn(state), asked=state.asked, posture=Posture.THINKING, granted_ns=now_ns, reason="said again")
    # What a model would still have added belongs to the old turn and is dropped with it: the answer ends with what there is.
    says = tuple(Say(again.turn, now_ns, seq, clause.text, last=seq == len(rest) - 1) for seq, clause in enumerate(rest))
    clauses = tuple(Clause(say.seq, say.text, say.last) for say in says)
    return replace(again, granted=again.turn, clauses=clauses, expects=state.expects), says


# --- touch and keyboard


def _input(rules: FloorRules, state: FloorState, event: VisitorInput, now_ns: int) -> Step:
    if event.kind in (InputKind.TYPED, InputKind.TOUCH, InputKind.CALL_STAFF):
        woken = replace(_next_turn(_renewed(state, now_ns)), utterance=None, barge=None)
        source = "typed" if event.kind is InputKind.TYPED else "touch"
        ask = Ask(woken.turn, now_ns, event.text or "call staff", woken.visit, source)
        asked = replace(woken, posture=Posture.THINKING, granted=woken.turn, granted_ns=now_ns, asked=ask, reason=source)
        return asked, (Sound(woken.turn, now_ns, SoundAction.STOP), ask)
    if event.kind is InputKind.STOP:
        quiet = replace(_next_turn(state), posture=_rest(state.session), utterance=None, barge=None, active_ns=now_ns, reason="stop")
        return quiet, (Sound(quiet.turn, now_ns, SoundAction.STOP),)
    if event.kind is InputKind.START_OVER:
        return _wipe(state, now_ns, "start over")
    if event.kind is InputKind.PRESENCE and event.text == "gone":
        return (
            (replace(state, countdown_ns=now_ns + round(rules.gone_ms * MS), session=Session.STILL_THERE), ())
            if _in_visit(state)
            else (state, ())
        )
    if event.kind in (InputKind.STAY, InputKind.PRESENCE, InputKind.LANGUAGE):
        posture = Posture.ATTENTIVE if state.posture is Posture.IDLE else state.posture
        return replace(_renewed(state, now_ns), posture=posture, reason=event.kind.value), ()
    return state, ()


# --- time


def _tick(rules: FloorRules, state: FloorState, now_ns: int) -> Step:
    said = state.utterance
    if said and said.voiced and now_ns - said.seen_ns > rules.lost_ms * MS:
        state = replace(state, utterance=replace(said, voiced=False, silent_ns=said.seen_ns))
    if state.barge:
        return _overlap(rules, state, now_ns)
    if state.posture is Posture.LISTENING:
        return _end_of_turn(rules, state, now_ns)
    if state.posture is Posture.THINKING and now_ns - state.granted_ns > rules.thinking_limit_ms * MS:
        return _give_up(rules, state, now_ns)
    return _patience(rules, state, now_ns)


def _end_of_turn(rules: FloorRules, state: FloorState, now_ns: int) -> Step:
    said = state.utterance
    if said is None:
        return replace(state, posture=_rest(state.session)), ()
    if said.voiced or not said.silent_ns:
        return state, ()
    if now_ns < said.hold_ns:
        return state, ()
    waited_ms = (now_ns - said.silent_ns) / MS
    complete = rules.conclude(max(said.complete, 0.0), said.ends, said.confidence, said.text)
    if said.ends < 0.0 and tokens(said.text)[-1:] and tokens(said.text)[-1] in HANGING:
        complete = min(complete, rules.hanging_complete)
    wait_ms = rules.endpoint_wait_ms(complete, said.speech_ms, said.longest_pause_ms)
    if waited_ms < wait_ms or (not said.final and waited_ms < wait_ms + rules.final_grace_ms):
        return state, ()
    state, actions = _ask(state, said, now_ns)  # nothing to do where the final words have already asked
    asked = state.asked if state.asked and state.asked.turn == state.turn else None
    state = _by_words(rules, state, said, asked, now_ns)
    if asked is None:
        return replace(state, posture=_rest(state.session), utterance=None, reason="no words"), actions
    thinking = replace(state, posture=Posture.THINKING, granted=state.turn, granted_ns=now_ns, utterance=None, reason="end of turn")
    return _unanswered(thinking), actions


def _by_words(rules: FloorRules, state: FloorState, said: Utterance, asked: Ask | None, now_ns: int) -> FloorState:
    """What the words of an utterance that is over say about the visitor.

    Words that are not sure come from a visitor who speaks softly, or from people who talk near the kiosk: it cannot tell which. So they
    are answered as a visitor's ("could you say that again?"), and renew the visit, but no more than `unsure_most` times in a row: a
    visitor speaks clearer in the end, types or touches, which counts from the start again; chatter does none of this, and what was left
    on the screen is wiped. After "still there?" they are not answered, for there may be nobody; they only begin its countdown again.
    """
    if not said.text or (said.carried and not said.sure):
        return state
    if said.sure:
        return replace(state, voice_db=said.level_db)
    if not _in_visit(state):
        return state
    state = replace(state, unsure=state.unsure + 1, voice_db=said.level_db if asked else state.voice_db)
    if state.unsure > rules.unsure_most:
        return state
    if asked:
        return replace(state, active_ns=now_ns)
    return replace(state, countdown_ns=max(state.countdown_ns, now_ns + round(rules.wipe_ms * MS)))


def _give_up(rules: FloorRules, state: FloorState, now_ns: int) -> Step:
    if state.asked and state.asked.text == rules.sorry:  # not even that could be said: wait for the visitor
        return replace(_next_turn(state), posture=_rest(state.session), reason="no voice"), ()
    again = replace(_next_turn(state), posture=Posture.THINKING, granted_ns=now_ns, active_ns=now_ns, reason="no answer in time")
    asked = Ask(again.turn, now_ns, rules.sorry, state.visit, "touch")
    return (
        replace(again, granted=again.turn, asked=asked, clauses=(Clause(0, rules.sorry, last=True),)),
        (Say(again.turn, now_ns, 0, rules.sorry, last=True),),
    )


def _patience(rules: FloorRules, state: FloorState, now_ns: int) -> Step:
    """Nobody says anything: ask whether they are still there, then forget the visit."""
    if not _in_visit(state) or state.posture is not Posture.ATTENTIVE:
        return state, ()
    if state.countdown_ns:
        return _wipe(state, now_ns, "left") if now_ns >= state.countdown_ns else (state, ())
    if now_ns - state.active_ns < rules.still_there_ms * MS:
        return state, ()
    return replace(state, session=Session.STILL_THERE, countdown_ns=now_ns + round(rules.wipe_ms * MS), reason="still there?"), ()


def _wipe(state: FloorState, now_ns: int, reason: str) -> Step:
    """The visit is over: a new number tells every node to forget (law 7)."""
    fresh = FloorState(turn=state.turn + 1, visit=state.visit + 1, active_ns=now_ns, reason=reason)
    return fresh, (Sound(fresh.turn, now_ns, SoundAction.STOP),)


def _renewed(state: FloorState, now_ns: int) -> FloorState:
    """A visitor is here for certain."""
    return replace(state, session=Session.ENGAGED, active_ns=now_ns, countdown_ns=0, unsure=0)


def _answered(rules: FloorRules, state: FloorState, now_ns: int) -> FloorState:
    """The avatar spoke until now: from here on the visitor has the whole time, unless the answer was not to one (`_by_words`)."""
    return state if state.unsure > rules.unsure_most else replace(state, active_ns=now_ns)


def _next_turn(state: FloorState) -> FloorState:
    return replace(state, turn=state.turn + 1, asked=None, clauses=(), expects="")


def _in_visit(state: FloorState) -> bool:
    return state.session is not Session.ATTRACT


def _rest(session: Session) -> Posture:
    return Posture.IDLE if session is Session.ATTRACT else Posture.ATTENTIVE
