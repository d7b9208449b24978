"""What is odd about the rows as a whole: shown before training, and an error where it is most of them."""

from __future__ import annotations

from collections.abc import Iterator

from core.data import Facts
from core.errors import UserError


def lint(train: Facts, held_out: Facts, tolerance: float, max_length: int) -> Iterator[str]:
    """A line for each kind of finding, with counts.

    Args:
        train: Of the rows to train on.
        held_out: Of the others.
        tolerance: ``data.tolerance``.
        max_length: ``data.max_length``.

    Raises:
        UserError: a kind takes a larger share of a side than ``tolerance``.
    """
    kinds = (
        ("skipped", "skipped", "mend the rows"),
        ("truncated", f"cut to data.max_length={max_length}", f"data.max_length={2 * max_length}"),
        ("endless", "with no end token to learn", "give the tokenizer an eos_token that its template uses"),
        ("shared", "trained on, too", "a data.validation of other rows"),
        ("duplicates", "there twice", ""),
    )
    for name, what, mend in kinds:
        counts = {"to train": (getattr(train, name), train.rows), "held out": (getattr(held_out, name), held_out.rows)}
        for side, (count, total) in counts.items():
            if mend and count > tolerance * total:
                raise UserError(
                    f"{_rows(count)} of {total:,} {side} are {what}: more than data.tolerance={tolerance:g}",
                    f"{mend}, or data.tolerance={min(1.0, round(count / total + 0.01, 2)):g}",
                )
        if any(count for count, _ in counts.values()):
            yield f"{what}: " + ", ".join(
                f"{_rows(count)} {side} ({count / total:.1%})" for side, (count, total) in counts.items() if count
            )
    if train.unused:
        yield f"columns that nothing reads: {', '.join(train.unused)}"


def _rows(number: int) -> str:
    return f"{number:,} row{'' if number == 1 else 's'}"
