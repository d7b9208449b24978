"""A run's folder is whole or hidden, whatever happens to the run."""

import json
import os
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from core.errors import UserError
from core.runfolder import RunFolder

STARTED = datetime(2026, 11, 23, 15, 31, 41)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


def create(run_dir: str | None = None) -> RunFolder:
    return RunFolder.create(run_dir, "lora-int4", STARTED)


def fail(folder: RunFolder, error: BaseException) -> None:
    with folder:
        folder.log({"step": 1})
        raise error


def status(folder: Path) -> dict:
    return json.loads((folder / "status.json").read_text())


def test_hidden_until_finished():
    folder = create()
    assert [path.name for path in Path("runs").iterdir()] == [".2026-11-23_15-31-41_lora-int4.partial"]
    assert status(folder.path)["state"] == "running"
    folder.write_json("lock.json", {"seed": 0})
    final = folder.finish("done")
    assert final == Path("runs/2026-11-23_15-31-41_lora-int4").absolute() == folder.path
    assert list(Path("runs").iterdir()) == [Path("runs/2026-11-23_15-31-41_lora-int4")]
    assert sorted(path.name for path in final.iterdir()) == ["lock.json", "status.json"]


def test_status_has_every_field():
    folder = create()
    folder.status(peak_memory=123)
    found = status(folder.finish("done"))
    assert list(found) == ["state", "error", "started", "ended", "seconds", "peak_memory", "predicted_memory"]
    assert (found["state"], found["error"], found["peak_memory"], found["predicted_memory"]) == (
        "done",
        None,
        123,
        None,
    )
    assert datetime.fromisoformat(found["started"]).replace(tzinfo=None) == STARTED
    assert datetime.fromisoformat(found["ended"]).tzinfo is not None
    assert found["seconds"] >= 0


def test_two_runs_in_one_second():
    first, second = create(), create()
    assert second.finish("done").name == "2026-11-23_15-31-41_lora-int4-2"
    assert first.finish("done").name == "2026-11-23_15-31-41_lora-int4"
    assert create().final.name == "2026-11-23_15-31-41_lora-int4-3"


def test_never_into_a_folder_that_came_meanwhile():
    folder = create()
    folder.final.mkdir()
    (folder.final / "mine.txt").write_text("mine")
    assert folder.finish("done").name == "2026-11-23_15-31-41_lora-int4-2"
    assert [path.name for path in Path("runs/2026-11-23_15-31-41_lora-int4").iterdir()] == ["mine.txt"]


def test_given_folder_is_that_folder():
    assert create("out/here").finish("done") == Path("out/here").absolute()
    Path("empty").mkdir()
    assert create("empty").finish("done") == Path("empty").absolute()


@pytest.mark.parametrize("there", ["out/notes.txt", "out"])
def test_given_folder_must_be_free(there: str):
    Path(there).parent.mkdir(exist_ok=True)
    Path(there).write_text("mine")
    with pytest.raises(UserError, match=r"run\.dir=out is there and not empty") as error:
        create("out")
    assert "run.dir" in error.value.fix
    assert Path(there).read_text() == "mine"


def test_a_folder_that_cannot_be_looked_at_is_an_error_of_two_lines():
    import core

    with pytest.raises(UserError, match=r"cannot write .*aaa"):
        core.train(core.configure([f"run.dir={'a' * 300}"]))


