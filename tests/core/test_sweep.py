"""Jobs of a sweep: each gets its folder and line, and whatever happens to one, the others run."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

import core
from core.compose import with_metric

ROOT = Path(__file__).resolve().parents[2]


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


def test_a_job_that_somebody_went_on_with_is_not_trained_again(sweep, tmp_path, capsys):
    from core.cli import command
    from core.runfolder import RunFolder

    code, seen, _ = sweep("seed=13,1", "run.dir=mine")
    assert code == 1
    seen.clear()
    shutil.rmtree(tmp_path / "mine" / "0")
    with RunFolder.create(str(tmp_path / "mine" / "0"), "lora", datetime.now()) as folder:
        score = {"metric": "loss", "value": 0.5, "n": 2, "low": 0.4, "high": 0.6, "better": "lower"}
        folder.log({"split": "after", **score})
        folder.status(peak_memory=3 * 10**9)
        folder.finish("done")
    capsys.readouterr()
    assert command(["sweep", "resume", str(tmp_path / "mine")]) == 0
    assert seen == []
    assert "0,seed=13,done,loss,,0.5," in (tmp_path / "mine" / "table.csv").read_text()


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
        assert process.stdout.read() == "kept\n(143, '')\n"
    assert process.returncode == 0


def test_why_a_job_of_its_own_process_failed_is_known(capfd):
    from core.sweep_job import _ended

    says = "import sys; print('error: no such rows\\n  fix: others', file=sys.stderr); sys.exit(2)"
    assert _ended([sys.executable, "-c", says]) == (2, "no such rows")
    assert capfd.readouterr().err == "error: no such rows\n  fix: others\n"


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
