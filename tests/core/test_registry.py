"""Plugins found, asked and kept apart: a broken one is a line, until it is asked for."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import core
from core.discovery import discover
from core.errors import UserError
from core.help import show_help
from core.plugin_list import state as plugin_state

REPOSITORY = Path(__file__).resolve().parents[2]
OPTIONS = """\
from dataclasses import dataclass

@dataclass(frozen=True, kw_only=True)
class Options:
    name: str
"""
CODE = """\
from core.api import Method

class Thing(Method):
    def __init__(self, options):
        self.options = options

    def apply(self, model, context):
        return model
"""


def plugin(package: str, name: str = "thing", more: str = "", hook: str = "hooktune_methods") -> str:
    """The source of a hook module that offers one part."""
    return (
        f"from core.api import Part, hookimpl\n\n@hookimpl\ndef {hook}():\n"
        f'    yield Part(name="{name}", target="{package}.code:Thing", options="{package}.options:Options",\n'
        f'               summary="a thing"{more})\n'
    )


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """``install("acme", body)`` puts version 1.2 of the distribution dist-acme with an entry point acme on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made: list[str] = []

    def make(
        package: str,
        init: str,
        *,
        options: str = OPTIONS,
        code: str = CODE,
        more: dict[str, str] | None = None,
        entries: str | None = None,
        distribution: str | None = None,
    ) -> None:
        name = distribution or f"dist-{package}"
        write(tmp_path / package, {"__init__.py": init, "options.py": options, "code.py": code, **(more or {})})
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n"
        entry_points = f"[hooktune]\n{entries or f'{package} = {package}'}\n"
        write(
            tmp_path / f"{name.replace('-', '_')}-1.2.dist-info",
            {"METADATA": metadata, "entry_points.txt": entry_points},
        )
        made.append(package)

    yield make
    for name in list(sys.modules):
        if name.partition(".")[0] in made:
            del sys.modules[name]


def python(script: str, *arguments: str, cwd: Path = REPOSITORY) -> str:
    """What a script prints in a process of its own that finds core."""
    script = f"import sys; sys.path.append({str(REPOSITORY)!r})\n{script}"
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ----------------------------------------------------------------------------------------------------------- finding
def test_every_folder_with_an_init_is_a_built_in_plugin():
    folders = {path.parent.name for path in (REPOSITORY / "plugins").glob("*/__init__.py")}
    found = {plugin.name: plugin for plugin in discover().plugins if plugin.distribution == "hooktune"}
    assert set(found) == folders
    assert found["lora"].version == core.__version__


def test_a_stranger_is_found_with_its_distribution(install):
    install("acme", plugin("acme"))
    offer = discover().find("method", "thing")
    assert (offer.plugin, offer.distribution, offer.version) == ("acme", "dist-acme", "1.2")


def test_a_stranger_is_made_from_its_record(install):
    install("acme", plugin("acme"))
    registry = discover()
    offer = registry.find("method", "thing")
    options = registry.options_class(offer)(name="thing")
    assert registry.make(offer, options).options is options


def test_an_entry_point_may_name_an_object_inside_a_nested_module(install):
    head, _, hook = plugin("acme").partition("@hookimpl")
    method = f"    @hookimpl{hook}".replace("\n", "\n    ").replace("hooktune_methods()", "hooktune_methods(self)")
    body = f"{head}class Offers:\n{method}\noffers = Offers()\n"
    install(
        "acme",
        "",
        more={"deep/__init__.py": "", "deep/hooks.py": body, "conf/method/thing.yaml": "name: thing\n"},
        entries="acme = acme.deep.hooks:offers",
    )
    registry = discover()
    assert registry.find("method", "thing").plugin == "acme"
    assert [folder.path.parent.name for folder in registry.conf_dirs] == ["acme"]


