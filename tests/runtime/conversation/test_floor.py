"""Turn taking as a story: events and a clock in, floor and actions out."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.conversation.floor import Back, FloorRules, FloorState, Tick, decide, floor_of
from runtime.messages import (
    Activity,
    ActivityKind,
    Ask,
    Heard,
    HeardKind,
    InputKind,
    Message,
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

MS = 1_000_000
RULES = FloorRules(endpoint_wait_ms=lambda complete, _speech, _pause: 250 if complete > 0.5 else 900)


class Story:
    """A floor with a clock; keeps all actions."""

    def __init__(self, **rules) -> None:
        self.state, self.now, self.actions = FloorState(), 1_000 * MS, []
        self.rules = replace(RULES, **rules)

    def on(self, event, after_ms: float = 0):
        """Let time pass in ticks of 10 ms, then feed `event`; returns the actions of this call."""
        mark = len(self.actions)
        for _ in range(int(after_ms // 10)):
            self.now += 10 * MS
            self._step(Tick())
        self._step(msgspec.structs.replace(event, t_ns=self.now) if isinstance(event, Message) else event)
        return self.actions[mark:]

    def _step(self, event):
        self.state, actions = decide(self.rules, self.state, event, self.now)
        self.actions += actions

    def wait(self, ms: float):
        return self.on(Tick(), ms)

    def voice(self, kind, onset=100, **more):
        return Activity(0, self.now, kind, onset, onset, **more)

    def says(self, text: str, *, onset=100, complete=0.9, speech_ms=800.0, level_db=-100.0, ends=-1.0):
        """The visitor says `text` and stops; returns the actions until the end-of-turn verdict."""
        mark = len(self.actions)
        self.on(self.voice(ActivityKind.ONSET, onset, level_db=level_db))
        self.on(self.voice(ActivityKind.SILENCE, onset, speech_ms=speech_ms, pause_ms=100), speech_ms)
        self.on(Transcript(0, self.now, onset, onset, text, final=True, confidence=0.9, ends=ends), 50)
        self.on(self.voice(ActivityKind.JUDGED, onset, speech_ms=speech_ms, pause_ms=200, complete=complete), 20)
        return self.actions[mark:]

    def answers(self, text="We open at nine.", expects=""):
        """The dialogue and the voice answer the running turn, and it sounds."""
        turn = self.state.turn
        self.on(Reply(turn, self.now, 0, text, last=True, expects=expects))
        self.on(Speech(turn, self.now, 0, 1000, 20_000, text, last=True, clause=0))
        self.on(Heard(turn, self.now, HeardKind.STARTED, 1000))


def asked(actions):
    return [action.text for action in actions if isinstance(action, Ask)]


def speaking(expects="") -> Story:
    """A story in which the avatar is speaking."""
    story = Story()
    story.says("when do you open")
    story.wait(400)
    story.answers(expects=expects)
    assert story.state.posture is Posture.SPEAKING
    return story


def test_an_answer_is_prepared_before_it_is_granted():
    """The question goes out with the final words; the floor is granted only when the wait is over."""
    story = Story()
    assert asked(story.says("when do you open")) == ["when do you open"]
    assert story.state.granted == 0
    story.wait(400)
    assert story.state.granted == story.state.turn
    assert story.state.posture is Posture.THINKING
    assert story.state.session is Session.ENGAGED


def test_a_visitor_who_goes_on_is_not_answered_yet():
    """Speech within the wait drops the speculation under a new turn; the whole sentence is asked in the end."""
    story = Story()
    story.says("can i have a", complete=0.1)
    first = story.state.turn
    story.on(story.voice(ActivityKind.RESUMED, pause_ms=400), 300)
    assert story.state.turn > first
    assert story.state.granted == 0
    story.on(story.voice(ActivityKind.SILENCE, speech_ms=1500, pause_ms=100), 600)
    story.on(Transcript(0, story.now, 100, 100, "can i have a latte", final=True))
    story.on(story.voice(ActivityKind.JUDGED, speech_ms=1500, complete=0.9))
    story.wait(400)
    assert asked(story.actions)[-1] == "can i have a latte"
    assert story.state.granted == story.state.turn


def test_an_unfinished_sentence_waits_longer():
    """The lower P(complete), the longer the wait."""
    story = Story()
    story.says("can i have a", complete=0.1)
    story.wait(400)
    assert story.state.granted == 0
    story.wait(600)
    assert story.state.granted == story.state.turn


def test_a_hanging_word_is_not_an_end():
    """After "with" the wait is long although the turn model is sure; after "milk" it is not."""
    story = Story()
    story.says("a large latte with", complete=0.95)
    story.wait(400)
    assert story.state.granted == 0
    story = Story()
    story.says("a large latte with milk", complete=0.95)
    story.wait(400)
    assert story.state.granted == story.state.turn


def test_words_that_cannot_end_a_sentence_make_the_wait_longer():
    """The recogniser's own word on whether a sentence can end is heard beside the sound, and the list of hanging words is not needed."""
    for ends, granted in ((0.001, False), (0.9, True), (-1.0, True)):
        story = Story(conclude=lambda complete, ends, _confidence, _text: min(complete, ends) if ends >= 0 else complete)
        story.says("i would like a flat", complete=0.95, ends=ends)
        story.wait(400)
        assert (story.state.granted == story.state.turn) is granted, ends


