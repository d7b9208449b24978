"""Examples in a terminal or a log: what is supervised is coloured, and stands in brackets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console
from rich.text import Text

from core.pieces import Piece, visible
from core.shown import ShownExample, ShownSequence

LEGEND = "⟦supervised⟧  ⟦0.5: with a loss weight of 0.5⟧  ⏎ a new line  below each line the ids of its tokens"


def print_examples(screen: Console, examples: Sequence[ShownExample]) -> None:
    """Each line of each sequence, and below it the ids of its tokens."""
    screen.print(LEGEND, style="dim", markup=False, soft_wrap=True)
    for example in examples:
        numbers = "".join(f"  {name}={value:g}" for name, value in example.numbers.items())
        screen.print(f"\n{visible(example.origin)}{numbers}", style="bold", markup=False, soft_wrap=True)
        for sequence in example.sequences:
            screen.print(f"  {sequence.name}: {sequence.counts}", markup=False, soft_wrap=True)
            for text, ids in _lines(sequence):
                screen.print(text, soft_wrap=True)
                screen.print(ids, style="dim", soft_wrap=True)
            if sequence.note:
                screen.print(f"    ✂ {sequence.note}", style="yellow", markup=False, soft_wrap=True)


def _lines(sequence: ShownSequence) -> Iterator[tuple[Text, Text]]:
    """Text and ids, a line each; what is supervised stands in brackets in both."""
    text, ids = Text("    "), Text("      ")
    for weight, run in groupby(sequence.pieces, key=lambda piece: piece.weight):
        opened = "" if not weight else "⟦" if weight == 1 else f"⟦{weight:g}: "
        text.append(opened, "green")
        ids.append(opened)
        members = list(run)
        for at, piece in enumerate(members):
            closed = "⟧" if weight and at + 1 == len(members) else ""
            text.append(_marked(piece), _style(piece))
            text.append(closed, "green")
            ids.append(f"{' '.join(map(str, piece.ids))}{closed} ")
            if piece.text.endswith("\n"):
                yield text, ids
                text, ids = Text("    "), Text("      ")
    if text.plain.strip():
        yield text, ids


def _marked(piece: Piece) -> str:
    return visible(piece.text).replace("\n", "⏎\n    ").removesuffix("\n    ")


def _style(piece: Piece) -> str:
    colour = "green" if piece.weight else "cyan" if piece.special else "none"
    return f"bold {colour}" if piece.special else colour
