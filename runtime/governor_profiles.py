"""What the governor is told of a box at the start, from its name and what it has: estimates, which order the levers and size the steps up.

The watts are those of visavis/bench/plants.toml, which names their sources and what is assumed. Measured ones may replace them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from runtime.governor_ladder import LOOP, Lever, Profile

__all__ = ["BOXES", "MODEL_SHARES", "Box", "box_of", "profile_for"]

_LOWEST_FPS = 26.0
"""25 must be seen; a setting of 25 with a late frame now and then is less."""
MODEL_SHARES = (1.0, 0.6, 0.3, 0.0)
"""Of the tokens that the model would make; 0: answers without it."""


class Box(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of box; watts at the best level of each lever, `token_j` joules per token of its usual model.

    `tokens_s`: what that model does while it answers.
    """

    base_w: float
    sustained_w: float
    c_per_w: float
    picture_w: float
    token_j: float
    tokens_s: float
    camera_w: float
    fan_w: float  # what full instead of slow is worth
    mode_w: float


BOXES = {
    "orin-nano": Box(
        base_w=8.0, sustained_w=13.0, c_per_w=2.55, picture_w=2.4, token_j=0.46, tokens_s=17.0, camera_w=0.6, fan_w=6.0, mode_w=1.0
    ),
    "agx-orin": Box(
        base_w=14.0, sustained_w=27.0, c_per_w=1.45, picture_w=4.0, token_j=0.8, tokens_s=25.0, camera_w=1.0, fan_w=14.0, mode_w=3.0
    ),
    "rtx": Box(
        base_w=17.0, sustained_w=75.0, c_per_w=0.5, picture_w=14.0, token_j=1.8, tokens_s=45.0, camera_w=3.0, fan_w=20.0, mode_w=12.0
    ),
    "pc": Box(base_w=15.0, sustained_w=25.0, c_per_w=1.5, picture_w=6.0, token_j=2.0, tokens_s=20.0, camera_w=2.0, fan_w=8.0, mode_w=4.0),
}
_NAMES = (
    ("orin nano", "orin-nano"),
    ("orin nx", "orin-nano"),
    ("orin", "agx-orin"),
    ("thor", "agx-orin"),
    ("rtx", "rtx"),
    ("geforce", "rtx"),
)


def box_of(model: str) -> str:
    """The kind of box for a board's or graphics card's name, e.g. of /proc/device-tree/model; "pc" where it is none that we know."""
    return next((kind for part, kind in _NAMES if part in model.lower()), "pc")


def profile_for(
    box: Box,
    rungs: Sequence[tuple[str, int]],
    *,
    fps: float = 30.0,
    tokens_s: float = 0.0,
    camera_hz: float = 0.0,
    fan: float = 0.0,
    modes: Sequence[str] = (),
) -> Profile:
    """The profile of a box that has these levers; what is 0 or empty it has not.

    `rungs`: name and pixels of each, best first. `tokens_s`: what its model does; `fan`: share of full speed that it is driven with while
    all is well; `modes`: power modes, best first, that may be switched while it runs.
    """
    most = max((pixels for _, pixels in rungs), default=1)
    # A quarter of a frame's cost is the same for every rung: the controls, the copy, the page.
    pictures = [box.picture_w * (0.25 + 0.75 * pixels / most) for _, pixels in rungs]
    misses = [0.0, 6.0, *(16.0 + 8.0 * i for i in range(max(len(rungs) - 2, 0)))][: len(rungs)]
    levers = [Lever(name="rung", levels=(*(name for name, _ in rungs), LOOP), watts=(*pictures, 0.0), miss=(*misses, 100.0))]
    if fps > _LOWEST_FPS:
        levers.append(Lever(name="fps", levels=(fps, _LOWEST_FPS), watts=(box.picture_w * (1 - _LOWEST_FPS / fps), 0.0), miss=(0.0, 8.0)))
    if tokens_s:
        rates = tuple(share * tokens_s for share in MODEL_SHARES)
        levers.append(Lever(name="llm", levels=rates, watts=tuple(box.token_j * rate for rate in rates), miss=(0.0, 1.0, 4.0, 40.0)))
    if camera_hz:
        seen = (box.camera_w, box.camera_w / 3)
        levers.append(Lever(name="camera", levels=(camera_hz, camera_hz / 3), watts=seen, miss=(0.0, 1.0)))
    if 0.0 < fan < 1.0:
        levers.append(Lever(name="fan", levels=(fan, 1.0), watts=(0.0, -box.fan_w), miss=(0.0, 2.0)))
    if len(modes) > 1:
        watts = tuple(box.mode_w * (1 - i / (len(modes) - 1)) for i in range(len(modes)))
        levers.append(Lever(name="mode", levels=tuple(modes), watts=watts, miss=tuple(4.0 * i for i in range(len(modes)))))
    return Profile(levers=tuple(levers), base_w=box.base_w, sustained_w=box.sustained_w, c_per_w=box.c_per_w)
