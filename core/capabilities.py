"""Whether the chosen parts fit together, from the words on their records; before torch is imported.

| word | provided by | means |
|---|---|---|
| ``dense-base`` | ``none``, QAT | base layers are ordinary linear layers |
| ``linear-base`` | quantizers | subclasses of ``torch.nn.Linear`` whose forward is the product: peft can wrap them |
| ``trainable-base`` | ``none``, QAT | base weights can take gradients |
| ``bitsandbytes``, ``torchao``, ``quanto``, ``gptq``, ``awq`` | their quantizers | base layers are of that library |
| ``nf4`` | ``int4`` | they hold NormalFloat 4 as bitsandbytes packs it |
| ``adapter`` | adapter methods | the base stays as it was; ``save`` writes an adapter |
| ``switch`` | methods | ``using(())`` gives the base's outputs |
| ``several`` | methods | more than one named adapter over one base |
| ``merge`` | methods | ``merge`` works on what the quantizer can dequantize |
| ``zero-start`` | methods | the first forward equals the base's |
| ``partial-gradients`` | methods | in a step some trainable parameters get no gradient |
| ``preference`` | objectives | answers are compared: so is ``metric=preference``; ``optim.lr`` is a tenth when null |
| ``decoder``, ``causal-lm``, ``cpu``, ``cuda`` | core | the model, the head, the device |
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations, product
from pathlib import Path

from core.errors import UserError
from core.registry import Offer, Registry

SURROUNDINGS = frozenset({"decoder", "encoder", "vision", "causal-lm", "cpu", "cuda"})
"""Words about the model, the head and the device, which no part provides."""


def words(accelerator: str = "auto") -> frozenset[str]:
    """What the core itself provides: the device and, so far, decoders with a language-model head.

    Args:
        accelerator: ``trainer.accelerator``.
    """
    hidden = accelerator == "cpu" or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    device = "cuda" if Path("/dev/nvidiactl").exists() and not hidden else "cpu"
    return frozenset({"decoder", "causal-lm", device})


def check(offers: Mapping[str, Offer], extra: Collection[str], registry: Registry) -> None:
    """Refuse parts that cannot work together, naming the nearest choice that can.

    Args:
        offers: Axis -> chosen part.
        extra: Words that the core provides.
        registry: Where alternatives are looked for.

    Raises:
        UserError: a required word is provided by nobody, or a part provides one that another cannot stand.
    """
    problem = next(problems(offers, extra), None)
    if problem is not None:
        found = nearest(offers, extra, registry)
        ways = [" ".join(f"{axis}={name}" for axis, name in way.items()) for way in found]
        raise UserError(problem, ", or ".join(ways) or "choose other parts: --help lists them")


def problems(offers: Mapping[str, Offer], extra: Collection[str]) -> Iterator[str]:
    """What does not fit, a sentence each.

    Args:
        offers: Axis -> chosen part.
        extra: Words that the core provides.
    """
    here = set(extra).union(*(offer.part.provides for offer in offers.values()))
    for offer in offers.values():
        others = [other for other in offers.values() if other is not offer]
        for needed in sorted(offer.part.requires):
            if not here.intersection(needed.split("|")):
                yield _missing(offer, needed, others)
        for word in sorted(offer.part.conflicts):
            for other in others:
                if word in other.part.provides:
                    yield f"{_name(offer)} cannot run with {_name(other)}, which is {word}"
            if word in extra:
                yield f"{_name(offer)} cannot run here: this is {word}"


def _missing(offer: Offer, needed: str, others: Sequence[Offer]) -> str:
    """What holds the base and what trains it are named, for a metric what is learned; other axes seldom matter."""
    axes = ("objective",) if offer.axis == "metric" else ("quant", "method")
    among = [_name(other) for other in others if other.axis in axes]
    where = "here" if not among or SURROUNDINGS.issuperset(needed.split("|")) else f"with {' and '.join(among)}"
    return f"{_name(offer)} cannot run {where}: it requires {needed.replace('|', ' or ')}"


def nearest(offers: Mapping[str, Offer], extra: Collection[str], registry: Registry) -> list[dict[str, str]]:
    """The fewest other choices with which everything fits, one way for each set of axes: axis -> name.

    Choices are tried quantizer first: leaving the base dense is the smallest change to what was asked for.
    """
    axes = sorted(offers, key=lambda axis: (axis != "quant", axis != "method"))
    for number in (1, 2):
        ways = [_change(changed, offers, extra, registry) for changed in combinations(axes, number)]
        if any(ways):
            return [way for way in ways if way]
    return []


def _change(
    changed: Sequence[str], offers: Mapping[str, Offer], extra: Collection[str], registry: Registry
) -> dict[str, str] | None:
    """The first choice of other parts on just these axes with which everything fits."""
    for choice in product(*(_usable(axis, registry) for axis in changed)):
        tried = {**offers, **dict(zip(changed, choice, strict=True))}
        other = all(tried[axis].part.name != offers[axis].part.name for axis in changed)
        if other and not any(problems(tried, extra)):
            return {axis: tried[axis].part.name for axis in changed}
    return None


def _usable(axis: str, registry: Registry) -> list[Offer]:
    found: list[Offer] = []
    for name in registry.names(axis):
        try:
            found.append(registry.find(axis, name))
        except UserError:
            continue  # what cannot be chosen is no alternative
    # ours first, and of those what can do most: of two that fit it is the nearer to whatever was wanted
    return sorted(found, key=lambda offer: (offer.distribution != "hooktune", -len(offer.part.provides)))


def _name(offer: Offer) -> str:
    return f"{offer.axis}={offer.part.name}"
