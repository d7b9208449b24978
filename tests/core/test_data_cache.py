"""Encoded rows of an earlier run: taken when nothing changed, made again when anything did or the cache is damaged."""

from __future__ import annotations

import inspect
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from core import data_cache, stages
from core.cache import _beside, code_of, file_hash
from core.compose import configure
from core.errors import UserError
from core.plan import make_plan
from plugins.jsonl.source import Files
from plugins.sft.objective import SFT

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache and, in the current folder, 50 rows."""
    monkeypatch.setenv("HOOKTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_rows(50)
    return tmp_path / "cache" / "encoded"


@pytest.fixture
def work(monkeypatch):
    """How often rows were read and encoded, by name."""
    counted = {"read": 0, "encoded": 0}

    def rows(self, split, real=Files.rows):
        counted["read"] += 1
        return real(self, split)

    def encode(self, row, tokenizer, real=SFT.encode):
        counted["encoded"] += 1
        return real(self, row, tokenizer)

    monkeypatch.setattr(Files, "rows", rows)
    monkeypatch.setattr(SFT, "encode", encode)
    return counted


def write_rows(number: int, file: str = "rows.jsonl") -> None:
    rows = [{"prompt": f"What is {i}?", "completion": f"{i}"} for i in range(number)]
    Path(file).write_text("".join(json.dumps(row) + "\n" for row in rows))


def overrides(model, *more: str) -> list[str]:
    usual = ["method=lora", "data=jsonl", f"model.path={model}", "data.train=rows.jsonl", "data.tolerance=1"]
    return list({line.partition("=")[0]: line for line in [*usual, *more]}.values())


def read(model, *more: str) -> stages.Data:
    return stages.read(make_plan(configure(overrides(model, *more))))


def seen(data: stages.Data) -> list[object]:
    """All that is in the data, taken out of the files it lies in."""
    return [
        ([*side.examples], [*side.rows], [*side.origins], [*side.lengths], side.shares, _facts(side.facts))
        for side in (data.train, data.validation)
    ]


def _facts(facts) -> dict[str, object]:
    return {name: value or () for name, value in vars(facts).items()}  # json knows no tuples


# ---------------------------------------------------------------------------------------------------------------- keys
def test_a_second_run_reads_and_encodes_nothing(cache, work, tiny_model):
    first = read(tiny_model)
    assert work == {"read": 2, "encoded": 50}
    second = read(tiny_model)
    assert work == {"read": 2, "encoded": 50}
    assert seen(first) == seen(second)
    assert (len(second.train.examples), second.warnings) == (48, first.warnings)


def test_what_changes_no_example_needs_no_work(cache, work, tiny_model):
    read(tiny_model)
    read(tiny_model, "data.batch_size=2", "data.packing=true", "data.tolerance=0.9", "optim.lr=0.1", "method=full")
    assert work["encoded"] == 50


@pytest.mark.parametrize(
    "changed",
    [
        "data.max_length=99", "data.holdout=0.2", "data.system=Be brief.", "data.on_bad_row=skip", "data.max_rows=49",
        "data.format=prompt-completion", "data.group=prompt", "data.validation=rows.jsonl", "data.mix={more.jsonl: 2}",
        "data.columns={prompt: completion, completion: prompt}", "objective.prompt_weight=0.5", "objective.turns=last",
        "seed=1",
    ],
)  # fmt: skip
def test_another_option_is_another_entry(cache, work, tiny_model, changed):
    write_rows(5, "more.jsonl")
    read(tiny_model)
    read(tiny_model, changed)
    assert work["encoded"] > 50
    assert len(list(cache.iterdir())) == 2
    before = work["encoded"]
    read(tiny_model, changed)
    assert work["encoded"] == before


def test_other_rows_are_another_entry(cache, work, tiny_model):
    read(tiny_model)
    write_rows(51)
    assert len(read(tiny_model).train.examples) == 48
    assert work["encoded"] == 101


def test_another_tokenizer_or_template_is_another_entry(cache, work, tiny_model, tmp_path):
    read(tiny_model)
    other = shutil.copytree(tiny_model, tmp_path / "other")
    read(other)
    assert work["encoded"] == 50  # the same one in another folder
    template = next(file for file in (other / "chat_template.jinja", other / "tokenizer_config.json") if file.exists())
    template.write_text(template.read_text().replace("<|im_start|>", "<|im_start|> "))
    read(other)
    assert work["encoded"] == 100
    words = json.loads((other / "tokenizer.json").read_text())
    words["model"]["merges"].pop()
    (other / "tokenizer.json").write_text(json.dumps(words))
    read(other)
    assert work["encoded"] == 150


@pytest.mark.parametrize("axis", ["objective", "data"])
def test_another_version_of_a_part_is_another_entry(cache, work, tiny_model, axis):
    plan = make_plan(configure(overrides(tiny_model)))
    newer = {**plan.config.offers, axis: replace(plan.config.offers[axis], version="99")}
    assert data_cache.key(plan, "rows") == data_cache.key(plan, "rows")
    assert data_cache.key(replace(plan, config=replace(plan.config, offers=newer)), "rows") != data_cache.key(
        plan, "rows"
    )
    assert data_cache.key(plan, "other rows") != data_cache.key(plan, "rows")


def test_another_release_is_another_entry(cache, work, tiny_model, monkeypatch):
    """Of this project and of the packages that render templates; and ids are checked against a vocabulary."""
    plan = make_plan(configure(overrides(tiny_model)))
    known = data_cache.key(plan, "rows")
    smaller = replace(plan, facts=replace(plan.facts, vocabulary=plan.facts.vocabulary - 1))
    assert data_cache.key(smaller, "rows") != known
    version, code_of = data_cache.version, data_cache.code_of
    for package in ("transformers", "trl"):
        with monkeypatch.context() as patched:
            patched.setattr(data_cache, "version", lambda name, of=package: "99" if name == of else version(name))
            assert data_cache.key(plan, "rows") != known
    with monkeypatch.context() as patched:
        patched.setattr(
            data_cache, "code_of", lambda part: ["other"] if type(part) is data_cache.Facts else code_of(part)
        )
        assert data_cache.key(plan, "rows") != known
    assert data_cache.key(plan, "rows") == known


def test_another_objective_is_another_entry(cache, tiny_model):
    Path("rows.jsonl").write_text(
        "".join(json.dumps({"prompt": f"{i}", "completion": "b", "text": f"{i}"}) + "\n" for i in range(50))
    )
    assert read(tiny_model).train.examples != read(tiny_model, "objective=pretrain").train.examples
    assert len(list(cache.iterdir())) == 2


def test_rows_of_a_source_without_a_fingerprint_are_compared(cache, work, tiny_model, monkeypatch):
    monkeypatch.setattr(Files, "fingerprint", lambda self: None)
    first, second = read(tiny_model), read(tiny_model)
    assert work == {"read": 4, "encoded": 50}
    assert seen(first) == seen(second)
    write_rows(51)
    read(tiny_model)
    assert work["encoded"] == 101


def test_without_a_cache_nothing_is_kept(cache, work, tiny_model):
    read(tiny_model, "data.cache=false")
    read(tiny_model, "data.cache=false")
    assert work["encoded"] == 100
    assert not cache.exists()


# -------------------------------------------------------------------------------------------------------------- damage
def shorter(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def zeroed(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [shorter, zeroed, flipped, Path.unlink, lambda file: file.write_bytes(b"")])
def test_a_damaged_entry_is_made_again(cache, work, tiny_model, damage):
    mixed = ["data.mix={more.jsonl: 2}"]
    write_rows(5, "more.jsonl")
    first = seen(read(tiny_model, *mixed))
    (entry,) = cache.iterdir()
    files = sorted(file.name for file in entry.iterdir())
    assert files == ["0.arrow", "0.jsonl", "0.npy", "1.arrow", "1.jsonl", "1.npy", "meta.json"]
    for number, name in enumerate(files, 2):
        damage(entry / name)
        assert seen(read(tiny_model, *mixed)) == first, name
        assert work["encoded"] == 55 * number, name
    read(tiny_model, *mixed)
    assert work["encoded"] == 55 * number
    assert [path.name for path in cache.iterdir()] == [entry.name]


def test_what_a_killed_run_left_is_not_taken_and_is_removed_later(cache, work, tiny_model):
    read(tiny_model)
    (entry,) = cache.iterdir()
    left, old = entry.rename(entry.with_name(".123-456")), cache / "old"
    old.mkdir()
    os.utime(left, (0, time.time() - 2 * 86_400))
    os.utime(old, (0, time.time() - 31 * 86_400))
    read(tiny_model)
    assert work["encoded"] == 100
    assert [path.name for path in cache.iterdir()] == [entry.name]


# ------------------------------------------------------------------------------------------------------ no room, races
def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path, cache, work, tiny_model, monkeypatch):
    first = read(tiny_model)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("HOOKTUNE_CACHE", str(tmp_path / "file"))
    second = read(tiny_model)
    assert seen(first) == seen(second)
    assert second.warnings == (
        *first.warnings,
        f"encoded rows are not kept for the next run: {tmp_path / 'file'} cannot be written",
    )
    assert work["encoded"] == 100


@contextmanager
def no_file_above(size: int):
    """As on a disk that is full: what is written beyond ``size`` bytes of a file is refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_room_for_the_examples_says_what_to_type(cache, tiny_model):
    with no_file_above(2000), pytest.raises(UserError, match=rf"{cache} cannot be written: .*too large") as caught:
        read(tiny_model)
    assert caught.value.fix.startswith("HOOKTUNE_CACHE=FOLDER with room")
    assert list(cache.iterdir()) == []