def test_what_sounds_like_speech_in_a_pause_holds_the_answer_back():
    """One speech-like frame delays the grant until it is known to be a voice or not; it does not cancel it."""
    story = Story()
    story.says("a large latte")
    story.on(story.voice(ActivityKind.HINT), 60)
    story.wait(100)
    assert story.state.granted == 0
    story.wait(60)
    assert story.state.granted == story.state.turn


def test_speech_just_after_a_grant_continues_the_sentence():
    """Cut off before any sound: what follows is joined to what was said."""
    story = Story()
    story.says("a large latte")
    story.wait(300)
    assert story.state.posture is Posture.THINKING
    story.says("with soy milk", onset=9000)
    assert asked(story.actions)[-1] == "a large latte with soy milk"


def test_a_real_word_stops_the_avatar():
    """Words that are no backchannel: silent at once, a new turn, and the visitor is answered."""
    story = speaking()
    turn = story.state.turn
    story.on(story.voice(ActivityKind.ONSET, 5000))
    assert story.state.turn == turn
    actions = story.on(Transcript(0, story.now, 5000, 5000, "what about sunday"), 300)
    actions += story.on(story.voice(ActivityKind.LEVEL, 5000, speech_ms=400.0), 50)
    assert Sound(story.state.turn, story.now, SoundAction.STOP) in actions
    assert story.state.turn > turn
    assert story.state.posture is Posture.LISTENING


def test_a_backchannel_lets_it_go_on():
    """A "mm-hm" ducks and resumes; the turn stays."""
    story = speaking()
    turn = story.state.turn
    story.on(story.voice(ActivityKind.ONSET, 5000))
    story.on(story.voice(ActivityKind.SILENCE, 5000, speech_ms=300.0, pause_ms=100), 400)
    actions = story.on(Transcript(0, story.now, 5000, 5000, "mm hm", final=True), 50)
    assert [action.action for action in actions if isinstance(action, Sound)] == [SoundAction.RESUME]
    assert (story.state.turn, story.state.posture) == (turn, Posture.SPEAKING)


def test_words_after_a_backchannel_interrupt():
    """A "mm-hm … what about sunday" in one breath: the second part is not lost."""
    story = speaking()
    story.on(story.voice(ActivityKind.ONSET, 5000))
    story.on(story.voice(ActivityKind.SILENCE, 5000, speech_ms=300.0, pause_ms=100), 400)
    story.on(Transcript(0, story.now, 5000, 5000, "mm hm", final=True), 50)
    story.on(story.voice(ActivityKind.RESUMED, 5000, speech_ms=420.0, pause_ms=300), 100)
    story.on(story.voice(ActivityKind.LEVEL, 5000, speech_ms=740.0), 300)
    story.on(Transcript(0, story.now, 5000, 5000, "mm hm what about sunday"), 10)
    assert story.actions[-1].action is SoundAction.STOP


def test_what_was_said_before_does_not_count_for_a_noise_over_the_avatar():
    """A pan falls, and for the listener it is still the long "mm-hm" of a second ago: the noise is judged by its own length."""
    story = speaking()
    story.on(story.voice(ActivityKind.ONSET, 5000))
    story.on(story.voice(ActivityKind.SILENCE, 5000, speech_ms=480.0, pause_ms=100), 400)
    story.on(Transcript(0, story.now, 5000, 5000, "mm hm", final=True), 50)
    story.on(story.voice(ActivityKind.RESUMED, 5000, speech_ms=1600.0, pause_ms=900), 100)
    story.on(story.voice(ActivityKind.LEVEL, 5000, speech_ms=1632.0), 32)
    assert story.state.posture is Posture.SPEAKING
    story.on(story.voice(ActivityKind.LEVEL, 5000, speech_ms=2200.0), 600)  # one that lasts still is somebody
    assert story.actions[-1].action is SoundAction.STOP


