"""Every built-in part passes the kit that strangers' parts are tested with."""

from __future__ import annotations

from core.discovery import discover
from core.testing.built_in import contract_of

# those that patch their libraries are held to it in a process of their own: tests/plugins/test_unsloth.py
for offer in discover().offers:
    if offer.distribution == "hooktune" and not offer.part.patches:
        made = contract_of(offer.axis, offer.part.name)
        globals()[made.__name__] = made
del made