def test_no_room_for_the_rows_beside_the_examples_costs_time_only(cache, work, tiny_model, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(data_cache, "_complete", full)
        first = read(tiny_model)
    assert "cannot be written" in first.warnings[-1]
    assert list(cache.iterdir()) == []
    assert seen(first) == seen(read(tiny_model))
    assert work["encoded"] == 100


def test_no_room_for_the_rows_says_what_to_type(cache, tiny_model, monkeypatch):
    monkeypatch.setattr("core.row_file.IN_MEMORY", 100)
    with no_file_above(1000), pytest.raises(UserError, match=r"cannot be written: .*too large") as caught:
        read(tiny_model)
    assert caught.value.fix == "TMPDIR=FOLDER with room in front of the command"


AT_ONCE = """
import sys, time
from pathlib import Path
from core.compose import configure
from core.plan import make_plan
from core import stages
plan = make_plan(configure(sys.argv[2:]))
Path(f"ready-{sys.argv[1]}").touch()
while len([*Path().glob("ready-*")]) < 2:
    time.sleep(0.001)
print([example["completion"].ids for example in stages.read(plan).train.examples])
"""


def test_two_runs_at_once_leave_one_good_entry(cache, work, tiny_model):
    write_rows(1000)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", AT_ONCE, number, *overrides(tiny_model)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in "12"
    ]
    said = [process.communicate(timeout=240)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[0] == said[1]
    assert len(list(cache.iterdir())) == 1
    found = read(tiny_model)
    assert work["encoded"] == 0
    assert str([example["completion"].ids for example in found.train.examples]) == said[0].strip()


def test_the_code_of_a_part_is_its_package_and_what_it_builds_on(tmp_path, monkeypatch):
    package = tmp_path / "acmeparts"
    (package / "objectives").mkdir(parents=True)
    for file, text in {
        "__init__.py": "", "objectives/__init__.py": "", "text.py": "def clean(s): return s\n",
        "objectives/mine.py": "from plugins.sft.objective import SFT\nclass Mine(SFT): pass\n",
    }.items():  # fmt: skip
        (package / file).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    from acmeparts.objectives.mine import Mine  # pyright: ignore[reportMissingImports]

    part = object.__new__(Mine)
    before = code_of(part)
    assert before[0] == "Mine"
    (package / "text.py").write_text("def clean(s): return s.upper()\n")
    assert code_of(part) != before, "a helper elsewhere in its package"
    base = Path(inspect.getfile(SFT)).parent
    dropped = tmp_path / "plugins" / "mine"
    (dropped / "parts").mkdir(parents=True)
    for file in (dropped / "method.py", dropped / "parts" / "choose.py"):
        file.write_text("")
    found = _beside(dropped / "method.py", "plugins.mine.method")
    assert {file.name for file in found} == {"method.py", "choose.py"}, "what lies below a plugin's folder"
    assert set(code_of(part)) > {file_hash(file) for file in base.glob("*.py")}, "the part of ours that it extends"
