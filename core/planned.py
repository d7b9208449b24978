"""What is known of a run before it begins, as plain values: what ``plan`` prints and ``plan.json`` holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Planned:
    """A run that has not begun.

    Attributes:
        parts: Axis -> name, distribution and version.
        model: Architecture, path, parameters, dtype.
        trained: Parameters that are trained, their share, bytes of the file that is saved, and where there is a rank,
            what it is on the largest square layer.
        rows: Counts of rows and tokens, or None when the model has no tokenizer yet.
        steps: Optimizer steps, the examples and the tokens of the largest micro-batch.
        verdicts: Two parts -> whether they have been trained together.
        memory: Term -> bytes at the peak; with the total, what textbooks say of the weights, and what there is.
        warnings: What is odd about the rows.
        differs: Choice or option -> value, where it is not the default.
    """

    parts: Mapping[str, Mapping[str, str]]
    model: Mapping[str, Any]
    trained: Mapping[str, Any]
    rows: Mapping[str, Any] | None
    steps: Mapping[str, int]
    verdicts: Mapping[str, str]
    memory: Mapping[str, int]
    warnings: Sequence[str]
    differs: Mapping[str, Any]

    @property
    def needed(self) -> int:
        """Bytes that must be there: of the total, pages of a file are what the system may take back."""
        return self.memory["total"] - self.memory["file"]

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)
