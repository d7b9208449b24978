"""Kahneman-Tversky optimization (Ethayarajh et al. 2024, https://arxiv.org/abs/2402.01306, equations 7 and 8).

Shapes: B rows of a batch, N supervised tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from core.api import (
    Batch,
    Example,
    LogProbs,
    Loss,
    Objective,
    Row,
    RowError,
    UserError,
    answer_tokens,
    token_logprobs,
)
from plugins.preference.options import KTOOptions

if TYPE_CHECKING:
    from datasets import Dataset

LABELS: Mapping[Any, float] = {True: 1.0, False: 0.0, "true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0}
"""What a column ``label`` may say; 1 and 0 are equal to True and False."""


class KTO(Objective):
    """``w (1 - sigmoid(+-beta (log p/q - z)))``: q the model before training, z how far the model has moved.

    ``z`` is the mean of ``log p/q`` over answers to other rows' prompts, at least 0: a statistic of the micro-batch, so
    accumulation changes it slightly.
    """

    columns: ClassVar[frozenset[str]] = frozenset({"messages|completion", "label"})
    optional: ClassVar[frozenset[str] | None] = frozenset({"prompt", "tools"})
    borrowed: ClassVar[frozenset[str]] = frozenset({"mismatched"})
    smallest_batch: ClassVar[int] = 2
    metric: ClassVar[str | None] = "preference"

    def __init__(self, options: KTOOptions) -> None:
        self.options = options

    def prepare_rows(self, rows: Dataset) -> Dataset:
        """Give each row the answer of the one before it in its block, the first that of the last.

        One with the same prompt is passed over, unless there is no other. A row that would be alone in the last block
        belongs to the block before, else it would get its own answer.
        """
        from datasets import Features, Json

        listed: list[Any] = [_split(row) for row in rows.to_list()]
        starts = [start for start in range(0, len(listed), self.options.block) if not start or start + 1 < len(listed)]
        for start, end in zip(starts, [*starts[1:], len(listed)], strict=True):
            block = listed[start:end]
            given = [row for row in block if _answers(row.get("completion"))]  # encode refuses the others
            for i, row in enumerate(given):
                before = [*given[:i][::-1], *given[i + 1 :][::-1], row]
                other = next((one for one in before if one.get("prompt") != row.get("prompt")), before[0])
                row["mismatched"] = other["completion"]
        columns = dict.fromkeys(column for row in listed for column in row)
        # a column may be text in one row and messages in the next
        return rows.from_list(listed, Features({column: Json() for column in columns}))

    def encode(self, row: Row, tokenizer: PreTrainedTokenizerBase) -> Example:
        """``completion``, ``mismatched`` and the label.

        Raises:
            RowError: there is no answer, or the label is neither true nor false.
        """
        said = row if "mismatched" in row else {**_split(row), "mismatched": None}
        asked, tools = said.get("prompt"), said.get("tools")
        completion = answer_tokens(tokenizer, asked, said.get("completion"), tools=tools)
        other = completion
        if said["mismatched"] is not None:
            other = answer_tokens(tokenizer, asked, said["mismatched"], tools=tools, name="completion")
        return {"completion": completion, "mismatched": other, "label": _label(row.get("label"))}

    def check_examples(self, examples: Sequence[Example]) -> Iterable[str]:
        """Labels of both kinds, in a proportion that the weights make up for, and one an answer.

        Raises:
            UserError: all labels are the same.
        """
        liked = sum(1 for example in examples if example["label"])
        others = len(examples) - liked
        if not liked or not others:
            raise UserError(
                f"label: every one is {'true' if liked else 'false'}, so there is nothing to tell apart",
                "rows with both labels, or objective=sft",
            )
        o = self.options
        ratio = liked * o.desirable_weight / (others * o.undesirable_weight) if o.undesirable_weight else 1.0
        if not 0.99 <= ratio <= 1.34:
            most = liked * o.desirable_weight / others
            yield (
                f"{liked:,} answers are liked, {others:,} are not: the paper advises "
                f"objective.undesirable_weight={most / 1.33:.2g} to {most:.2g}"
            )
        if torn := _torn(examples):
            yield f"answers labelled both true and false: {torn:,}"

    def reference(self, logprobs: LogProbs) -> Mapping[str, Tensor]:
        """Log-probability of either answer under the model before training."""
        return {f"reference_{name}": logprobs.sum(name) for name in ("completion", "mismatched")}

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """The sum over the rows."""
        o = self.options
        result = token_logprobs(model, batch.only("completion"), also=("entropy",))
        with torch.no_grad():
            elsewhere = token_logprobs(model, batch.only("mismatched"))
            moved_B = elsewhere.sum("mismatched") - batch.numbers["reference_mismatched"]
            z = moved_B.mean().clamp(min=0)
        logps_B = result.sum("completion")
        ratio_B = logps_B - batch.numbers["reference_completion"]
        sign_B = 2 * batch.numbers["label"] - 1
        weight_B = torch.where(sign_B > 0, o.desirable_weight, o.undesirable_weight)
        losses_B = weight_B * (1 - torch.sigmoid(o.beta * sign_B * (ratio_B - z)))
        logged = _measures(sign_B > 0, logps_B.detach(), o.beta * ratio_B.detach(), o.beta * z)
        logged["kl"] = (z * batch.size, batch.size)
        if result.entropy_N is not None:
            logged["entropy"] = (result.entropy_N.sum(), float(len(result.entropy_N)))
        return Loss(losses_B.sum(), batch.size, logged)


def _measures(
    liked_B: Tensor, logps_B: Tensor, rewards_B: Tensor, middle: Tensor
) -> dict[str, tuple[Tensor, Tensor | float]]:
    """What is logged under trl's names; a reward is on the right side when it is beyond ``middle``."""
    right_B = torch.where(liked_B, rewards_B > middle, rewards_B < middle).float() + 0.5 * (rewards_B == middle)
    found: dict[str, tuple[Tensor, Tensor | float]] = {"rewards/accuracies": (right_B.sum(), float(len(right_B)))}
    for name, mask_B in (("chosen", liked_B), ("rejected", ~liked_B)):
        number = mask_B.sum()
        found[f"rewards/{name}"] = ((rewards_B * mask_B).sum(), number)
        found[f"logps/{name}"] = ((logps_B * mask_B).sum(), number)
    return found


