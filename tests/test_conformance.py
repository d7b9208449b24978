"""Every built-in part passes the kit that strangers' parts are tested with."""

from __future__ import annotations

from core.discovery import discover
from core.testing import CONTRACTS

# those that patch their libraries are held to it in a process of their own: tests/plugins/test_unsloth.py
for offer in discover().offers:
    if offer.distribution == "hooktune" and not offer.part.patches:
        title = f"Test_{offer.axis}_{offer.part.name}"
        globals()[title] = type(title, (CONTRACTS[offer.axis],), {"name": offer.part.name})
