"""A plugin to begin with: a project that builds, registers itself and keeps its contract before a line is changed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from string import Template

from core.discovery import discover
from core.errors import UserError
from core.plugin_list import KINDS
from core.registry import AXES

SCAFFOLD = Path(__file__).resolve().parent / "scaffold"
"""A folder a kind, and what all kinds share in ``every``; ``$word`` is filled in, also in names."""


def new_plugin(kind: str, name: str, parent: Path, peft: bool = False) -> Path:
    """Write ``hooktune-NAME`` into ``parent``.

    Args:
        kind: Such as ``method``.
        name: What users will type.
        parent: An existing folder.
        peft: The short form, for a method of the peft library.

    Returns:
        The new folder.

    Raises:
        UserError: there is no such kind, the name is taken or no name, or the folder is there.
    """
    axis = _axis(kind)
    if peft and kind != "method":
        raise UserError(f"--peft makes a method, not a {kind}", f"plugins new method {name} --peft")
    _check_name(name, axis)
    folder = parent / f"hooktune-{name}"
    if not parent.is_dir():
        raise UserError(f"{parent} is no folder", f"mkdir -p {parent}")
    if folder.exists():
        raise UserError(f"{folder} is there", "another name, or --dir FOLDER")
    words = {
        "name": name,
        "kind": kind,
        "axis": axis,
        "hook": AXES[axis],
        "package": f"hooktune_{name.replace('-', '_')}",
        "Class": "".join(part.capitalize() for part in re.split(r"[-_]", name)),
        "Kind": kind.capitalize(),
    }
    for file, text in _files("peft" if peft else kind, words):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text, encoding="utf-8")
    return folder


def _axis(kind: str) -> str:
    axes = {word: axis for axis, word in KINDS.items()}
    if kind not in axes:
        near = get_close_matches(kind, axes, 1)
        guess = f"did you mean {near[0]}?  " if near else ""
        raise UserError(f"there is no kind {kind}", f"{guess}one of {', '.join(axes)}")
    return axes[kind]


def _check_name(name: str, axis: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name):
        raise UserError(
            f"{name!r} is no name of a part: {_fault(name)}", "small letters and digits, with - or _ between them"
        )
    taken = [offer for offer in discover().offers if (offer.axis, offer.part.name) == (axis, name)]
    if taken:
        raise UserError(f"{axis}={name} is there already, from {taken[0].distribution}", "another name")


def _fault(name: str) -> str:
    """What is wrong with a name."""
    odd = sorted(set(re.findall(r"[^a-z0-9_-]", name)))
    if odd:
        return f"it holds {', '.join(map(repr, odd))}"
    if not name[:1].isalpha():
        return "it must begin with a letter"
    return "each - or _ must stand alone between letters or digits"


def _files(kind: str, words: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for root in (SCAFFOLD / "every", SCAFFOLD / kind):
        for file in sorted(path for path in root.rglob("*.tmpl")):
            place = Template(str(file.relative_to(root)).removesuffix(".tmpl")).substitute(words)
            yield place, Template(file.read_text(encoding="utf-8")).substitute(words)
