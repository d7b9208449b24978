"""What a part gives back is looked at where the core asks for it: a slip of its author names the part, not our line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from core.contracts import Loss
from core.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from core.contracts import Batch, Objective

T = TypeVar("T")

MADE_AS = "_made_as"
"""Attribute of a part that the core made: what an error calls it, such as ``method=halves of acme-parts``."""


def returned(part: object, call: str, value: Any, kind: type[T]) -> T:
    """The value that ``part.call(...)`` returned.

    Raises:
        UserError: it is of another type.

    Example:
        >>> returned("part", "strip", None, str)
        Traceback (most recent call last):
        core.errors.UserError: error: builtins.str: str.strip() returned nothing, not str
          fix: mend str.strip(): it ends with `return` and a str
    """
    if isinstance(value, kind):
        return value
    found = "nothing" if value is None else type(value).__name__
    raise slip(part, call, f"returned {found}, not {kind.__name__}", f"it ends with `return` and a {kind.__name__}")


def slip(part: object, call: str, what: str, right: str) -> UserError:
    """An error of whoever wrote a part, in their words."""
    place = f"{type(part).__name__}.{call}()"
    return UserError(f"{made_as(part)}: {place} {what}", f"mend {place}: {right}")


def made_as(part: object) -> str:
    """How an error names a part that is made; its class where the core has not made it."""
    return getattr(part, MADE_AS, f"{type(part).__module__}.{type(part).__qualname__}")


def loss_of(objective: Objective, model: nn.Module, batch: Batch) -> Loss:
    """The objective's loss of a batch.

    Raises:
        UserError: it is no ``Loss`` of a sum and a number: another shape would broadcast and train something else.
    """
    loss = returned(objective, "loss", objective.loss(model, batch), Loss)
    for name in ("total", "items"):
        shape = tuple(getattr(getattr(loss, name), "shape", ()))
        if shape:
            raise slip(
                objective,
                "loss",
                f"returned Loss.{name} of shape {shape}, not one number",
                "total is the sum over the items, items their number",
            )
    return loss