def test_a_cough_without_words_resumes_within_the_limit():
    """A noise that never becomes words: full level again after `resume_ms` at the latest."""
    story = speaking()
    story.on(story.voice(ActivityKind.ONSET, 5000))
    story.on(story.voice(ActivityKind.SILENCE, 5000, speech_ms=150.0, pause_ms=100), 300)
    actions = story.wait(RULES.resume_ms)
    assert [action.action for action in actions] == [SoundAction.RESUME]


def test_yes_answers_an_open_question():
    """While the avatar asks, "yes" is an answer, not a backchannel."""
    story = speaking(expects="confirm")
    story.on(story.voice(ActivityKind.ONSET, 5000))
    story.on(story.voice(ActivityKind.SILENCE, 5000, speech_ms=700.0, pause_ms=100), 500)
    story.on(Transcript(0, story.now, 5000, 5000, "yes please", final=True), 50)
    assert asked(story.actions)[-1] == "yes please"


def test_a_distant_voice_neither_stops_nor_softens_it_for_long():
    """Far softer than the visitor was: back at full level after `resume_ms` though it goes on; the visitor can still interrupt."""
    story = Story()
    story.says("when do you open", level_db=-20.0)
    story.wait(400)
    story.answers()
    turn = story.state.turn
    story.on(story.voice(ActivityKind.ONSET, 5000, level_db=-38.0))
    story.on(Transcript(0, story.now, 5000, 5000, "what about sunday"), 300)
    for at in range(1, 30):
        story.on(story.voice(ActivityKind.LEVEL, 5000, speech_ms=at * 100.0, level_db=-36.0), 100)
    assert [action.action for action in story.actions if isinstance(action, Sound)] == [SoundAction.RESUME]
    assert (story.state.turn, story.state.posture) == (turn, Posture.SPEAKING)
    story.on(story.voice(ActivityKind.LEVEL, 5000, speech_ms=3000.0, level_db=-21.0), 100)
    assert story.actions[-1].action is SoundAction.STOP


def test_its_own_echo_does_not_stop_it():
    """Words that it is saying itself come from the loudspeaker."""
    story = speaking()
    turn = story.state.turn
    story.on(story.voice(ActivityKind.ONSET, 5000))
    story.on(Transcript(0, story.now, 5000, 5000, "we open at nine"), 300)
    story.on(story.voice(ActivityKind.LEVEL, 5000, speech_ms=900.0), 300)
    assert story.state.turn == turn


def test_a_tag_of_the_reply_is_no_word_that_it_says():
    """A tag ("[sorry]") is for the face: a visitor who says "sorry" is no echo, and a reply of nothing but a tag is none."""
    story = Story()
    story.says("do you have mocha")
    story.wait(400)
    story.answers("[sorry] We are out of it.")
    story.on(story.voice(ActivityKind.ONSET, 5000))
    story.on(Transcript(0, story.now, 5000, 5000, "sorry can i have tea", confidence=0.9), 300)
    assert [a.action for a in story.on(story.voice(ActivityKind.LEVEL, 5000, speech_ms=400.0), 50) if isinstance(a, Sound)] == [
        SoundAction.STOP
    ]
    story = Story()
    story.says("do you have mocha")
    story.wait(400)
    story.on(Reply(story.state.turn, story.now, 0, "[nod]", last=True))
    assert story.state.reason == "not for us"


def test_sound_that_is_surely_words_stops_it_before_they_are_understood():
    """The recogniser's chance of words reaches the verdict; a low one lets even a long sound pass."""
    story = speaking()
    story.on(story.voice(ActivityKind.ONSET, 5000))
    story.on(Transcript(0, story.now, 5000, 5000, "", worded=0.95), 200)
    assert story.on(story.voice(ActivityKind.LEVEL, 5000, speech_ms=300.0), 50)[0].action is SoundAction.STOP
    story = speaking()
    story.on(story.voice(ActivityKind.ONSET, 5000))
    story.on(Transcript(0, story.now, 5000, 5000, "", worded=0.1), 200)
    assert not story.on(story.voice(ActivityKind.LEVEL, 5000, speech_ms=900.0), 600)


