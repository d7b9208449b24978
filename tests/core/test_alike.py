"""What is counted on three blocks that are alike is what all of them keep."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from torch import nn

import core
from core import kept
from core.alike import alike, only
from core.forecast import forecast
from core.plan import make_plan
from core.stages import read


@pytest.fixture(scope="module")
def deep(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model with seven blocks, without weights."""
    folder = tmp_path_factory.mktemp("deep") / "model"
    shutil.copytree(tiny_model, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((folder / "config.json").read_text())
    config["num_hidden_layers"] = 7
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    "typed",
    [
        ["method=full"],
        ["method=lora"],
        ["method=adapters"],
        ["method=lora", "quant=int8"],
        ["method=lora", "objective=dpo"],
        ["method=lora", "trainer.gradient_checkpointing=true"],
    ],
)
def test_few_blocks_tell_what_all_keep(typed: list[str], deep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from core.testing import tiny

    columns = ("chosen", "rejected") if "objective=dpo" in typed else ("prompt", "completion")
    rows = tiny.write_rows(tmp_path / "rows.jsonl", tiny.rows_with(frozenset(columns)))
    plan = make_plan(
        core.configure([*typed, f"model.path={deep}", "data=jsonl", f"data.train={rows}", "metric=none",
                        "trainer.accelerator=cpu"])
    )  # fmt: skip
    data = read(plan)
    seen: list[int] = []

    def watched(model: nn.Module, marked: Sequence[nn.Module]) -> nn.ModuleList:
        blocks = alike(model, marked)
        assert blocks is not None
        seen.append(len(blocks))
        return blocks

    monkeypatch.setattr(kept, "alike", watched)
    of_few = forecast(plan, data)
    assert set(seen) == {7}
    monkeypatch.setattr(kept, "alike", lambda *_given: None)
    assert forecast(plan, data) == of_few


def test_blocks_that_differ_are_not_alike():
    def block(number: int) -> nn.Module:
        made = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.1))
        made.layer_idx = number  # type: ignore[assignment]
        return made

    def six() -> nn.ModuleList:
        return nn.ModuleList(block(number) for number in range(6))

    blocks = six()
    assert alike(blocks) is blocks
    with only(blocks, 2):
        assert len(blocks) == 2
    assert len(blocks) == 6
    assert alike(blocks, marked=[blocks[5][0]]) is None
    assert alike(nn.ModuleList(block(number) for number in range(3))) is None
    for change in (
        lambda one: one[0].weight.requires_grad_(False),
        lambda one: one[0].bfloat16(),
        lambda one: setattr(one[1], "p", 0.2),
        lambda one: setattr(one[1], "attention_type", "sliding"),
        lambda one: one.append(nn.Linear(4, 4)),
        lambda one: one[1].register_forward_hook(lambda *_: None),
        lambda one: setattr(one, "forward", lambda hidden: hidden),
        lambda one: setattr(one, "_window", 7),
        lambda one: setattr(one, "window", (7, 8)),
    ):
        blocks = six()
        change(blocks[4])
        assert alike(blocks) is None


@pytest.mark.parametrize("late", [False, True])
def test_hooks_that_know_their_block_make_blocks_differ(late: bool):
    """One and the same function may be on each of them, and act on the later ones alone."""

    def of_number(number: int) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: object) -> None:
            assert number >= 0

        return hook

    blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(6))
    for number, block in enumerate(blocks):
        block.register_forward_pre_hook(of_number(number if late else 0))
    assert alike(blocks) is (None if late else blocks)