def test_the_yaml_of_a_package_is_found_though_it_cannot_be_imported(install):
    install("acme", "raise RuntimeError('no')", more={"conf/method/thing.yaml": "name: thing\n"})
    (folder,) = discover().conf_dirs
    assert (folder.path.parent.name, folder.plugin, folder.distribution) == ("acme", "acme", "dist-acme")


def test_a_hook_may_have_a_name_of_its_own(install):
    body = plugin("acme", hook="offers").replace("@hookimpl", '@hookimpl(specname="hooktune_methods")')
    install("acme", body)
    assert discover().find("method", "thing").plugin == "acme"


def test_two_plugins_of_one_package_share_its_folder(install):
    more = {"a.py": plugin("acme", "one"), "b.py": plugin("acme", "two"), "conf/method/one.yaml": "name: one\n"}
    install("acme", "", more=more, entries="a = acme.a\nb = acme.b")
    registry = discover()
    assert {"one", "two"} <= set(registry.names("method"))
    assert registry.shadowed() == []
    assert core.configure(["method=one"]).options["method"].name == "one"


@pytest.fixture
def tree(tmp_path):
    """A copy of the project that a folder can be dropped into."""
    for name in ("core", "plugins", "conf"):
        shutil.copytree(REPOSITORY / name, tmp_path / "tree" / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "tree"


def test_a_folder_dropped_in_is_a_built_in_plugin_or_a_broken_one(tree):
    write(tree / "plugins" / "dropped", {"__init__.py": plugin("dropped"), "conf/method/thing.yaml": "name: thing\n"})
    write(tree / "plugins" / "cracked", {"__init__.py": "1 / 0"})
    script = (
        "sys.path.insert(0, sys.argv[1])\n"
        "from core.discovery import discover\n"
        "r = discover(); o = r.find('method', 'thing')\n"
        "print(o.plugin, o.distribution, r.conf_dirs[0].path, r.broken[0])"
    )
    out = python(script, str(tree))
    assert out.startswith(f"dropped hooktune {tree / 'plugins' / 'dropped' / 'conf'} ")
    assert "plugin='cracked', distribution='hooktune'" in out
    assert "ZeroDivisionError" in out


def test_a_built_in_plugin_that_breaks_is_named_when_its_part_is_chosen(tree):
    write(tree / "plugins" / "bitsandbytes", {"__init__.py": "raise ImportError('half an upgrade')"})
    script = (
        "sys.path.insert(0, sys.argv[1])\nimport core\nprint(core.configure(['method=lora']).what)\n"
        "try:\n    core.configure(['method=lora', 'quant=int4'])\nexcept Exception as error:\n    print(error)"
    )
    usual, what, _ = python(script, str(tree)).splitlines()
    assert usual == "lora"
    assert what.startswith("error: quant=int4 cannot be offered: hooktune (plugins/bitsandbytes) is broken")
    assert "half an upgrade" in what


@pytest.mark.parametrize("hiding", ["plugins/__init__.py", "plugins.py"])
def test_what_the_user_calls_plugins_does_not_hide_ours(tmp_path, hiding):
    write(tmp_path, {hiding: "raise RuntimeError('never imported')", "plugins/mine/__init__.py": "1 / 0"})
    script = (
        "from core.discovery import discover; r = discover()\n"
        "print(r.find('method', 'lora').distribution, r.broken, r.warnings({}))"
    )
    out = python(script, cwd=tmp_path)
    assert out.startswith("hooktune [] [")
    assert f"{tmp_path / hiding} is called as hooktune's own plugins and is left out" in out


def test_a_bare_folder_called_plugins_does_no_harm(tmp_path):
    write(tmp_path, {"plugins/notes.txt": "mine", "conf/__init__.py": "", "conf/method/lora.yaml": "name: mine\n"})
    script = (
        "import core; c = core.configure(['method=lora']); print(c.tree['method']['name'], c.registry.warnings({}))"
    )
    assert python(script, cwd=tmp_path) == "lora []\n"


# ------------------------------------------------------------------------------------------------------------ broken
BROKEN = {
    "raises": ("raise RuntimeError('no licence')", "no licence"),
    "syntax": ("def (:", "syntax error in .*__init__.py:1"),
    "exits": ("import sys\nprint('hello')\nprint('oh', file=sys.stderr)\nsys.exit(3)", r"sys.exit\(3\)"),
    "misspelt": (plugin("misspelt", hook="hooktune_method"), "no hook hooktune_method .did you mean hooktune_methods"),
    "unmarked": (plugin("unmarked").replace("@hookimpl", ""), "hooktune_methods is not marked with @hookimpl"),
    "argument": (
        plugin("argument").replace("hooktune_methods()", "hooktune_methods(model)"),
        "hooktune_methods takes no argument, and there it has 'model'",
    ),
    "field": (plugin("field", more=', colour="red"'), "colour"),
    "other": (plugin("other").replace("yield Part", "yield dict"), "yields dict, not core.api.Part"),
    "single": (plugin("single").replace("yield Part", "return Part"), "not iterable"),
    "generator": (plugin("generator") + "    raise ValueError('late')\n", "late"),
    "missing": ("import a_module_that_is_not_there", "a_module_that_is_not_there"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_one_line_and_stops_nothing(install, name, capsys):
    body, reason = BROKEN[name]
    install(name, body, more={"conf/method/thing.yaml": "name: thing\n"})
    install("zebra", plugin("zebra", "striped"))
    registry = discover()
    assert registry.find("method", "lora").distribution == "hooktune"
    assert registry.find("method", "striped").distribution == "dist-zebra"
    (line,) = registry.warnings({})
    assert line.startswith(f"plugin {name} (dist-{name}) is left out: ")
    assert "\n" not in line
    (broken,) = registry.broken
    assert (broken.plugin, broken.distribution, broken.version) == (name, f"dist-{name}", "1.2")
    with pytest.raises(UserError, match=reason) as error:
        registry.find("method", "thing")
    assert f"dist-{name}" in error.value.what
    assert capsys.readouterr() == ("", "")


def test_a_broken_plugin_is_named_before_a_name_that_is_near(install):
    install("lora2", "raise RuntimeError('no licence')")
    with pytest.raises(UserError, match="method=lora2 cannot be offered: dist-lora2 is broken: RuntimeError: no lic"):
        discover().find("method", "lora2")


def test_a_name_that_has_nothing_to_do_with_a_broken_plugin_does_not_blame_it(install):
    install("lorax", "raise RuntimeError('no licence')")
    with pytest.raises(UserError) as error:
        discover().find("method", "lorra")
    assert str(error.value) == (
        "error: method=lorra does not exist\n  fix: did you mean method=lora?  method=adapters|full|lora"
    )


def test_yaml_of_a_broken_plugin_hides_nothing(install):
    install("bad", "1 / 0", more={"conf/method/thing.yaml": "name: bad\n", "conf/method/lora.yaml": "name: bad\n"})
    install("good", plugin("good"), more={"conf/method/thing.yaml": "name: thing  # the part's\n"})
    assert core.configure(["method=lora"]).tree["method"]["name"] == "lora"
    config = core.configure(["method=thing"])
    assert config.options["method"].name == "thing"
    assert len(config.registry.warnings(config.choices)) == 1


def test_an_interrupt_is_no_broken_plugin(install):
    install("acme", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt) as error:
        discover()
    assert error.value.__notes__ == ["interrupted while plugin acme (dist-acme) was imported"]


LOUD = "import os, sys\nprint('HELLO')\nos.write(1, b'RAW')\nos.system('echo CHILD')\nprint('OH', file=sys.stderr)\n"


def test_what_a_plugin_prints_when_it_is_imported_is_a_note(install, capfd):
    more = {"conf/method/thing.yaml": "name: thing\n"}
    install("acme", LOUD + plugin("acme"), options=LOUD + OPTIONS, more=more)
    config = core.configure(["method=thing"])
    assert config.registry.warnings(config.asked) == [
        "plugin acme (dist-acme) prints when it is imported",
        "options of method=thing (dist-acme): their module prints when it is imported",
    ]
    assert capfd.readouterr() == ("", "")


def test_what_a_plugin_changes_when_it_is_imported_is_put_back_and_a_note(install, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACME", "0")
    changes = "import os, sys\nos.chdir('/')\nsys.argv.append('seed=1')\nos.environ['ACME'] = '1'\n"
    install("acme", changes + plugin("acme"))
    typed = [*sys.argv]
    assert discover().warnings({}) == [
        f"plugin acme (dist-acme) changes {what} when it is imported"
        for what in ("the current folder", "the command line", "ACME in the environment")
    ]
    assert (Path.cwd(), sys.argv) == (tmp_path, typed)


def test_one_module_under_two_names_is_asked_once(install):
    install("acme", plugin("acme"), entries="a = acme\nb = acme")
    registry = discover()
    assert registry.find("method", "thing").plugin == "a"
    assert registry.warnings({}) == ["plugin b (dist-acme) is left out: TypeError: it is the same module as plugin a"]


# ----------------------------------------------------------------------------------------------------------- choosing
def test_two_that_offer_one_name_are_a_warning_until_it_is_chosen(install):
    install("acme", plugin("acme"))
    install("twin", plugin("twin"))
    registry = discover()
    twice = "method=thing is offered twice, by dist-acme and by dist-twin, and cannot be chosen by name"
    assert registry.warnings({"method": "lora"}) == [twice]
    assert registry.warnings({"method": "thing"}) == []
    with pytest.raises(UserError, match="method=thing is offered twice: by dist-acme and by dist-twin") as twofold:
        registry.find("method", "thing")
    both = "pip uninstall dist-acme, or pip uninstall dist-twin, or plugins.disable=[acme], or plugins.disable=[twin]"
    assert twofold.value.fix == both
    assert discover(disable=["twin"]).find("method", "thing").plugin == "acme"


def test_a_stranger_cannot_take_the_name_of_a_built_in_part(install):
    install("acme", plugin("acme", "lora"))
    with pytest.raises(UserError, match=r"by hooktune \(plugins/lora\) and by dist-acme") as error:
        discover().find("method", "lora")
    assert error.value.fix == "pip uninstall dist-acme, or plugins.disable=[acme]"
    assert discover().find("method", "full").distribution == "hooktune"


def test_one_name_on_two_axes_is_no_conflict(install):
    install("acme", plugin("acme", "lora", hook="hooktune_metrics"))
    registry = discover()
    assert registry.warnings({}) == []
    assert registry.find("metric", "lora").plugin == "acme"


def test_a_yaml_that_hides_a_built_in_one_is_named(install):
    install("acme", plugin("acme"), more={"conf/method/lora.yaml": "name: lora\nrank: 1\n"})
    registry = discover()
    assert registry.shadowed() == [("method", "lora", ["hooktune", "dist-acme"])]
    line = "method/lora.yaml is shipped twice, by hooktune and by dist-acme"
    assert registry.warnings({"method": "full"}) == [f"{line}: the first is taken"]
    with pytest.raises(UserError, match=re.escape(line)) as error:
        core.configure(["method=lora"])
    assert error.value.fix == "pip uninstall dist-acme, or plugins.disable=[acme]"
    assert core.configure(["method=lora", "plugins.disable=[acme]"]).choices["method"] == "lora"
    assert core.configure(["method=full"]).choices["method"] == "full"


@pytest.mark.parametrize(
    ("init", "more"),
    [
        (plugin("acme", "adamw", hook="hooktune_optimizers"), {}),
        (plugin("acme", "transformers", hook="hooktune_loaders"), {}),
        (plugin("acme"), {"conf/optim/adamw.yaml": "name: adamw\nlr: 7\n"}),
        (plugin("acme"), {"conf/trainer/default.yaml": "max_steps: 7\n"}),
    ],
)
def test_a_default_that_a_stranger_offers_too_stays_ours_until_it_is_asked_for(install, init, more):
    install("acme", init, more={"conf/method/thing.yaml": "name: thing\n", **more})
    config = core.configure([])
    assert config.offers["optim"].distribution == config.offers["loader"].distribution == "hooktune"
    assert config.tree["optim"]["lr"] != 7
    assert config.trainer.max_steps != 7
    (line,) = config.registry.warnings(config.asked)
    assert "hooktune" in line
    assert "dist-acme" in line


def test_a_default_that_is_offered_twice_cannot_be_asked_for(install):
    install("acme", plugin("acme", "adamw", hook="hooktune_optimizers"))
    with pytest.raises(UserError, match="optim=adamw is offered twice") as error:
        core.configure(["optim=adamw"])
    assert error.value.fix.endswith("plugins.disable=[acme]")


@pytest.mark.parametrize(
    ("entries", "line"),
    [
        ("acme = acme-pkg.hooks", "plugin acme (dist-acme) is left out: its entry point 'acme-pkg.hooks' is no module"),
        ("acme =", "plugin acme (dist-acme) is left out: its entry point '' is no module"),
        ("acme", "entry points of dist-acme cannot be read: "),
    ],
)
def test_an_entry_point_that_is_none_is_a_line(install, entries, line):
    install("acme", plugin("acme"), entries=entries)
    registry = discover()
    assert [said[: len(line)] for said in registry.warnings({})] == [line]
    assert registry.find("method", "lora").distribution == "hooktune"


@pytest.mark.parametrize(
    ("record", "what"),
    [
        ("name=3", "Part.name is 3, not str"),
        ("name=' '", "Part.name is ' ': only letters, digits, - and _ can be typed"),
        ("name='a,b'", "Part.name is 'a,b': only letters, digits, - and _ can be typed"),
        ("name='../lora'", "Part.name is '../lora': only letters, digits, - and _ can be typed"),
        (r"name='new\nline'", r"Part.name is 'new\nline': only letters, digits, - and _ can be typed"),
        (r"summary='a\nerror: b'", r"Part.summary is 'a\nerror: b', not one line to print"),
        (r"summary='\x1b[31m'", r"Part.summary is '\x1b[31m', not one line to print"),
        ("name=['thing']", "Part.name is ['thing'], not str"),
        ("summary=None", "Part.summary is None, not str"),
        ("needs=('json')", "Part.needs is 'json', not tuple[str, ...]"),
        ("requires=None", "Part.requires is None, not frozenset[str]"),
        ("provides={'adapter'}", "Part.provides is {'adapter'}, not frozenset[str]"),
        ("api='2'", "Part.api is '2', not int"),
    ],
)
def test_a_record_with_a_value_of_another_type_breaks_its_plugin_only(install, record, what):
    usual = ["name='thing'", "target='acme.code:Thing'", "options='acme.options:Options'", "summary='a thing'"]
    key = record.partition("=")[0]
    fields = ", ".join([record, *(line for line in usual if not line.startswith(f"{key}="))])
    install(
        "acme", f"from core.api import Part, hookimpl\n\n@hookimpl\ndef hooktune_methods():\n    yield Part({fields})\n"
    )
    registry = discover()
    assert registry.warnings({}) == [f"plugin acme (dist-acme) is left out: TypeError: {what}"]
    assert registry.find("method", "lora").distribution == "hooktune"


def test_a_part_without_its_yaml_is_named(install):
    install("acme", plugin("acme"))
    with pytest.raises(UserError, match=r"method=thing of dist-acme ships no conf/method/thing\.yaml"):
        core.configure(["method=thing"])


@pytest.mark.parametrize(
    ("axis", "hook", "base"),
    [("data", "hooktune_data", "DataOptions"), ("optim", "hooktune_optimizers", "OptimOptions"),
     ("metric", "hooktune_metrics", "MetricOptions")],
)  # fmt: skip
def test_options_without_what_all_of_their_kind_have_are_refused(install, axis, hook, base):
    install("acme", plugin("acme", hook=hook), more={f"conf/{axis}/thing.yaml": "name: thing\n"})
    with pytest.raises(UserError, match=f"{axis}=thing of dist-acme: .* is no subclass of core.api.{base}"):
        core.configure([f"{axis}=thing"])


@pytest.mark.parametrize(
    ("options", "code", "yaml", "state"),
    [
        (OPTIONS, CODE, None, "ships no conf/method/thing.yaml"),
        ("x = 1\n", CODE, "name: thing\n", "acme.options has no Options"),
        (OPTIONS, "def (:\n", "name: thing\n", "target acme.code:Thing: syntax error in "),
        (OPTIONS, "x = 1\n", "name: thing\n", "acme.code has no Thing"),
        (OPTIONS, CODE, "name: [\n", "YAML:2: is not yaml: "),
        (OPTIONS, CODE, "- name\n", "YAML holds no values"),
        (OPTIONS, CODE, "# @package _global_\nname: thing\n", "YAML is for _global_ and not for method"),
        (OPTIONS + "    x: 'Nope'\n", CODE, "name: thing\nx: 1\n", "a type in acme.options:Options: NameError"),
        (
            OPTIONS + "    def __post_init__(self):\n        1 / 0\n",
            CODE,
            "name: thing\n",
            "options acme.options:Options cannot be made: ZeroDivisionError",
        ),
    ],
)
def test_a_part_that_is_faulty_is_not_called_ready(install, tmp_path, options, code, yaml, state):
    files = {} if yaml is None else {"conf/method/thing.yaml": yaml}
    install("acme", plugin("acme"), options=options, code=code, more=files)
    registry = discover()
    said = plugin_state(registry, registry.find("method", "thing"))
    assert said.replace(str(tmp_path / "acme" / "conf" / "method" / "thing.yaml"), "YAML").startswith(state)
    if code == CODE:
        with pytest.raises(UserError, match=r"acme|thing\.yaml"):
            core.configure(["method=thing"])
    assert plugin_state(registry, registry.find("method", "lora")) == "ready"


@pytest.mark.parametrize("deep", ["acme.deep.code", "acme.bare.code"])
def test_a_target_is_looked_for_without_running_its_package(install, deep):
    more = {
        "deep/__init__.py": "raise SystemExit('never imported')",
        "deep/code.py": CODE,
        "bare/code.py": CODE,  # a namespace
        "conf/method/thing.yaml": "name: thing\n",
    }
    install("acme", plugin("acme").replace("acme.code", deep), more=more)
    registry = discover()
    assert plugin_state(registry, registry.find("method", "thing")) == "ready"
    assert not {"acme.deep", "acme.bare"} & set(sys.modules)


def test_a_yaml_in_another_encoding_does_not_end_the_help(install, capsys):
    install("acme", plugin("acme"))
    folder = Path(sys.modules["acme"].__file__).parent if "acme" in sys.modules else Path(sys.path[0]) / "acme"
    (folder / "conf" / "model").mkdir(parents=True)
    (folder / "conf" / "model" / "mine.yaml").write_bytes(b"# \xff\xfe\npath: x\n")
    assert show_help() == 0
    assert "mine" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "what", "fix"),
    [
        (", api=2", "written for version 2 of the contracts, this is 1", "pip install -U hooktune"),
        (", api=0", "written for version 0 of the contracts, this is 1", "pip install -U dist-acme"),
        (
            ', needs=("galore_torch",), install="pip install galore-torch"',
            "error: method=thing needs galore_torch\n",
            "pip install galore-torch",
        ),
        (', needs=("nowhere.inside",)', "needs nowhere.inside", "pip install nowhere"),
    ],
)
def test_a_part_that_cannot_run_here_is_refused_when_it_is_chosen(install, more, what, fix):
    install("acme", plugin("acme", more=more))
    registry = discover()
    assert registry.warnings({}) == []
    with pytest.raises(UserError) as error:
        registry.find("method", "thing")
    assert what in str(error.value)
    assert error.value.fix.startswith(fix)


def test_what_a_part_needs_is_not_imported_to_look_for_it(install):
    install("acme", plugin("acme", more=', needs=("heavy", "heavy.inside")'))
    install("heavy", "raise RuntimeError('imported')", entries="none-of-ours = json", distribution="heavy")
    assert discover().find("method", "thing").plugin == "acme"


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ("class Other: ...", "has no Options"),
        ("class Option: ...", "has no Options .did you mean Option"),
        ("raise RuntimeError('odd')", "options acme.options:Options cannot be imported: RuntimeError: odd"),
        ("raise SystemExit(1)", r"it calls sys.exit\(1\)"),
        ("class Options: ...", "is no dataclass"),
        (OPTIONS + "    rank: int = 3\n", "options rank have defaults in code"),
    ],
)
def test_options_that_are_wrong_name_the_part_and_its_distribution(install, options, what):
    install("acme", plugin("acme"), options=options)
    registry = discover()
    offer = registry.find("method", "thing")
    with pytest.raises(UserError, match=f"^error: method=thing of dist-acme: .*{what}"):
        registry.options_class(offer)


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("class Thong: ...", "has no Thing .did you mean Thong"),
        ("class Thing: ...", "is no subclass of core.api.Method"),
        ("from core.api import Optim\nclass Thing(Optim): ...", "is no subclass of core.api.Method"),
        ("from core.api import Method\nclass Thing(Method): ...", "Thing does not define apply"),
        (CODE.replace("(self, options)", "(self)"), r"Thing\(options\) cannot be made: too many positional"),
        ("import a_module_that_is_not_there", "target acme.code:Thing cannot be imported: ModuleNotFoundError"),
    ],
)
def test_a_target_that_is_wrong_names_the_part_and_its_distribution(install, code, what):
    install("acme", plugin("acme"), code=code)
    registry = discover()
    offer = registry.find("method", "thing")
    with pytest.raises(UserError, match=f"^error: method=thing of dist-acme: .*{what}"):
        registry.make(offer, None)


