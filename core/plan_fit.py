"""``plan --fit=24GB``: what of a run to change until it fits into so much memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from core.capabilities import problems, words
from core.compose import Config
from core.errors import UserError
from core.plan_screen import gigabytes
from core.trainer_options import AGAIN

if TYPE_CHECKING:
    from core.planned import Planned

UNITS = {"MB": 1e6, "GB": 1e9, "MIB": 2**20, "GIB": 2**30}
SIZE, ADDED = "data.batch_size", "trainer.accumulate_grad_batches"


def size(text: str) -> int:
    """Bytes.

    Raises:
        UserError: it is no size.

    Example:
        >>> size("24GB"), size("0.5 GiB")
        (24000000000, 536870912)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text.strip(), re.IGNORECASE)
    if found is None or found[2].upper() not in UNITS or not float(found[1]):
        raise UserError(f"--fit={text} is no size of memory", "--fit=24GB")
    return int(float(found[1]) * UNITS[found[2].upper()])


def proposals(planned: Callable[[Sequence[str]], Planned], config: Config, limit: int) -> Iterator[str]:
    """A line for each way that fits: the run as it is, else smaller micro-batches of as many examples a step.

    Without and with gradient checkpointing, and with each quantizer that goes with the other parts.

    Args:
        planned: Plans a run.
        config: Of the run as it was asked for.
        limit: Bytes.

    Raises:
        UserError: nothing fits.
    """
    typed = config.overrides
    now = planned(typed)
    least = now.needed
    yield f"{gigabytes(now.needed):>9}  as it is{'' if least > limit else ', which fits'}"
    if least <= limit:
        return
    fits = False
    for family in _families(config):
        for change in family:
            needed = planned([*_without(typed, change), *change]).needed
            least = min(least, needed)
            if needed <= limit:
                fits = True
                yield f"{gigabytes(needed):>9}  {' '.join(change)}"
                break
    if not fits:
        raise UserError(
            f"nothing here fits into {gigabytes(limit)}: the least is {gigabytes(least)}",
            f"data.max_length={config.options['data'].max_length // 2}, or a smaller model",
        )


def _families(config: Config) -> Iterator[list[list[str]]]:
    """Changes that differ in the micro-batch alone, the largest first."""
    for quant in _quantizers(config):
        named = [] if quant == config.offers["quant"].part.name else [f"quant={quant}"]
        for again in [[]] if config.trainer.gradient_checkpointing else [[], [f"{AGAIN}=true"]]:
            yield [change for batches in _batches(config) if (change := [*named, *again, *batches])]


def _batches(config: Config) -> Iterator[list[str]]:
    """As it is, then smaller micro-batches, the largest first; the examples of a step stay as many."""
    batch, times = config.options["data"].batch_size, config.trainer.accumulate_grad_batches
    least = config.registry.make(config.offers["objective"], config.options["objective"]).smallest_batch
    yield []
    for parts in range(2, batch // least + 1):
        if batch % parts == 0:
            yield [f"{SIZE}={batch // parts}", f"{ADDED}={times * parts}"]


def _quantizers(config: Config) -> Iterator[str]:
    """The one that was chosen, then those of others that go with all other parts."""
    chosen = config.offers["quant"].part.name
    yield chosen
    for name in config.registry.names("quant"):
        try:
            offer = config.registry.find("quant", name)
        except UserError:
            continue  # one that cannot be chosen
        here = words(config.trainer.accelerator)
        if name != chosen and not any(problems({**config.offers, "quant": offer}, here)):
            yield name


def _without(typed: Sequence[str], change: Sequence[str]) -> list[str]:
    """What was typed, but for keys that are changed, and the options of a part that is.

    Example:
        >>> _without(["quant=int4", "quant.double=false", "seed=1"], ["quant=int8"])
        ['seed=1']
    """
    keys = {line.partition("=")[0] for line in change}
    typed_keys = [line.lstrip("+").partition("=")[0] for line in typed]
    return [
        line
        for line, key in zip(typed, typed_keys, strict=True)
        if key not in keys and key.partition(".")[0] not in keys
    ]