def test_typed_words_are_granted_at_once():
    """The keyboard waits for nobody, and stops a running answer."""
    story = speaking()
    actions = story.on(VisitorInput(0, story.now, InputKind.TYPED, "is there wifi"))
    assert isinstance(actions[0], Sound)
    assert asked(actions) == ["is there wifi"]
    assert story.state.granted == story.state.turn


def test_a_visit_ends_with_a_new_number():
    """Silence, "still there?", countdown, wipe: everything of the visit is gone from the floor's own state too."""
    story = speaking()
    story.on(Heard(story.state.turn, story.now, HeardKind.FINISHED, 21_000))
    visit = story.state.visit
    story.wait(RULES.still_there_ms + 100)
    assert story.state.session is Session.STILL_THERE
    assert floor_of(story.state, story.now).wipe_in_ms > 0
    story.wait(RULES.wipe_ms + 100)
    assert story.state.visit == visit + 1
    assert (story.state.session, story.state.posture) == (Session.ATTRACT, Posture.IDLE)
    assert b"open" not in msgspec.msgpack.encode(story.state)


def test_a_touch_during_the_countdown_stays():
    """One action is enough to stay."""
    story = speaking()
    story.on(Heard(story.state.turn, story.now, HeardKind.FINISHED, 21_000))
    story.wait(RULES.still_there_ms + 100)
    story.on(VisitorInput(0, story.now, InputKind.STAY))
    story.wait(RULES.wipe_ms)
    assert story.state.session is Session.ENGAGED


def test_voice_lost_in_the_middle_of_a_sentence_says_the_rest():
    """What had not been heard is said again under a new turn when the voice is back."""
    story = Story()
    story.says("when do you open")
    story.wait(400)
    turn = story.state.turn
    story.on(Reply(turn, story.now, 0, "We open at nine.", last=False))
    story.on(Speech(turn, story.now, 0, 1000, 20_000, "We open at nine.", last=False, clause=0))
    story.on(Reply(turn, story.now, 1, "On Sunday at ten.", last=True))
    story.on(Heard(turn, story.now, HeardKind.STARTED, 1000))
    actions = story.on(Back("voice", index=22_000))
    assert [(say.text, say.last) for say in actions if isinstance(say, Say)] == [("On Sunday at ten.", True)]
    assert story.state.granted == story.state.turn > turn


def test_voice_lost_after_its_work_is_not_noticed():
    """All of the sound is in the ring already: the visitor hears no break."""
    story = speaking()
    turn = story.state.turn
    assert story.on(Back("voice", index=5000)) == []
    assert (story.state.turn, story.state.posture) == (turn, Posture.SPEAKING)


def test_stage_lost_at_the_very_end_says_nothing_again():
    """Everything had been heard: no apology follows."""
    story = speaking()
    assert story.on(Back("stage", index=21_000)) == []
    assert story.state.posture is Posture.ATTENTIVE
    assert not [action for action in story.wait(2 * RULES.thinking_limit_ms) if isinstance(action, Say)]


def test_a_clause_of_two_sentences_is_heard_when_both_are():
    """One clause may be several pieces of sound; what is said again begins with the clause that was not heard whole."""
    story = Story()
    story.says("is there a card")
    story.wait(400)
    turn = story.state.turn
    story.on(Reply(turn, story.now, 0, "Yes. With our card coffee is free,", last=False))
    story.on(Reply(turn, story.now, 1, "and you collect points.", last=True))
    story.on(Speech(turn, story.now, 0, 0, 10_000, "Yes.", last=False))
    story.on(Heard(turn, story.now, HeardKind.STARTED, 0))
    story.on(Speech(turn, story.now, 1, 10_000, 10_000, "With our card coffee is free,", last=False, clause=0))
    story.on(Speech(turn, story.now, 2, 20_000, 10_000, "and you collect points.", last=True, clause=1))
    actions = story.on(Back("stage", index=25_000))
    assert [(say.text, say.last) for say in actions if isinstance(say, Say)] == [("and you collect points.", True)]


def test_an_answer_cut_by_a_crash_ends():
    """The model was still writing when the voice died: what is said again has an end, so the floor comes back."""
    story = Story()
    story.says("tell me about the store")
    story.wait(400)
    turn = story.state.turn
    story.on(Reply(turn, story.now, 0, "We have five floors,", last=False))
    actions = story.on(Back("voice"))
    assert [(say.text, say.last) for say in actions if isinstance(say, Say)] == [("We have five floors,", True)]