def test_what_is_to_be_imported_first_is_imported_before_the_target(install, monkeypatch):
    monkeypatch.setattr("core.loading.PATCHED", ())  # whatever other tests have imported
    install(
        "acme",
        plugin("acme", more=', import_first=("acme.early",)'),
        more={"early.py": ""},
        code="import sys\nassert 'acme.early' in sys.modules\n" + CODE,
    )
    registry = discover()
    assert registry.make(registry.find("method", "thing"), None).options is None


def test_what_is_to_be_imported_first_and_is_not_there_is_named(install, monkeypatch):
    monkeypatch.setattr("core.loading.PATCHED", ())  # whatever other tests have imported
    install("acme", plugin("acme", more=', import_first=("nowhere",)'))
    registry = discover()
    with pytest.raises(UserError, match="method=thing of dist-acme: nowhere cannot be imported"):
        registry.make(registry.find("method", "thing"), None)


def test_a_bug_inside_a_constructor_keeps_its_traceback(install):
    install("acme", plugin("acme"), code=CODE.replace("self.options = options", "len(3)"))
    registry = discover()
    with pytest.raises(TypeError, match="has no len"):
        registry.make(registry.find("method", "thing"), None)


def test_a_constructor_that_ends_the_process_names_the_part(install):
    install("acme", plugin("acme"), code=CODE.replace("self.options = options", "raise SystemExit(5)"))
    registry = discover()
    with pytest.raises(UserError, match=r"method=thing of dist-acme: Thing\(options\) .*: it calls sys.exit\(5\)"):
        registry.make(registry.find("method", "thing"), None)


