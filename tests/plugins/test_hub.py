from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from core.errors import UserError
from plugins.hub.options import HubOptions
from plugins.hub.source import Hub

CONF = Path(__file__).parents[2] / "conf" / "data"
USUAL = yaml.safe_load((CONF / "common.yaml").read_text()) | yaml.safe_load((CONF / "hub.yaml").read_text())
del USUAL["defaults"]
ROWS = [{"prompt": f"What is {i}?", "completion": f"é {i}"} for i in range(10)]
OLD, NEW = "0" * 39 + "1", "0" * 39 + "2"


def source(path, **changed) -> Hub:
    return Hub(HubOptions(**{**USUAL, "path": str(path), **changed}))


@pytest.fixture
def folder(tmp_path):
    """A set of two splits, as a folder."""
    (tmp_path / "set").mkdir()
    write(tmp_path / "set" / "train.jsonl", ROWS)
    write(tmp_path / "set" / "test.jsonl", ROWS[:2])
    return tmp_path / "set"


def write(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


# ------------------------------------------------------------------------------------------------------------ folders
@pytest.mark.parametrize("streaming", [False, True])
def test_a_folder_gives_its_splits(folder, streaming):
    found = source(folder, validation="test", streaming=streaming)
    assert (list(found.rows("train")), list(found.rows("validation"))) == (ROWS, ROWS[:2])
    assert (found.origin("train", 3), found.origin("validation", 0)) == (f"{folder}/train:4", f"{folder}/test:1")
    assert source(folder).rows("validation") is None


def test_a_part_of_a_split_is_taken_but_not_with_streaming(folder):
    assert list(source(folder, train="train[:40%]").rows("train")) == ROWS[:4]
    with pytest.raises(UserError, match=r"no split train\[:40%\]") as caught:
        source(folder, train="train[:40%]", streaming=True).rows("train")
    assert caught.value.fix == "data.train=one of train, test, or data.streaming=false to take a part of one"


def test_subsets_are_named(tmp_path):
    names = ("one", "two")
    configs = "".join(f"- config_name: {name}\n  data_files: {name}/*.jsonl\n" for name in names)
    for name in names:
        write(tmp_path / name / "train.jsonl", [{"text": name}])
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    assert list(source(tmp_path, subset="two").rows("train")) == [{"text": "two"}]
    for wrong, what in ((None, "has several subsets"), ("three", "has no subset three")):
        with pytest.raises(UserError, match=what) as caught:
            source(tmp_path, subset=wrong).rows("train")
        assert caught.value.fix == "data.subset=one of one, two"


@pytest.mark.parametrize("streaming", [False, True])
def test_what_cannot_be_read_is_told_in_two_lines(tmp_path, folder, streaming):
    from datasets import Dataset, DatasetDict

    (tmp_path / "empty").mkdir()
    write(tmp_path / "bad" / "train.jsonl", ROWS[:1])
    (tmp_path / "bad" / "train.jsonl").write_text('{"prompt": "a"}\n{oops\n')
    (tmp_path / "script").mkdir()
    (tmp_path / "script" / "script.py").write_text("raise SystemExit('it was run')")
    DatasetDict(train=Dataset.from_list(ROWS)).save_to_disk(tmp_path / "saved")
    for name, what, fix in (
        ("empty", "holds no data files", "files of parquet, jsonl"),
        ("bad", "cannot be read: ", "look into"),
        ("script", "code that comes with data is not run", "data.revision=refs/convert/parquet"),
        ("saved", "was written by save_to_disk", f"data=jsonl data.train={tmp_path / 'saved' / 'train'}"),
        ("saved/train", "was written by save_to_disk", f"data=jsonl data.train={tmp_path / 'saved' / 'train'}"),
        ("set/train.jsonl", "is a file", f"data=jsonl data.train={folder / 'train.jsonl'}"),
    ):
        with pytest.raises(UserError) as caught:
            list(source(tmp_path / name, streaming=streaming).rows("train"))
        assert f"data.path={tmp_path / name}" in caught.value.what
        assert what in caught.value.what
        assert caught.value.fix.startswith(fix)
        assert "\n" not in caught.value.what + caught.value.fix


def test_no_set_and_no_split_are_refused_while_the_config_is_made():
    with pytest.raises(UserError, match=r"data\.path is missing"):
        source("")
    with pytest.raises(UserError, match=r"data\.train is empty"):
        source("x", train="")
    with pytest.raises(UserError, match="a folder, which has no revisions"):
        source("/", revision="main").rows("train")


def test_another_file_split_or_subset_is_another_fingerprint(folder):
    before = source(folder).fingerprint()
    assert source(folder).fingerprint() == before
    others = {source(folder, **c).fingerprint() for c in ({"train": "test"}, {"validation": "test"}, {"subset": "x"})}
    write(folder / "train-2.jsonl", ROWS)
    assert len({before, source(folder).fingerprint(), *others}) == 5


def test_streaming_reads_no_more_than_is_asked_for(folder):
    (folder / "train.jsonl").unlink()
    write(folder / "train-1.jsonl", ROWS)
    (folder / "train-2.jsonl").write_text("{oops\n")
    rows = source(folder, streaming=True).rows("train")
    assert [next(rows) for _ in range(10)] == ROWS
    with pytest.raises(UserError, match="cannot be read"):
        list(source(folder, streaming=True).rows("train"))


def test_offline_without_a_copy_nothing_is_asked():
    start = time.monotonic()
    found = source("acme/nothing")
    assert found.fingerprint() is None
    with pytest.raises(UserError, match=r"acme/nothing: no folder here, and nothing in the cache") as caught:
        found.rows("train")
    assert caught.value.fix.startswith("HF_HUB_OFFLINE=0")
    assert time.monotonic() - start < 10


# ---------------------------------------------------------------------------------------------------------------- hub
class FakeHub(BaseHTTPRequestHandler):
    """As much of the hub's API as ``datasets`` asks for: ``acme/sums`` at two commits, and sets that are refused."""

    refused = {"acme/gated": (403, "GatedRepo"), "acme/absent": (404, "RepoNotFound")}
    files = {OLD: {"train.jsonl": ROWS[:5]}, NEW: {"train.jsonl": ROWS}}
    branches = {"main": NEW, "v1": OLD, OLD: OLD, NEW: NEW}
    asked: list[str] = []

    def do_GET(self):
        if "acme" in self.path:  # the libraries ask for more
            self.asked.append(self.path)
        path = self.path.partition("?")[0].replace("/api/datasets/", "/datasets/").removeprefix("/datasets/")
        owner, name, *rest = path.split("/")
        if f"{owner}/{name}" != "acme/sums":
            self._send(*self.refused.get(f"{owner}/{name}", (404, "RepoNotFound")))
            return
        verb, revision, *inside = rest or ["revision", "main"]
        commit = self.branches.get(revision)
        if commit is None:
            self._send(404, "RevisionNotFound")
        elif verb == "revision":
            self._send(200, body={"id": "acme/sums", "sha": commit})
        elif verb == "tree":
            self._send(200, body=[] if inside else self._entries(commit))
        elif verb == "resolve" and inside[0] in self.files[commit]:
            self._send(200, body=self._content(commit, inside[0]), commit=commit)
        else:
            self._send(404, "EntryNotFound")

    do_HEAD = do_GET

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        wanted = self.rfile.read(length).decode()
        commit = self.branches[self.path.split("/")[-1]]
        self._send(200, body=[e for e in self._entries(commit) if e["path"] in wanted])

    def _entries(self, commit):
        return [
            {"type": "file", "path": name, "size": len(self._content(commit, name)), "oid": commit + name}
            for name in self.files[commit]
        ]

    def _content(self, commit, name):
        return "".join(json.dumps(row) + "\n" for row in self.files[commit][name]).encode()

    def _send(self, status, error=None, body=None, commit=None):
        content = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        self.send_response(status)
        for header, value in (("X-Error-Code", error), ("X-Repo-Commit", commit), ("ETag", commit and f'"{commit}"')):
            if value:
                self.send_header(header, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *args):
        """Say nothing."""


@pytest.fixture
def hub(tmp_path):
    """Environment variables for a process that talks to the fake hub, with nothing cached."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    FakeHub.asked.clear()
    home = {name: str(tmp_path / name) for name in ("HF_HOME", "HF_DATASETS_CACHE", "HOOKTUNE_CACHE")}
    yield {**home, "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_OFFLINE": "0"}
    server.shutdown()


def run(cli, model, hub, *more):
    arguments = ["data=hub", f"model.path={model}", "model.dtype=float32", "trainer.accelerator=cpu", "metric=none"]
    return cli("method=lora", *arguments, "trainer.max_steps=1", "data.tolerance=1", *more, **hub)


def test_a_set_is_read_at_its_commit_kept_and_used_offline(cli, tiny_model, hub):
    done = run(cli, tiny_model, hub, "data.path=acme/sums")
    assert done.returncode == 0, done.stderr
    assert "10 to train" in done.stdout
    assert any(f"resolve/{NEW}/train.jsonl" in asked for asked in FakeHub.asked)
    FakeHub.asked.clear()
    again = run(cli, tiny_model, hub, "data.path=acme/sums")
    assert "10 to train" in again.stdout
    assert [asked.partition("?")[0] for asked in FakeHub.asked] == ["/api/datasets/acme/sums"]  # the rest is cached
    old = run(cli, tiny_model, hub, "data.path=acme/sums", "data.revision=v1", "data.streaming=true")
    assert "5 to train" in old.stdout, old.stderr
    FakeHub.asked.clear()
    offline = {**hub, "HF_HUB_OFFLINE": "1"}
    assert "10 to train" in run(cli, tiny_model, offline, "data.path=acme/sums").stdout
    wrong = run(cli, tiny_model, offline, "data.path=acme/sums", "data.revision=v1")
    assert (wrong.returncode, "data.revision=v1: offline" in wrong.stderr) == (2, True), wrong.stderr
    assert not FakeHub.asked


@pytest.mark.parametrize(
    ("overrides", "what", "fix"),
    [
        (["data.path=acme/absent"], "no set on the hub that you may see", "data.path=NAMESPACE/NAME"),
        (["data.path=a b/c"], "no set on the hub that you may see", "data.path=NAMESPACE/NAME"),
        (
            ["data.path=acme/gated"],
            "acme/gated is gated",
            "ask for access on https://huggingface.co/datasets/acme/gated",
        ),
        (["data.path=acme/sums", "data.revision=v9"], "data.revision=v9", "data.revision=null"),
        (["data.path=acme/sums", "data.train=tain"], "has no split tain", "data.train=one of train"),
    ],
)
def test_a_set_that_cannot_be_had_is_two_lines(cli, tiny_model, hub, overrides, what, fix):
    done = run(cli, tiny_model, hub, *overrides)
    assert done.returncode == 2, done.stderr
    error, mend = [line for line in done.stderr.splitlines() if line.startswith(("error: ", "  fix: "))]
    assert what in error
    assert mend.removeprefix("  fix: ").startswith(fix)
    assert "Traceback" not in done.stderr


def test_a_hub_that_does_not_answer_is_two_lines_at_once(cli, tiny_model, hub):
    start = time.monotonic()
    done = run(cli, tiny_model, {**hub, "HF_ENDPOINT": "http://127.0.0.1:9"}, "data.path=acme/sums")
    assert time.monotonic() - start < 25
    assert done.returncode == 2
    assert "no folder here, and the hub does not answer" in done.stderr
    assert "fix: HF_HUB_OFFLINE=1" in done.stderr
