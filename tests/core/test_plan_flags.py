"""``plan`` with a question or a flag: ranks, what fits, a probe; and the plan that lies beside a run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

import core
from core import forecast_cache, foretell
from core.cli import command
from core.errors import UserError
from core.forecast import RUNTIME
from core.plan_fit import size


@pytest.fixture
def usual(tiny_model: Path, rows_jsonl: Path) -> list[str]:
    return [
        f"model.path={tiny_model}", "model.dtype=float32", "data=jsonl", f"data.train={rows_jsonl}",
        "data.max_length=64", "data.batch_size=8", "trainer.accelerator=cpu", "metric=none",
    ]  # fmt: skip


def total(typed: list[str], capsys: pytest.CaptureFixture[str]) -> int:
    assert command(["plan", *typed, "--json"]) == 0
    memory = json.loads(capsys.readouterr().out)["memory"]
    return memory["total"] - memory["file"]


def test_a_table_of_ranks_counts_what_peft_makes(usual, capsys):
    assert command(["plan", *usual, "method=lora", "method.rank=?"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    numbered = [line for line in lines if len(line) > 1 and line[0].isdigit() and line[1][0].isdigit()]
    rows = {line[0]: line[1].replace(",", "") for line in numbered}
    assert list(rows) == ["4", "8", "16", "32", "64", "128", "256"]
    # hidden 64, keys and values 32, feed-forward 128: q, k, v, o, gate, up, down of two blocks
    pairs = 2 * ((64 + 64) + 2 * (64 + 32) + (64 + 64) + 2 * (64 + 128) + (128 + 64))
    assert rows == {rank: str(int(rank) * pairs) for rank in rows}


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["seed=?"], "seed=?: there is no table of that"),
        (["method=full", "method.rank=?"], "method.rank"),
        (["method=lora", "method.rank=?", "--json"], "method.rank prints a table of its own"),
        (["--fit=much"], "--fit=much is no size of memory"),
        (["--fit=0GB"], "--fit=0GB is no size of memory"),
        (["--fit=1GB", "--probe"], "--fit prints a table of its own"),
        (["--fit"], "--fit lacks its value"),
    ],
)
def test_what_cannot_be_asked(usual, capsys, words, what):
    assert command(["plan", *usual, *words]) == 2
    said = capsys.readouterr().err
    assert what in said
    assert len(said.splitlines()) == 2


def test_what_fits_is_proposed_with_as_many_examples_a_step(usual, capsys):
    whole = total([*usual, "method=full"], capsys)
    half = total([*usual, "method=full", "data.batch_size=4"], capsys)
    limit = (whole + half) // 2
    assert command(["plan", *usual, "method=full", f"--fit={limit / 1e6}MB"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [re.split(r"  +", line.strip())[1] for line in lines] == [
        "as it is", "data.batch_size=4 trainer.accumulate_grad_batches=2", "trainer.gradient_checkpointing=true",
    ]  # fmt: skip


def test_a_quantizer_is_proposed_where_it_goes_with_the_method(usual, tmp_path, capsys):
    limit = total([*usual, "method=lora", "data.batch_size=1"], capsys)
    assert command(["plan", *usual, "method=lora", f"--fit={limit / 1e6}MB"]) == 0
    out = capsys.readouterr().out
    assert "data.batch_size=1 trainer.accumulate_grad_batches=8" in out
    assert "quant=int4 " in out
    for line in out.splitlines()[1:]:
        change = line.split()[2:]
        assert (
            total([*[o for o in usual if not o.startswith("data.batch_size")], "method=lora", *change], capsys) <= limit
        )


def test_what_fits_already_is_left_alone_and_what_cannot_is_said(usual, capsys):
    assert command(["plan", *usual, "method=lora", "--fit=64GiB"]) == 0
    assert capsys.readouterr().out.split("  ")[-1] == "as it is, which fits\n"
    assert command(["plan", *usual, "method=lora", "--fit=1MB"]) == 2
    assert "nothing here fits into 0.00 GB: the least is 0.1" in capsys.readouterr().err


def test_options_of_a_quantizer_do_not_outlive_it_and_odd_batches_are_cut(usual, capsys):
    asked = ["method=lora", "quant=int4", "quant.double=false", "data.batch_size=15", "--fit=1MB"]
    assert command(["plan", *usual, *asked]) == 2
    assert "nothing here fits into 0.00 GB" in capsys.readouterr().err
    limit = total([*usual, "method=full", "data.batch_size=5"], capsys)
    assert command(["plan", *usual, "method=full", "data.batch_size=15", f"--fit={limit / 1e6}MB"]) == 0
    assert "data.batch_size=5 trainer.accumulate_grad_batches=3" in capsys.readouterr().out


def test_a_tokenizer_that_is_there_and_damaged_is_an_error(usual, tiny_model, tmp_path, capsys):
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_text("{")
    assert command(["plan", *usual, f"model.path={tmp_path}/model"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, so none is missing")
def test_a_device_that_is_missing_is_said_before_the_run(usual, capsys):
    assert command(["plan", *usual, "trainer.accelerator=gpu"]) == 2
    assert "torch finds no GPU" in capsys.readouterr().err


def test_a_folder_that_is_taken_is_said_before_the_run(usual, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    assert command(["plan", *usual, f"run.dir={tmp_path}/mine"]) == 2
    assert "is there and not empty" in capsys.readouterr().err


def test_sizes():
    assert size("1.5GB") == 1_500_000_000
    with pytest.raises(UserError, match="no size"):
        size("GB")


def test_a_probe_trains_a_step_and_leaves_nothing(usual, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert command(["plan", *usual, "method=lora", "trainer.max_epochs=3", "run.dir=here", "--probe"]) == 0
    out = capfd.readouterr().out
    found = re.search(r"probe   (\d+\.\d\d) s a step, ([\d,]+) tokens/s; (\d+) take about", out)
    assert found is not None
    assert int(found[3]) == 24  # 64 rows of which 8 are held out: 7 or 8 micro-batches, three times
    assert list(tmp_path.iterdir()) == []


def test_a_probe_that_fails_says_why_in_two_lines(usual, tmp_path, monkeypatch, capfd):
    from core import plan_probe

    with pytest.raises(UserError, match=r"the probe failed: .*does not exist"):
        plan_probe.probe([*usual, "method=nothing"])
    assert plan_probe._failed(-9, "").what == "the probe ran out of memory"
    for said in (
        "torch.OutOfMemoryError: CUDA out of memory.", "MemoryError", "OSError: [Errno 12] Cannot allocate memory",
        "RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes.",
    ):  # fmt: skip
        assert plan_probe._failed(1, said).what == "the probe ran out of memory"


def test_a_run_keeps_its_plan_beside_what_it_took(usual, tmp_path):
    result = core.train(core.configure([*usual, "method=lora", "trainer.max_steps=2", f"run.dir={tmp_path}/run"]))
    said = json.loads((result.folder / "plan.json").read_text())
    assert result.status["predicted_memory"] == said["memory"]["total"] > RUNTIME
    assert said["memory"]["activations"] > 0
    assert result.status["peak_memory"] > 0
    assert said["trained"]["parameters"] == sum(p.numel() for p in result.model.parameters() if p.requires_grad)
    assert result.lock["verdicts"] == said["verdicts"]
    assert set(said["verdicts"].values()) == {"tested"}


def test_pages_of_a_file_are_not_what_must_be_there(usual, capsys, monkeypatch):
    """A base that is quantized while it is read leaves its file mapped: those pages go when the memory is wanted."""
    typed = [*usual, "method=lora", "quant=int4"]
    assert command(["plan", *typed, "--json"]) == 0
    memory = json.loads(capsys.readouterr().out)["memory"]
    assert memory["file"] > 0
    needed = memory["total"] - memory["file"]
    for seed, there in enumerate((needed + 1, needed - 1)):
        monkeypatch.setattr("core.planning._there", lambda _plan, there=there: there)
        assert command(["plan", *typed, f"run.dir=made-{seed}"]) == 0  # another plan, of the same run
        assert ("too little" in capsys.readouterr().out) == (there < needed)


def test_what_cannot_be_counted_is_said_and_trained(usual, tmp_path, monkeypatch, caplog):
    def wrong(*_given: object) -> None:
        raise RuntimeError("no shapes")

    monkeypatch.setattr(foretell, "planned", wrong)
    result = core.train(core.configure([*usual, "method=lora", "trainer.max_steps=1", f"run.dir={tmp_path}/run"]))
    assert "could not be counted: RuntimeError: no shapes" in caplog.text
    assert result.status["predicted_memory"] is None
    assert not (result.folder / "plan.json").exists()


def test_too_little_memory_is_warned_of(usual, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("core.planning._there", lambda plan: 1_000_000)
    core.train(core.configure([*usual, "method=lora", "trainer.max_steps=1", f"run.dir={tmp_path}/run"]))
    assert re.search(r"about 0\.\d\d GB of memory are needed, and there are 0\.00 GB", caplog.text)


def test_the_same_plan_is_counted_once(usual, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOOKTUNE_CACHE", str(tmp_path))
    counted: list[int] = []
    inner = forecast_cache.forecast
    monkeypatch.setattr(forecast_cache, "forecast", lambda *given: counted.append(1) or inner(*given))
    first = total([*usual, "method=lora"], capsys)
    assert total([*usual, "method=lora"], capsys) == first
    assert len(counted) == 1
    for other in ("method.rank=8", "data.batch_size=2", "seed=1", "trainer.accumulate_grad_batches=2"):
        rest = [line for line in usual if line.partition("=")[0] != other.partition("=")[0]]
        total([*rest, "method=lora", other], capsys)
    assert len(counted) == 5
