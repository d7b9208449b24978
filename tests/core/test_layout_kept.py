"""The layout is found out once for each model, parts and rows; what calls for a warning is found out each time."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

import core
from core import layout_kept
from core.layout import choose
from core.testing import tiny

SETTINGS = {
    "method": "lora", "model.path": "model", "model.dtype": "float32", "data": "jsonl", "data.train": "rows.jsonl",
    "data.tolerance": "1", "data.batch_size": "4", "metric": "none", "trainer.max_steps": "2",
    "trainer.accelerator": "cpu", "optim.lr": "0.01",
}  # fmt: skip


@pytest.fixture
def asked(tmp_path, tiny_model, monkeypatch) -> Callable[..., list[str]]:
    """``asked(...)`` trains two steps and says which layouts were found out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOOKTUNE_CACHE", str(tmp_path / "cache"))
    shutil.copytree(tiny_model, tmp_path / "model")
    tiny.write_rows(tmp_path / "rows.jsonl", tiny.rows_with(["messages"])[:12])
    tiny.write_rows(tmp_path / "pairs.jsonl", tiny.rows_with(["prompt", "chosen", "rejected"])[:12])
    found: list[str] = []

    def watched(*args):
        found.append(choose(*args))
        return found[-1]

    monkeypatch.setattr(layout_kept, "choose", watched)

    def run(**changes: str) -> list[str]:
        found.clear()
        overrides = [f"{key.replace('__', '.')}={value}" for key, value in (SETTINGS | changes).items()]
        run.result = core.train(core.configure(overrides))
        return list(found)

    return run


def losses(result) -> list[float]:
    return [line["loss"] for line in result.metrics]


def test_a_second_run_does_not_look_again_and_trains_the_same(asked):
    assert asked() == ["apart"]
    first = losses(asked.result)
    assert asked() == []
    assert losses(asked.result) == first
    assert asked(seed="1", optim__lr="0.1") == []


@pytest.mark.parametrize("change", [{"method__rank": "4"}, {"method": "full"}, {"model__dtype": "bfloat16"}])
def test_another_method_rank_or_dtype_is_looked_at(asked, change):
    assert asked() == ["apart"]
    assert asked(**change) == ["apart"]


def test_other_rows_are_looked_at(asked, tmp_path):
    assert asked() == ["apart"]
    tiny.write_rows(tmp_path / "rows.jsonl", tiny.rows_with(["messages"])[6:18])
    assert asked() == ["apart"]


def test_other_weights_are_looked_at(asked, tmp_path):
    assert asked() == ["apart"]
    weights = tmp_path / "model" / "model.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(content[:-4] + b"\x00\x00\x00\x3c")
    assert asked() == ["apart"]


def test_a_reference_and_its_training_are_kept_apart(asked):
    pairs = {"objective": "dpo", "data.train": "pairs.jsonl"}
    assert len(asked(**pairs)) == 2
    first = losses(asked.result)
    assert asked(**pairs) == []
    assert losses(asked.result) == first


def test_what_is_damaged_is_found_out_again(asked, tmp_path):
    assert asked() == ["apart"]
    (kept,) = (tmp_path / "cache" / "layouts").iterdir()
    kept.write_text('{"layout": "apart"}')
    assert asked() == ["apart"]
    assert asked() == []


def test_padded_rows_are_found_out_and_said_each_time(asked, monkeypatch):
    monkeypatch.setattr("core.layout._first_right", lambda *args: "padded")
    assert asked() == asked() == ["padded"]
