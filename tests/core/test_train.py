"""Whole runs on a tiny model: what they write, what they refuse, how they stop and go on."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import yaml

import core
from core.errors import UserError
from core.testing import tiny


@pytest.fixture
def run(monkeypatch, tmp_path, tiny_model, rows_jsonl):
    """``run("method=lora")`` trains the tiny model and returns the result."""
    monkeypatch.chdir(tmp_path)

    def train(*overrides: str):
        return core.train(core.configure(usual(tiny_model, rows_jsonl, *overrides)))

    return train


def usual(model, rows, *more: str) -> list[str]:
    """What a test does not say otherwise."""
    settings = {
        "model.path": model, "model.dtype": "float32", "data": "jsonl", "data.train": rows, "data.batch_size": 8,
        "trainer.accelerator": "cpu", "metric": "none", "optim.lr": "1e-2",
    }  # fmt: skip
    settings |= dict(override.split("=", 1) for override in more)
    return [f"{key}={value}" for key, value in settings.items()]


def losses(result, split: str = "train") -> list[float]:
    return [line["loss"] for line in result.metrics if line["split"] == split]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_accumulation_changes_nothing(run, method):
    """1 x 8 and 8 x 1 on rows of unequal length: the step is divided by its tokens, once."""
    settings = [f"method={method}", "trainer.max_steps=6", "data.holdout=0", "optim.lr=1e-3"]
    whole = run(*settings, "data.batch_size=8", "trainer.accumulate_grad_batches=1")
    pieces = run(*settings, "data.batch_size=1", "trainer.accumulate_grad_batches=8")
    items = [line["items"] for line in whole.metrics if line["split"] == "train"]
    assert items == [line["items"] for line in pieces.metrics if line["split"] == "train"]
    assert len(set(items)) > 1
    assert losses(whole) == pytest.approx(losses(pieces), abs=1e-5)


def test_evaluation_before_and_during_training_changes_nothing_for_int4(run):
    settings = ["method=lora", "quant=int4", "model.dtype=bfloat16", "trainer.max_steps=6"]
    alone = run(*settings)
    watched = run(*settings, "metric=exact", "trainer.val_check_interval=2", "trainer.limit_val_batches=1.0")
    assert losses(watched) == losses(alone)
    assert len(losses(watched, "validation")) == 3
    assert watched.before.n == watched.after.n == 3


def test_a_loss_that_is_not_finite_ends_the_run(run, tmp_path, monkeypatch):
    from plugins.sft.objective import SFT

    loss = SFT.loss
    monkeypatch.setattr(SFT, "loss", lambda *given: replace(found := loss(*given), total=found.total * float("nan")))
    with pytest.raises(UserError, match="the loss is nan at step 1"):
        run("method=lora", "run.dir=out")
    assert json.loads((tmp_path / "out" / "status.json").read_text())["state"] == "failed"
    assert not (tmp_path / "out" / "adapter").exists()


@pytest.mark.parametrize(
    "limit", ["trainer.limit_train_batches=0", "trainer.limit_train_batches=0.01", "trainer.max_time=00:00:00:00"]
)
def test_a_run_without_a_step_is_an_error(run, tmp_path, limit):
    with pytest.raises(UserError, match=r"leaves no step to train|ended before its first step"):
        run("method=lora", "run.dir=out", limit)
    assert not (tmp_path / "out" / "adapter").exists()


def test_overfitting_takes_the_same_batches_again_and_again(run):
    lines = run("method=full", "trainer.max_steps=12", "trainer.overfit_batches=2").metrics
    items = [line["items"] for line in lines]
    assert items == items[:2] * 6
    assert lines[-1]["loss"] < 0.5 * lines[1]["loss"]


def test_what_was_left_out_of_the_rows_is_said(run, tmp_path, capsys):
    rows = [{"prompt": f"What is {i}?", "completion": f"{i} " * (1 + i), "id": i} for i in range(40)]
    lines = [json.dumps(row) for row in rows]
    (tmp_path / "t.jsonl").write_text("\n".join([*lines, "{"]))
    (tmp_path / "v.jsonl").write_text("\n".join([*lines[:3], "{", "{"]))
    sides = ["data.train=t.jsonl", "data.validation=v.jsonl", "data.on_bad_row=skip", "data.tolerance=1"]
    run("method=lora", *sides, "data.max_length=30", "trainer.max_steps=1")
    said = capsys.readouterr().out
    assert "skipped: 1 row to train (2.4%); 2 rows held out (40.0%)\n       t.jsonl:41: not JSON" in said
    assert "cut to data.max_length=30: " in said
    assert "trained on, too: 3 rows held out (60.0%), first v.jsonl:1" in said
    assert "columns that nothing reads: id" in said


def test_too_few_rows_to_hold_some_out_are_said_with_what_to_type(run, tmp_path, capsys):
    lines = [json.dumps({"prompt": f"What is {i}?", "completion": f"{i}"}) for i in range(30)]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    typed = ["method=lora", "data.train=t.jsonl", "metric=loss", "trainer.max_steps=1"]
    alone = run(*typed)
    assert (
        "  no rows are held out (none are below 40), so nothing is measured; data.validation=FILE names some\n"
        in capsys.readouterr().out
    )
    assert repr(alone) == f"Result({alone.folder})"
    (tmp_path / "v.jsonl").write_text("\n".join(lines[:3]))
    measured = run(*typed, "data.validation=v.jsonl", "data.tolerance=1", "data.holdout=0")
    assert repr(measured) == f"Result({measured.folder}, before {measured.before}, after {measured.after})"
    assert str(measured.after).startswith("loss ")
    with pytest.raises(UserError, match=r"data\.holdout=0\.5 beside data\.validation"):
        run(*typed, "data.validation=v.jsonl", "data.holdout=0.5")


def test_a_share_to_hold_out_is_refused_where_the_source_has_rows_of_its_own(tiny_model):
    typed = [f"model.path={tiny_model}", "method=lora", "+data.holdout=0.0"]
    with pytest.raises(UserError) as caught:
        core.train(core.configure(typed))
    assert caught.value.what == "data.holdout=0.0: data=reviews holds out rows of its own"


def test_a_set_that_is_mostly_cut_is_refused(run, tmp_path):
    lines = [json.dumps({"prompt": f"What is {i}?", "completion": f"{i} " * (1 + i)}) for i in range(20, 40)]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"20 rows of 20 to train are cut to data\.max_length=30") as error:
        run("method=lora", "data.train=t.jsonl", "data.max_length=30", "trainer.max_steps=1")
    assert error.value.fix == "data.max_length=60, or data.tolerance=1"


def test_the_run_folder_holds_what_others_rely_on(run):
    result = run("method=lora", "metric=loss", "trainer.max_steps=3")
    names = {path.name for path in result.folder.iterdir()}
    assert {"config.yaml", "overrides.txt", "adapter", "metrics.jsonl", "status.json", "lock.json"} <= names
    assert result.folder.name.endswith("_lora-jsonl")
    lines = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    train = [line for line in lines if line["split"] == "train"]
    assert [line["step"] for line in train] == [1, 2, 3]
    assert set(train[0]) == {"split", "step", "loss", "items", "tokens", "lr", "seconds"}
    assert train[0]["lr"] == pytest.approx(1e-2)
    after = next(line for line in lines if line["split"] == "after")
    assert {"metric", "value", "n", "low", "high"} <= set(after)
    assert result.status["state"] == "done"
    assert result.status["peak_memory"] > 0
    lock = json.loads((result.folder / "lock.json").read_text())
    assert {part["name"] for part in lock["parts"]} == {"transformers", "none", "lora", "sft", "jsonl", "adamw", "loss"}
    assert lock["model"]["sha256"]
    assert list(lock["data"]["files"].values())


def test_a_saved_adapter_loads_in_plain_peft(run, tmp_path, tiny_model):
    result = run("method=lora", "trainer.max_steps=5")
    script = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base = AutoModelForCausalLM.from_pretrained(sys.argv[2], dtype=torch.float32)
model = PeftModel.from_pretrained(base, sys.argv[1]).eval()
assert "core" not in sys.modules
torch.save(model(torch.arange(5, 25)[None]).logits, sys.argv[3])
"""
    out = tmp_path / "logits.pt"
    subprocess.run([sys.executable, "-c", script, result.folder / "adapter", tiny_model, out], check=True, cwd=tmp_path)
    import torch

    with torch.no_grad():
        ours = result.model(torch.arange(5, 25)[None]).logits
    assert (ours - torch.load(out)).abs().max().item() == 0.0


