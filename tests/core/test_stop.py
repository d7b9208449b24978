"""Runs that are stopped at any moment: nothing trained is lost, and going on is as if there had been no stop."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

import core
from core.errors import Interrupted, UserError
from core.resume import resume
from core.stop import StopOnSignal


@pytest.fixture
def run(monkeypatch, tmp_path, tiny_model, rows_jsonl):
    """``run("trainer.max_steps=3")`` trains the tiny model on a copy of the rows, ``rows.jsonl``."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(rows_jsonl, tmp_path / "rows.jsonl")

    def train(*overrides: str):
        usual = [
            "method=lora", "method.dropout=0.2", f"model.path={tiny_model}", "model.dtype=float32", "data=jsonl",
            "data.train=rows.jsonl", "data.batch_size=8", "trainer.accelerator=cpu", "optim.lr=1e-2",
        ]  # fmt: skip
        # the last one counts
        given = {line.partition("=")[0]: line for line in [*usual, "metric=none", *overrides]}
        return core.train(core.configure(list(given.values())))

    return train


@pytest.fixture
def stop_after(monkeypatch):
    """``stop_after(3)``: the signal comes during the third step."""

    def at(step: int) -> None:
        original = StopOnSignal.on_train_batch_start

        def start(self, trainer, *given):
            if trainer.global_step == step - 1 and self.received is None:
                os.kill(os.getpid(), signal.SIGINT)
            original(self, trainer, *given)

        monkeypatch.setattr(StopOnSignal, "on_train_batch_start", start)

    return at


def losses(result) -> list[float]:
    return [line["loss"] for line in result.metrics if line["split"] == "train"]


# 61 rows are trained, 8 steps an epoch
@pytest.mark.parametrize(
    ("step", "limits"),
    [(step, ["trainer.max_epochs=2"]) for step in (1, 7, 8, 9, 16)]
    + [(step, ["trainer.max_steps=20"]) for step in (8, 16)]
    + [(5, ["trainer.max_epochs=3", "trainer.limit_train_batches=5"])]
    + [(4, ["trainer.max_epochs=2", "trainer.accumulate_grad_batches=2"])],
)
def test_a_run_that_was_stopped_at_any_step_goes_on_exactly(run, stop_after, monkeypatch, tmp_path, step, limits):
    whole = run(*limits)
    assert len(losses(whole)) == whole.plan.config.trainer.max_steps or len(losses(whole)) in (8, 15, 16)
    stop_after(step)
    with pytest.raises(Interrupted) as stopped:
        run(*limits, "run.dir=stopped")
    (note,) = stopped.value.__notes__
    assert note.startswith(f"stopped after step {step}, with a checkpoint; go on with: python -m core resume ")
    assert note.endswith(f"{tmp_path}/stopped")
    assert len((tmp_path / "stopped" / "metrics.jsonl").read_text().splitlines()) == step
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    resumed = resume(tmp_path / "stopped")
    assert losses(resumed) == losses(whole)


def test_a_signal_while_the_result_is_measured_loses_nothing(run, monkeypatch, tmp_path):
    from plugins.mean_loss.metric import MeanLoss

    measure, calls = MeanLoss.measure, []

    def once(*given):
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measure(*given)

    monkeypatch.setattr(MeanLoss, "measure", once)
    with pytest.raises(KeyboardInterrupt) as stopped:
        run("trainer.max_steps=3", "metric=loss", "run.dir=stopped", "seed=77")
    assert "stopped after training" in stopped.value.__notes__[0]
    folder = tmp_path / "stopped"
    assert json.loads((folder / "status.json").read_text())["state"] == "stopped"
    assert isinstance(core.load_run(folder).generate("What is one plus two?", max_new_tokens=3), str)
    with pytest.raises(UserError, match="was trained to its end and is saved; it was stopped after that"):
        resume(folder)


def test_a_run_that_failed_while_the_result_was_measured_says_so(tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "status.json").write_text('{"state": "failed", "error": "ValueError: no luck\\nmore", "seconds": 1}')
    with pytest.raises(UserError) as caught:
        resume(tmp_path)
    assert caught.value.what == (
        f"{tmp_path} was trained to its end and is saved; it failed after that: ValueError: no luck"
    )
    assert caught.value.fix == f'python -m core generate {tmp_path} "PROMPT"'