def test_dialogue_lost_while_thinking_is_asked_again():
    """The visitor need not repeat the question."""
    story = Story()
    story.says("when do you open")
    story.wait(400)
    assert asked(story.on(Back("dialogue"))) == ["when do you open"]


def test_no_answer_in_time_is_an_apology_not_a_hang():
    """If nothing comes, the avatar says so; if not even that sounds, it listens again."""
    story = Story()
    story.says("when do you open")
    story.wait(400)
    actions = story.wait(RULES.thinking_limit_ms)
    assert [say.text for say in actions if isinstance(say, Say)] == [RULES.sorry]
    story.wait(RULES.thinking_limit_ms + 100)
    assert story.state.posture is Posture.ATTENTIVE


def test_an_empty_reply_returns_to_rest():
    """What the dialogue thinks was not meant for us is passed over in silence."""
    story = Story()
    story.says("blah")
    story.on(Reply(story.state.turn, story.now, 0, "", last=True))
    story.wait(400)
    assert story.state.posture is Posture.ATTENTIVE


def test_noise_alone_begins_no_visit():
    """A voice without words leaves the kiosk attracting."""
    story = Story()
    story.says("")
    story.wait(2000)
    assert (story.state.session, story.state.posture) == (Session.ATTRACT, Posture.IDLE)


def test_a_listener_that_dies_under_a_voice_does_not_hang_the_floor():
    """No news of the running voice: what was understood so far is answered."""
    story = Story()
    story.on(story.voice(ActivityKind.ONSET))
    story.on(Transcript(0, story.now, 100, 100, "is there wifi", confidence=0.9), 300)
    story.wait(RULES.lost_ms + RULES.final_grace_ms + 1000)
    assert asked(story.actions) == ["is there wifi"]
    assert story.state.granted == story.state.turn


def test_unsure_words_begin_no_visit():
    """Talk that the recogniser is unsure of, before anybody engaged, is not for the kiosk; within a visit it is asked."""
    story = Story()
    story.on(story.voice(ActivityKind.ONSET))
    story.on(story.voice(ActivityKind.SILENCE, speech_ms=800, pause_ms=100), 800)
    story.on(Transcript(0, story.now, 100, 100, "light on garage", final=True, confidence=0.2))
    story.wait(2000)
    assert asked(story.actions) == []
    assert story.state.posture is Posture.IDLE


def murmur(story: Story, text="", *, onset, confidence=0.2, voice_ms=700.0, quiet_ms=2600.0):
    """Somebody near the kiosk makes a sound, of which `text` is understood; a running answer is played to its end."""
    mark = len(story.actions)
    story.on(story.voice(ActivityKind.ONSET, onset))
    story.on(story.voice(ActivityKind.LEVEL, onset, speech_ms=voice_ms / 2), voice_ms / 2)
    story.on(story.voice(ActivityKind.SILENCE, onset, speech_ms=voice_ms, pause_ms=100), voice_ms / 2)
    story.on(Transcript(0, story.now, onset, onset, text, final=True, confidence=confidence), 50)
    story.wait(quiet_ms)
    if story.state.posture is Posture.THINKING:
        story.answers("Could you say that again?")
        story.on(Heard(story.state.turn, story.now, HeardKind.FINISHED, 21_000), 1500)
    return story.actions[mark:]


def served(**rules) -> Story:
    """A story in which a visitor was answered and says nothing more."""
    story = Story(**rules)
    story.says("when do you open")
    story.wait(400)
    story.answers()
    story.on(Heard(story.state.turn, story.now, HeardKind.FINISHED, 21_000), 1500)
    assert (story.state.posture, story.state.session) == (Posture.ATTENTIVE, Session.ENGAGED)
    return story


