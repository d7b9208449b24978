"""``plugins list``, ``show``, ``check`` and ``doctor``: what they print, and what they say to nonsense."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.discovery import discover
from core.overrides import quoted
from core.plugin_list import documented

REPOSITORY = Path(__file__).resolve().parents[2]


def typed(*words: str, capsys) -> tuple[int, str, str]:
    from core.cli import command

    code = command(["plugins", *words])
    return (code, *capsys.readouterr())


def test_list_has_a_line_for_every_part(capsys):
    code, out, _ = typed("list", capsys=capsys)
    lines = out.splitlines()
    offers = discover().offers
    assert code == 0
    assert len(lines) == 1 + len(offers)
    for offer in offers:
        (line,) = (line for line in lines if line.split()[1] == offer.part.name)
        assert offer.part.summary in line
        assert f"plugins/{offer.plugin}" in line
        assert " ready " in line


def test_show_says_all_about_a_part(capsys):
    code, out, _ = typed("show", "lora", capsys=capsys)
    assert code == 0
    for said in (
        "method=lora: low-rank update", "hooktune (plugins/lora)", "ready",
        "adapter, merge, several, switch, zero-start",
        "dense-base or linear-base or bitsandbytes", "https://arxiv.org/abs/2106.09685", "plugins.lora.method:LoRA",
        "method.rank: int = 16", "columns of A; 8 to 64 is usual",
    ):  # fmt: skip
        assert said in out


def test_every_option_of_every_part_is_documented():
    registry = discover()
    for offer in registry.offers:
        values = documented(registry, offer)
        missing = [key for key, (_, comment) in values.items() if not comment and key != "defaults"]
        assert not missing, f"{offer.axis}={offer.part.name}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "plugins does one of several things"),
        (["lst"], "did you mean plugins list?"),
        (["list", "all"], "plugins list takes nothing"),
        (["show"], "plugins show takes a part's name"),
        (["show", "lorra"], "did you mean lora?"),
        (["new", "method"], "plugins new takes a kind and a name"),
        (["new", "method", "x", "--pft"], "plugins new has no flag --pft"),
        (["new", "methd", "x"], "did you mean method?"),
        (["new", "method", "x", "--dir"], "--dir takes a folder"),
        (["check"], "plugins check takes a part's name"),
        (["check", "lorra"], "did you mean lora?"),
        (["check", "."], "holds no tests"),
        (["check", "./lora"], "no part and no folder is called ./lora"),
        (["doctor", "now"], "plugins doctor takes nothing"),
    ],
)
def test_nonsense_is_two_lines(words, said, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, _, err = typed(*words, capsys=capsys)
    assert code == 2
    assert len(err.strip().splitlines()) == 2
    assert said in err


def test_check_takes_a_folder_for_a_part_only_where_it_is_written_as_a_path(monkeypatch, tmp_path, capsys):
    from core import plugin_check

    places: list[str] = []
    monkeypatch.setattr(plugin_check, "run", lambda found, *_: places.extend(found) or 0)
    monkeypatch.chdir(tmp_path)
    for name in ("lora", "no-part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "test_it.py").touch()
    for word, is_the_folder in (("lora", False), ("./lora", True), ("lora/", True), ("no-part", True)):
        assert typed("check", word, capsys=capsys)[0] == 0
        assert (places.pop() == str((tmp_path / word).resolve())) == is_the_folder, word


def test_check_all_is_a_row_for_every_part_that_is_ready(monkeypatch, capsys):
    from core import plugin_check_all

    def came(places, _, options):
        found = {Path(place).stem.replace("test_", "Test_", 1): {"passed": ["a", "b"]} for place in places}
        found["Test_method_lora"] = {"passed": ["a"], "failed": ["b"], "skipped": ["c"], "waived": ["d"]}
        Path(options[0].removeprefix("--counts=")).write_text(json.dumps(found))
        return 1

    monkeypatch.setattr(plugin_check_all, "run", came)
    code, out, _ = typed("check", "--all", capsys=capsys)
    lines = out.splitlines()
    assert code == 1
    assert lines[0].split() == ["part", "passed", "failed", "skipped", "waived"]
    assert ["method=lora", "1", "1", "1", "1"] in [line.split() for line in lines]
    assert ["optim=adamw", "2", "0", "0", "0"] in [line.split() for line in lines]
    assert out.endswith("\n1 red\n  method=lora: b\n") or "is left out" in lines[-1]


def test_check_all_counts_what_pytest_says(monkeypatch, capsys):
    from core import plugin_check_all

    usual = plugin_check_all.state
    monkeypatch.setattr(plugin_check_all, "state", lambda r, o: usual(r, o) if o.axis == "optim" else "not now")
    code, out, _ = typed("check", "--all", capsys=capsys)
    (line,) = (line for line in out.splitlines() if line.startswith("optim=adamw"))
    passed, *others = map(int, line.split()[1:])
    assert (code, passed > 8, others) == (0, True, [0, 0, 0])
    assert "all is green" in out


def test_check_names_files_so_that_they_are_found_from_anywhere(monkeypatch, tmp_path, capsys):
    from core import plugin_check

    texts: list[str] = []

    def read(places, *_):
        texts.extend(file.read_text() for file in Path(places[0]).glob("test_*.py"))
        return 0

    monkeypatch.setattr(plugin_check, "run", read)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.jsonl").touch()
    (tmp_path / "sft").mkdir()
    assert typed("check", "jsonl", "data.train=my.jsonl", "objective=sft", capsys=capsys)[0] == 0
    wanted = [f"data.train={quoted(tmp_path / 'my.jsonl')}", "objective=sft"]
    assert f"overrides={wanted!r}" in texts[0]


def test_new_puts_the_project_where_it_is_told(tmp_path, capsys):
    for flag in (["--dir", str(tmp_path / "a")], [f"--dir={tmp_path / 'b'}"]):
        Path(flag[-1].removeprefix("--dir=")).mkdir()
        code, out, _ = typed("new", "metric", "bleu", *flag, capsys=capsys)
        assert code == 0
        assert "plugins check bleu" in out
        assert "pip install --no-deps --no-build-isolation -e " in out  # as in docs/write-a-plugin.md
    assert (tmp_path / "a" / "hooktune-bleu" / "pyproject.toml").exists()
    assert (tmp_path / "b" / "hooktune-bleu" / "hooktune_bleu" / "conf" / "metric" / "bleu.yaml").exists()


def test_none_of_them_imports_torch(tmp_path):
    """``doctor`` asks for the accelerator in another process."""
    script = (
        "import sys\nfrom core.cli import command\n"
        "assert command(['plugins', 'list']) == 0\nassert command(['plugins', 'show', 'adamw']) == 0\n"
        "assert command(['plugins', 'new', 'data', 'rows']) == 0\nassert command(['plugins', 'doctor']) in (0, 1)\n"
        "assert not {'torch', 'transformers', 'peft', 'lightning'} & set(sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, env=environment, timeout=300)


@pytest.mark.parametrize(
    ("record", "said", "fix"),
    [
        ("name='lora'", "method=lora is offered twice", "pip uninstall acme-odd, or plugins.disable=[odd]"),
        ("name='odd', api=9", "written for version 9 of the contracts", "pip install -U hooktune"),
        ("name='odd'", "ships no conf/method/odd.yaml", "reinstall acme-odd"),
    ],
)
def test_doctor_counts_what_cannot_be_chosen(monkeypatch, tmp_path, capsys, record, said, fix):
    hook = "from core.api import Part, hookimpl\n\n\n@hookimpl\ndef hooktune_methods():\n"
    part = f"    yield Part({record}, target='m:T', options='m:O', summary='odd')\n"
    (tmp_path / "acme_odd.py").write_text(hook + part)
    info = tmp_path / "acme_odd-2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-odd\nVersion: 2.1\n")
    (info / "entry_points.txt").write_text("[hooktune]\nodd = acme_odd\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("core.doctor.accelerator", lambda: ("none", False))
    code, out, _ = typed("doctor", capsys=capsys)
    sys.modules.pop("acme_odd")
    assert code == 1
    assert out.count(said) == 1
    assert f"fix: {fix}" in out
    assert "1 wrong" in out


def test_doctor_names_what_is_broken_and_what_to_type(tmp_path):
    info = tmp_path / "acme_broken-2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-broken\nVersion: 2.1\n")
    (info / "entry_points.txt").write_text("[hooktune]\nbroken = acme_broken\n")
    (tmp_path / "acme_broken.py").write_text("import nothing_of_that_name\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPOSITORY)])}
    command = [sys.executable, "-m", "core", "plugins", "doctor"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "plugin broken of acme-broken 2.1: ModuleNotFoundError: No module named 'nothing" in done.stdout
    assert "plugins.disable=[broken]" in done.stdout
    assert "1 wrong" in done.stdout
    healthy = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (healthy.returncode, "nothing is wrong" in healthy.stdout) == (0, True), healthy.stdout
