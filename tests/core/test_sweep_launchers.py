"""Sweeps through launchers and sweepers of other packages, in real processes."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.cli import command
from core.sweep_extras import EXTRAS


@pytest.fixture
def sweep(cli, tmp_path, tiny_model, rows_jsonl) -> Callable[..., tuple[Any, list[dict[str, str]]]]:
    """``sweep("seed=0,1", ...)`` trains a tiny model for two steps a job: the process, and the lines of its table."""
    usual = [
        f"model.path={tiny_model}", "data=jsonl", f"data.train={rows_jsonl}", f"data.validation={rows_jsonl}",
        "data.tolerance=1", "metric=loss", "trainer.accelerator=cpu", "trainer.max_steps=2", "run.dir=swept",
    ]  # fmt: skip

    def run(*typed: str, **environment: str):
        done = cli("-m", *usual, *typed, **environment)
        file = tmp_path / "swept" / "table.csv"
        lines = list(csv.DictReader(file.open())) if file.exists() else []
        return done, sorted(lines, key=lambda line: int(line["job"]))

    return run


JOBS = ["method=lora,full", "quant=none,int8", "plugins.disable=[adapters]"]


@pytest.mark.slow
def test_joblib_runs_jobs_side_by_side_as_the_basic_one_does_one_by_one(sweep, tmp_path):
    done, lines = sweep(*JOBS, "hydra/launcher=joblib", "hydra.launcher.verbose=5", OMP_NUM_THREADS="1")
    assert done.returncode == 1, done.stderr  # full cannot run with int8
    assert "4 jobs, of which 1 cannot work: 3\njob 2 needs the most memory, about 0.1" in done.stdout
    assert "concurrent workers" in done.stdout + done.stderr
    assert "deprecated" not in done.stderr
    assert [line["state"] for line in lines] == ["done"] * 3 + ["refused"]
    assert done.stderr.count("refused: method=full cannot run with quant=int8") == 1
    assert "4 jobs: 3 done, 1 refused" in (tmp_path / "swept" / "report.html").read_text()
    (tmp_path / "swept").rename(tmp_path / "side-by-side")
    _, again = sweep(*JOBS, OMP_NUM_THREADS="1")
    assert [(line["state"], line["after"]) for line in lines] == [(line["state"], line["after"]) for line in again]


@pytest.mark.slow
def test_a_failed_job_stops_no_other_side_by_side(sweep):
    done, lines = sweep("method=lora", "optim.lr=1e38,1e-3", "trainer.detect_anomaly=true", "hydra/launcher=joblib")
    assert done.returncode == 1
    states = {float(line["overrides"].split("optim.lr=")[1].split()[0]): line["state"] for line in lines}
    assert states == {1e38: "failed", 1e-3: "done"}


@pytest.mark.slow
def test_submitit_starts_each_job_as_a_cluster_would(sweep, tmp_path):
    done, lines = sweep("method=full", "quant=none,int8", "hydra/launcher=submitit_local")
    assert done.returncode == 1, done.stderr
    assert [line["state"] for line in lines] == ["done", "refused"]
    said = [file.read_text() for file in sorted((tmp_path / "swept" / ".submitit").rglob("*_log.out"))]
    assert len(said) == 2
    for number in range(2):
        assert sum(f"job {number}: model.path=" in text for text in said) == 1


def test_optuna_makes_the_metric_better_whichever_way_that_is(sweep, tmp_path):
    typed = ["method=lora", "optim.lr=interval(0.0001,0.1)", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=4"]
    done, lines = sweep(*typed)
    assert done.returncode == 0, done.stderr
    assert [line["state"] for line in lines] == ["done"] * 4
    rates = [float(line["overrides"].split("optim.lr=")[1].split()[0]) for line in lines]
    assert len(set(rates)) == 4
    assert all(0.0001 <= rate <= 0.1 for rate in rates)
    best = yaml.safe_load((tmp_path / "swept" / "optimization_results.yaml").read_text())
    losses = {float(line["after"]): rate for line, rate in zip(lines, rates, strict=True)}
    assert best["best_value"] == pytest.approx(-min(losses))
    assert best["best_params"]["optim.lr"] == pytest.approx(losses[min(losses)])


@pytest.mark.slow
def test_optuna_goes_on_past_jobs_that_cannot_work(sweep):
    done, lines = sweep("method=lora,full", "quant=int8", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=5")
    assert done.returncode == 1
    states = {(line["overrides"].split("method=")[1].split()[0], line["state"]) for line in lines}
    assert states == {("lora", "done"), ("full", "refused")}
    assert len(lines) == 5
    assert "Traceback" not in done.stderr


def test_a_sweeper_without_any_value_to_choose_by_says_so(sweep):
    done, lines = sweep("method=full", "quant=int8", "seed=0,1", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2")
    assert done.returncode == 2
    assert [line["state"] for line in lines] == ["refused", "refused"]
    assert "error: no job gave a value to choose by" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("typed", "what"),
    [
        (["hydra/sweeper=optuna", "method=lora,lorra"], "lorra"),
        (["hydra/sweeper=optuna", "method=lora", "method.rank=8,x"], "method.rank"),
        (["hydra/sweeper=optuna", "method=lora", "optim.lr=interval(-1,1)"], "optim.lr"),
        (["hydra/sweeper=optuna", "method=lora", "optim.lr=interval(1,0.1)"], "gives no job"),
        (["hydra/sweeper=optuna", "method=lora", "optim.rl=interval(0,1)"], "optim.rl"),
        (["hydra/sweeper=optuna", "method=lora", "seed=1,2", "hydra.sweeper.direction=minimize"], "direction=minimize"),
        (["hydra/sweeper=optuna", "method=lora", "seed=1,2", "metric=none"], "metric=none"),
        (["hydra/sweeper=optuna", "method=lora", "metric=loss,exact"], "compared by loss of sft and exact"),
        (["hydra/sweeper=optuna", "method=lora", "metric=auto,loss"], "compared by exact and loss of sft"),
        (["metric=loss,exact"], "compared by loss of sft and exact"),
        (["objective=dpo,sft"], "compared by preference and exact"),
        (["objective=dpo,simpo", "metric=loss"], "compared by loss of dpo and loss of simpo"),
        (["hydra/launcher=joblib", "method=lora,lorra"], "lorra"),
        (["hydra/launcher=joblib", "hydra.launcher.n_job=2", "seed=1,2"], "n_job"),
    ],
)
def test_a_typo_stops_it_before_the_first_job(tmp_path, monkeypatch, capsys, typed, what):
    monkeypatch.chdir(tmp_path)
    assert command(["-m", *typed]) == 2
    error, fix = capsys.readouterr().err.strip().splitlines()
    assert what in error
    assert fix.startswith("  fix: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("typed", EXTRAS)
def test_a_missing_package_is_said_in_two_lines(tmp_path, monkeypatch, capsys, typed):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("core.sweep_extras.find", lambda name: None)
    assert command(["-m", typed, "seed=0,1"]) == 2
    what, fix = capsys.readouterr().err.strip().splitlines()
    _, distribution, extra = EXTRAS[typed]
    assert what == f"error: {typed}: {distribution} is not installed"
    assert fix == f"  fix: pip install 'hooktune[{extra}]'"
    extras = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'\n{extra} = ["{distribution}' in extras
