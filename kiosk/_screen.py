"""What the page shows, kept so that a page that comes later (or again) shows it too: notices, the floor, the order, answer buttons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kiosk._setup import answers
from runtime import messages as m
from runtime.packs import Pack

__all__ = ["Screen"]

_LINES = {
    "mic-denied": "The microphone is not available. You can type or touch.",
    "mic-unplugged": "The microphone is not connected. You can type or touch.",
    "no-hearing": "I cannot hear you at the moment. You can type or touch.",
    "no-voice": "I cannot speak at the moment. Please read my answers.",
}
_SENSES = {"listener": "no-hearing", "recogniser": "no-hearing", "voice": "no-voice"}
_MICROPHONE = {"denied": "mic-denied", "unplugged": "mic-unplugged"}


class Screen:
    """Sends through `tell(kind, **fields)`; nothing of a visit outlives it here."""

    def __init__(self, pack: Pack, tell: Callable[..., None]) -> None:
        self.pack = pack
        self._tell = tell
        self._notices: dict[str, m.Notice] = {}
        self._prepared: dict[int, m.Reply] = {}  # card and question of turns that are not granted yet
        self._shown: dict[str, Any] = {}  # the newest that were
        self.floor = m.Floor(0, 0, m.Posture.IDLE, m.Session.ATTRACT, 0, 0)
        self._followed = False  # whether the conductor has told a floor yet

    def repeat(self) -> None:
        """Tell everything to a page that has just opened."""
        if self._followed:  # else the page knows the floor better: of a visit that goes on through this stage's start
            self._tell_floor()
        for notice in self._notices.values():
            self._tell_notice(notice)
        if self._shown:
            self._tell("reply", **self._shown)

    # --- the floor

    def on_floor(self, floor: m.Floor) -> None:
        """The conductor's state; a new visit forgets the one before."""
        new_visit = floor.visit != self.floor.visit
        self.floor, self._followed = floor, True
        if new_visit:
            self._prepared.clear()
            self._shown.clear()
            for code in [code for code, notice in self._notices.items() if notice.audience == "visitor" and code not in _LINES]:
                self.note(code, "", "visitor")
        self._tell_floor()
        self._show_granted()

    def _tell_floor(self) -> None:
        floor = self.floor
        self._tell(
            "floor",
            posture=floor.posture.value,
            session=floor.session.value,
            visit=floor.visit,
            turn=floor.turn,
            granted=floor.granted,
            wipe_in_ms=floor.wipe_in_ms,
        )

    # --- cards and answer buttons

    def on_reply(self, reply: m.Reply) -> None:
        """A clause with a card or a question, and the last, so that an answer that asks nothing takes the buttons away; they add up."""
        if reply.turn < self.floor.turn or not (reply.card or reply.expects or reply.last):
            return
        before = self._prepared.get(reply.turn)
        expects = reply.expects or (before.expects if before else "")
        card = reply.card or (before.card if before else "")
        self._prepared[reply.turn] = m.Reply(reply.turn, reply.t_ns, reply.seq, "", reply.last, expects=expects, card=card)
        self._show_granted()

    def _show_granted(self) -> None:
        """What was prepared on speculation and not granted is never shown."""
        reply = self._prepared.pop(self.floor.granted, None)
        for turn in [turn for turn in self._prepared if turn < self.floor.turn]:
            del self._prepared[turn]
        if reply:
            self._shown = {"card": reply.card or self._shown.get("card", ""), "answers": answers(self.pack, reply.expects)}
            self._tell("reply", **self._shown)

    # --- notices

    def note(self, code: str, text: str, audience: str) -> None:
        """Show a line; an empty text takes it back."""
        if not text and code not in self._notices:
            return
        notice = m.Notice(0, 0, code, text, audience)
        if text:
            self._notices[code] = notice
        else:
            del self._notices[code]
        self._tell_notice(notice)

    def _tell_notice(self, notice: m.Notice) -> None:
        self._tell("notice", code=notice.code, text=notice.text, audience=notice.audience)

    def on_node(self, event: m.NodeEvent) -> None:
        """A sense is lost with its node: say so to the visitor, and to the technician why."""
        code = _SENSES.get(event.node)
        lost = event.state is m.NodeState.GIVEN_UP
        if not lost and event.state is not m.NodeState.READY:
            return
        was_lost = f"node-{event.node}" in self._notices
        self.note(f"node-{event.node}", f"{event.node} cannot be started: {event.reason}" if lost else "", "technician")
        still = lost or any(f"node-{name}" in self._notices for name, sense in _SENSES.items() if sense == code)
        if code and (lost or was_lost):  # else the line is the node's own
            self.note(code, _LINES[code] if still else "", "visitor")

    def on_microphone(self, state: str) -> None:
        """The page's microphone is on, off, denied or unplugged."""
        for name, code in _MICROPHONE.items():
            self.note(code, _LINES[code] if name == state else "", "visitor")
