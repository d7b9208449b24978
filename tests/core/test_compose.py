"""From what was typed to one checked config: what is accepted, and who is named when it is not."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

import core
from core import choices, compose, hydra_app
from core.compose import composed, with_metric
from core.errors import UserError
from core.overrides import parse, quoted
from core.registry import ConfDir

ROOT = Path(__file__).resolve().parents[2]


def refused(*overrides: str) -> UserError:
    with pytest.raises(UserError) as error:
        core.configure(list(overrides))
    return error.value


# ------------------------------------------------------------------------------------------------------ what is typed
@given(st.text(st.sampled_from("ab ${}\\\"',=é[]()\n~+") | st.characters(codec="utf-8"), max_size=12))
@settings(max_examples=300, deadline=None)
def test_quoted_text_is_read_back_as_it_was(text):
    (override,) = parse([f"data.train={quoted(text)}"])
    assert OmegaConf.create({"train": override.value()}).train == text


@pytest.mark.parametrize(
    "path", ["/a b/c.jsonl", "/daten/käse.jsonl", "/a=b/c.jsonl", "/ж.jsonl", "C:/x.jsonl", "~/a.jsonl", "a#b&c.jsonl"]
)  # fmt: skip
def test_a_path_without_signs_of_the_grammar_needs_no_quotes(path):
    config = core.configure(["data=jsonl", f"data.train={path}"])
    assert config.options["data"].train == path
    assert core.configure(config.overrides).tree == config.tree  # as overrides.txt holds it for resume


@pytest.mark.parametrize("path", ["my(1).jsonl", "it's.jsonl", "a[b.jsonl", "a,b.jsonl", 'a"b.jsonl'])
def test_what_needs_quotes_is_said_with_a_line_that_works(path):
    import shlex

    error = refused("data=jsonl", f"data.train={path}")
    pasted = [word for word in shlex.split(error.fix) if word.startswith("data.train=")][-1]
    assert core.configure(["data=jsonl", pasted]).options["data"].train == path


def test_two_files_are_mixed_by_what_the_error_says():
    import shlex

    error = refused("data=jsonl", "data.train=a.jsonl,b.csv")
    pasted = shlex.split(error.fix.partition(", or")[0])
    options = core.configure(["data=jsonl", *pasted]).options["data"]
    assert (options.train, options.mix) == ("a.jsonl", {"b.csv": 1.0})


def test_columns_are_a_mapping_and_may_be_added_to():
    typed = ["data=jsonl", "data.train=x", "data.columns={prompt: question}", "+data.columns.completion=answer"]
    assert core.configure(typed).options["data"].columns == {"prompt": "question", "completion": "answer"}


@pytest.mark.parametrize("line", ["=lora", "+=3", "", "méthode=lora", "method=[lora]"])
def test_no_override_at_all(line):
    assert refused(line).what


# ------------------------------------------------------------------------------------------------ who has what option
def test_an_option_that_another_part_has_names_that_part():
    error = refused("method=full", "method.rank=8")
    assert error.what == "method.rank: full has no such option"
    assert error.fix.startswith("method=lora has it")


def test_options_are_listed_in_the_order_of_the_yaml():
    error = refused("method=lora", "method.rnak=16")
    assert error.what == "method.rnak: lora has no such option"
    assert error.fix == "did you mean method.rank?  (options: rank, alpha, dropout, targets)"


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("seed=null", "seed=null is no whole number"),
        ("seed=???", "seed is missing"),
        ("seed=-1", "seed=-1 is out of range"),
        ("seed=true", "seed=True is no whole number"),
        ("seed=${nowhere}", "seed: Interpolation key 'nowhere' not found"),
        ("run.dir=[a]", "run.dir is a list where one value is wanted"),
        ("run.dir=???", "run.dir is missing"),
        ("run=3", "run is one value"),
        ("plugins.disable=3", "plugins.disable is one value"),
        ("method.name=full", "method.name=full, but method=lora was chosen"),
        ("~method.rank", "method.rank cannot be removed"),
        ("method.rank@other=3", "a key cannot be placed elsewhere"),
    ],
)
def test_top_level_values_have_types_too(line, what):
    assert what in refused("method=lora", line).what


@pytest.mark.parametrize(
    "line",
    [
        "accelerator=cup", "strategy=ddpp", "gradient_clip_algorithm=l2", "profiler=fast", "deterministic=maybe",
        "max_time=soon", "devices=0", "devices=[a]", "devices=two", "fast_dev_run=often", "overfit_batches=2.5",
        "limit_train_batches=-1", "check_val_every_n_epoch=0", "gradient_clip_val=-1", "val_check_interval=abc",
    ],
)  # fmt: skip
def test_trainer_values_are_checked_before_lightning_is_there(line):
    assert refused(f"trainer.{line}").what.startswith(f"trainer.{line.partition('=')[0]}")


def test_strategies_are_lightnings():
    from lightning.pytorch.accelerators import AcceleratorRegistry
    from lightning.pytorch.strategies import StrategyRegistry

    from core.trainer_options import ACCELERATORS, STRATEGIES

    assert set(STRATEGIES) - {"auto"} <= set(StrategyRegistry.available_strategies())
    assert set(ACCELERATORS) - {"auto", "gpu"} <= set(AcceleratorRegistry.available_accelerators())


@pytest.mark.parametrize(
    ("typed", "epochs"),
    [([], 1), (["trainer.max_steps=8"], -1), (["trainer.max_steps=8", "trainer.max_epochs=2"], 2)],
)
def test_epochs_without_limit_when_only_steps_are_given(typed, epochs):
    assert core.configure(typed).trainer.arguments()["max_epochs"] == epochs


# --------------------------------------------------------------------------------------------------------------- nested
def test_composing_works_inside_another_hydra():
    """A job of a sweep resolves metric=auto within Hydra's own run; a notebook may have initialized Hydra too."""
    with initialize_config_dir(version_base="1.3", config_dir=str(ROOT / "conf")):
        outer = GlobalHydra.instance().hydra
        config = core.configure(["method=lora", "metric.rows=7"])
        assert with_metric(config, "exact").options["metric"].rows == 7
        assert GlobalHydra.instance().hydra is outer
    assert not GlobalHydra.instance().is_initialized()