def test_a_full_run_loads_in_plain_transformers_and_starts_another(run):
    result = run("method=full", "trainer.max_steps=5", "model.dtype=bfloat16")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    plain = AutoModelForCausalLM.from_pretrained(result.folder / "model").eval()
    assert plain.dtype == torch.bfloat16
    assert AutoTokenizer.from_pretrained(result.folder / "model").chat_template
    with torch.no_grad():
        assert torch.equal(plain(torch.arange(5, 25)[None]).logits, result.model(torch.arange(5, 25)[None]).logits)
    again = run("method=full", "trainer.max_steps=2", f"model.path={result.folder}")
    assert losses(again)[0] < losses(result)[0]


@pytest.mark.parametrize("form", ["strings", "messages"])
@pytest.mark.parametrize("method", ["lora", "adapters", "full"])
def test_preferences_go_on_from_what_sft_learned(run, tmp_path, method, form):
    """Two commands: the reference is the model that SFT left, so the first loss is log 2."""
    taught = run(f"method={method}", "trainer.max_steps=16", "data.holdout=0")
    pairs = [{"prompt": row["prompt"], "chosen": "two", "rejected": "no"} for row in tiny.sums()]
    if form == "messages":
        roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
        pairs = [{name: [{"role": roles[name], "content": said}] for name, said in row.items()} for row in pairs]
    rows = tiny.write_rows(tmp_path / "pairs.jsonl", pairs)
    onward = [f"method={method}", "objective=dpo", f"data.train={rows}", "data.tolerance=1", "trainer.max_steps=8"]
    tuned = run(*onward, f"model.path={taught.folder}")
    assert losses(tuned)[0] == pytest.approx(math.log(2), abs=1e-5)
    assert losses(tuned)[-1] < 0.6
    first = next(line for line in tuned.metrics if line["split"] == "train")
    from_base = run(*onward[:-1], "trainer.max_steps=1").metrics
    assert first["logps/chosen"] != pytest.approx(from_base[-1]["logps/chosen"], abs=0.1)
    # what is saved stands on the first base alone, not on the first run
    names = {path.name for path in (tuned.folder / tuned.plan.method.saves).iterdir()}
    assert names >= {path.name for path in (taught.folder / tuned.plan.method.saves).iterdir()}
    import torch

    with torch.no_grad():
        ids = torch.arange(5, 25)[None]
        again = core.load_run(tuned.folder).model(ids).logits
        assert torch.equal(again, tuned.model(ids).logits)
        assert not torch.equal(again, core.load_run(taught.folder).model(ids).logits)