@pytest.mark.parametrize(
    ("error", "said"), [("SystemExit(5)", r"sys.exit\(5\)"), ("ValueError('odd')", "ValueError: odd")]
)
def test_options_that_raise_of_their_own_name_the_part(install, error, said):
    options = OPTIONS + f"\n    def __post_init__(self):\n        raise {error}\n"
    install("acme", plugin("acme"), options=options, more={"conf/method/thing.yaml": "name: thing\n"})
    with pytest.raises(UserError, match=f"method=thing of dist-acme: options acme.options:Options cannot be .*{said}"):
        core.configure(["method=thing"])


# ----------------------------------------------------------------------------------------------------------- limiting
def test_one_variable_limits_strangers_and_keeps_built_ins(install, monkeypatch):
    install("acme", "1 / 0")
    install("other", plugin("other", name="second"))
    monkeypatch.setenv("HOOKTUNE_PLUGINS", " other, absent")
    registry = discover()
    assert set(registry.names("method")) == {"adapters", "full", "lora", "second"}
    assert registry.broken == []
    assert registry.warnings({}) == ["HOOKTUNE_PLUGINS names absent, which is not installed"]
    monkeypatch.setenv("HOOKTUNE_PLUGINS", "")
    assert discover().names("method") == ["adapters", "full", "lora"]


