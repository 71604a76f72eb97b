"""The relay with a GPU played by a few lines: what fails there never leaves `draw`, and what was closed stays closed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.animation.card import Card
from engines.errors import EngineMissing
from engines.renderer import RendererError, cuda
from engines.renderer.cuda import GpuError, open_gpu
from engines.renderer.tensorrt_relay import Relay, Report
from tests.support.harness import LIMIT_S

pytestmark = pytest.mark.unit
RING = np.zeros(4096, np.uint8)


class Quick(Card):
    """Draws white; `fails` is raised by the method of that name."""

    path = "the quick one"

    def __init__(self, **fails: Exception) -> None:
        super().__init__()
        self.fails, self.closed = fails, 0

    def draw(self, controls: NDArray[np.float32], out: NDArray[np.uint8], *, rung: int = 0) -> None:  # noqa: ARG002
        """White."""
        if "draw" in self.fails:
            raise self.fails["draw"]
        out[:] = 255

    def attach_ring(self, memory: NDArray[np.uint8]) -> str:
        """Where frames go."""
        if "attach_ring" in self.fails:
            raise self.fails["attach_ring"]
        return f"into {len(memory)} bytes"

    def close(self) -> None:
        """Counted."""
        self.closed += 1


def drawn(relay: Relay) -> bool:
    """Draw one frame; whether the GPU did."""
    out = np.zeros((relay.rungs[0].height * 3 // 2, relay.rungs[0].width), np.uint8)
    relay.draw(relay.idle, out)
    return bool((out == 255).all())


def ready(gpu: Quick) -> Relay:
    go = threading.Event()
    relay = Relay(Card(), lambda _report: gpu if go.wait(LIMIT_S) else Quick())
    assert not drawn(relay)
    go.set()
    assert relay.wait(LIMIT_S)
    return relay


def test_a_ring_attached_before_or_after_is_used() -> None:
    """The state says which way frames go."""
    for early in (True, False):
        relay = ready(Quick())
        if early:
            relay.attach_ring(RING)
        assert drawn(relay)
        if not early:
            relay.attach_ring(RING)
        assert relay.state == "the quick one; frames into 4096 bytes"


@pytest.mark.parametrize("early", [True, False])
def test_a_ring_that_the_gpu_refuses_costs_the_gpu_and_no_frame(early: bool) -> None:
    """An error of the driver in attach_ring leaves neither `draw` nor `attach_ring`."""
    gpu = Quick(attach_ring=GpuError("cuMemHostRegister: 719"))
    relay = ready(gpu)
    if early:
        relay.attach_ring(RING)
        assert not drawn(relay)
    else:
        assert drawn(relay)
        relay.attach_ring(RING)
    assert relay.state == "the CPU draws: cuMemHostRegister: 719"
    assert gpu.closed == 1
    assert not drawn(relay)


def test_any_error_of_the_bindings_is_taken_for_a_failing_gpu() -> None:
    """Only a mistake of the caller is raised."""
    gpu = Quick(draw=RuntimeError("cuda: gone\nwith details"))
    relay = ready(gpu)
    assert not drawn(relay)
    assert relay.state == "the CPU draws: cuda: gone"
    assert gpu.closed == 1
    relay = ready(Quick(draw=RendererError("wrong shape")))
    with pytest.raises(RendererError):
        drawn(relay)


def test_a_closed_relay_does_not_take_the_gpu_again() -> None:
    """Closed while the GPU draws, when it has just arrived, or before the first frame: it is given back and the CPU draws on."""
    gpu = Quick()
    relay = ready(gpu)
    assert drawn(relay)
    relay.close()
    assert not drawn(relay)
    relay = ready(arrived := Quick())
    relay.close()
    assert not drawn(relay)
    assert (gpu.closed, arrived.closed) == (1, 1)
    relay = Relay(Card(), lambda _report: Quick())
    relay.close()
    assert not drawn(relay)
    assert not relay.wait(1)


@pytest.mark.parametrize("reports", [True, False])
def test_what_is_being_prepared_ends_when_the_relay_is_closed(reports: bool, caplog: pytest.LogCaptureFixture) -> None:
    """At its next report, or as soon as it is there; nobody is told of a failure."""
    gpu, go, ended = Quick(), threading.Event(), threading.Event()

    def prepare(report: Report) -> Quick:
        assert go.wait(LIMIT_S)
        try:
            if reports:
                report("compiles")
        finally:
            ended.set()
        return gpu

    relay = Relay(Card(), prepare)
    drawn(relay)
    relay.close()
    go.set()
    assert ended.wait(LIMIT_S)
    assert relay.wait(LIMIT_S)
    assert not drawn(relay)
    assert gpu.closed == (0 if reports else 1)
    assert not caplog.records


def test_no_gpu_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    """A box without one is as it should be; the state says why the CPU draws."""
    caplog.set_level("INFO")

    def none(_report: Report) -> Quick:
        raise EngineMissing("no driver")

    relay = Relay(Card(), none)
    drawn(relay)
    assert relay.wait(LIMIT_S)
    assert relay.state == "the CPU draws: no driver"
    assert [record.levelname for record in caplog.records] == ["INFO"]


def _refuse(error: Exception) -> Callable[[int], object]:
    def make(_index: int) -> object:
        raise error

    return make


def test_bindings_that_fail_in_their_own_way_are_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """An AttributeError of bindings for another CUDA keeps nothing from starting."""
    module = ModuleType("odd_bindings")
    module.__dict__["Odd"] = _refuse(AttributeError("no attribute 'cuInit'\nand more"))
    monkeypatch.setitem(sys.modules, "odd_bindings", module)
    monkeypatch.setattr(cuda, "BACKENDS", {"odd": ("odd_bindings", "Odd")})
    assert open_gpu() == (None, {"odd": "no attribute 'cuInit'"})
