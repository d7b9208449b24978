"""Parts by their name alone, as ``plugins show`` and ``plugins check`` are told them."""

from __future__ import annotations

from core.registry import AXES, Offer, Registry


def named(registry: Registry, name: str) -> list[Offer]:
    """The parts of this name, one an axis at most; none where nobody has heard of it.

    Raises:
        UserError: a plugin that would offer one is broken, as choosing it says.
    """
    found = [offer for offer in registry.offers if offer.part.name == name]
    suspected = [axis for axis in AXES if registry.suspects(axis, name)]
    if not found and suspected:
        shipped = [
            axis for axis in suspected if any((d.path / axis / f"{name}.yaml").exists() for d in registry.conf_dirs)
        ]
        registry.find((shipped or suspected)[0], name)
    return found
