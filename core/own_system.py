"""The system message that some chat templates put in where a conversation has none."""

from __future__ import annotations

from typing import Any

SYSTEM, USER = "SYSTEM-MESSAGE", "USER-MESSAGE"


def own_system(tokenizer: Any) -> str:
    """What the template says of its own before the user speaks; nothing where it says nothing.

    It is seen by rendering a conversation with a system message and one without: the second begins as the first one
    does, and goes on with something that nobody wrote. Templates that put the system message into the user's turn
    begin alike, too, and go on with the user.
    """
    try:
        with_one, without = (
            tokenizer.apply_chat_template(messages, tokenize=False)
            for messages in (
                [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}],
                [{"role": "user", "content": USER}],
            )
        )
    except Exception:  # no template, or one that takes no system message: it has none of its own
        return ""
    before, _, after = with_one.partition(SYSTEM)
    end = after.partition(USER)[0]
    if not before or not end or not without.startswith(before):
        return ""
    said, found, _ = without.removeprefix(before).partition(end)
    return said.strip() if found and USER not in said else ""