def test_a_plugin_that_is_disabled_is_gone_with_its_yaml(install):
    install("acme", plugin("acme"), more={"conf/method/lora.yaml": "name: lora\n"})
    registry = discover(disable=["acme", "adapters", "full", "lorra"])
    assert registry.names("method") == ["lora"]
    assert registry.conf_dirs == []
    assert registry.warnings({}) == ["plugins.disable names lorra, which is not installed"]


def test_discovery_brings_no_torch_and_notes_who_would(install, tmp_path):
    install("acme", plugin("acme"))
    install("heavy", "import torch\n" + plugin("heavy", name="slow"))
    script = (
        "sys.path.insert(0, sys.argv[1])\nfrom core.discovery import discover\nr = discover(disable=sys.argv[2:])\n"
        "heavy = {'torch', 'transformers', 'peft', 'trl', 'lightning', 'bitsandbytes', 'datasets'}\n"
        "print('thing' in r.names('method'), sorted(heavy & set(sys.modules)), r.notes)"
    )
    assert python(script, str(tmp_path), "heavy") == "True [] []\n"
    out = python(script, str(tmp_path))
    assert "plugin heavy (dist-heavy) imports torch when it is discovered" in out


def test_options_that_import_torch_are_noted_and_stop_nothing(install, tmp_path):
    yaml = {"conf/method/thing.yaml": "name: thing\n"}
    install("acme", plugin("acme"), options="import torch\n" + OPTIONS, more=yaml)
    script = (
        "sys.path.insert(0, sys.argv[1])\nimport core\nc = core.configure([sys.argv[2]])\n"
        "print(c.choices['method'], 'torch' in sys.modules, *c.registry.warnings({}))"
    )
    assert python(script, str(tmp_path), "method=lora") == "lora False\n"
    assert python(script, str(tmp_path), "method=thing") == (
        "thing True options of method=thing (dist-acme) import torch: slow\n"
    )


def test_a_part_behind_another_hook_is_found_there(install):
    yaml = {"conf/method/thing.yaml": "name: thing\n"}
    install("acme", plugin("acme", hook="hooktune_objectives"), more=yaml)
    with pytest.raises(UserError) as caught:
        core.configure(["method=thing"])
    assert caught.value.fix.startswith("there is objective=thing, by hooktune_objectives ")
    with pytest.raises(UserError) as caught:
        core.configure(["method=sft"])
    assert caught.value.fix.startswith("there is objective=sft ")


def test_doctor_says_where_an_import_of_torch_belongs():
    from core import doctor
    from core.registry import Registry

    notes = [
        "options of method=thing (dist-acme) import torch: slow",
        "HOOKTUNE_PLUGINS names x, which is not installed",
    ]
    fixes = [fix for _, fix in doctor._plugins(Registry(notes=notes))]
    assert fixes[0].startswith("move the import of torch to the module of its target")
    assert fixes[1] == "rename or uninstall what it names"
