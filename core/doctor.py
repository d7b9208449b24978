"""Whether this installation can work: versions, accelerator, plugins, and what to type where it cannot."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement

from core.discovery import discover
from core.errors import UserError
from core.loading import NotInstalledError
from core.plugin_list import check
from core.registry import HERE, Registry

ASK_TORCH = """
import torch
if torch.cuda.is_available():
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    print(f"{len(names)} x {names[0]}, torch {torch.__version__}")
elif torch.backends.mps.is_available():
    print(f"Apple GPU, torch {torch.__version__}")
else:
    print(f"CPU only, {torch.get_num_threads()} threads, torch {torch.__version__}")
"""


def doctor() -> int:
    """Print what was found, and a line to type for each thing that is wrong.

    Returns:
        0 when nothing is wrong, else 1.
    """
    registry = discover()
    print(f"python       {platform.python_version()}  {sys.executable}")
    print(f"hooktune     {HERE}")
    device, broken = accelerator()
    print(f"accelerator  {device}")
    unready, faulty = _unready(registry)
    problems = [*([(device, "pip install torch")] if broken else []), *_versions(), *_plugins(registry), *faulty]
    print(f"plugins      {len(registry.plugins)} answered, {len(registry.broken)} broken; {len(registry.offers)} parts")
    for what, fix in problems:
        print(f"\n  wrong: {what}\n    fix: {fix}")
    for what in unready:
        print(f"\n  note: {what}")
    print(f"\n{len(problems)} wrong" if problems else "\nnothing is wrong")
    return 1 if problems else 0


def accelerator() -> tuple[str, bool]:
    """What torch sees, asked in another process, and whether asking failed."""
    done = subprocess.run([sys.executable, "-c", ASK_TORCH], capture_output=True, text=True, timeout=300)  # noqa: S603
    if done.returncode:
        return f"torch cannot be imported: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}", True
    return done.stdout.strip(), False


def _versions() -> Iterator[tuple[str, str]]:
    """Installed versions outside the ranges that were tried."""
    try:
        lines = metadata.requires("hooktune") or []
    except metadata.PackageNotFoundError:
        yield "hooktune itself is not installed, so versions cannot be compared", f"pip install -e {HERE}"
        return
    for requirement in (Requirement(line) for line in lines):
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield f"{requirement.name} is not installed", f"pip install '{requirement.name}{requirement.specifier}'"
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            yield (
                f"{requirement.name} {version} is outside {requirement.specifier}",
                f"pip install '{requirement.name}{requirement.specifier}'",
            )


def _plugins(registry: Registry) -> Iterator[tuple[str, str]]:
    for broken in registry.broken:
        tell = f"pip install -U {broken.distribution}, or plugins.disable=[{broken.plugin}]"
        yield f"plugin {broken.plugin} of {broken.distribution} {broken.version}: {broken.reason}", tell
    for axis, name, owners in registry.shadowed():
        if name not in registry.names(axis):  # else the part says it
            yield (
                f"{axis}/{name}.yaml is shipped by {' and '.join(owners)}",
                f"uninstall one, or do without {axis}={name}",
            )
    for note in registry.notes:
        heavy = "move the import of torch to the module of its target, or tell its authors"
        yield note, heavy if "torch" in note else "rename or uninstall what it names"


def _unready(registry: Registry) -> tuple[list[str], list[tuple[str, str]]]:
    """Parts that lack a package of somebody else's, and parts that cannot be chosen for another reason."""
    lacking: list[str] = []
    faulty: list[tuple[str, str]] = []
    for offer in registry.offers:
        try:
            check(registry, offer)
        except NotInstalledError as error:
            lacking.append(f"{error.what}; {error.fix}")
        except UserError as error:
            faulty.append((error.what, error.fix))
    return lacking, list(dict.fromkeys(faulty))  # of two that are offered under one name each says so