@pytest.mark.parametrize(
    ("kind", "source"), [(InputKind.TYPED, "typed"), (InputKind.TOUCH, "touch"), (None, "speech")], ids=["typed", "touched", "spoken"]
)
@pytest.mark.parametrize("heard", ["", "light on garage"], ids=["a sound", "words from afar"])
@pytest.mark.parametrize("after_ms", [200, 2000])
def test_a_sound_before_the_answer_loses_no_question(kind, source, heard, after_ms):
    """Typed, touched or said, and then a door slams or somebody talks nearby: the question is asked again under a new turn and answered."""
    story = Story()
    if kind is None:
        story.says("is there wifi")
        story.wait(300)
    else:
        story.on(VisitorInput(0, story.now, kind, "is there wifi"))
    first = story.state.asked
    story.wait(after_ms)
    mark = len(story.actions)
    story.on(story.voice(ActivityKind.ONSET, 9000))
    story.on(story.voice(ActivityKind.SILENCE, 9000, speech_ms=200, pause_ms=100), 200)
    story.on(Transcript(0, story.now, 9000, 9000, heard, final=True, confidence=0.2), 50)
    story.wait(2600)
    again = [action for action in story.actions[mark:] if isinstance(action, Ask)]
    assert [(ask.text, ask.source, ask.confidence) for ask in again] == [("is there wifi", source, first.confidence)]
    assert again[0].instead_of == first.turn < again[0].turn == story.state.granted == story.state.turn
    assert story.state.posture is Posture.THINKING


def test_what_continues_a_sentence_is_asked_in_place_of_it():
    """The turn that was granted too early is named, however often the visitor pauses; new words much later stand for themselves."""
    story = Story()
    story.says("and another latte")
    story.wait(300)
    first = story.state.granted
    story.says("with oat milk", onset=9000, complete=0.1)
    story.on(story.voice(ActivityKind.RESUMED, 9000, pause_ms=400), 100)
    story.on(story.voice(ActivityKind.SILENCE, 9000, speech_ms=1500, pause_ms=100), 600)
    story.on(Transcript(0, story.now, 9000, 9000, "with oat milk please", final=True, confidence=0.9))
    assert [(ask.text, ask.instead_of) for ask in story.actions if isinstance(ask, Ask)][1:] == [
        ("and another latte with oat milk", first),
        ("and another latte with oat milk please", first),
    ]
    story.wait(2000)
    second = story.state.granted
    assert second > first
    story.wait(RULES.continue_ms)
    story.says("where are the toilets", onset=20_000)
    assert [(ask.text, ask.instead_of) for ask in story.actions if isinstance(ask, Ask)][-1] == ("where are the toilets", 0)


def test_an_apology_is_no_question():
    """A sound over the silence before "sorry, I lost my thread": it is not asked as if a visitor had said it."""
    story = Story()
    story.says("when do you open")
    story.wait(400 + RULES.thinking_limit_ms)
    assert story.state.asked.text == RULES.sorry
    murmur(story, onset=9000)
    assert RULES.sorry not in asked(story.actions)


def test_chatter_keeps_no_visit():
    """The visitor has left, and people talk near the kiosk all day: the visit ends, with little said to nobody."""
    story = served()
    left, visit = story.now, story.state.visit
    for at in range(200):
        murmur(story, ("", "light on garage", "")[at % 3], onset=10_000 + at)
        if story.state.visit > visit:
            break
    assert story.state.visit == visit + 1
    assert story.now - left < 3 * (RULES.still_there_ms + RULES.wipe_ms) * MS


def test_a_sound_does_not_take_back_still_there():
    """The countdown runs on under a voice without words, but nothing is wiped while it sounds."""
    story = served()
    story.wait(RULES.still_there_ms)
    assert story.state.session is Session.STILL_THERE
    story.on(story.voice(ActivityKind.ONSET, 9000), RULES.wipe_ms - 1000)
    for at in range(30):
        story.on(story.voice(ActivityKind.LEVEL, 9000, speech_ms=at * 100.0), 100)
    assert (story.state.session, story.state.posture, story.state.visit) == (Session.STILL_THERE, Posture.LISTENING, 1)
    story.on(story.voice(ActivityKind.SILENCE, 9000, speech_ms=3000, pause_ms=100), 100)
    story.wait(3000)
    assert story.state.visit == 2


@pytest.mark.parametrize("said", ["yes", "yes i am here"])
def test_who_answers_still_there_stays(said):
    """Sure words in the countdown, also in its last moment: answered, and the visit goes on."""
    story = served()
    story.wait(RULES.still_there_ms + RULES.wipe_ms - 300)
    assert asked(story.says(said, onset=9000)) == [said]
    story.wait(400)
    assert (story.state.session, story.state.posture, story.state.countdown_ns) == (Session.ENGAGED, Posture.THINKING, 0)
    story.answers("What can I do for you?")
    story.on(Heard(story.state.turn, story.now, HeardKind.FINISHED, 21_000))
    story.wait(RULES.still_there_ms - 1000)
    assert (story.state.session, story.state.visit) == (Session.ENGAGED, 1)


