"""A prompt and one answer to it as tokens, whether they are text or messages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from core.chat import chat_tokens, completion_tokens
from core.contracts import Tokens
from core.errors import RowError
from core.messages import as_messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def answer_tokens(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Any,
    answer: Any,
    *,
    tools: Any = None,
    name: str = "completion",
    turns: str = "all",
) -> Tokens:
    """A prompt and an answer to it; the assistant's text in the answer and its end token are supervised.

    Args:
        tokenizer: The model's.
        prompt: Text, messages, or None.
        answer: Text or messages.
        tools: Handed to the template; a list, or the JSON text of one.
        name: Of the answer's column, for errors.
        turns: Which of the assistant's messages in the answer are supervised: ``all`` or the ``last``.

    Raises:
        RowError: there is no answer, one that is neither text nor messages, or a message with a weight of its own.
        UserError: as ``chat_tokens`` and ``completion_tokens`` do.
    """
    before = [] if prompt in (None, "") else as_messages(_said(prompt, "prompt"), "user")
    after = as_messages(_said(answer, name), "assistant")
    try:
        if isinstance(answer, str) and not isinstance(prompt, list) and not tools:
            return completion_tokens(tokenizer, prompt or "", answer)
        _check_unweighted([*before, *after])
        speaks = [i for i, message in enumerate(after) if _speaks(message)]
        learned = speaks[-1:] if turns == "last" else speaks
        weights = [0.0] * len(before) + [float(i in learned) for i in range(len(after))]
        if not any(weights):
            raise RowError(name, "has no assistant message")
        return chat_tokens(tokenizer, [*before, *after], tools=tools, weights=weights)
    except RowError as error:
        raise RowError(_where(error.field, len(before), name), error.what) from error


def _said(value: Any, name: str) -> Any:
    if value is None:
        raise RowError(name, "is missing")
    if not isinstance(value, (str, list)):
        raise RowError(name, "is neither text nor messages")
    if not value:
        raise RowError(name, "is empty")
    return value  # pyright: ignore[reportUnknownVariableType]


def _check_unweighted(messages: list[Any]) -> None:
    """What a turn weighs is said in whole conversations; here it would be passed over without a word."""
    for i, message in enumerate(messages):
        if isinstance(message, dict) and message.get("weight") is not None:  # pyright: ignore[reportUnknownMemberType]
            raise RowError(f"messages[{i}].weight", "is read in a column of messages only")


def _speaks(message: Any) -> bool:
    return isinstance(message, dict) and message.get("role") == "assistant"  # pyright: ignore[reportUnknownMemberType]


def _where(field: str, prompts: int, name: str) -> str:
    """The user's own column in place of ours.

    Example:
        >>> _where("messages[3].content", 2, "chosen")
        'chosen[1].content'
    """
    if field == "completion":
        return name
    found = re.fullmatch(r"messages\[(\d+)\](.*)", field)
    if found is None:
        return field
    at = int(found[1])
    return f"prompt[{at}]{found[2]}" if at < prompts else f"{name}[{at - prompts}]{found[2]}"
