"""Examples as one page that needs nothing else: no script, no font, no address.

Ids and the signs for new lines are put in by the style, so that the text of the page is the text of the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from core.errors import UserError
from core.pieces import Piece, visible
from core.shown import ShownExample

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; }
pre { font: 14px/2 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere;
  padding: .5em 1em; background: #f6f6f6; color: #777; }
b { font-weight: normal; color: #034d1e; background: #cdf0d6; border-bottom: 2px solid #1a7f37; }
b:not([data-weight="1"])::before { content: attr(data-weight) ": "; color: #9a3412; }
.special { font-weight: bold; color: #0550ae; }
i::before { content: "\\23ce"; opacity: .5; }
body:has(#ids:checked) span::before { content: attr(data-ids); font: 9px ui-monospace, monospace;
  vertical-align: super; margin: 0 1px; color: #888; }
.note { color: #9a3412; }
"""

PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title><style>{style}</style></head>
<body>
<h1>{title}</h1>
<p><code>{command}</code></p>
<p>{summary}</p>
{warnings}
<p><label><input type="checkbox" id="ids" checked> token ids</label>;
<b data-weight="1">supervised</b>, <span class="special">special</span>, context</p>
{examples}
</body>
</html>
"""


def write_page(
    file: Path, examples: Sequence[ShownExample], title: str, command: str, summary: str, warnings: Sequence[str]
) -> None:
    """Write the page; one that is there is replaced.

    Args:
        file: Where.
        examples: What is on it.
        title: Its heading.
        command: What was typed.
        summary: The line about all rows.
        warnings: What is odd about them.

    Raises:
        UserError: it cannot be written.
    """
    text = PAGE.format(
        style=STYLE,
        title=_safe(title),
        command=_safe(command),
        summary=_safe(summary),
        warnings="\n".join(f'<p class="note">{_safe(line)}</p>' for line in warnings),
        examples="\n".join(line for example in examples for line in _example(example)),
    )
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}", "--html FILE in a folder you may write to") from None


def _example(example: ShownExample) -> Iterator[str]:
    numbers = "".join(f", {name}={value:g}" for name, value in example.numbers.items())
    yield f"<h2>{_safe(example.origin + numbers)}</h2>"
    for sequence in example.sequences:
        yield f"<h3>{_safe(sequence.name)}: {sequence.counts}</h3>"
        yield f'<pre dir="auto">{"".join(map(_piece, sequence.pieces))}</pre>'
        if sequence.note:
            yield f'<p class="note">{_safe(sequence.note)}</p>'


def _piece(piece: Piece) -> str:
    kind = ' class="special"' if piece.special else ""
    ids = " ".join(map(str, piece.ids))
    token = f'<span{kind} data-ids="{ids}">{_safe(piece.text).replace(chr(10), "<i></i>" + chr(10))}</span>'
    return (
        f'<b data-weight="{piece.weight:g}" title="loss weight {piece.weight:g}">{token}</b>' if piece.weight else token
    )


def _safe(text: str) -> str:
    return escape(visible(text))