def test_a_folder_that_is_taken_is_known_before_anything_is_read():
    import core

    Path("out").mkdir()
    Path("out/notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"run\.dir=out is there and not empty"):
        core.train(core.configure(["run.dir=out", "data=jsonl", "data.train=nowhere.jsonl"]))


def test_given_folder_of_a_run_that_was_killed():
    create("out")
    with pytest.raises(UserError, match="a run that did not end") as error:
        create("out")
    assert error.value.fix == f"python -m core resume {Path('.out.partial').absolute()}"


def test_log_is_readable_line_by_line():
    folder = create()
    folder.log({"split": "train", "step": 1, "loss": float("nan"), "lr": torch.tensor(0.5), "seconds": float("inf")})
    assert len((folder.path / "metrics.jsonl").read_text().splitlines()) == 1, "flushed at once"
    folder.log({"split": "after", "metric": "exact", "samples": ({"prompt": "één"},)})
    lines = (folder.finish("done") / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines[0] == '{"split": "train", "step": 1, "loss": null, "lr": 0.5, "seconds": null}'
    assert lines[1] == '{"split": "after", "metric": "exact", "samples": [{"prompt": "één"}]}'


def test_config_reads_back():
    tree = {"seed": 0, "run": {"dir": None}, "optim": {"lr": 1e-5, "note": "1e-3"}, "method": {"targets": ["q_proj"]}}
    folder = create()
    folder.write_config(tree, ["+method=lora", "data.system=one two"])
    final = folder.finish("done")
    assert OmegaConf.to_container(OmegaConf.load(final / "config.yaml")) == tree
    assert yaml.safe_load((final / "config.yaml").read_text())["method"] == tree["method"]
    assert (final / "overrides.txt").read_text() == "+method=lora\ndata.system=one two\n"


@pytest.mark.parametrize(
    ("error", "state", "said"),
    [
        (UserError("data.train: no such file", "data.train=FILE"), "failed", "data.train: no such file"),
        (ZeroDivisionError("division"), "failed", "ZeroDivisionError: division"),
        (KeyboardInterrupt(), "stopped", None),
    ],
)
def test_an_error_passes_and_leaves_a_folder(error: BaseException, state: str, said: str | None):
    with pytest.raises(type(error)):
        fail(create(), error)
    found = status(Path("runs/2026-11-23_15-31-41_lora-int4"))
    assert (found["state"], found["error"]) == (state, said)
    assert found["ended"]
    assert Path("runs/2026-11-23_15-31-41_lora-int4/metrics.jsonl").exists()


def test_leaving_without_a_word_is_done():
    with create() as folder:
        pass
    assert status(folder.path)["state"] == "done"


def test_resume_goes_on_in_the_same_folder():
    with pytest.raises(KeyboardInterrupt):
        fail(create("out"), KeyboardInterrupt())
    file = Path("out/status.json")
    file.write_text(json.dumps(status(Path("out")) | {"seconds": 100.0}))
    again = RunFolder.reopen(Path("out"))
    assert not Path("out").exists()
    assert status(again.path)["state"] == "running"
    again.log({"step": 2})
    assert again.finish("done") == Path("out").absolute()
    assert Path("out/metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'
    found = status(Path("out"))
    assert found["seconds"] >= 100
    assert datetime.fromisoformat(found["started"]).replace(tzinfo=None) == STARTED


KILLED = """
import time
from datetime import datetime
from core.runfolder import RunFolder
folder = RunFolder.create("out", "lora", datetime.now())
folder.log({"step": 1})
print("ready", flush=True)
time.sleep(60)
"""


def test_a_living_run_is_left_alone_and_a_killed_one_goes_on():
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with pytest.raises(UserError, match="another process"):
            RunFolder.reopen(Path("out"))
        process.send_signal(signal.SIGKILL)
    partial = Path(".out.partial")
    assert status(partial)["state"] == "running"
    for asked in (partial, Path("out")):
        again = RunFolder.reopen(asked)
        again.log({"asked": asked})
        assert again.finish("stopped") == Path("out").absolute()
    assert len(Path("out/metrics.jsonl").read_text().splitlines()) == 3


def test_what_is_no_run_cannot_be_resumed():
    Path("notes").mkdir()
    for name in ("notes", "missing"):
        with pytest.raises(UserError, match=f"{name} is not a run folder"):
            RunFolder.reopen(Path(name))
    assert Path("notes").is_dir(), "left as it was"


def test_a_place_that_cannot_be_written():
    Path("runs").write_text("a file")
    with pytest.raises(UserError, match="cannot write") as error:
        create()
    assert "run.dir=FOLDER" in error.value.fix


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
def test_a_full_disk():
    folder = create()
    (folder.path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(UserError, match="No space left on device"):
        folder.log({"step": 1})
