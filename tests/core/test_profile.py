"""``profile``: the run that is trained, looked at for a few steps; a table and a trace, and nothing else is left."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from core.cli import command
from core.profiled import Profiled


@pytest.fixture
def profile(tmp_path, tiny_model, rows_jsonl, monkeypatch, capfd):
    """``profile("--steps=2")``: exit code, output and errors; the method is ``lora`` unless another one is typed."""
    monkeypatch.chdir(tmp_path)
    usual = [f"model.path={tiny_model}", "data=jsonl", f"data.train={rows_jsonl}", "trainer.accelerator=cpu"]

    def run(*typed: str) -> tuple[int, str, str]:
        method = [] if any(word.startswith("method=") for word in typed) else ["method=lora"]
        code = command(["profile", *usual, *method, *typed])
        return (code, *capfd.readouterr())

    return run


def shares(table: str) -> dict[str, float]:
    """Name -> per cent, of the groups."""
    lines = table.partition("group\n")[2].partition("\n\n")[0].splitlines()
    found = [re.fullmatch(r" *[\d.]+ +([\d.]+)%  (.+)", line) for line in lines]
    return {match[2]: float(match[1]) for match in found if match}


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_table_and_a_trace_of_the_steps_are_written_and_nothing_else(profile, tmp_path, method):
    code, out, _ = profile(f"method={method}", "--steps", "2")
    assert code == 0
    (folder,) = (tmp_path / "profiles").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_\w.*", folder.name)
    assert sorted(path.name for path in folder.iterdir()) == ["table.txt", "trace.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["profiles"]
    assert f"{folder}/table.txt" in out

    trace = json.loads((folder / "trace.json").read_text())["traceEvents"]
    names = [event.get("name") for event in trace]
    assert names.count("Optimizer.step#AdamW.step") == 2
    assert "aten::mm" in names

    table = (folder / "table.txt").read_text()
    assert table.startswith("python -m core profile --steps 2 model.path=")
    found = shares(table)
    assert sum(found.values()) == pytest.approx(100, abs=1)
    for group in ("matrix products", "attention", "output layer", "optimizer and clipping", "elementwise, norms, rest"):
        assert found[group] > 0, group
    assert shares(out) == found
    calls = int(re.search(r"^ +[\d.]+ +[\d.]+% +(\d+)  aten::mm$", table, re.MULTILINE)[1])
    assert calls == names.count("aten::mm") / 2


def test_an_optimizer_step_of_several_batches_is_one_step(profile, tmp_path):
    profile("--steps=1", "trainer.accumulate_grad_batches=2", "data.batch_size=4", "run.dir=found")
    trace = json.loads((tmp_path / "found" / "trace.json").read_text())["traceEvents"]
    assert sum(event.get("name") == "output layer" for event in trace if event.get("cat") == "user_annotation") == 2


def test_preferences_can_be_profiled(profile, tmp_path):
    rows = [{"prompt": f"{i}?", "chosen": f"one {i}", "rejected": f"two {i}"} for i in range(8)]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, _ = profile("data.train=pairs.jsonl", "objective=dpo", "--steps=1", "data.tolerance=1")
    assert code == 0
    assert shares(out)["output layer"] > 0


def test_a_profile_that_is_there_is_not_overwritten(profile, tmp_path):
    profile("--steps=1", "run.dir=found")
    before = (tmp_path / "found" / "table.txt").read_text()
    profile("--steps=1", "run.dir=found", "seed=1")
    assert (tmp_path / "found" / "table.txt").read_text() == before
    assert "seed=1" in (tmp_path / "found-2" / "table.txt").read_text()


def test_options_that_would_end_the_run_early_do_not(profile):
    early = [
        "trainer.max_epochs=1",
        "trainer.limit_train_batches=1",
        "trainer.max_steps=1",
        "trainer.fast_dev_run=true",
    ]
    code, out, _ = profile("--steps=2", *early, "metric=loss", "trainer.profiler=simple")
    assert (code, "2 steps, each" in out) == (0, True)
    assert "before" not in out


def test_an_interrupted_profile_leaves_nothing_and_does_not_say_how_to_go_on(profile, tmp_path, monkeypatch):
    def interrupt(self, trainer, *given):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Profiled, "on_train_batch_start", interrupt)
    code, _, err = profile()
    assert code == 128 + signal.SIGINT
    assert "resume" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--step=3"], "did you mean --steps?"),
        (["--steps"], "--steps 3"),
        (["--steps=0"], "1 or more"),
        (["method=lorra"], "did you mean method=lora?"),
        (["trainer.devices=2"], "trainer.devices=1"),
        (["data.train=nowhere.jsonl"], "fix"),
        (["run.dir=file/found", "--steps=1"], "run.dir=FOLDER"),
    ],
)
def test_what_cannot_be_is_two_lines(profile, typed, said):
    Path("file").touch()
    code, _, err = profile(*typed)
    assert code == 2
    what, fix = [line for line in err.splitlines() if not line.startswith("USDT")]
    assert (what[:7], fix[:7]) == ("error: ", "  fix: ")
    assert said in fix


def test_help_mentions_it(capsys):
    assert command(["--help"]) == 0
    assert "profile" in capsys.readouterr().out
