"""lock.json says exactly what a run was made of."""

import hashlib
import json
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.cache import _hash_of, file_hash
from core.lockfile import lock
from core.records import Part


def config(**data: Any) -> Any:
    part = Part(name="lora", target="a:B", options="a:C", summary="low rank", needs=("peft", "json"), patches=("trl",))
    offer = SimpleNamespace(axis="method", part=part, plugin="lora", distribution="pluggy", version="1.0")
    return SimpleNamespace(offers={"method": offer}, tree={"data": data}, seed=7)


def test_it_names_weights_parts_packages_and_data(tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "rows.jsonl").write_text("{}")
    rows = str(tmp_path / "rows.jsonl")
    chosen = config(train=rows, validation=None, system="Answer. " * 100, max_length=64)
    found = lock(
        chosen,
        given="acme://small",
        path=tmp_path,
        revision=None,
        template="{{ x }}",
        head={},
        data={"system": None},
        verdicts={"lora": "tested"},
    )
    assert json.loads(json.dumps(found)) == found
    weights = {"model.safetensors": hashlib.sha256(b"weights").hexdigest()}
    assert found["model"] == {
        "given": "acme://small", "path": str(tmp_path), "revision": None, "sha256": weights,
    }  # fmt: skip
    part = {"kind": "method", "name": "lora", "distribution": "pluggy", "version": "1.0", "plugin": "lora"}
    assert found["parts"] == [part]
    assert found["data"] == {"system": None, "files": {rows: hashlib.sha256(b"{}").hexdigest()}}
    assert found["packages"]["peft"] == metadata.version("peft")
    assert found["packages"]["pluggy"] == metadata.version("pluggy")
    assert "json" not in found["packages"], "a module of Python itself has no version"
    assert (found["seed"], found["patches"], found["verdicts"]) == (7, ["trl"], {"lora": "tested"})
    assert len(found["template"]) == 64
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["memory"] > 2**28


def test_a_hub_id_is_resolved_to_the_commit_that_was_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--acme--small"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").write_bytes(b"weights")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    named = {"given": "acme/small", "path": Path("acme/small")}
    found = lock(config(), **named, revision=None, template=None, head={}, data={})["model"]
    assert (found["path"], found["revision"]) == ("acme/small", commit)
    assert list(found["sha256"]) == ["model.safetensors"]


def test_a_place_that_only_its_loader_knows_has_no_commit():
    named = {"given": "vault://small", "path": Path("vault://small")}
    found = lock(config(), **named, revision="v1", template=None, head={}, data={})["model"]
    assert found == {"given": "vault://small", "path": "vault:/small", "revision": "v1", "sha256": {}}


def test_a_changed_file_gets_a_new_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOOKTUNE_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "weights"
    for content in (b"one", b"one", b"other"):
        file.write_bytes(content)
        assert file_hash(file) == hashlib.sha256(content).hexdigest()
    assert len(list((tmp_path / "cache" / "hashes").iterdir())) == 1


def test_a_hash_is_remembered_and_a_broken_note_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOOKTUNE_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    right = file_hash(file)
    (note,) = (tmp_path / "cache" / "hashes").iterdir()
    note.write_text(note.read_text().replace(right, "remembered"))
    assert file_hash(file) == right, "this process knows it"
    _hash_of.cache_clear()
    assert file_hash(file) == "remembered"
    _hash_of.cache_clear()
    note.write_text("{")
    assert file_hash(file) == right


def test_a_cache_that_cannot_be_written_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("HOOKTUNE_CACHE", str(tmp_path / "cache"))
    assert file_hash(tmp_path / "cache") == hashlib.sha256(b"a file").hexdigest()
