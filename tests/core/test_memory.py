"""Peak memory is what the run added, not what was there before."""

import pytest

from core.memory import PeakMemory, _limits, there

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


@pytest.mark.parametrize(
    ("said", "files", "found"),
    [
        ("0::/", {"memory.max": "max"}, []),
        ("0::/jobs/7", {"jobs/7/memory.max": "max", "jobs/memory.max": "5000", "memory.max": "9000"}, [5000, 9000]),
        ("11:memory:/jobs\n3:cpu:/\n0::/", {"memory/jobs/memory.limit_in_bytes": "7000"}, [7000]),
        ("3:cpu:/", {"memory.max": "1"}, []),
    ],
)
def test_limits_of_a_container_or_a_job_are_found(tmp_path, said, files, found):
    own = tmp_path / "cgroup"
    own.write_text(said + "\n")
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(text + "\n")
    assert list(_limits(tmp_path / "fs", own)) == found


def test_what_is_there_is_the_least_limit(monkeypatch):
    monkeypatch.setattr("core.memory._limits", lambda: iter([5000, 1 << 62]))
    assert there() == 5000
