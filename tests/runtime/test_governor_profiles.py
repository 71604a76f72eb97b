"""Profiles made from a box's name and what it has."""

from __future__ import annotations

import pytest

from runtime.governor_ladder import LOOP, build
from runtime.governor_profiles import BOXES, box_of, profile_for

pytestmark = pytest.mark.unit

RUNGS = (("512", 512 * 512), ("384", 384 * 384), ("256", 256 * 256))


@pytest.mark.parametrize("kind", BOXES)
def test_every_box_gets_a_ladder(kind: str) -> None:
    """With all levers: invisible ones first, the drawn face last, then the loop; a blind box has somewhere to go."""
    modes = ("MAXN", "30W", "15W")
    ladder = build(profile_for(BOXES[kind], RUNGS, tokens_s=17.0, camera_hz=15.0, fan=0.4, modes=modes))
    names = [step.name for step in ladder.heat.steps]
    assert names[0] in ("llm", "fan")
    assert ladder.setting(ladder.heat.at[-1]).loop
    assert not ladder.setting(ladder.heat.at[-2]).loop
    assert 0 < ladder.safe < len(names)
    assert names.index("rung") > names.index("fan")


def test_a_box_has_only_the_levers_it_has() -> None:
    """The plain PC of a developer: a picture and nothing else."""
    ladder = build(profile_for(BOXES["pc"], RUNGS[:1], fps=25.0))
    assert [step.says for step in ladder.heat.steps] == ["prepared idle loop"]
    setting = ladder.setting(ladder.heat.at[0])
    assert (setting.rung, setting.fps, setting.llm, setting.camera, setting.fan, setting.mode) == ("512", None, None, None, None, None)
    assert ladder.setting(ladder.heat.at[1]).rung == LOOP


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", "orin-nano"),
        ("NVIDIA Jetson AGX Orin Developer Kit", "agx-orin"),
        ("NVIDIA GeForce RTX 4060", "rtx"),
        ("Standard PC (i440FX + PIIX, 1996)", "pc"),
        ("", "pc"),
    ],
)
def test_boxes_are_known_by_their_names(model: str, kind: str) -> None:
    """Board or graphics card, as the system names it."""
    assert box_of(model) == kind
