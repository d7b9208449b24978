"""What is odd about the rows as a whole: shown before training, and an error where it is most of them."""

from __future__ import annotations

from collections.abc import Iterator

from core.data import Facts
from core.errors import UserError
from core.formats import listed


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
    longer = min(2 * max_length, max(train.longest, held_out.longest))
    kinds = (
        ("skipped", "skipped", "mend the rows"),
        ("truncated", f"cut to data.max_length={max_length}", f"data.max_length={longer}"),
        ("endless", "with no end token to learn", "give the tokenizer an eos_token that its template uses"),
        ("doubled", "beginning with the first token (BOS) twice", "take it out of the rows"),
        ("shared", "trained on, too", "data.group=COLUMN that tells rows apart, a data.validation of others"),
        ("asked", "whose prompt is trained on with another answer (data.group=COLUMN keeps such rows together)", ""),
        ("duplicates", "there twice", ""),
        ("disordered", "with roles out of order", ""),
        ("unanswered", "ending in a message that nobody answers", ""),
        ("unasked", "in which the user says nothing", ""),
        ("toolless", "with tools that the chat template leaves out", ""),
        ("garbled", "with control characters (U+0080 to U+009F), as of text read in a wrong encoding", ""),
        ("spelt", "whose text spells a special token, which becomes that token", ""),
        ("reformed", "with earlier turns that the chat template rewrites, so trl's training form of it is taken", ""),
        ("alike", "with answers that are the same once they are cut", ""),  # cut ones, which are bounded above
    )
    for name, what, mend in kinds:
        found = [Found(facts, name, side) for facts, side in ((train, "to train"), (held_out, "held out"))]
        for one in found:
            if mend and one.count > tolerance * one.total:
                raise UserError(
                    f"{_rows(one.count)} of {one.total:,} {one.side} are {what}: more than data.tolerance={tolerance:g}"
                    f"{one.first}{one.places}",
                    f"{mend}, or data.tolerance={min(1.0, round(one.count / one.total + 0.01, 2)):g}",
                )
        if any(one.count for one in found):
            counts = "; ".join(str(one) for one in found if one.count)
            yield f"{what}: {counts}" + "".join(one.places for one in found)
    unused = {*train.unused, *held_out.unused}
    if "label" in unused and train.format == "prompt-completion":
        unused.remove("label")
        yield "label is not read: every answer is learned, whatever it says of it; objective=kto learns from both kinds"
    if unused:
        yield f"columns that nothing reads: {listed(unused)}"
    if unread := sorted({*train.unread, *held_out.unread}):
        yield f"keys of messages that the chat template leaves out: {listed(unread)}"


class Found:
    """What is odd about one side's rows."""

    def __init__(self, facts: Facts, name: str, side: str) -> None:
        self.count: int = getattr(facts, name)
        self.total = facts.rows
        self.side = side
        self.first = f", first {facts.first[name]}" if name in facts.first else ""
        self.places = "".join(f"\n       {line}" for line in facts.bad) if name == "skipped" else ""

    def __str__(self) -> str:
        """Count and share, and where."""
        return f"{_rows(self.count)} {self.side} ({self.count / self.total:.1%}){self.first}"


def _rows(number: int) -> str:
    return f"{number:,} row{'' if number == 1 else 's'}"
