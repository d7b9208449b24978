"""Every built-in part passes the kit that strangers' parts are tested with."""

from __future__ import annotations

from typing import Any

from core.discovery import discover
from core.testing import CONTRACTS, DataContract, tiny


def in_a_folder(self: DataContract, *more: str) -> list[str]:
    """The usual run on the rows of a folder."""
    (self.folder / "set").mkdir(exist_ok=True)
    tiny.write_rows(self.folder / "set" / "train.jsonl", self.rows())
    return DataContract.usual(self, *more)


WHAT_THEY_NEED: dict[tuple[str, str], dict[str, Any]] = {
    ("objective", "kto"): {
        "expected_failures": {
            "accumulation_changes_nothing": "how far the model has moved is estimated per micro-batch"
        }
    },
    ("metric", "preference"): {
        "overrides": ["objective=dpo", "objective.beta=1.0"],
        "rows": lambda _: tiny.rows_with({"chosen", "rejected"}),
    },
    ("data", "hub"): {"overrides": ["data.path=set"], "usual": in_a_folder},
}
"""Part -> attributes of its test class."""

# those that patch their libraries are held to it in a process of their own: tests/plugins/test_unsloth.py
for offer in discover().offers:
    if offer.distribution == "hooktune" and not offer.part.patches:
        title = f"Test_{offer.axis}_{offer.part.name}"
        more = WHAT_THEY_NEED.get((offer.axis, offer.part.name), {})
        globals()[title] = type(title, (CONTRACTS[offer.axis],), {"name": offer.part.name, **more})
