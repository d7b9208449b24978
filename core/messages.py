"""What a conversation must look like before a template is asked to render it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from core.errors import RowError

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
            raise RowError(f"{at}.role", f"{message.get('role')!r} is not one of {', '.join(ROLES)}")
        content, calls = message.get("content"), message.get("tool_calls")
        if not isinstance(content, str) and not (content is None and calls):
            raise RowError(f"{at}.content", "is missing" if content is None else "is not text")
        if message["role"] == "assistant" and not calls and not (content or "").strip():
            raise RowError(f"{at}.content", "is empty")
    if not any(message["role"] == "assistant" for message in messages):
        raise RowError("messages", "has no assistant message")


def check_tools(tools: Any) -> list[Any] | None:
    """The tools of a row, which may be JSON text: columns of a table have one type.

    Raises:
        RowError: it is no list of objects.
    """
    if tools is None or tools == "":
        return None
    try:
        found: Any = json.loads(tools) if isinstance(tools, str) else tools
    except ValueError:
        found = None
    if not isinstance(found, Sequence) or not all(isinstance(tool, Mapping) for tool in cast("Sequence[Any]", found)):
        raise RowError("tools", "is not a list of objects")
    return list(cast("Sequence[Any]", found))
