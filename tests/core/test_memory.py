"""Peak memory is what the run added, not what was there before."""

import pytest

from core.memory import PeakMemory

MB = 1_000_000


def test_it_sees_what_was_held_and_let_go():
    held_before = bytearray(b"x") * (60 * MB)
    with PeakMemory() as memory:
        assert memory.peak < 30 * MB
        block = bytearray(b"x") * (80 * MB)
        del block
    assert 75 * MB < memory.peak < 110 * MB
    assert len(held_before) == 60 * MB


def test_a_second_measurement_starts_anew():
    block = bytearray(b"x") * (200 * MB)
    del block
    with PeakMemory() as memory:
        assert memory.peak < 100 * MB


def test_it_is_never_negative(monkeypatch: pytest.MonkeyPatch):
    with PeakMemory() as memory:
        monkeypatch.setattr("core.memory._resident_peak", lambda: 0)
        assert memory.peak == 0
