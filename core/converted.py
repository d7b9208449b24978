"""Formats whose rows are written anew: alpaca, pairs, ShareGPT and preferences in canonical columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from core.contracts import Row
from core.errors import RowError
from core.messages import as_messages, turned, with_system


def _alpaca(row: dict[str, Any]) -> Row:
    more = _text(row, "input")
    if not row["output"].strip():
        raise RowError("output", "is empty")
    prompt = f"{row['instruction']}\n\n{more}" if more.strip() else row["instruction"]
    kept = {key: value for key, value in row.items() if key not in ("instruction", "input", "output")}
    return _pair({**kept, "prompt": prompt, "completion": row["output"]})


def _pair(row: dict[str, Any]) -> Row:
    """A prompt and its completion, both text or both messages."""
    for column in ("prompt", "completion"):
        _check_said(row[column], column)
    system = _text(row, "system")
    if not system.strip():
        return row
    prompt, completion = as_messages(row["prompt"], "user"), as_messages(row["completion"], "assistant")
    return {**row, "prompt": with_system(system, prompt), "completion": completion}


def _messages(row: dict[str, Any]) -> Row:
    """With the system message of a column of its own."""
    system = _text(row, "system")
    if not system.strip() or not isinstance(row["messages"], list):
        return row
    return {**row, "messages": with_system(system, turned(row["messages"], "messages"))}


def _sharegpt(row: dict[str, Any]) -> Row:
    kept = {key: value for key, value in row.items() if key != "conversations"}
    system = _text(row, "system")
    return {**kept, "messages": with_system(system, turned(row["conversations"], "conversations"))}


def _preference(row: dict[str, Any]) -> Row:
    """A prompt and two answers: all text, or all messages; the prompt may be what both conversations begin with."""
    kept = {key: value for key, value in row.items() if key not in ("conversations", "messages")}
    chosen, rejected = row["chosen"], row["rejected"]
    for column in ("chosen", "rejected"):
        _check_said([row[column]] if isinstance(row[column], Mapping) else row[column], column)
    prompt: Any = None if _begins(chosen) and _begins(rejected) else row.get("prompt")
    if prompt is None:
        prompt = row.get("messages") or row.get("conversations")
    system = _text(row, "system")
    if all(isinstance(value, str) for value in (prompt, chosen, rejected)) and not system.strip():
        return {**kept, "prompt": prompt}
    said = {"chosen": _answer(chosen, "chosen"), "rejected": _answer(rejected, "rejected")}
    if prompt is None:
        if not all(isinstance(value, list) for value in (chosen, rejected)):
            raise RowError("prompt", "is missing")
        begin = _shared(said["chosen"], said["rejected"])
        before = said["chosen"][:begin]
        said = {name: messages[begin:] for name, messages in said.items()}
        if not before:
            raise RowError("prompt", "is missing, and chosen and rejected begin differently")
        _check_same(row.get("prompt"), before)
    else:
        _check_said(prompt, "prompt")
        before = as_messages(prompt, "user") if isinstance(prompt, str) else turned(prompt, "prompt")
    return {**kept, "prompt": with_system(system, before), **said}


def _check_same(prompt: Any, before: list[dict[str, Any]]) -> None:
    """A text beside conversations that hold the prompt already is one of their messages, or a rendering of them."""
    if not isinstance(prompt, str) or not (text := prompt.strip()):
        return
    said = [str(message.get("content") or "").strip() for message in before]
    if not any(one and (one in text or text in one) for one in said):
        raise RowError("prompt", "is not what chosen and rejected begin with")


def _check_said(value: Any, column: str) -> None:
    if isinstance(value, list):
        if not all(isinstance(message, Mapping) for message in cast("list[Any]", value)):
            raise RowError(column, "is a list, but not of messages")
    elif not isinstance(value, str):
        raise RowError(column, "is not text")


def _begins(answer: Any) -> bool:
    """Whether it is a whole conversation, which repeats what a column ``prompt`` may say too."""
    first: Any = answer[0] if isinstance(answer, list) and answer else None
    return isinstance(first, Mapping) and cast("Mapping[str, Any]", first).get("role") in ("system", "user")


def _answer(value: Any, column: str) -> list[dict[str, Any]]:
    """An answer as messages: text, one message, or several."""
    if isinstance(value, str):
        return as_messages(value, "assistant")
    return turned([value] if isinstance(value, Mapping) else value, column)


def _shared(one: list[dict[str, Any]], two: list[dict[str, Any]]) -> int:
    """How many messages both conversations begin with; the last of each is its answer."""
    most = min(len(one), len(two)) - 1
    return next((i for i in range(most) if one[i] != two[i]), max(0, most))


CONVERTED: Mapping[str, Callable[[dict[str, Any]], Row]] = {
    "alpaca": _alpaca,
    "messages": _messages,
    "prompt-completion": _pair,
    "unpaired": _pair,
    "sharegpt": _sharegpt,
    "preference": _preference,
}


def _text(row: Mapping[str, Any], column: str) -> str:
    """A column that may be missing."""
    value = row.get(column) or ""
    if not isinstance(value, str):
        raise RowError(column, "is not text")
    return value