def test_the_dialogue_is_told_that_still_there_was_asked():
    """For its every guess at one utterance, also after a pause in it, and no longer for the next."""
    story = served()
    story.wait(RULES.still_there_ms + 500)
    asks = [one for one in story.says("yes", onset=9000) if isinstance(one, Ask)]
    story.on(story.voice(ActivityKind.RESUMED, 9000, speech_ms=300, pause_ms=200), 100)
    asks += [one for one in story.says("yes please", onset=9000) if isinstance(one, Ask)]
    assert [ask.still_there for ask in asks] == [True, True]
    story.wait(2000)
    story.answers("What can I do for you?")
    story.on(Heard(story.state.turn, story.now, HeardKind.FINISHED, 21_000))
    assert [one.still_there for one in story.says("no", onset=90_000) if isinstance(one, Ask)] == [False]


def test_who_talks_on_and_on_is_heard_out():
    """Two minutes without a pause: nothing is wiped, and all of it is asked."""
    story = served()
    story.on(story.voice(ActivityKind.ONSET, 9000))
    for at in range(1200):
        story.on(story.voice(ActivityKind.LEVEL, 9000, speech_ms=at * 100.0), 100)
    assert (story.state.session, story.state.posture) == (Session.ENGAGED, Posture.LISTENING)
    story.on(story.voice(ActivityKind.SILENCE, 9000, speech_ms=120_000, pause_ms=100), 100)
    assert asked(story.on(Transcript(0, story.now, 9000, 9000, "and so on", final=True, confidence=0.9), 50)) == ["and so on"]
    story.wait(2000)
    assert (story.state.session, story.state.visit) == (Session.ENGAGED, 1)


def test_who_speaks_softly_has_time():
    """Words that are not sure are answered in a visit and renew it twice; one sure word, and it begins from the start again."""
    story = served()
    for onset in (9000, 9001):
        story.wait(RULES.still_there_ms - 4000)
        assert asked(murmur(story, "a lat", onset=onset)) == ["a lat"]
        assert story.state.session is Session.ENGAGED
    story.wait(RULES.still_there_ms - 2000)
    assert asked(murmur(story, "a lat", onset=9002)) == ["a lat"]  # answered still, but now the visit ends unless something is sure
    story.wait(100)
    assert story.state.session is Session.STILL_THERE
    story.says("a latte", onset=9003)
    story.wait(400)
    story.answers()
    story.on(Heard(story.state.turn, story.now, HeardKind.FINISHED, 21_000))
    story.wait(RULES.still_there_ms - 4000)
    murmur(story, "lar", onset=9004)
    story.wait(RULES.still_there_ms - 4000)
    assert (story.state.session, story.state.visit) == (Session.ENGAGED, 1)


def test_unsure_words_after_still_there_are_not_answered_but_give_time():
    """Perhaps nobody is there to be told "sorry?"; the countdown begins again, twice at most."""
    story = served()
    story.wait(RULES.still_there_ms + RULES.wipe_ms - 2000)
    for onset in (9000, 9001):
        assert asked(murmur(story, "yesh", onset=onset)) == []
        assert (story.state.session, story.state.visit) == (Session.STILL_THERE, 1)
        story.wait(RULES.wipe_ms - 5000)
    murmur(story, "yesh", onset=9002)
    story.wait(5000)
    assert story.state.visit == 2


EVENTS = st.one_of(
    st.builds(
        Activity,
        st.just(0),
        st.just(0),
        st.sampled_from(ActivityKind),
        st.integers(0, 3),
        st.just(0),
        st.floats(0, 2000),
        st.floats(0, 900),
        st.floats(-1, 1),
    ),
    st.builds(
        Transcript,
        st.just(0),
        st.just(0),
        st.integers(0, 3),
        st.just(0),
        st.sampled_from(["", "mm hm", "a latte please", "stop"]),
        st.booleans(),
        confidence=st.sampled_from([0.2, 0.9]),
    ),
    st.builds(Reply, st.integers(0, 12), st.just(0), st.integers(0, 2), st.sampled_from(["", "Yes."]), st.booleans()),
    st.builds(Speech, st.integers(0, 12), st.just(0), st.integers(0, 2), st.just(0), st.just(10), st.just("Yes."), st.booleans()),
    st.builds(Heard, st.integers(0, 12), st.just(0), st.sampled_from(HeardKind), st.just(0)),
    st.builds(VisitorInput, st.just(0), st.just(0), st.sampled_from(InputKind), st.sampled_from(["", "gone", "hello"])),
    st.builds(Back, st.sampled_from(["voice", "dialogue", "stage", "recogniser"])),
    st.just(Tick()),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(EVENTS, st.integers(0, 3000)), max_size=40))
