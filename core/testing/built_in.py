"""What some of the built-in parts cannot be checked without, and the class that checks a part of any name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.testing import CONTRACTS, DataContract, PartContract, tiny


def contract_of(axis: str, name: str, overrides: Sequence[str] = ()) -> type[PartContract]:
    """A test class for a part, with what it needs if it is one of ours.

    Args:
        axis: Where it is chosen.
        name: Its name.
        overrides: What else it cannot run without.
    """
    more = NEEDS.get((axis, name), {})
    known = [*more.get("overrides", ()), *overrides]
    return type(f"Test_{axis}_{name}", (CONTRACTS[axis],), {"name": name, **more, "overrides": known})


def _in_a_folder(self: DataContract, *more: str) -> list[str]:
    """The usual run on the rows of a folder."""
    (self.folder / "set").mkdir(exist_ok=True)
    tiny.write_rows(self.folder / "set" / "train.jsonl", self.rows())
    return DataContract.usual(self, *more)


NEEDS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("objective", "kto"): {
        "expected_failures": {
            "accumulation_changes_nothing": "how far the model has moved is estimated per micro-batch"
        }
    },
    ("metric", "preference"): {
        "overrides": ["objective=dpo", "objective.beta=1.0"],
        "rows": lambda _: tiny.rows_with({"chosen", "rejected"}),  # pyright: ignore[reportUnknownLambdaType]
    },
    ("data", "hub"): {"overrides": ["data.path=set"], "usual": _in_a_folder},
}
"""Part -> attributes of its test class."""
