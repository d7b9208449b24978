"""What is installed: every part in a line, and one part in full. No torch."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from omegaconf import OmegaConf

from core.discovery import discover
from core.errors import UserError
from core.loading import PartError, checking_options, label, look_at, owner
from core.named import named
from core.part_yaml import read
from core.registry import AXES, HERE, Offer, Registry
from core.schema import to_options

KINDS = {axis: hook.removeprefix("hooktune_").rstrip("s") for axis, hook in AXES.items()}
"""Axis -> what sort of part it chooses, such as ``quant`` -> ``quantizer``."""


def show_list() -> int:
    """Print a line for each part: kind, name, whether it is ready, whose it is, what it does."""
    registry = discover()
    rows = [("kind", "name", "state", "from", "summary")]
    for axis in AXES:
        for offer in sorted((o for o in registry.offers if o.axis == axis), key=lambda o: o.part.name):
            rows.append((KINDS[axis], offer.part.name, state(registry, offer), _origin(offer), offer.part.summary))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]))
    for line in registry.warnings({}):
        print(f"warning: {line}", file=sys.stderr)
    return 0


def state(registry: Registry, offer: Offer) -> str:
    """``ready``, or what keeps a part from being chosen."""
    try:
        check(registry, offer)
    except UserError as error:
        return error.what.removeprefix(label(offer)).removeprefix(f"{offer.axis}={offer.part.name}").lstrip(": ")
    return "ready"


def check(registry: Registry, offer: Offer) -> None:
    """Whether a part can be chosen; its code is looked at, not run, and its options are made of what its yaml holds.

    Raises:
        UserError: it cannot.
    """
    registry.find(offer.axis, offer.part.name)
    registry.check_yaml(offer.axis, offer.part.name)
    cls = registry.options_class(offer)
    values = {key: value for file in _files(registry, offer) for key, value in read(file).items() if key != "defaults"}
    try:
        with checking_options(offer):
            to_options(offer.axis, OmegaConf.create(values), cls, offer.part.name, lambda _: None)
    except PartError:
        raise
    except UserError:
        pass  # a value that is the user's to give
    look_at(offer)


def show_part(name: str) -> int:
    """Print all about the parts of this name.

    Raises:
        UserError: there is none, or the plugin that would offer it is broken.
    """
    registry = discover()
    found = named(registry, name)
    if not found:
        names = sorted({offer.part.name for offer in registry.offers})
        near = get_close_matches(name, names, 1)
        raise UserError(
            f"no part is called {name}", f"did you mean {near[0]}?" if near else "python -m core plugins list"
        )
    for offer in found:
        print("\n".join(_about(registry, offer)))
    return 0


def _about(registry: Registry, offer: Offer) -> Iterator[str]:
    part = offer.part
    yield f"{offer.axis}={part.name}: {part.summary}"
    yield f"  from       {_origin(offer)}"
    yield f"  state      {state(registry, offer)}"
    for title, words in (("provides", part.provides), ("requires", part.requires), ("conflicts", part.conflicts)):
        if words:
            yield f"  {title:<10} {', '.join(sorted(words)).replace('|', ' or ')}"
    for title, modules in (("needs", part.needs), ("patches", part.patches)):
        if modules:
            yield f"  {title:<10} {', '.join(modules)}"
    if part.source:
        yield f"  source     {part.source}"
    yield f"  code       {part.target}"
    yield "  options"
    try:
        lines = list(_options(registry, offer))
    except UserError as error:
        lines = [error.what]
    yield from (f"    {line}" for line in lines or ["none"])


def _options(registry: Registry, offer: Offer) -> Iterator[str]:
    cls = registry.options_class(offer)
    types = get_type_hints(cls)
    values = documented(registry, offer)
    shown: list[tuple[str, str]] = []
    for field in fields(cls):
        if field.name != "name":
            value, comment = values.get(field.name, ("?", "not in the yaml"))
            shown.append((f"{offer.axis}.{field.name}: {_type(types[field.name])} = {value}", comment))
    width = min(60, max((len(left) for left, _ in shown), default=0))
    yield from (f"{left:<{width}}  {comment}".rstrip() for left, comment in shown)


def documented(registry: Registry, offer: Offer) -> dict[str, tuple[str, str]]:
    """Option -> value and comment, as the part's yaml and the axis' common one have them."""
    return {key: said for file in _files(registry, offer) for key, said in _lines(file).items()}


def _files(registry: Registry, offer: Offer) -> list[Path]:
    """The axis' common yaml, if it has one, and the part's own."""
    common, own = HERE / "conf" / offer.axis / "common.yaml", registry.yaml_of(offer.axis, offer.part.name)
    return [file for file in (common, own) if file is not None and file.exists()]


def _lines(file: Path) -> dict[str, tuple[str, str]]:
    """Keys at the left margin, with value and comment; values that go over several lines are written in one."""
    text = file.read_text(encoding="utf-8")
    found: dict[str, tuple[str, str]] = {}
    tree = read(file)
    for line in text.splitlines():
        key, colon, rest = line.partition(":")
        if colon and key in tree:
            value, _, comment = rest.partition(" #")
            written = value.strip() or yaml.safe_dump(tree[key], default_flow_style=True).strip()
            found[key] = (written, comment.strip())
    return found


def _type(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")


def _origin(offer: Offer) -> str:
    return f"{owner(offer)} {offer.version}" if offer.distribution != "hooktune" else owner(offer)
