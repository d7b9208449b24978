"""Exact match of greedy answers.

Shapes: B rows of a batch, T tokens of the longest prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from core.api import Context, Metric, Row, RowError, Score, UserError, prompt_and_answer, wilson
from plugins.exact.options import ExactOptions

SAMPLES = 4


class Exact(Metric):
    """The answer that ``generate`` gives without sampling, and the wanted text, without white space around them."""

    def __init__(self, options: ExactOptions) -> None:
        self.options = options

    def measure(self, model: nn.Module, rows: Sequence[Row], context: Context) -> Score:
        """Generate an answer to each row, in batches of prompts of like length.

        Raises:
            UserError: a row has no answer to compare with.
        """
        try:
            asked = [prompt_and_answer(row, context.tokenizer) for row in rows]
        except RowError as error:
            raise UserError(f"metric=exact needs an answer in each held-out row: {error}", "metric=loss") from error
        order = sorted(range(len(asked)), key=lambda i: len(asked[i][0]))
        given = [""] * len(rows)
        size = self.options.batch_size
        # the longest first: what does not fit fails at once, and the others fit into what those freed
        for start in reversed(range(0, len(order), size)):
            some = order[start : start + size]
            for i, text in zip(some, _answers(model, [asked[i] for i in some], context.tokenizer), strict=True):
                given[i] = text
        wanted = [answer.strip() for _, answer in asked]
        right = [a.strip() == b for a, b in zip(given, wanted, strict=True)]
        hits = sum(right)
        low, high = wilson(hits, len(rows))
        samples = [
            {"prompt": _asked(row), "wanted": wanted[i], "given": given[i].strip()}
            for i, row in enumerate(rows[:SAMPLES])
        ]
        return Score("exact", hits / len(rows), len(rows), low, high, "higher", samples, "%", [*map(float, right)])


def _answers(model: Any, asked: Sequence[tuple[list[int], str]], tokenizer: Any) -> Iterator[str]:
    """One token more than the longest wanted answer: one that goes on is not equal."""
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    device = next(model.parameters()).device
    longest = max(len(ids) for ids, _ in asked)
    ids_BT = torch.tensor([[pad] * (longest - len(ids)) + ids for ids, _ in asked], device=device)
    mask_BT = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids, _ in asked], device=device)
    new = max(len(tokenizer(answer, add_special_tokens=False)["input_ids"]) for _, answer in asked) + 1
    greedy = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None, "num_beams": 1}
    # a model that was trained without a cache may still generate with one
    output = model.generate(
        input_ids=ids_BT, attention_mask=mask_BT, max_new_tokens=new, pad_token_id=pad, use_cache=True, **greedy
    )
    for answer in output[:, longest:].tolist():
        end = answer.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in answer else len(answer)
        yield tokenizer.decode(answer[:end], skip_special_tokens=True)


def _asked(row: Row) -> str:
    """What the user said last, shortened."""
    prompt = row.get("prompt", "")
    messages = row.get("messages") or (prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}])
    text = next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")
    return text if len(text) <= 100 else f"{text[:60]} ... {text[-35:]}"
