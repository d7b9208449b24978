"""The command line: what is typed wrong is said in two lines, with exit code 2, before torch is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import core
from core.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]

WRONG = {
    "method=lorra": "did you mean method=lora?",
    "metod=lora": "did you mean method=lora?",
    "+metod=lora": "did you mean method=lora?",
    "method=lora +method.rnak=16": "did you mean method.rank?",
    "method=lora ++method.rnak=16": "did you mean method.rank?",
    "method=lora method.rank=abc": "method.rank takes a whole number",
    "method=lora method.rank=null": "method.rank takes a whole number",
    "method=lora method.rank=0": "give method.rank a number 1 or more",
    "method=lora method.alpha=nan": "give method.alpha a number",
    "method=lora method.targets=q_proj": "method.targets=[q_proj]",
    "method=lora method.targets=q_proj,v_proj": "a list is method.targets=[q_proj,v_proj]",
    "method=lora ~method.rank": "fix: leave it out",
    "method=full ~method.rank": "method=lora has it",
    "~run.dir": "run.dir=null, or leave it out",
    "lr=1e-4": "did you mean optim.lr=1e-4?",
    "max_steps=4": "did you mean trainer.max_steps=4?",
    "METHOD=lora": "did you mean method=lora?",
    "method=lora,": "fix: method=lora\n",
    "-m quant=none,int4,": "fix: quant=none,int4\n",
    "quant=none,,int4": "nothing stands beside a comma",
    "loader=unsloth loader.foo=1": "fix: options: max_seq_length",
    "method=lora method.rank=???": "method.rank=VALUE",
    "method=null": "method=adapters|full|lora",
    "~method": "method=adapters|full|lora",
    "~seed": "leave it out",
    "seed=???": "seed=0",
    "seed=one": "seed=0",
    "method.name=full method=lora": "leave method.name alone",
    "+method@other=lora": "method=NAME",
    "method=lora method=full": "keep one method=NAME",
    "experiment=small method=full quant=none method.rank=4": "options:",
    "experiment=small data=jsonl data.train=x": "choose the data it was written for",
    "method=full quant=int4": "quant=none, or method=lora",
    "data=jsonl": "data.train=FILE of .jsonl, .ndjson, .json, .csv, .tsv, .parquet",
    "data=jsonl data.train=a,b": "or a folder that holds them; add -m for a run each; text is",
    "data=jsonl data.train=[a,b]": "fix: data.train=a 'data.mix={b: 1}', or a folder that holds them\n",
    'data=jsonl data.train="a': "quote it",
    "data=jsonl data.train=a data.columns.promt=x": "did you mean data.columns.prompt?",
    "data.on_bad_row=ignore": "stop|skip",
    "trainer.max_epochs=-1": "trainer.max_steps=1000",
    "trainer.max_stepz=3": "did you mean trainer.max_steps?",
    "trainer.precision=16": "options:",
    "model.dtype=float": "auto|float32|bfloat16|float16",
    "optim.schedule=cosin": "constant|linear|cosine",
    "run.folder=x": "options: dir",
    "plugins.disable=[lora] method=lora": "method=adapters|full",
    "lora": "NAME",
    "--multi-run": "did you mean --multirun?",
    "trian": "did you mean train?",
    "resume": "resume takes one run folder",
    "resume /nowhere": "status.json",
    "generate": "python -m core generate RUN",
    "generate runs/x hi sistem=y": "did you mean system=y?",
    "data=jsonl data.train=a data.mix=b.jsonl": "fix: 'data.mix={b.jsonl: 1}'",
    "data shwo": "did you mean data show?",
    "data show --rwos 3": "did you mean --rows?",
    "data show method=lorra": "did you mean method=lora?",
    "profile --step=3": "did you mean --steps?",
    "profile method=lora method.rnak=8": "did you mean method.rank?",
}


def in_process(arguments: list[str], capsys) -> tuple[int, str]:
    from core.cli import command

    return command(arguments), capsys.readouterr().err


@pytest.mark.parametrize("typed", WRONG)
def test_what_is_wrong_is_two_lines_and_exit_code_two(typed, capsys):
    code, err = in_process(typed.split(), capsys)
    assert code == 2, err
    what, fix = err.rstrip("\n").split("\n")
    assert what.startswith("error: ")
    assert fix.startswith("  fix: ")
    assert WRONG[typed] in err


def test_every_one_of_them_is_said_without_torch():
    script = (
        "import sys\nfrom core.cli import command\n"
        "for line in sys.argv[1:]:\n    assert command(line.split()) == 2, line\n"
        "assert command(['--help']) == 0 and command(['--version']) == 0 and command(['--cfg', 'job']) == 0\n"
        "heavy = {'torch', 'transformers', 'peft', 'trl', 'lightning', 'bitsandbytes', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script, *WRONG], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr[-2000:]


def test_plus_or_not_is_the_same():
    with_plus = core.configure(["+method=lora", "+quant=int4", "+method.rank=4", "+experiment=null", "+seed=3"])
    without = core.configure(["method=lora", "quant=int4", "method.rank=4", "seed=3"])
    assert with_plus.tree == without.tree
    assert with_plus.options["method"].rank == 4
    assert with_plus.what == "lora-int4"


def test_the_learning_rate_follows_the_method_and_is_shown():
    assert core.configure(["method=lora"]).tree["optim"]["lr"] == 1e-3
    assert core.configure(["method=full"]).tree["optim"]["lr"] == 1e-5
    assert core.configure(["method=full", "optim.lr=0.5"]).options["optim"].lr == 0.5


def test_an_experiment_wins_over_defaults_and_loses_to_what_is_typed():
    config = core.configure(["experiment=small"])
    assert (config.what, config.tree["data"]["train_rows"], config.options["optim"].lr) == ("lora-int4", 200, 2e-3)
    assert core.configure(["experiment=small", "data.train_rows=7"]).tree["data"]["train_rows"] == 7


@pytest.mark.parametrize("value", ["my rows.jsonl", "a,b.jsonl", "käse=1.jsonl", 'quo"te.jsonl'])
def test_any_file_name_can_be_given(value):
    from core.overrides import quoted

    config = core.configure(["data=jsonl", f"data.train={quoted(value)}"])
    assert config.options["data"].train == value


def test_metric_auto_is_what_the_data_suggest():
    from core.compose import with_metric

    config = core.configure(["metric.rows=7"])
    assert "metric" not in config.offers
    resolved = with_metric(config, "exact")
    assert (resolved.options["metric"].name, resolved.options["metric"].rows) == ("exact", 7)


def test_trainer_options_are_lightnings(monkeypatch):
    import inspect
    from dataclasses import fields

    from lightning.pytorch import Trainer

    from core.trainer_options import CORE_OWNS, OURS, TrainerOptions

    ours = {field.name for field in fields(TrainerOptions)} - OURS
    assert not ours & CORE_OWNS
    assert ours | CORE_OWNS == set(inspect.signature(Trainer).parameters)
    Trainer(**core.configure(["trainer.accelerator=cpu"]).trainer.arguments(), logger=False)


def test_help_lists_every_part_and_its_summary(cli):
    done = cli("--help")
    assert done.returncode == 0
    from core.discovery import discover

    for offer in discover().offers:
        assert offer.part.name in done.stdout
        assert offer.part.summary in done.stdout


def test_cfg_job_prints_the_config(cli):
    done = cli("--cfg", "job", "+method=lora")
    assert done.returncode == 0, done.stderr
    assert "rank: 16" in done.stdout
    assert not (Path(done.args[0]).parent / "outputs").exists()


def test_a_config_error_in_python_is_an_exception():
    with pytest.raises(UserError, match="method=lorra does not exist"):
        core.configure(["method=lorra"])


@pytest.mark.parametrize("typed", [["data=my rows.jsonl"], ["my rows.jsonl"], ["data", "show", "my rows.jsonl"]])
def test_a_file_that_is_typed_by_itself_is_given_its_place(typed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my rows.jsonl").write_text("{}\n")
    code, err = in_process(typed, capsys)
    assert code == 2
    assert "fix: data=jsonl data.train=" in err