def _torn(examples: Sequence[Example]) -> int:
    """Answers to the same prompt that one row likes and another does not."""
    labels: dict[int, int] = {}
    for example in examples:
        answer = hash(tuple(example["completion"].ids))  # pyright: ignore[reportAttributeAccessIssue]  # tokens
        labels[answer] = labels.get(answer, 0) | (2 if example["label"] else 1)
    return sum(1 for kinds in labels.values() if kinds == 3)


def _split(row: Mapping[str, Any]) -> dict[str, Any]:
    """A conversation as prompt and last answer."""
    messages: Any = row.get("messages")
    if not isinstance(messages, list) or not messages:
        return dict(row)
    kept = {key: value for key, value in row.items() if key != "messages"}
    return {**kept, "prompt": messages[:-1], "completion": messages[-1:]}


def _answers(completion: Any) -> bool:
    """Whether an answer is one that another row can be lent: text, or the assistant's last words."""
    if isinstance(completion, str):
        return bool(completion.strip())
    last: Any = completion[-1] if isinstance(completion, list) and completion else None
    if not isinstance(last, Mapping) or last.get("role") != "assistant":
        return False
    content = last.get("content")
    return bool(last.get("tool_calls")) or (isinstance(content, str) and bool(content.strip()))


def _label(value: Any) -> float:
    found = LABELS.get(value.strip().lower() if isinstance(value, str) else value) if _hashable(value) else None
    if found is None:
        raise RowError("label", f"is {value!r}, neither true nor false")
    return found


def _hashable(value: Any) -> bool:
    return isinstance(value, (str, bool, int, float))
