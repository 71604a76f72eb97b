"""What the stock face draws, on ONNX Runtime and as the idle loop: both keep the contract of Renderer."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engines.renderer import AvatarPack, IdleLoop, OnnxRuntimeRenderer, Renderer, RendererError, select
from engines.renderer.compose import rgb_to_nv12

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def face(pack: AvatarPack) -> OnnxRuntimeRenderer:
    return OnnxRuntimeRenderer(pack)


@pytest.fixture(params=["onnxruntime", "idle"])
def renderer(request: pytest.FixtureRequest, pack: AvatarPack, stock: Path) -> Renderer:
    return OnnxRuntimeRenderer(pack) if request.param == "onnxruntime" else IdleLoop(stock)


def _draw(face: Renderer, controls: NDArray[np.float32] | None = None, rung: int = -1) -> NDArray[np.uint8]:
    rung %= len(face.rungs)
    out = np.zeros((face.rungs[rung].height * 3 // 2, face.rungs[rung].width), np.uint8)
    face.draw(face.idle if controls is None else controls, out, rung=rung)
    return out


def _pose(face: Renderer, **values: float) -> NDArray[np.float32]:
    pose = face.idle.copy()
    for name, value in values.items():
        sides = [name] if name in face.controls else [name + "_L", name + "_R"]
        pose[[face.controls.index(n) for n in sides]] = value
    return pose


def _luma(nv12: NDArray[np.uint8], x0: float, y0: float, x1: float, y1: float) -> NDArray[np.float64]:
    """A box of the luma plane, corners in pixels of a 512 frame."""
    k = nv12.shape[1] / 512
    return nv12[int(y0 * k) : int(y1 * k), int(x0 * k) : int(x1 * k)].astype(float)


MOUTH, LEFT_EYE, CHEST = (218, 290, 294, 350), (276, 190, 332, 226), (150, 460, 360, 505)


def test_every_rung_fills_its_frame(renderer: Renderer) -> None:
    """Each rung writes NV12 of its own size: the garment at the bottom, the background in the corner."""
    renderer.set_background((255, 255, 255))
    for k, rung in enumerate(renderer.rungs):
        frame = _draw(renderer, rung=k)
        assert frame.shape == (rung.height * 3 // 2, rung.width)
        assert frame[2, 2] == 255
        assert frame[rung.height, 0] == pytest.approx(128, abs=1)
        assert 30 < _luma(frame, *CHEST).mean() < 110


def test_rungs_go_down_in_size(renderer: Renderer) -> None:
    """The ladder is ordered best first and shows the same picture."""
    widths = [r.width for r in renderer.rungs]
    assert widths == sorted(widths, reverse=True)
    assert 256 in widths
    tops = [_luma(frame, *MOUTH).mean() for frame in (_draw(renderer, rung=k) for k in range(len(widths)))]
    assert max(tops) - min(tops) < 4


@pytest.mark.parametrize("values", [{}, {"jawOpen": 0.6}, {"eyeBlink": 1.0}, {"yaw": 8.0, "gazeYaw": -10.0}])
def test_the_smallest_rung_draws_what_the_best_draws(face: OnnxRuntimeRenderer, values: dict[str, float]) -> None:
    """Its mouth and eyes come out of the network at half the size, and lie where they lay: brought to one size the two hardly differ."""
    pose = _pose(face, **values)
    best, small = (_draw(face, pose, rung)[: face.rungs[rung].height] for rung in (0, -1))
    reduced = cv2.resize(best, small.shape[::-1], interpolation=cv2.INTER_AREA).astype(float)
    for x0, y0, x1, y1 in ((109, 145, 147, 175), (138, 95, 166, 113), (90, 95, 118, 113)):
        error = np.mean((reduced[y0:y1, x0:x1] - small[y0:y1, x0:x1]) ** 2)
        assert 10 * np.log10(255**2 / error) > 33


@pytest.mark.parametrize("colour", [(0, 0, 0), (200, 30, 30), (20, 24, 200)])
def test_background_shows_around_the_head(renderer: Renderer, colour: tuple[int, int, int]) -> None:
    """A colour or a picture stands behind the face, in full-range BT.709."""
    expected = rgb_to_nv12(np.full((4, 4, 3), colour, np.uint8))
    for background in (colour, np.full((40, 60, 3), colour, np.uint8)):
        renderer.set_background(background)
        frame = _draw(renderer)
        size = frame.shape[1]
        assert np.abs(frame[:6, :6].astype(int) - int(expected[0, 0])).max() <= 1
        assert np.abs(frame[size, :2].astype(int) - expected[4, :2].astype(int)).max() <= 1


@pytest.mark.parametrize("background", [(1, 2), (300, 0, 0), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_a_background_that_is_none_is_refused(renderer: Renderer, background: object) -> None:
    """Neither a colour nor a picture: one line, and the old background stays."""
    with pytest.raises(RendererError, match="background of shape"):
        renderer.set_background(background)  # type: ignore[arg-type]


def test_wrong_calls_are_refused(renderer: Renderer) -> None:
    """Wrong shapes and rungs name what was expected."""
    out = np.zeros((384, 256), np.uint8)
    with pytest.raises(RendererError, match="rung 9"):
        renderer.draw(renderer.idle, out, rung=9)
    with pytest.raises(RendererError, match="controls of shape"):
        renderer.draw(np.zeros(3, np.float32), out, rung=2)
    with pytest.raises(RendererError, match="out of shape"):
        renderer.draw(renderer.idle, out[:, :200], rung=2)


def test_equal_controls_give_equal_pictures(face: OnnxRuntimeRenderer) -> None:
    """At rest nothing trembles: the same vector gives the same bytes, whatever was drawn between."""
    first = _draw(face)
    _draw(face, _pose(face, jawOpen=0.6, yaw=10))
    assert np.array_equal(first, _draw(face))


def test_the_jaw_opens_the_mouth_step_by_step(face: OnnxRuntimeRenderer) -> None:
    """The dark of the mouth grows with jawOpen; at rest there is none. The line of shut lips is rendered as 29, the open mouth darker."""
    dark = [
        (_luma(_draw(face, _pose(face, jawOpen=j, mouthShrugLower=0.1 if j == 0 else 0)), *MOUTH) < 24).sum() for j in (0, 0.3, 0.6, 0.9)
    ]
    assert dark[0] == 0
    assert dark == sorted(dark)
    assert dark[1] > 20
    assert dark[3] > 80


def test_a_blink_hides_the_iris(face: OnnxRuntimeRenderer) -> None:
    """The shut eye has no bright white and the other eye is left alone by a wink."""
    face.set_background((128, 128, 128))
    opened, shut = _draw(face), _draw(face, _pose(face, eyeBlink=1))
    wink = _draw(face, _pose(face, eyeBlink_R=1))
    assert np.abs(_luma(opened, *LEFT_EYE) - _luma(shut, *LEFT_EYE)).mean() > 8
    assert np.abs(_luma(opened, *LEFT_EYE) - _luma(wink, *LEFT_EYE)).mean() < 2


def test_the_gaze_moves_the_iris(face: OnnxRuntimeRenderer) -> None:
    """Dark pupils move to the viewer's right with gazeYaw and down with gazePitch."""

    def pupil(**gaze: float) -> NDArray[np.float64]:
        eye = _luma(_draw(face, _pose(face, eyeWide=0.3, **gaze)), 280, 194, 330, 222)
        y, x = np.nonzero(eye <= np.quantile(eye, 0.12))
        return np.array([x.mean(), y.mean()])

    left, right = pupil(gazeYaw=-20), pupil(gazeYaw=20)
    assert right[0] - left[0] > 3
    up, down = pupil(gazePitch=-10), pupil(gazePitch=10)
    assert down[1] - up[1] > 1.5