def test_another_method_than_the_adapters_is_refused(run):
    taught = run("method=lora", "trainer.max_steps=1")
    with pytest.raises(UserError, match="holds an adapter of method lora") as caught:
        run("method=adapters", f"model.path={taught.folder}")
    assert caught.value.fix == "method=lora"


def test_an_adapter_that_is_gone_on_from_keeps_its_shape_and_the_new_run_says_so(run):
    """Whatever was typed would change nothing: the shape is in the weights."""
    taught = run("method=lora", "method.rank=4", "method.targets=[q_proj]", "trainer.max_steps=1")
    onward = ["method=lora", "trainer.max_steps=1", f"model.path={taught.folder}"]
    for typed, said in (("method.rank=16", "with 4"), ("+method.targets=[v_proj]", r"with \['q_proj'\]")):
        with pytest.raises(UserError, match=said) as caught:
            run(*onward, typed)
        assert caught.value.fix.startswith("leave method.")
    again = run(*onward, "method.rank=4")
    written = yaml.safe_load((again.folder / "config.yaml").read_text())["method"]
    assert (written["rank"], written["targets"]) == (4, ["q_proj"])
    assert json.loads((again.folder / "adapter" / "adapter_config.json").read_text())["r"] == 4
    third = run("method=lora", "trainer.max_steps=1", f"model.path={again.folder}")
    assert third.plan.config.options["method"].rank == 4
    assert (
        json.loads((third.folder / "plan.json").read_text())["trained"]
        == json.loads((taught.folder / "plan.json").read_text())["trained"]
    )