def test_a_signal_while_the_result_is_saved_waits_for_it(run, monkeypatch, tmp_path):
    from core.peft_method import PeftMethod

    save = PeftMethod.save

    def interrupted(*given):
        os.kill(os.getpid(), signal.SIGTERM)
        save(*given)

    monkeypatch.setattr(PeftMethod, "save", interrupted)
    with pytest.raises(Interrupted) as stopped:
        run("trainer.max_steps=3", "run.dir=stopped")
    assert stopped.value.signal == signal.SIGTERM
    assert (tmp_path / "stopped" / "adapter" / "adapter_model.safetensors").exists()


@pytest.fixture
def stopped(run, stop_after, tmp_path, monkeypatch) -> Path:
    """A run with a checkpoint after three steps."""
    stop_after(3)
    with pytest.raises(Interrupted):
        run("trainer.max_steps=6", "run.dir=stopped")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "stopped"


def test_the_checkpoint_holds_what_is_trained_and_nothing_of_the_base(stopped):
    import torch

    found = torch.load(stopped / "checkpoints" / "last.ckpt", weights_only=True)
    assert found["state_dict"]
    assert all("lora_" in name or "inv_freq" in name for name in found["state_dict"]), list(found["state_dict"])


def test_resume_goes_on_from_any_folder(stopped, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(losses(resume(stopped))) == 6
    assert Path.cwd() == tmp_path / "elsewhere"


def test_other_rows_are_noticed(stopped, tmp_path):
    rows = (tmp_path / "rows.jsonl").read_text()
    (tmp_path / "rows.jsonl").write_text(rows.replace("three", "four"))
    with pytest.raises(UserError, match=r"the rows are not those .* began with"):
        resume(stopped)
    (tmp_path / "rows.jsonl").write_text(rows)
    assert len(losses(resume(stopped))) == 6


def test_another_model_is_noticed(stopped, tmp_path, tiny_model):
    lock = json.loads((stopped / "lock.json").read_text())
    lock["model"]["sha256"] = {"model.safetensors": "0" * 64}
    (stopped / "lock.json").write_text(json.dumps(lock))
    with pytest.raises(UserError, match="the model is not the one"):
        resume(stopped)


def test_another_chat_template_is_noticed(stopped):
    lock = json.loads((stopped / "lock.json").read_text())
    (stopped / "lock.json").write_text(json.dumps({**lock, "template": "0" * 64}))
    with pytest.raises(UserError, match="the chat template is not the one"):
        resume(stopped)


@pytest.mark.parametrize("keep", [0, 1000, -100])
def test_a_checkpoint_that_was_cut_off(stopped, keep):
    file = stopped / "checkpoints" / "last.ckpt"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"last.ckpt is damaged"):
        resume(stopped)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_status_that_is_damaged(stopped, text):
    (stopped / "status.json").write_text(text)
    with pytest.raises(UserError, match=r"status.json"):
        resume(stopped)


def test_a_run_without_a_checkpoint_says_what_to_type(stopped):
    (stopped / "checkpoints" / "last.ckpt").unlink()
    with pytest.raises(UserError) as error:
        resume(stopped)
    assert error.value.what == f"{stopped} holds no checkpoint; it was stopped"
    assert "python -m core method=lora" in error.value.fix
    assert "run.dir" not in error.value.fix


def test_a_run_that_failed_before_its_first_checkpoint_says_why(run, tmp_path):
    with pytest.raises(UserError, match="the loss is nan"):
        run("optim.lr=1e30", "trainer.max_steps=9", "run.dir=failed")
    with pytest.raises(UserError) as error:
        resume(tmp_path / "failed")
    assert error.value.what.startswith(
        f"{tmp_path / 'failed'} holds no checkpoint; it failed: the loss is nan at step "
    )


def test_what_was_logged_after_the_checkpoint_is_taken_back(stopped):
    """A resumed run that was killed outright has logged steps that its checkpoint does not know."""
    log = stopped / "metrics.jsonl"
    log.write_text(log.read_text() + '{"split": "train", "step": 4, "loss": 9.0}\n{"split": "tra')
    resumed = resume(stopped)
    assert [line["step"] for line in resumed.metrics if line["split"] == "train"] == [1, 2, 3, 4, 5, 6]


def test_a_stopped_run_answers_nothing_and_says_what_to_type(stopped, cli):
    done = cli("generate", str(stopped), "Hello")
    assert done.returncode == 2
    assert "has saved nothing" in done.stderr
    assert f"python -m core resume {stopped}" in done.stderr
