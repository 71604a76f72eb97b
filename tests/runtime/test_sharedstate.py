"""The board and the checkpoint."""

from __future__ import annotations

import mmap
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.sharedstate import CHECKPOINT_BYTES, Board, Checkpoint, create_board, create_checkpoint


@pytest.fixture
def fd():
    fd = create_checkpoint("test")
    yield fd
    os.close(fd)


def test_checkpoint_survives_its_writer(fd):
    """The next life of a node reads what the last one saved."""
    Checkpoint(fd).save(b"one")
    Checkpoint(fd).save(b"two")
    assert Checkpoint(fd).load() == b"two"


@given(st.binary(max_size=500), st.binary(min_size=1, max_size=500), st.integers(0, CHECKPOINT_BYTES - 1), st.integers(1, 255))
def test_a_damaged_slot_is_never_loaded(first, second, at, flip):
    """Whatever byte a crash leaves wrong, load gives a state that was saved, never a mixture."""
    fd = create_checkpoint("test")
    try:
        checkpoint = Checkpoint(fd)
        checkpoint.save(first)
        checkpoint.save(second)
        with mmap.mmap(fd, CHECKPOINT_BYTES) as memory:
            memory[at] ^= flip
        assert Checkpoint(fd).load() in (first, second)
    finally:
        os.close(fd)


def test_erase_leaves_nothing_of_the_visit(fd):
    """After the wipe not one byte of the state is in the memory."""
    checkpoint = Checkpoint(fd)
    checkpoint.save(b"a large latte")
    checkpoint.erase()
    assert checkpoint.load() is None
    assert os.pread(fd, CHECKPOINT_BYTES, 0) == bytes(CHECKPOINT_BYTES)


def test_too_large_a_state_is_refused(fd):
    """A state that does not fit is an error, and the state before it stays."""
    checkpoint = Checkpoint(fd)
    checkpoint.save(b"small")
    with pytest.raises(ValueError, match="larger than"):
        checkpoint.save(bytes(CHECKPOINT_BYTES))
    assert checkpoint.load() == b"small"


def test_board_lines_do_not_touch_each_other():
    """A beat on one line changes no other; clear forgets one life."""
    fd = create_board(2)
    board, other = Board(fd), Board(fd)
    board.beat(0, 7)
    board.beat(0, 9)
    board.ready(1)
    assert other.read(0) == (9, 2, False)
    assert other.read(1) == (0, 0, True)
    board.clear(0)
    assert other.read(0) == (0, 0, False)
    assert other.read(1)[2]
    os.close(fd)
