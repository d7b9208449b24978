"""Every question the core asks its plugins.

A hook answers with records (``core.api.Part``) and does nothing else: no model is loaded, no file is written, torch is
not imported. Work happens later, in the object that a record names. Each hook is called once, at start; names must be
unique over all installed plugins.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from core.records import Part

hookspec = pluggy.HookspecMarker("hooktune")
hookimpl = pluggy.HookimplMarker("hooktune")


@hookspec
def hooktune_loaders() -> Iterable[Part]:
    """Offer loaders for ``+loader=NAME``: ways to bring a model and its tokenizer into memory.

    The target is a subclass of ``core.api.Loader``.

    Example:
        >>> from core.api import Part, hookimpl
        >>> @hookimpl
        ... def hooktune_loaders():
        ...     yield Part(name="vault", target="acme.vault:VaultLoader", options="acme.options:VaultOptions",
        ...                summary="weights from the company's vault")
        >>> next(hooktune_loaders()).name
        'vault'
    """
    return ()


@hookspec
def hooktune_quantizers() -> Iterable[Part]:
    """Offer quantizers for ``+quant=NAME``: ways to hold the frozen base in fewer bits.

    The target is a subclass of ``core.api.Quantizer``.

    Example:
        >>> from core.api import Part, hookimpl
        >>> @hookimpl
        ... def hooktune_quantizers():
        ...     yield Part(name="ternary", target="acme.ternary:Ternary", options="acme.options:TernaryOptions",
        ...                summary="weights in {-1, 0, 1}", provides=frozenset({"ternary"}))
        >>> next(hooktune_quantizers()).provides
        frozenset({'ternary'})
    """
    return ()


@hookspec
def hooktune_methods() -> Iterable[Part]:
    """Offer fine-tuning methods for ``+method=NAME``: what of the model is trained, or added and trained.

    The target is a subclass of ``core.api.Method``, or of ``core.api.PeftMethod`` for one of the peft library.

    Example:
        >>> from core.api import Part, hookimpl
        >>> @hookimpl
        ... def hooktune_methods():
        ...     yield Part(name="bitfit", target="acme.bitfit:BitFit", options="acme.options:BitFitOptions",
        ...                summary="train biases only")
        >>> next(hooktune_methods()).name
        'bitfit'
    """
    return ()


@hookspec
def hooktune_objectives() -> Iterable[Part]:
    """Offer objectives for ``+objective=NAME``: how rows become token sequences, and what loss they are trained with.

    The target is a subclass of ``core.api.Objective``.

    Example:
        >>> from core.api import Part, hookimpl
        >>> @hookimpl
        ... def hooktune_objectives():
        ...     yield Part(name="focal", target="acme.focal:Focal", options="acme.options:FocalOptions",
        ...                summary="cross-entropy that looks at the hard tokens",
        ...                source="https://arxiv.org/abs/1708.02002")
        >>> next(hooktune_objectives()).name
        'focal'
    """
    return ()


@hookspec
def hooktune_data() -> Iterable[Part]:
    """Offer data sources for ``+data=NAME``: where rows come from.

    The target is a subclass of ``core.api.DataSource``.

    Example:
        >>> from core.api import Part, hookimpl
        >>> @hookimpl
        ... def hooktune_data():
        ...     yield Part(name="tickets", target="acme.tickets:Tickets", options="acme.options:TicketOptions",
        ...                summary="support tickets and their answers")
        >>> next(hooktune_data()).name
        'tickets'
    """
    return ()


@hookspec
def hooktune_optimizers() -> Iterable[Part]:
    """Offer optimizers for ``+optim=NAME``.

    The target is a subclass of ``core.api.Optim``.

    Example:
        >>> from core.api import Part, hookimpl
        >>> @hookimpl
        ... def hooktune_optimizers():
        ...     yield Part(name="lion", target="acme.lion:Lion", options="acme.options:LionOptions",
        ...                summary="sign of the momentum", source="https://arxiv.org/abs/2302.06675")
        >>> next(hooktune_optimizers()).name
        'lion'
    """
    return ()


@hookspec
def hooktune_metrics() -> Iterable[Part]:
    """Offer metrics for ``+metric=NAME``, measured on held-out rows before and after training.

    The target is a subclass of ``core.api.Metric``.

    Example:
        >>> from core.api import Part, hookimpl
        >>> @hookimpl
        ... def hooktune_metrics():
        ...     yield Part(name="bleu", target="acme.bleu:Bleu", options="acme.options:BleuOptions",
        ...                summary="overlap of word sequences with the wanted answer")
        >>> next(hooktune_metrics()).name
        'bleu'
    """
    return ()
