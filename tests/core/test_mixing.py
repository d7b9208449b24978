"""What is drawn from sets that are mixed, and what is held out: the same everywhere for the same seed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import ClassVar

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import core
from core.contracts import DataSource, Objective
from core.errors import UserError
from core.groups import groups, members
from core.messages import conversation
from core.micro_batches import order
from core.options import DataOptions
from core.plan import make_plan
from core.rows import read_rows
from core.run_data import read
from plugins.sft.objective import SFT

REPOSITORY = Path(__file__).parents[2]
COMMON = yaml.safe_load((REPOSITORY / "conf" / "data" / "common.yaml").read_text())


class Lengths(Objective):
    """Rows with a number of tokens."""

    columns: ClassVar[frozenset[str]] = frozenset({"length"})

    def encode(self, row, tokenizer):
        raise NotImplementedError

    def loss(self, model, batch):
        raise NotImplementedError


def options(**changed) -> DataOptions:
    return DataOptions(**{**COMMON, **changed})


class Films(DataSource):
    """Rows that belong to films, some of them lost."""

    def __init__(self, rows, held=None):
        self.sides = {"train": rows, "validation": held}

    def rows(self, split):
        return self.sides[split]


def films(number: int, each: int) -> list[dict[str, object]]:
    return [{"length": 3, "film": f"film {i % number}"} for i in range(number * each)]


def split(rows, held=None, seed=0, **changed):
    return read_rows(Films(rows, held), Lengths(), options(**{"holdout": 0.1, "group": "film", **changed}), seed)


# ------------------------------------------------------------------------------------------------------------- shares
@settings(deadline=None)
@given(
    shares=st.lists(st.sampled_from([0.25, 0.5, 1.0, 1.5, 3.0]), min_size=1, max_size=60),
    seed=st.integers(0, 3),
    packing=st.booleans(),
)
def test_every_example_is_taken_as_often_as_its_share_says(shares, seed, packing):
    drawn = groups([4] * len(shares), shares, packing, 10, seed)
    taken = Counter(members(drawn, range(len(drawn))))
    assert drawn == groups([4] * len(shares), shares, packing, 10, seed)
    for share in set(shares):
        those = [i for i, other in enumerate(shares) if other == share]
        assert all(int(share) <= taken[i] <= -(-share // 1) for i in those)
        fraction = round(share % 1 * len(those))
        assert sum(taken[i] for i in those) == int(share) * len(those) + fraction


def test_of_a_fraction_the_seed_decides_which_rows_are_taken():
    drawn = [members(found := groups([1] * 40, [0.5] * 40, False, 10, seed), range(len(found))) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert [len(set(each)) for each in drawn] == [20, 20, 20]


def test_without_shares_nothing_is_drawn():
    assert groups([1, 2, 3], None, False, 10, 0) == range(3)


def test_a_run_mixes_files_and_takes_the_same_rows_in_every_epoch(tmp_path, monkeypatch, tiny_model):
    monkeypatch.chdir(tmp_path)
    sets = {"one": (12, 1.0), "two": (8, 0.5), "three": (3, 2.0)}
    for name, (number, _) in sets.items():
        rows = [{"prompt": f"{name} {i}?", "completion": name} for i in range(number)]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = core.train(
        core.configure([
            "method=lora", f"model.path={tiny_model}", "model.dtype=float32", "trainer.accelerator=cpu", "metric=none",
            "data=jsonl", "data.train=one.jsonl", "data.mix={two.jsonl: 0.5, three.jsonl: 2}", "data.holdout=0",
            "data.batch_size=2", "data.tolerance=1", "trainer.max_epochs=2",
        ])
    )  # fmt: skip
    steps = [line for line in result.metrics if line["split"] == "train"]
    assert len(steps) == 2 * (12 + 4 + 6) // 2
    tokens = [line["tokens"] for line in steps]
    assert sum(tokens[:11]) == sum(tokens[11:])
    assert tokens[:11] != tokens[11:]  # in another order


# -------------------------------------------------------------------------------------------------------------- groups
@settings(deadline=None)
@given(number=st.integers(10, 30), each=st.integers(4, 7), seed=st.integers(0, 5))
def test_no_group_is_on_both_sides(number, each, seed):
    train, held = split(films(number, each), seed=seed)
    wanted = round(0.1 * (number * each))
    assert wanted - each < len(held.rows) <= max(wanted, each)
    assert not {row["film"] for row in train.rows} & {row["film"] for row in held.rows}
    assert len(train.rows) + len(held.rows) == number * each
    assert (train, held) == split(films(number, each), seed=seed)


@pytest.mark.parametrize("seed", range(5))
def test_a_large_group_does_not_hold_out_more_than_was_asked_for(seed):
    rows = [{"length": 3, "film": "large" if i < 40 else f"film {i}"} for i in range(100)]
    assert len(split(rows, seed=seed)[1].rows) == 10


def test_a_row_without_a_group_is_one_of_its_own():
    train, held = split([{"length": 3, "film": "x" if i == 0 else None} for i in range(50)])
    assert (len(train.rows), len(held.rows)) == (45, 5)


def test_a_group_may_be_a_column_that_becomes_another(tmp_path):
    rows = [{"instruction": f"{i % 20}", "output": "x"} for i in range(60)]
    train, held = read_rows(Films(rows), SFT(None), options(group="instruction"), 0)
    assert not {row["prompt"] for row in train.rows} & {row["prompt"] for row in held.rows}
    assert len(held.rows) == 3
    assert train.unused == ()


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([{"length": 3}] * 50, "data.group=film: no row has such a column"),
        ([{"length": 3}] * 5, "data.group=film: no row has such a column"),
        (films(1, 50), "data.group=film: its groups are too large to hold some out whole, 1 for 50 rows"),
    ],
)
def test_groups_that_cannot_be_held_out_are_refused(rows, what):
    with pytest.raises(UserError) as caught:
        split(rows)
    assert caught.value.what == what


def test_a_group_on_both_sides_of_two_files_is_refused():
    assert len(split(films(5, 2), [{"length": 3, "film": "another"}])[1].rows) == 1
    with pytest.raises(UserError, match="2 of its values are trained on and held out, such as 'film 0'"):
        split(films(5, 2), films(2, 1))


# ------------------------------------------------------------------------------------------------------ the same again
AGAIN = """
import json, sys
from core.groups import groups
from core.micro_batches import order
from test_mixing import films, split
rows = films(20, 5)
chosen = [split(rows, **more)[1].origins for more in ({}, {"group": None}, {"seed": 3})]
print(json.dumps([*(list(c) for c in chosen), groups([4] * 30, [0.5] * 30, False, 9, 7), order(30, 5, 2)]))
"""


def test_another_process_draws_the_same():
    found = [
        subprocess.run(
            [sys.executable, "-c", AGAIN],
            cwd=Path(__file__).parent,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert found[0] == found[1]
    held, *_, shuffled = json.loads(found[0])
    assert held == list(split(films(20, 5))[1].origins)
    assert shuffled == order(30, 5, 2)


# ------------------------------------------------------------------------------------------------- first rows, system
def test_only_the_first_rows_are_read():
    def endless():
        while True:
            yield {"length": 3}

    train, held = split(endless(), group=None, max_rows=100)
    assert (len(train.rows), len(held.rows)) == (90, 10)


@pytest.mark.parametrize(
    ("row", "system", "said"),
    [
        ({"prompt": "a", "completion": "b"}, "S", "S"),
        ({"prompt": "a", "completion": "b", "system": "own"}, "S", "own"),
        ({"prompt": "a", "completion": "b", "system": "own"}, None, "own"),
        ({"prompt": "a", "completion": "b", "system": "own"}, "", None),
        ({"instruction": "a", "output": "b", "system": "own"}, "", None),
        ({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}, "S", "S"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "S", "S"),
    ],
)
def test_a_system_message_is_added_kept_or_taken_away(row, system, said):
    (found,) = read_rows(Films([row]), SFT(None), options(system=system), 0)[0].rows
    first = conversation(found)[0]
    assert (first["content"] if first.get("role") == "system" else None) == said


def test_a_file_of_which_an_epoch_takes_no_row_is_refused(tmp_path, monkeypatch, tiny_model):
    monkeypatch.chdir(tmp_path)
    for name, number in (("one", 6), ("two", 3)):
        rows = [{"prompt": f"{name} {i}?", "completion": name} for i in range(number)]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def summary(share: float) -> str:
        typed = ["method=lora", f"model.path={tiny_model}", "data=jsonl", "data.train=one.jsonl", "data.tolerance=1"]
        return read(make_plan(core.configure([*typed, f"data.mix={{two.jsonl: {share}}}"]))).summary

    assert summary(0.34).startswith("9 to train (7 drawn in an epoch), 0 held out")
    with pytest.raises(UserError, match=r"data\.mix: a share of 0\.1 takes none of its 3 rows") as caught:
        summary(0.1)
    assert caught.value.fix == "a share of 0.34 or more"
