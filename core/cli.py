"""The command line: argv in, exit code out."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from core.errors import Interrupted, UserError

HYDRA_FLAGS = ("-m", "--multirun", "-c", "--cfg", "-p", "--package", "--resolve", "-i", "--info", "--hydra-help")
"""Flags that Hydra understands and that change what is done."""


def command(argv: Sequence[str]) -> int:
    """Do what was typed.

    Args:
        argv: Without the program's name.

    Returns:
        0 done; 1 a job of a sweep failed or was refused; 2 a ``UserError``; 128 plus the number of a signal.
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return _dispatch(list(argv))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except Interrupted as error:
        return 128 + error.signal
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _terminate(number: int, _frame: object) -> None:
    raise Interrupted(number)


def _dispatch(argv: list[str]) -> int:
    if any(flag in argv for flag in ("-h", "--help")):
        from core.help import show_help

        return show_help()
    if "--version" in argv:
        from core import __version__

        print(f"hooktune {__version__}")
        return 0
    verb, rest = _verb(argv)
    return VERBS[verb](rest)


def _verb(argv: list[str]) -> tuple[str, list[str]]:
    if not argv or argv[0].startswith(("-", "+", "~")) or "=" in argv[0]:
        return "train", argv
    verb, rest = argv[0], argv[1:]
    if verb not in VERBS:
        near = get_close_matches(verb, VERBS, 1)
        raise UserError(
            f"there is no verb {verb!r}",
            f"did you mean {near[0]}?" if near else f"one of {', '.join(VERBS)}, or --help",
        )
    return verb, rest


def _train(argv: list[str]) -> int:
    from core.compose import configure

    overrides = _overrides(argv)
    flags = [argument for argument in argv if argument.startswith("-")]
    _check_flags(flags)
    if "-m" in flags or "--multirun" in flags:
        from core.sweep import sweep

        return sweep(overrides)
    if flags:
        return _show(argv)
    config = configure(overrides)
    _warn(config.registry.warnings(config.choices))
    import core

    core.train(config)
    return 0


def _show(argv: list[str]) -> int:
    """Hydra's ``--cfg``, ``--info`` and the like, for a config that is right."""
    from core.compose import configure
    from core.hydra_app import run_hydra

    config = configure(_overrides(argv))
    flags = [argument for argument in argv if argument not in _overrides(argv)]
    run_hydra([*flags, *config.overrides], config.registry, lambda _: None)
    return 0


def _overrides(argv: Sequence[str]) -> list[str]:
    """What is left when flags and the words that belong to them are taken away."""
    found: list[str] = []
    for before, argument in zip(["", *argv], argv, strict=False):
        belongs = before in ("-c", "--cfg", "-p", "--package", "-i", "--info") and "=" not in argument
        if not argument.startswith("-") and not belongs:
            found.append(argument)
    return found


def _check_flags(flags: Sequence[str]) -> None:
    for flag in flags:
        name = flag.partition("=")[0]
        if name not in HYDRA_FLAGS:
            near = get_close_matches(name, [*HYDRA_FLAGS, "--help", "--version"], 1)
            raise UserError(f"there is no flag {flag}", f"did you mean {near[0]}?" if near else "--help")


def _warn(lines: Sequence[str]) -> None:
    for line in lines:
        print(f"warning: {line}", file=sys.stderr)


def _resume(argv: list[str]) -> int:
    if len(argv) != 1:
        raise UserError("resume takes one run folder", "python -m core resume runs/2026-11-23_15-31-41_lora-int4")
    from core.resume import resume

    resume(Path(argv[0]))
    return 0


def _generate(argv: list[str]) -> int:
    usage = 'python -m core generate RUN "PROMPT" [max_new_tokens=64]'
    options = {key: _number(key, value, usage) for key, _, value in (a.partition("=") for a in argv[2:])}
    if len(argv) < 2:
        raise UserError("generate takes a run folder and a prompt", usage)
    from core.generate import generate

    generate(argv[0], argv[1], options)
    return 0


def _number(key: str, value: str, usage: str) -> float:
    known = {"max_new_tokens": int, "repetition_penalty": float, "num_beams": int}
    if key not in known:
        raise UserError(f"generate has no option {key}", usage)
    try:
        return known[key](value)
    except ValueError:
        raise UserError(f"{key}={value} is no number", usage) from None


VERBS: Mapping[str, Callable[[list[str]], int]] = {"train": _train, "resume": _resume, "generate": _generate}
"""Verb -> what it does with the rest of the command line."""
