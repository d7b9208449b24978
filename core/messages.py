"""What a conversation must look like before a template is asked to render it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import pairwise
from typing import Any, cast

from core.errors import RowError, shortened

ROLES = ("system", "user", "assistant", "tool")


def check_messages(messages: Any) -> None:
    """Every message has a known role and text, and one is the assistant's.

    Raises:
        RowError: not so.
    """
    if isinstance(messages, str) or not isinstance(messages, Sequence) or not messages:
        raise RowError("messages", "is not a list of messages")
    for i, message in enumerate(messages):
        at = f"messages[{i}]"
        if not isinstance(message, Mapping):
            raise RowError(at, "is not a message with role and content")
        if message.get("role") not in ROLES:
            role = message.get("role")
            near = get_close_matches(role, ROLES, 1) if isinstance(role, str) else []
            guess = f" (did you mean {near[0]}?)" if near else ""
            what = f"{shortened(repr(role), 40)} is not one of {', '.join(ROLES)}{guess}"
            raise RowError(f"{at}.role", what)
        content, calls = message.get("content"), message.get("tool_calls")
        if not isinstance(content, str) and not (content is None and calls):
            raise RowError(f"{at}.content", "is missing" if content is None else "is not text")
        if message["role"] == "assistant" and not calls and not (content or "").strip():
            raise RowError(f"{at}.content", "is empty")
        if calls is not None:
            _check_calls(calls, f"{at}.tool_calls")
    if not any(message["role"] == "assistant" for message in messages):
        raise RowError("messages", "has no assistant message")


def _check_calls(calls: Any, at: str) -> None:
    """Each call names its function and has arguments as an object, which may be JSON text."""
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        raise RowError(at, "is not a list of calls")
    for i, call in enumerate(cast("Sequence[Any]", calls)):
        function: Any = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise RowError(f"{at}[{i}]", "is not a call with a function's name and arguments")
        if not isinstance(_parsed(function.get("arguments") or {}), Mapping):
            raise RowError(f"{at}[{i}].function.arguments", "is not an object, nor the JSON text of one")


def _parsed(value: Any) -> Any:
    """What JSON text says, or None where it is no JSON; other values as they are."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return None


