"""Two processes train as one that takes two micro-batches a step, and only the first one writes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.micro_batches import MicroBatches

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def command(tiny_model, rows_jsonl):
    """The command line of a run on two processes, or with two micro-batches a step."""

    def make(*more: str) -> list[str]:
        usual = [
            "method=lora", f"model.path={tiny_model}", "model.dtype=float32", "data=jsonl", f"data.train={rows_jsonl}",
            "data.batch_size=4", "data.holdout=0", "trainer.accelerator=cpu", "optim.lr=1e-2",
        ]  # fmt: skip
        return [*usual, *more]

    return make


def losses(folder) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["split"] == "train"]


def test_two_ranks_equal_accumulation_over_two(cli, command, tmp_path):
    two = cli(*command("trainer.devices=2", "trainer.max_epochs=2", "run.dir=two"), OMP_NUM_THREADS="1")
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("saved ") == 1
    assert two.stderr == ""
    one = cli(*command("trainer.accumulate_grad_batches=2", "trainer.max_epochs=2", "run.dir=one"))
    assert one.returncode == 0, one.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two"}
    assert len(losses(tmp_path / "two")) == 16
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-5)


@pytest.mark.slow
def test_two_ranks_stop_together_and_go_on(cli, command, tmp_path):
    arguments = command("trainer.devices=2", "trainer.max_steps=300", "run.dir=stopped")
    process = subprocess.Popen([sys.executable, "-m", "core", *arguments], cwd=tmp_path, stderr=subprocess.PIPE)
    log = tmp_path / ".stopped.partial" / "metrics.jsonl"
    while process.poll() is None and not (log.exists() and log.read_text().count("\n") >= 3):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)  # to the first alone: the other one learns of it
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT, said
    assert b"python -m core resume" in said
    stopped_at = len(losses(tmp_path / "stopped"))
    assert 3 <= stopped_at < 300
    done = cli("resume", str(tmp_path / "stopped"), OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert len(losses(tmp_path / "stopped")) == 300


def test_a_method_whose_gradients_come_and_go_trains_on_two_ranks(cli, command, tmp_path):
    """A stranger's, with a penalty and a callback that switches blocks on and off."""
    paths = os.pathsep.join(str(path) for path in (REPOSITORY, REPOSITORY / "tests" / "data" / "tinyparts"))
    usual = [word for word in command("trainer.max_steps=6") if word != "method=lora"] + ["method=turns"]
    settings = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    two = cli(*usual, "trainer.devices=2", "run.dir=two", **settings)
    assert two.returncode == 0, two.stderr
    one = cli(*usual, "trainer.accumulate_grad_batches=2", "run.dir=one", **settings)
    assert one.returncode == 0, one.stderr
    # the callback counts micro-batches, of which one process has twice as many: the first step is the same
    assert len(losses(tmp_path / "two")) == len(losses(tmp_path / "one")) == 6
    assert losses(tmp_path / "two")[0] == pytest.approx(losses(tmp_path / "one")[0], abs=1e-5)


def test_a_sweep_on_several_devices_is_refused(cli, command, tmp_path):
    done = cli("-m", "seed=1,2", *command("trainer.devices=2"))
    assert done.returncode == 2
    assert "a job of a sweep trains on one device" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_gpu_that_is_not_there_is_an_error(cli, command):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = cli(*command("trainer.accelerator=gpu"))
    assert done.returncode == 2
    assert "torch finds no GPU" in done.stderr


def test_an_epoch_that_was_left_early_is_not_gone_on_with():
    batches = MicroBatches(range(20), 4, seed=3)
    first = next(iter(batches))
    assert len(list(batches)) == 5
    assert MicroBatches(range(20), 4, seed=3).__iter__().__next__() == first
