"""Whether chosen parts have been trained together: read from the matrix that is shipped, pair by pair.

``tested`` means that ``python benchmarks/compatibility.py`` trained a run with both; ``unknown`` that nobody has yet,
as of parts that other packages bring; ``unsupported`` that their words exclude each other (``core.capabilities``).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from itertools import combinations, product
from pathlib import Path
from typing import Any

from core.capabilities import nearest, problems
from core.registry import Offer, Registry

AXES = ("loader", "quant", "method", "objective")
"""Axes whose parts act on the same model."""

FILE = Path(__file__).with_name("tested.json")
OURS = "hooktune"


def matrix() -> Mapping[str, Any]:
    """What was trained, and with which versions: the content of ``tested.json``."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def tested() -> frozenset[tuple[str, ...]]:
    """Combinations that were trained: a name for each of ``AXES``."""
    return frozenset(tuple(one) for one in matrix()["tested"])


def of_pairs(offers: Mapping[str, Offer], known: Collection[Sequence[str]] | None = None) -> dict[str, str]:
    """``tested`` or ``unknown`` for each pair of the chosen parts, which fit together as a whole.

    On the other axes ours are tried by their own tests, whatever they are chosen with; those of others are unknown.

    Args:
        offers: Axis -> chosen part.
        known: Combinations that were trained; those that are shipped, unless given.
    """
    trained = tested() if known is None else known
    found: dict[str, str] = {}
    for (i, one), (j, other) in combinations(enumerate(AXES), 2):
        a, b = offers[one], offers[other]
        ours = a.distribution == b.distribution == OURS
        seen = ours and any(names[i] == a.part.name and names[j] == b.part.name for names in trained)
        found[f"{one}={a.part.name} {other}={b.part.name}"] = "tested" if seen else "unknown"
    strangers = [axis for axis, offer in offers.items() if axis not in AXES and offer.distribution != OURS]
    return found | {
        f"{axis}={offers[axis].part.name} method={offers['method'].part.name}": "unknown" for axis in strangers
    }


def since() -> str:
    """What is another version here than was trained with; empty where nothing is."""
    then = matrix()["packages"]
    here = {package: version for package in then if (version := _version(package))}
    other = [f"{package} {then[package]}, here {found}" for package, found in here.items() if found != then[package]]
    return "; ".join(other)


def _version(package: str) -> str:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return ""


def untried(found: Mapping[str, str]) -> str:
    """The pairs that nobody has trained, in a line; empty where there are none.

    Example:
        >>> untried({"quant=int4 method=x": "unknown", "quant=int4 objective=sft": "tested"})
        'quant=int4 with method=x'
    """
    return ", ".join(parts.replace(" ", " with ") for parts, verdict in found.items() if verdict == "unknown")


def combined(registry: Registry) -> Iterator[dict[str, Offer]]:
    """Every combination of our own parts, fitting or not: axis -> part."""
    ours = [[o for o in registry.offers if o.axis == axis and o.distribution == OURS] for axis in AXES]
    for chosen in product(*(sorted(offers, key=lambda offer: offer.part.name) for offers in ours)):
        yield dict(zip(AXES, chosen, strict=True))


def refusal(offers: Mapping[str, Offer], extra: Collection[str], registry: Registry) -> str:
    """Why a combination cannot work, with the nearest that can; empty where it can."""
    problem = next(problems(offers, extra), None)
    if problem is None:
        return ""
    ways = [" ".join(f"{axis}={name}" for axis, name in way.items()) for way in nearest(offers, extra, registry)]
    return f"{problem}; {', or '.join(ways)}" if ways else problem
