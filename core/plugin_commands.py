"""``plugins``: what is installed, what it can do, whether it keeps its contract, and how to begin one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path

from core.errors import UserError

USAGE = "plugins list, show NAME, new KIND NAME [--dir FOLDER] [--peft], check NAME|PATH|--all, doctor"


def plugins(argv: list[str]) -> int:
    """Do what was typed behind ``plugins``.

    Raises:
        UserError: there is no such command, or it was given something else than it takes.
    """
    if not argv:
        raise UserError("plugins does one of several things", USAGE)
    word, rest = argv[0], argv[1:]
    if word not in COMMANDS:
        near = get_close_matches(word, COMMANDS, 1)
        raise UserError(f"plugins has no command {word}", f"did you mean plugins {near[0]}?" if near else USAGE)
    return COMMANDS[word](rest)


def _list(argv: list[str]) -> int:
    if argv:
        raise UserError("plugins list takes nothing", "python -m core plugins show NAME")
    from core.plugin_list import show_list

    return show_list()


def _show(argv: list[str]) -> int:
    if len(argv) != 1:
        raise UserError("plugins show takes a part's name", "python -m core plugins show lora")
    from core.plugin_list import show_part

    return show_part(argv[0])


def _new(argv: list[str]) -> int:
    from core.plugin_new import new_plugin

    words = [word for word in argv if not word.startswith("--")]
    folder, peft = Path(), False
    rest = iter(argv)
    for word in rest:
        if word == "--peft":
            peft = True
        elif word == "--dir" or word.startswith("--dir="):
            value = word.partition("=")[2] or next(rest, "")
            if not value:
                raise UserError("--dir takes a folder", USAGE)
            folder = Path(value).expanduser()
            words = [other for other in words if other != value]
        elif word.startswith("--"):
            raise UserError(f"plugins new has no flag {word}", USAGE)
    if len(words) != 2:
        raise UserError("plugins new takes a kind and a name", "python -m core plugins new method bitfit")
    made = new_plugin(words[0], words[1], folder, peft)
    print(f"made {made}\n")
    print(f"  pip install --no-deps --no-build-isolation -e {made}\n  python -m core plugins check {words[1]}")
    return 0


def _check(argv: list[str]) -> int:
    if argv == ["--all"]:
        from core.plugin_check_all import check_all

        return check_all()
    if not argv or "=" in argv[0] or "--all" in argv:
        raise UserError("plugins check takes a part's name, a folder or --all", "python -m core plugins check lora")
    from core.plugin_check import check

    return check(argv[0], argv[1:])


def _doctor(argv: list[str]) -> int:
    if argv:
        raise UserError("plugins doctor takes nothing", "python -m core plugins doctor")
    from core.doctor import doctor

    return doctor()


COMMANDS: Mapping[str, Callable[[list[str]], int]] = {
    "list": _list,
    "show": _show,
    "new": _new,
    "check": _check,
    "doctor": _doctor,
}
"""Command -> what it does with the rest of the command line."""