def conversation(row: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """All that is said in a canonical row: its messages, or its prompt and an answer; nothing where it is a text.

    Example:
        >>> [message["role"] for message in conversation({"prompt": "Hi", "chosen": "Hello", "rejected": ""})]
        ['user', 'assistant']
    """
    said = row.get("messages")
    answer = row.get("completion", row.get("chosen"))
    if said is None and answer is not None:
        parts = ((row.get("prompt") or "", "user"), (answer, "assistant"))
        parts = [(value, role) for value, role in parts if isinstance(value, (str, list))]
        said = [message for value, role in parts for message in as_messages(value, role)]
    found = cast("list[Any]", said) if isinstance(said, list) else []
    return found if all(isinstance(message, Mapping) for message in found) else []


def oddities(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What is unusual about a conversation that can be trained on all the same: names of counts in ``Facts``.

    Example:
        >>> list(oddities([{"role": "assistant", "content": "Hi"}, {"role": "user", "content": ""}]))
        ['disordered', 'unanswered', 'unasked']
    """
    if not messages:
        return
    roles = ["call" if message.get("tool_calls") else str(message.get("role")) for message in messages]
    if any(role not in FOLLOWS.get(before, ()) for before, role in pairwise(["", *roles])):
        yield "disordered"
    if "end" not in FOLLOWS.get(roles[-1], ()):
        yield "unanswered"
    if any(message.get("role") == "user" and not (message.get("content") or "").strip() for message in messages):
        yield "unasked"


FOLLOWS: Mapping[str, Sequence[str]] = {
    "": ("system", "user"),
    "system": ("user",),
    "user": ("assistant", "call"),
    "assistant": ("user", "call", "end"),
    "call": ("tool", "end"),
    "tool": ("tool", "call", "assistant"),
}
"""Who may speak after whom; a call is the assistant's, of a tool."""


def check_tools(tools: Any) -> list[Any] | None:
    """The tools of a row, which may be JSON text: columns of a table have one type.

    Raises:
        RowError: it is no list of objects.
    """
    if tools is None or tools == "":
        return None
    found: Any = _parsed(tools)
    if not isinstance(found, Sequence) or not all(isinstance(tool, Mapping) for tool in cast("Sequence[Any]", found)):
        raise RowError("tools", "is not a list of objects")
    return list(cast("Sequence[Any]", found))


def tidied(messages: Sequence[Mapping[str, Any]], arguments: Callable[[Any], Any]) -> list[dict[str, Any]]:
    """Messages without the empty keys that a table gives each of them, arguments of tool calls in one form.

    Args:
        messages: Checked ones.
        arguments: What to make of the arguments of a call.
    """
    found = [{k: v for k, v in message.items() if v is not None or k == "content"} for message in messages]
    for message in found:
        if isinstance(calls := message.get("tool_calls"), list):
            message["tool_calls"] = [_with_arguments(call, arguments) for call in cast("list[Any]", calls)]
    return found


def _with_arguments(call: Any, arguments: Callable[[Any], Any]) -> Any:
    """Functions stand in a call or are it; whatever else a call is, the template says."""
    if not isinstance(call, Mapping):
        return call
    given = cast("Mapping[str, Any]", call)
    if "function" in given:
        return {**given, "function": _with_arguments(given["function"], arguments)}
    return {**given, "arguments": arguments(given["arguments"])} if "arguments" in given else given


def as_object(value: Any) -> Any:
    """JSON text as what it says, where it says anything.

    Example:
        >>> as_object('{"a": 1}'), as_object("a")
        ({'a': 1}, 'a')
    """
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def as_text(value: Any) -> str:
    """The same as JSON text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


SPEAKERS: Mapping[str, str] = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "model": "assistant",
    "chatgpt": "assistant", "bot": "assistant", "system": "system", "tool": "tool", "observation": "tool",
    "function_response": "tool", "function_call": "assistant",
}  # fmt: skip
"""Who speaks in ShareGPT's conversations -> role."""


def as_messages(value: Any, role: str) -> list[dict[str, Any]]:
    """Text as a message of ``role``; messages as they are."""
    return [{"role": role, "content": value}] if isinstance(value, str) else list(value)


def with_system(system: str, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The conversation behind a system message, unless there is nothing to say or one is there already."""
    if not system.strip() or (messages and messages[0].get("role") == "system"):
        return messages
    return [{"role": "system", "content": system}, *messages]


def turned(conversation: Any, column: str) -> list[dict[str, Any]]:
    """Messages with role and content, of ShareGPT's with from and value, or of those that are so already.

    Whatever else a message has stays: a weight counts, other keys are named when nothing reads them.

    Raises:
        RowError: it is no list of messages, or somebody speaks who is not known.

    Example:
        >>> turned([{"from": "human", "value": "Hi"}], "conversations")
        [{'role': 'user', 'content': 'Hi'}]
    """
    if not isinstance(conversation, Sequence) or isinstance(conversation, str):
        raise RowError(column, "is not a list of messages")
    return [_turn(message, f"{column}[{i}]") for i, message in enumerate(cast("Sequence[Any]", conversation))]


def _turn(message: Any, at: str) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise RowError(at, "is not a message")
    given = dict(cast("Mapping[str, Any]", message))
    if "from" not in given:
        return given
    speaker, said = given.pop("from"), given.pop("value", None)
    role = SPEAKERS.get(speaker) if isinstance(speaker, str) else None
    if role is None:
        raise RowError(f"{at}.from", f"{shortened(repr(speaker), 40)} is not one of {', '.join(SPEAKERS)}")
    if speaker == "function_call":
        return {**given, "role": role, "content": None, "tool_calls": _calls(said, at)}
    if not isinstance(said, str) or (role == "assistant" and not said.strip()):
        what = "is missing" if said is None else "is empty" if isinstance(said, str) else "is not text"
        raise RowError(f"{at}.value", what)
    return {**given, "role": role, "content": said}


def _calls(said: Any, at: str) -> list[dict[str, Any]]:
    """Calls of tools, which ShareGPT writes as JSON text."""
    found: Any = _parsed(said)
    calls: list[Any] = found if isinstance(found, list) else [found]
    if not all(isinstance(call, Mapping) and "name" in call for call in calls):
        raise RowError(f"{at}.value", "is no JSON with a name and arguments")
    return [{"type": "function", "function": dict(call)} for call in calls]
