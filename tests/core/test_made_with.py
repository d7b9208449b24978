"""A run whose plugin was uninstalled says what to install."""

from __future__ import annotations

import json

import pytest

import core
from core.errors import UserError
from core.resume import resume


@pytest.fixture
def orphan(monkeypatch, tmp_path, tiny_model, rows_jsonl):
    """A run as one that was made with method=scalevec of acme-scale 1.2, which is not installed."""
    monkeypatch.chdir(tmp_path)
    usual = [
        "method=lora", f"model.path={tiny_model}", "model.dtype=float32", "data=jsonl", f"data.train={rows_jsonl}",
        "trainer.accelerator=cpu", "trainer.max_steps=1", "metric=none",
    ]  # fmt: skip
    run = core.train(core.configure(usual)).folder
    lock = json.loads((run / "lock.json").read_text())
    for part in lock["parts"]:
        if part["kind"] == "method":
            part |= {"name": "scalevec", "distribution": "acme-scale", "version": "1.2"}
    (run / "lock.json").write_text(json.dumps(lock))
    typed = (run / "overrides.txt").read_text()
    (run / "overrides.txt").write_text(typed.replace("method=lora", "method=scalevec"))
    return run, usual


def test_a_run_of_an_uninstalled_plugin_says_what_to_install(orphan):
    run, usual = orphan
    said = f"{run} was made with method=scalevec of acme-scale 1.2, which is not installed"

    def stopped():
        (run / "adapter").rename(run / "away")
        (run / "checkpoints").mkdir()
        (run / "checkpoints" / "last.ckpt").touch()
        (run / "status.json").write_text('{"state": "stopped", "seconds": 1}')
        resume(run)

    on = [line for line in usual if not line.startswith("model.path=")]
    for use in (
        lambda: core.load_run(run).generate("What is one plus two?"),
        lambda: core.train(core.configure([*on, f"model.path={run}"])),
        stopped,
    ):
        with pytest.raises(UserError) as caught:
            use()
        assert (caught.value.what, caught.value.fix) == (said, "pip install acme-scale==1.2")
