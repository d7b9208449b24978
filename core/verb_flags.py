"""Flags of a verb of ours, taken from among the overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from core.errors import UserError
from core.options import within


def take_flags(verb: str, argv: Sequence[str], known: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Each flag that was typed with its value, and what is left.

    Args:
        verb: What the flags are of.
        argv: What was typed behind it.
        known: Flag -> a value to show whoever leaves it out; empty: it takes none.

    Raises:
        UserError: there is no such flag, or it lacks its value.

    Example:
        >>> take_flags("data show", ["--rows=5", "seed=1"], {"--rows": "3"})
        ({'--rows': '5'}, ['seed=1'])
        >>> take_flags("plan", ["--json", "seed=1"], {"--json": ""})
        ({'--json': ''}, ['seed=1'])
    """
    flags: dict[str, str] = {}
    overrides: list[str] = []
    rest = iter(argv)
    for word in rest:
        flag, equals, value = word.partition("=")
        if not flag.startswith("-"):
            overrides.append(word)
            continue
        if flag not in known:
            near = get_close_matches(flag, known, 1)
            usage = " ".join(f"[{f'{name} {example}'.rstrip()}]" for name, example in known.items())
            raise UserError(f"{verb} has no flag {flag}", f"did you mean {near[0]}?" if near else f"{verb} {usage}")
        if not known[flag]:
            if equals:
                raise UserError(f"{flag} takes no value", flag)
            flags[flag] = ""
            continue
        value = value if equals else next(rest, "")
        if not value or value.startswith("--"):
            raise UserError(f"{flag} lacks its value", f"{flag} {known[flag]}")
        flags[flag] = value
    return flags, overrides


def whole(flag: str, value: str) -> int:
    """A number from 1 on.

    Raises:
        UserError: it is none.
    """
    try:
        number = int(value)
    except ValueError:
        raise UserError(f"{flag} {value} is no whole number", f"{flag} 3") from None
    within(flag, number, 1)
    return number
