"""From what was typed to one checked config: what is accepted, and who is named when it is not."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

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


def test_import_core_brings_no_torch(cli):
    import subprocess

    script = "import sys, core; core.configure(['method=lora']); print('torch' in sys.modules, 'hydra' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["False", "True"], done.stderr
