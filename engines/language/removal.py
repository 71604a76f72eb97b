"""What a sentence takes out of what was ordered: "remove the tea", "no tea", "take the tea off", and "leave out the oat milk".

Every known phrase and every other word of the sentence is written as one letter; the ways to say it are patterns of these letters.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from engines.language.spotting import FILLERS, Spot, Spotter

__all__ = ["take_out"]

# R words of a removal, r of those that may begin another phrase too ("without", "not"), N of those that are also a correction ("no");
# D the thing itself (a value of the first slot), P and p its properties that are required and not, Q a number;
# & "and", a an article, w "with", t other words that mean nothing here; ! anything else.
_THING = "[pP]*D(?:w[pP](?:&[pP](?![pP]*D))*)?"
_PATTERN = re.compile(
    f"[Rr][taQ]*{_THING}(?:&t*{_THING})*&?"  # "remove the large latte and the tea": the last "and" leads to something else
    "|(?P<no>ND)(?!w?[pP]|&[pP]*D)&?"  # "no tea", not "no, a tea" nor "no, tea with milk"
    "|Q?[ta]*[pP]*DR(?=t*$)"  # "take the tea off", not "a tea without"
    "|(?P<part>[Rr][ta]*p(?:&t*p)*)"  # "leave out the milk and the sugar"
)
_ONE_THING = re.compile(f"Q?[ta]*{_THING}")
_WORDS = {"and": "&", "a": "a", "an": "a", "with": "w"}


def take_out(
    spotter: Spotter, words: Sequence[str], spots: Sequence[Spot], there: Collection[str]
) -> tuple[list[tuple[dict[str, str], int]], list[Spot]]:
    """The things not wanted (slot → value, and how many, 0: all), and the spots without them; `there` are the things ordered so far.

    A property that is not wanted stays, as a spot that says that there shall be none. Words of a removal that remove nothing are left out.
    """
    letters, at = _letters(spotter, words, spots)
    removed: list[tuple[dict[str, str], int]] = []
    gone: set[Spot] = set()
    none: list[Spot] = []
    for match in _PATTERN.finditer(letters):
        taken = [spot for spot in at[match.start() : match.end()] if spot]
        if match["no"] and taken[1].value not in there:
            continue  # "no, tea": this instead
        gone.update(taken)
        if match["part"]:
            none += [Spot("none", spot.start, spot.end, spot.slot, "", spot.certainty) for spot in taken if spot.kind == "slot"]
            continue
        for thing in _ONE_THING.finditer(letters, match.start(), match.end()):
            parts = [spot for spot in at[thing.start() : thing.end()] if spot]
            number = next((spotter.number(spot.value) for spot in parts if spot.kind == "number"), 0)
            removed.append(({spot.slot: spot.value for spot in parts if spot.kind == "slot"}, number))
    kept = [spot for spot in spots if spot not in gone and spot.kind != "remove"]
    return removed, sorted([*kept, *none], key=lambda spot: spot.start)


def _letters(spotter: Spotter, words: Sequence[str], spots: Sequence[Spot]) -> tuple[str, list[Spot | None]]:
    """The sentence as letters, and the spot that each stands for (None: a word that is no phrase)."""
    starts = {spot.start: spot for spot in spots}
    letters, at = "", list[Spot | None]()
    position = 0
    while position < len(words):
        spot = starts.get(position)
        end = spot.end if spot else position + 1
        letters += _letter(spotter, spot, tuple(words[position:end]))
        at.append(spot)
        position = end
    return letters, at


def _letter(spotter: Spotter, spot: Spot | None, said: tuple[str, ...]) -> str:
    if spot is None or said == ("and",):
        return _WORDS.get(said[0], "t" if said[0] in FILLERS else "!")
    if spot.kind == "slot":
        slots = spotter.tool.slots
        return "D" if spot.slot == slots[0].name else "P" if any(slot.required for slot in slots if slot.name == spot.slot) else "p"
    if spot.kind == "remove":
        return "r" if spotter.leads_on(said) else "R"
    if spot.kind == "correction" and said in spotter.tool.removals:
        return "N"
    return "Q" if spot.kind == "number" else "!"