def test_a_metric_that_was_chosen_in_quotes_is_resolved_too():
    assert with_metric(composed(['metric="auto"']), "loss").choices["metric"] == "loss"


def test_overrides_stay_what_was_typed():
    assert with_metric(composed(["method=lora"]), "loss").overrides == ("method=lora",)


# -------------------------------------------------------------------------------------------------- files of others
@pytest.fixture
def conf(tmp_path, monkeypatch) -> Path:
    """A copy of conf/ to add files to."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf", ignore=shutil.ignore_patterns("__pycache__"))
    for module in (hydra_app, choices, compose):
        monkeypatch.setattr(module, "CONF", tmp_path / "conf")
    return tmp_path / "conf"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("method:\n  rnak: 3", ["sets method.rnak: full has no such option"]),
        ("method:\n  rank: null", ["sets method.rank: full has no such option"]),
        ("sead: 3", ["sets sead: there is no such axis or key", "did you mean seed?"]),
        ("seed: x", ["seed=x is no whole number"]),
        ("method: 3", []),
        ("method:\n  name: lora", ["method.name=lora, but method=full was chosen"]),
        ("a: [", ["mine.yaml"]),
        ("defaults:\n  - override /metod: lora", []),
        ("defaults:\n  - override /method: lorra", []),
    ],
)
def test_a_wrong_experiment_is_two_lines(conf, text, words):
    (conf / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}\n")
    error = refused("experiment=mine")
    if "sets" in "".join(words):
        assert "mine.yaml sets" in error.what
    assert all(word in str(error) for word in words), str(error)


def test_an_experiment_is_listed_and_wins_over_defaults(conf):
    (conf / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nseed: 7\ndefaults:\n  - override /method: lora\n"
    )
    config = core.configure(["+experiment=mine"])
    assert (config.seed, config.choices["method"]) == (7, "lora")
    assert core.configure(["+experiment=mine", "seed=8"]).seed == 8


def test_two_files_for_one_name_are_an_error_when_it_is_chosen(tmp_path):
    from core.discovery import discover

    (tmp_path / "method").mkdir()
    shutil.copy(ROOT / "conf" / "method" / "lora.yaml", tmp_path / "method")
    registry = discover()
    registry.conf_dirs.append(ConfDir(tmp_path, "twin", "acme-twin"))
    assert composed(["method=full"], registry).choices["method"] == "full"
    with pytest.raises(UserError, match="shipped twice, by hooktune and by acme-twin"):
        composed(["method=lora"], registry)


def test_a_folder_called_conf_in_the_current_folder_is_not_ours(tmp_path, monkeypatch):
    (tmp_path / "conf" / "method").mkdir(parents=True)
    (tmp_path / "conf" / "method" / "lora.yaml").write_text("name: lora\nrank: 99\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert core.configure(["method=lora"]).options["method"].rank == 16


# ------------------------------------------------------------------------------------------------------------- sweeps
@pytest.fixture
def sweep(monkeypatch, tmp_path):
    """``sweep("seed=1,2")`` with a training that only notes its config: (exit code, configs, lines of table.csv)."""
    monkeypatch.chdir(tmp_path)
    seen = []

    def train(config):
        seen.append(config)
        assert "metric" in with_metric(config, "loss").offers  # what every real run does inside its job
        if config.seed == 13:
            raise ValueError("no luck")
        if config.seed == 14:
            raise SystemExit(3)
        return SimpleNamespace(before=None, after=None, seconds=1.5, peak_memory=10**9)

    monkeypatch.setitem(vars(core), "train", train)
    memory = {"total": 10**9, "there": 4 * 10**9}
    monkeypatch.setattr("core.sweep.plan_once", lambda config: SimpleNamespace(memory=memory))

    def run(*typed: str):
        from core.cli import command

        code = command(["-m", *typed])
        tables = list(tmp_path.glob("**/table.csv"))
        return code, seen, tables[0].read_text().splitlines()[1:] if tables else []

    return run


def test_jobs_get_folders_and_lines_of_their_own(sweep, tmp_path):
    code, seen, lines = sweep("+method=lora", "quant=glob(int*)", "+method.rank=4,8", "run.dir=my sweep")
    assert code == 0
    assert [(c.choices["quant"], c.options["method"].rank) for c in seen] == [
        ("int4", 4), ("int4", 8), ("int8", 4), ("int8", 8),
    ]  # fmt: skip
    assert [c.run_dir for c in seen] == [str(tmp_path / "my sweep" / str(job)) for job in range(4)]
    assert lines[1] == "1,method=lora quant=int4 method.rank=8,done,,,,1.5,1000000000"
    assert {path.name for path in tmp_path.iterdir()} == {"my sweep"}


def test_the_others_go_on_when_a_job_fails_or_is_refused(sweep, capsys):
    code, seen, lines = sweep("method=full,lora", "quant=none,int4", "seed=13,1")
    assert code == 1
    assert [line.split(",")[2] for line in lines] == [
        "failed", "done", "refused", "refused", "failed", "done", "failed", "done",
    ]  # fmt: skip
    assert len(seen) == 6
    err = capsys.readouterr().err
    assert err.count("ValueError: no luck") == 3
    (line, _) = [line for line in err.splitlines() if line.startswith("refused: ")]
    assert line == (
        "refused: method=full cannot run with quant=int4: it requires trainable-base; quant=none, or method=lora"
    )


def test_a_job_that_calls_exit_stops_no_other(sweep):
    code, _, lines = sweep("seed=14,1")
    assert (code, [line.split(",")[2] for line in lines]) == (1, ["failed", "done"])


@pytest.mark.parametrize(
    "typed",
    [
        ["method=lora", "optim.lr=1e-3,abc"],
        ["method=lora,full", "method.rank=8,16"],
        ["method=lora", "method.rnak=8,16"],
        ["metod=lora,full"],
        ["method=lora", "quant=glob(zz*)"],
        ["experiment=small,null"],
        ["seed=interval(0,1)"],
        ["seed=range(5,0)"],
        ["seed=1,-1"],
        ["run.dir=a,b"],
        ["hydra/launcher=nope", "seed=1,2"],
        ["--cfg", "job"],
    ],
)
def test_nothing_runs_when_any_job_is_wrong(sweep, tmp_path, typed, capsys):
    code, seen, lines = sweep(*typed)
    assert (code, seen, lines) == (2, [], [])
    assert list(tmp_path.iterdir()) == []
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 2
    assert "add -m" not in said


def test_a_launcher_without_m_is_not_passed_over(tmp_path, monkeypatch, capsys):
    from core.cli import command

    monkeypatch.chdir(tmp_path)
    assert command(["method=lora", "hydra/launcher=joblib"]) == 2
    assert "hydra/launcher=joblib is for several runs" in capsys.readouterr().err


def test_a_launcher_that_cannot_start_is_said_in_two_lines(sweep, monkeypatch, capsys):
    def broken(*_given):
        raise RuntimeError("Could not detect srun")

    monkeypatch.setattr("core.sweep.run_hydra", broken)
    code, seen, lines = sweep("method=lora", "seed=1,2")
    assert (code, seen, lines) == (2, [], [])
    error, fix = capsys.readouterr().err.splitlines()
    assert error == "error: the launcher failed: RuntimeError: Could not detect srun"
    assert "hydra.launcher" in fix


def test_a_sweep_never_writes_into_a_folder_that_is_there(sweep, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    assert sweep("seed=1,2", "run.dir=mine")[0] == 2


def test_a_signal_ends_the_sweep_and_leaves_its_lines(sweep, tmp_path, monkeypatch, capsys):
    from core.errors import Interrupted

    def train(config):
        if config.seed == 2:
            raise Interrupted(15)
        return SimpleNamespace(before=None, after=None, seconds=1.0, peak_memory=1)

    monkeypatch.setitem(vars(core), "train", train)
    code, _, lines = sweep("method=lora", "seed=1,2,3")
    assert code == 143
    assert [line.split(",")[2] for line in lines] == ["done", "stopped"]
    assert "not done: 1, 2; go on with: python -m core sweep resume" in capsys.readouterr().out


def test_jobs_that_cannot_work_are_said_before_the_first_starts(sweep, capsys):
    sweep("method=full,lora", "quant=none,int4")
    said = "4 jobs, of which 1 cannot work: 1\njob 0 needs the most memory, about 1.00 GB of 4.00 GB\n\njob 0: "
    assert capsys.readouterr().out.startswith(said)


def test_what_is_missing_or_failed_is_run_later(sweep, tmp_path, monkeypatch, capsys):
    from core.cli import command
    from core.errors import Interrupted

    train = core.train
    stop = {"seed": 2}

    def stopped(config):
        if config.seed == stop["seed"]:
            raise Interrupted(15)
        (tmp_path / "mine" / config.run_dir.rpartition("/")[2]).mkdir()
        return train(config)

    monkeypatch.setitem(vars(core), "train", stopped)
    code, seen, _ = sweep("seed=13,1,2,3", "run.dir=mine")
    assert (code, [c.seed for c in seen]) == (143, [13, 1])
    (tmp_path / "mine" / "0" / "note.txt").write_text("of the first attempt")
    stop["seed"] = 0
    capsys.readouterr()
    seen.clear()
    monkeypatch.chdir(tmp_path.parent)
    assert command(["sweep", "resume", str(tmp_path / "mine")]) == 1
    assert [(c.seed, c.run_dir) for c in seen] == [(n, f"{tmp_path}/mine/{i}") for n, i in ((13, 0), (2, 2), (3, 3))]
    assert (tmp_path / "mine" / "0.before-1" / "note.txt").read_text() == "of the first attempt"
    table = [line.replace("│", "").split()[:3] for line in capsys.readouterr().out.splitlines() if line[:1].isdigit()]
    assert table[1:] == [
        ["0", "seed=13", "failed"],
        ["1", "seed=1", "done"],
        ["2", "seed=2", "done"],
        ["3", "seed=3", "done"],
    ]


def test_a_sweep_that_runs_is_left_to_run(sweep, tmp_path, capsys):
    from core.cli import command
    from core.runfolder import RunFolder
    from core.sweep_table import SweepTable

    assert sweep("seed=13,1", "run.dir=mine")[0] == 1
    capsys.readouterr()
    with SweepTable(tmp_path / "mine").alone():
        assert command(["sweep", "resume", str(tmp_path / "mine")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/mine is being run by another process\n  fix: ")
    shutil.rmtree(tmp_path / "mine" / "0")
    with RunFolder.create(str(tmp_path / "mine" / "0"), "lora", datetime.now()):  # of a cluster's job, which goes on
        assert command(["sweep", "resume", str(tmp_path / "mine")]) == 2
        assert "mine/0 is being written by another process" in capsys.readouterr().err
    assert not (tmp_path / "mine" / "0.before-1").exists()


@pytest.mark.parametrize("text", ["{}", "[]", '{"folder": 1, "jobs": []}', '{"folder": "/", "jobs": [[1]]}', "{"])
def test_a_damaged_plan_of_a_sweep_is_said(tmp_path, capsys, text):
    from core.cli import command

    (tmp_path / "sweep.json").write_text(text)
    assert command(["sweep", "resume", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "sweep.json" in said
    assert len(said.splitlines()) == 2


def test_a_line_that_was_cut_off_is_none(tmp_path):
    from core.sweep_table import Job, SweepTable

    table = SweepTable(tmp_path)
    table.add(Job(0, "seed=1", "done", seconds=1.0, peak_memory=1))
    table.add(Job(1, "seed=2", "done", seconds=1.0, peak_memory=1))
    whole = table.file.read_bytes()
    table.file.write_bytes(whole[:-20])
    assert [job.job for job in table.jobs()] == [0]


def test_why_a_job_was_refused_or_failed_is_kept(sweep, tmp_path, capsys):
    assert sweep("method=full", "quant=int4,none", "seed=13", "run.dir=mine")[0] == 1
    refused, failed = (json.loads((tmp_path / "mine" / str(n) / "status.json").read_text()) for n in (0, 1))
    assert (refused["state"], failed["state"], failed["error"]) == ("refused", "failed", "ValueError: no luck")
    assert refused["error"].startswith("method=full cannot run with quant=int4: it requires trainable-base; ")
    printed = capsys.readouterr().out
    page = (tmp_path / "mine" / "report.html").read_text()
    for said in (f"job 0 refused: {refused['error']}", "job 1 failed: ValueError: no luck"):
        assert said in printed
        assert said in page


TOLD = """
import sys
from core.sweep_job import _ended