def test_the_head_turns(face: OnnxRuntimeRenderer) -> None:
    """Yaw moves the dark of the nostrils sideways; the garment does not move."""

    def nose(yaw: float) -> float:
        box = _luma(_draw(face, _pose(face, yaw=yaw)), 200, 262, 312, 286)
        return float(np.nonzero(box <= np.quantile(box, 0.06))[1].mean())

    assert nose(10) - nose(-10) > 8
    still, turned = _draw(face), _draw(face, _pose(face, yaw=10))
    assert np.abs(_luma(still, *CHEST) - _luma(turned, *CHEST)).mean() < 1


def test_wild_controls_are_tamed(face: OnnxRuntimeRenderer) -> None:
    """Values outside their range count as its end, NaN as rest."""
    wild, nan = face.idle.copy(), face.idle.copy()
    wild[face.controls.index("yaw")] = 500
    nan[:] = np.nan
    assert np.array_equal(_draw(face, wild), _draw(face, _pose(face, yaw=16)))
    assert np.array_equal(_draw(face, nan), _draw(face))


def test_the_idle_loop_breathes_and_blinks(stock: Path) -> None:
    """Without a network the picture moves at nearly every draw, and the eyes shut once in a cycle."""
    loop = IdleLoop(stock)
    frames = [_draw(loop) for _ in range(140)]
    moving = sum(not np.array_equal(a, b) for a, b in pairwise(frames))
    assert moving > 120
    blink = max(range(120, 140), key=lambda k: np.abs(_luma(frames[k], *LEFT_EYE) - _luma(frames[0], *LEFT_EYE)).mean())
    assert np.abs(_luma(frames[blink], *LEFT_EYE) - _luma(frames[0], *LEFT_EYE)).mean() > 12
    assert np.abs(_luma(frames[blink], *MOUTH) - _luma(frames[0], *MOUTH)).mean() < 3


def test_selection_says_why_the_others_do_not_serve(pack: AvatarPack) -> None:
    """ONNX Runtime serves here; TensorRT and TensorRT-RTX are listed with a reason."""
    chosen = select(pack)
    assert chosen.name == "onnxruntime"
    assert set(chosen.why_not) == {"tensorrt", "tensorrt_rtx"}
    assert all(chosen.why_not.values())