def test_turns_never_fall_and_no_later_turn_is_granted_than_runs(steps):
    """Whatever comes in whatever order: turns only rise, granted <= turn, commands carry the running turn, the state survives a crash,
    and a visit ends only while nobody speaks and nothing is answered.
    """
    state, now = FloorState(), 0
    for event, pause_ms in steps:
        now += pause_ms * MS
        before = state
        state, actions = decide(RULES, state, event, now)
        assert state.turn >= before.turn
        assert state.granted <= state.turn
        assert state.visit >= before.visit
        assert state.visit == before.visit or before.posture is Posture.ATTENTIVE or getattr(event, "kind", None) is InputKind.START_OVER
        assert all(action.turn == state.turn for action in actions)
        assert all(action.instead_of < state.turn for action in actions if isinstance(action, Ask))
        assert (state.barge is None) or state.posture is Posture.SPEAKING
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=FloorState) == state


def test_who_is_answered_may_have_a_feeling():
    """The floor tells how the visitor feels from their granted words until the answer's end; not before, not from a button's text."""
    story = Story()
    story.says("i've lost my umbrella")
    assert floor_of(story.state, story.now).feeling == ""
    story.wait(400)
    assert floor_of(story.state, story.now).feeling == "sad"
    story.answers()
    assert floor_of(story.state, story.now).feeling == "sad"
    story.on(Heard(story.state.turn, story.now, HeardKind.FINISHED, 20_000), 300)
    assert floor_of(story.state, story.now).feeling == ""
    story.on(VisitorInput(0, story.now, InputKind.TOUCH, "this is awful"))
    assert floor_of(story.state, story.now).feeling == ""
    story.on(VisitorInput(0, story.now, InputKind.TYPED, "this is awful"))
    assert floor_of(story.state, story.now).feeling == "angry"


SOUNDS = st.lists(
    st.tuples(
        st.integers(0, 6000),
        st.integers(100, 4000),
        st.sampled_from([("", 0.0), ("light on garage", 0.2), ("yes", 0.49)]),
        st.booleans(),
    ),
    max_size=60,
)
"""What goes on near a kiosk: a pause, then a voice of some length, what is understood of it, and whether the recogniser says so."""


@settings(max_examples=60, deadline=None)
@given(SOUNDS)
def test_what_is_not_surely_words_keeps_a_visit_only_so_long(sounds):
    """Whatever is heard: two renewals at most, then the visit ends in a quiet moment, never under a voice."""
    story = served()
    renewed_ns, visit = [story.state.active_ns], story.state.visit
    for at, (pause_ms, voice_ms, (text, confidence), told) in enumerate(sounds):
        story.wait(pause_ms)
        posture = story.state.posture
        if story.state.visit == visit:
            assert posture is Posture.ATTENTIVE
        story.on(story.voice(ActivityKind.ONSET, 9000 + at))
        for _ in range(voice_ms // 100):
            before = story.state.visit
            story.on(story.voice(ActivityKind.LEVEL, 9000 + at, speech_ms=float(voice_ms)), 100)
            assert story.state.visit == before
        story.on(story.voice(ActivityKind.SILENCE, 9000 + at, speech_ms=voice_ms, pause_ms=100), 100)
        if told:
            story.on(Transcript(0, story.now, 9000 + at, 9000 + at, text, final=True, confidence=confidence))
        story.wait(1700)
        if story.state.posture is Posture.THINKING:
            story.answers("Could you say that again?")
            story.on(Heard(story.state.turn, story.now, HeardKind.FINISHED, 21_000), 1500)
        if story.state.visit != visit:
            break
        if story.state.active_ns != renewed_ns[-1]:
            renewed_ns.append(story.state.active_ns)
    assert len(renewed_ns) <= 1 + RULES.unsure_most
    story.wait(RULES.still_there_ms + 2 * RULES.wipe_ms)
    assert story.state.visit == visit + 1