print(_ended([sys.executable, "-c", sys.argv[1]]))
"""

CHILD = """
import signal, sys, time

came = []
signal.signal(signal.SIGTERM, lambda *_: came.append(True))
print("up", flush=True)
while not came:
    time.sleep(0.05)
time.sleep(0.5)
print("kept", flush=True)
sys.exit(143)
"""


def test_a_signal_to_the_sweep_ends_a_job_of_its_own_process_in_good_order():
    import signal
    import subprocess

    with subprocess.Popen([sys.executable, "-c", TOLD, CHILD], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "kept\n143\n"
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["resume"], "sweep takes resume and the folder of a sweep"),
        (["start", "x"], "sweep takes resume and the folder of a sweep"),
        (["resume", "nowhere"], "nowhere is not the folder of a sweep"),
    ],
)
def test_what_is_no_sweep_is_said(tmp_path, monkeypatch, capsys, words, what):
    from core.cli import command

    monkeypatch.chdir(tmp_path)
    assert command(["sweep", *words]) == 2
    said = capsys.readouterr().err
    assert what in said
    assert len(said.splitlines()) == 2


def test_import_core_brings_no_torch(cli):
    import subprocess

    script = "import sys, core; core.configure(['method=lora']); print('torch' in sys.modules, 'hydra' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["False", "True"], done.stderr
