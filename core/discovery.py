"""Finding plugins and asking them, each behind a guard: what goes wrong with one is noted, not raised."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from importlib.metadata import EntryPoint, distributions, entry_points
from pathlib import Path
from typing import Any

import pluggy

from core import hookspecs
from core.loading import reason
from core.manners import watched
from core.records import Part
from core.registry import AXES, HERE, Broken, ConfDir, Offer, Plugin, Registry


def discover(disable: Collection[str] = ()) -> Registry:
    """Find and ask all plugins; no torch is imported by it.

    Args:
        disable: Names of plugins to leave out, built-in ones too.
    """
    manager = pluggy.PluginManager("hooktune")
    manager.add_hookspecs(hookspecs)
    registry = Registry()
    _note_hidden(registry)
    for name in sorted(_built_in()):
        if name not in disable:
            _add_folder(registry, manager, name)
    for entry in _installed(registry, disable):
        _add_entry(registry, manager, entry)
    # Hydra takes the first file of a name: a broken plugin's must not come before one that is in use
    registry.conf_dirs.sort(key=registry.is_broken)
    return registry


# ----------------------------------------------------------------------------------------------------------- finding
def _built_in() -> list[str]:
    return [path.parent.name for path in (HERE / "plugins").glob("*/__init__.py")]


def _note_hidden(registry: Registry) -> None:
    """A folder of the user's that is called as ours would be imported in its place."""
    spec = importlib.util.find_spec("plugins")
    ours = (HERE / "plugins").resolve()
    if spec is not None and ours not in [Path(place).resolve() for place in spec.submodule_search_locations or ()]:
        registry.notes.append(
            f"{spec.origin} is called as hooktune's own plugins and is left out: rename it, or run from another folder"
        )
        # built-ins come from beside core, whatever lies in the current folder
        sys.path.insert(0, str(HERE))
        sys.modules.pop("plugins", None)
        importlib.invalidate_caches()


def _add_folder(registry: Registry, manager: pluggy.PluginManager, name: str) -> None:
    conf = HERE / "plugins" / name / "conf"
    _register(
        registry, manager, lambda: importlib.import_module(f"plugins.{name}"), name, "hooktune", _own_version(), conf
    )


def _installed(registry: Registry, disable: Collection[str]) -> Iterator[EntryPoint]:
    only = os.environ.get("HOOKTUNE_PLUGINS")
    wanted = None if only is None else {name.strip() for name in only.split(",")}
    entries = _entries(registry)
    seen: set[tuple[str, str, str]] = set()
    for entry in entries:
        key = (entry.name, entry.value, entry.dist.name if entry.dist else "")
        # an editable install beside a wheel lists a distribution twice
        if key in seen or entry.name in disable or (wanted is not None and entry.name not in wanted):
            continue
        seen.add(key)
        yield entry
    names = {entry.name for entry in entries}
    _note_absent(registry, "HOOKTUNE_PLUGINS", wanted or (), names)
    _note_absent(registry, "plugins.disable", disable, {*names, *_built_in()})


def _entries(registry: Registry) -> list[EntryPoint]:
    """Entry points of our group; a distribution whose list cannot be read, of whatever group, is noted."""
    try:
        return list(entry_points(group="hooktune"))
    except Exception:  # one line without "=" in one of them; importlib.metadata does not say whose
        found: dict[str, list[EntryPoint]] = {}
        for distribution in distributions():
            try:
                found.setdefault(distribution.name, list(distribution.entry_points.select(group="hooktune")))
            except Exception as error:
                registry.notes.append(f"entry points of {distribution.name} cannot be read: {reason(error)}")
        return [entry for entries in found.values() for entry in entries]


def _note_absent(registry: Registry, where: str, names: Collection[str], known: Collection[str]) -> None:
    registry.notes += [
        f"{where} names {name}, which is not installed" for name in sorted(set(names) - set(known)) if name
    ]


def _add_entry(registry: Registry, manager: pluggy.PluginManager, entry: EntryPoint) -> None:
    distribution = entry.dist.name if entry.dist else entry.value
    version = entry.dist.version if entry.dist else ""
    if not EntryPoint.pattern.fullmatch(entry.value):
        registry.broken.append(
            Broken(entry.name, distribution, version, f"its entry point {entry.value!r} is no module")
        )
        return
    _register(registry, manager, entry.load, entry.name, distribution, version, _conf_of(entry))


def _conf_of(entry: EntryPoint) -> Path | None:
    """The conf folder beside a plugin's top package, found without importing it."""
    try:
        spec = importlib.util.find_spec(entry.module.partition(".")[0])
    except (ImportError, ValueError):
        return None
    # a namespace package has several places
    places = [Path(place) / "conf" for place in (spec.submodule_search_locations or () if spec else ())]
    return next((place for place in places if place.is_dir()), None)


def _own_version() -> str:
    from core import __version__

    return __version__


# ------------------------------------------------------------------------------------------------------------ asking
def _register(
    registry: Registry,
    manager: pluggy.PluginManager,
    load: Any,
    name: str,
    distribution: str,
    version: str,
    conf: Path | None,
) -> None:
    """The one door: load a plugin, let pluggy look at its hooks, ask it; what goes wrong is noted, not raised."""
    if conf is not None and conf.is_dir():
        registry.conf_dirs.append(ConfDir(conf, name, distribution))
    had_torch = "torch" in sys.modules
    try:
        with watched() as did:
            offers = [Offer(axis, part, name, distribution, version) for axis, part in _ask(manager, load(), name)]
    except KeyboardInterrupt as error:
        error.add_note(f"interrupted while plugin {name} ({distribution}) was imported")
        raise
    except BaseException as error:  # SystemExit too: a plugin must not end a run that did not ask for it
        registry.broken.append(Broken(name, distribution, version, reason(error)))
        return
    registry.plugins.append(Plugin(name, distribution, version))
    registry.offers += offers
    registry.notes += [f"plugin {name} ({distribution}) {what} when it is imported" for what in did]
    if not had_torch and "torch" in sys.modules:
        registry.notes.append(f"plugin {name} ({distribution}) imports torch when it is discovered, which is slow")


def _ask(manager: pluggy.PluginManager, plugin: Any, name: str) -> list[tuple[str, Part]]:
    _check_hooks(manager, plugin)
    before = manager.get_name(plugin)
    if before is not None:
        raise TypeError(f"it is the same module as plugin {before.partition('@')[0]}")
    # two distributions may give their plugins one name
    manager.register(plugin, f"{name}@{id(plugin)}")
    found: list[tuple[str, Part]] = []
    for axis, hook in AXES.items():
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            if implementation.plugin is plugin:
                found += [(axis, _part(hook, answer)) for answer in implementation.function() or ()]
    return found


def _part(hook: str, answer: Any) -> Part:
    if not isinstance(answer, Part):
        raise TypeError(f"{hook} yields {type(answer).__name__}, not core.api.Part")
    return answer


def _check_hooks(manager: pluggy.PluginManager, plugin: Any) -> None:
    """A hook that is misspelt or not marked would never be called, without a word."""
    known = set(AXES.values())
    for name in dir(plugin):
        marks = manager.parse_hookimpl_opts(plugin, name)
        if marks is None:
            if name in known:
                raise TypeError(f"{name} is not marked with @hookimpl")
            continue
        hook = marks.get("specname") or name
        if hook not in known:
            near = get_close_matches(hook, known, 1)
            raise TypeError(f"there is no hook {hook}" + (f" (did you mean {near[0]}?)" if near else ""))