def test_load_run_gives_the_same_answers(run):
    result = run("method=lora", "trainer.max_steps=8")
    again = core.load_run(result.folder)
    assert again.generate("What is one plus two?", max_new_tokens=5) == result.generate(
        "What is one plus two?", max_new_tokens=5
    )
    assert again.after is None
    assert again.status["state"] == "done"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_a_checkpoint_and_resume_goes_on_exactly(run, tmp_path, tiny_model, rows_jsonl, number):
    settings = ["method=lora", "method.dropout=0.2", "trainer.max_steps=60", "data.batch_size=4"]
    whole = run(*settings)
    folder = tmp_path / "stopped"
    arguments = usual(tiny_model, rows_jsonl, *settings, f"run.dir={folder}")
    process = subprocess.Popen([sys.executable, "-m", "core", *arguments], cwd=tmp_path)
    log = tmp_path / ".stopped.partial" / "metrics.jsonl"
    while process.poll() is None and not (log.exists() and log.read_text().count("\n") >= 3):
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(60) == 128 + number
    assert json.loads((folder / "status.json").read_text())["state"] == "stopped"
    stopped_at = len((folder / "metrics.jsonl").read_text().splitlines())
    assert 3 <= stopped_at < 60

    from core.resume import resume

    resumed = resume(folder)
    assert resumed.folder == folder
    assert losses(resumed) == losses(whole)
    with pytest.raises(UserError, match="is done"):
        resume(folder)


def test_a_sweep_makes_a_run_of_each_job_and_refuses_what_cannot_be(cli, tmp_path, tiny_model, rows_jsonl):
    arguments = usual(tiny_model, rows_jsonl, "trainer.max_steps=2", "model.dtype=bfloat16")
    done = cli("-m", "method=lora,full", "quant=none,int4", *arguments)
    assert done.returncode == 1
    (folder,) = (tmp_path / "sweeps").iterdir()
    lines = (folder / "table.csv").read_text().splitlines()
    assert lines[0] == "job,overrides,state,metric,before,after,seconds,peak_memory"
    assert [line.split(",")[2] if '"' not in line else line.split('",')[1].split(",")[0] for line in lines[1:]] == [
        "done", "done", "done", "refused",
    ]  # fmt: skip
    assert (folder / "0" / "adapter" / "adapter_config.json").exists()
    assert (folder / "2" / "model" / "config.json").exists()
    assert "requires trainable-base" in done.stderr


def test_a_typo_anywhere_in_a_sweep_stops_it_before_the_first_job(cli, tmp_path, tiny_model, rows_jsonl):
    done = cli("-m", "method=lora,lorra", *usual(tiny_model, rows_jsonl))
    assert done.returncode == 2
    assert "did you mean method=lora?" in done.stderr
    assert not (tmp_path / "sweeps").exists()


def test_generate_answers_with_the_base_and_the_tuned_model(cli, run):
    for method in ("lora", "full"):
        result = run(f"method={method}", "trainer.max_steps=20")
        done = cli("generate", str(result.folder), "What is one plus two?", "max_new_tokens=4")
        assert done.returncode == 0, done.stderr
        base, tuned = done.stdout.split("tuned: ")
        assert base.startswith("base: ")
        assert tuned.strip() == result.generate("What is one plus two?", max_new_tokens=4).strip()
        assert base.removeprefix("base: ").strip() != tuned.strip()
