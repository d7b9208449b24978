"""The command line: argv in, exit code out."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from core.errors import Interrupted, UserError
from core.options import within

SHORT = {"-m": "--multirun", "-c": "--cfg", "-i": "--info", "-p": "--package"}
FLAGS: Mapping[str, tuple[str, ...]] = {
    "--multirun": (),
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    "--hydra-help": (),
    "--resolve": (),
    "--package": ("KEY",),
}
"""Hydra's flags and the words that may follow; the first four say what is done, the others belong to ``--cfg``."""

MODES = frozenset({"--multirun", "--cfg", "--info", "--hydra-help"})


def command(argv: Sequence[str]) -> int:
    """Do what was typed.

    Args:
        argv: Without the program's name.

    Returns:
        0 done; 1 a job of a sweep failed or was refused; 2 a ``UserError``; 128 plus the number of a signal.
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = _dispatch(list(argv))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read what is printed has enough, as in: python -m core --help | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        for note in getattr(error, "__notes__", ()):
            print(note, file=sys.stderr)
        return 128 + (error.signal if isinstance(error, Interrupted) else signal.SIGINT)


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
        if Path(verb).is_file():
            raise UserError(f"{verb} is a file, and no verb", f"data=jsonl data.train={shlex.quote(verb)}")
        near = get_close_matches(verb, VERBS, 1)
        raise UserError(
            f"there is no verb {verb!r}",
            f"did you mean {near[0]}?" if near else f"one of {', '.join(VERBS)}; parts are chosen with AXIS=NAME",
        )
    return verb, rest


def _train(argv: list[str]) -> int:
    from core.compose import configure

    flags, overrides = _split(argv)
    if "--multirun" in flags:
        from core.sweep import sweep

        return sweep(overrides)
    config = configure(overrides)
    if flags:
        from core.hydra_app import run_hydra

        run_hydra([*flags, *config.overrides], config.registry, lambda _: None)
        return 0
    _warn(config.registry.warnings(config.asked))
    import core

    core.train(config)
    return 0


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Hydra's flags, each with its word, and the overrides."""
    flags: dict[str, str] = {}
    overrides: list[str] = []
    rest = list(argv)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("-"):
            overrides.append(argument)
            continue
        short, _, word = argument.partition("=")
        name = SHORT.get(short, short)
        words = _words(name)
        if words and not word and rest and (rest[0] in words or name == "--package"):
            word = rest.pop(0)
        elif name == "--info" and not word:
            word = "all"
        if (word or words) and word not in words and not (word and name == "--package"):
            takes = f"takes {', '.join(words)}" if words else "takes no word"
            raise UserError(f"{name} {takes}", " ".join([name, *words[:1]]))
        flags[name] = word
    _check_together(flags)
    return [f"{name}={word}" if word else name for name, word in flags.items()], overrides


def _words(flag: str) -> tuple[str, ...]:
    if flag not in FLAGS:
        near = get_close_matches(flag, [*FLAGS, "--help", "--version"], 1)
        raise UserError(f"there is no flag {flag}", f"did you mean {near[0]}?" if near else "python -m core --help")
    return FLAGS[flag]


def _check_together(flags: Collection[str]) -> None:
    modes = [flag for flag in flags if flag in MODES]
    if len(modes) > 1:
        raise UserError(f"{' and '.join(modes)} cannot be done at once", f"keep {' or '.join(modes)}")
    if set(flags) - MODES and modes != ["--cfg"]:
        raise UserError(f"{', '.join(set(flags) - MODES)} says how --cfg prints", "--cfg job")


def _warn(lines: Sequence[str]) -> None:
    for line in lines:
        print(f"warning: {line}", file=sys.stderr)


def _resume(argv: list[str]) -> int:
    if len(argv) != 1:
        raise UserError(
            "resume takes one run folder and nothing else: the run goes on with its own overrides",
            "python -m core resume runs/2026-11-23_15-31-41_lora-int4",
        )
    from core.resume import resume

    resume(Path(argv[0]))
    return 0


def _generate(argv: list[str]) -> int:
    usage = 'python -m core generate RUN "PROMPT" [max_new_tokens=64] [system="MESSAGE"]'
    typed = {key: value for key, _, value in (a.partition("=") for a in argv[2:])}
    system = typed.pop("system", None)
    options = {key: _number(key, value, usage) for key, value in typed.items()}
    if len(argv) < 2:
        raise UserError("generate takes a run folder and a prompt", usage)
    from core.generate import generate

    generate(argv[0], argv[1], options, system)
    return 0


def _number(key: str, value: str, usage: str) -> float:
    known: Mapping[str, tuple[type[int] | type[float], float]] = {
        "max_new_tokens": (int, 1),
        "num_beams": (int, 1),
        "repetition_penalty": (float, 0.1),
    }
    if key not in known:
        near = get_close_matches(key, [*known, "system"], 1)
        raise UserError(f"generate has no option {key}", f"did you mean {near[0]}={value}?" if near else usage)
    kind, least = known[key]
    try:
        number = kind(value)
    except ValueError:
        raise UserError(f"{key}={value} is no {'whole ' if kind is int else ''}number", usage) from None
    within(key, number, least)
    return number


def _plugins(argv: list[str]) -> int:
    from core.plugin_commands import plugins

    return plugins(argv)


def _data(argv: list[str]) -> int:
    from core.data_show import data

    return data(argv)


def _profile(argv: list[str]) -> int:
    from core.profile import profile

    return profile(argv)


def _plan(argv: list[str]) -> int:
    from core.plan_command import plan

    return plan(argv)


def _sweep(argv: list[str]) -> int:
    from core.sweep_resume import sweep_verb

    return sweep_verb(argv)


def _compare(argv: list[str]) -> int:
    from core.compare import compare

    return compare(argv)


VERBS: Mapping[str, Callable[[list[str]], int]] = {
    "train": _train,
    "plan": _plan,
    "resume": _resume,
    "sweep": _sweep,
    "compare": _compare,
    "generate": _generate,
    "data": _data,
    "profile": _profile,
    "plugins": _plugins,
}
"""Verb -> what it does with the rest of the command line."""
