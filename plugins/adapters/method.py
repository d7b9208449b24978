"""Bottleneck adapters after the sublayers of each block, the base frozen.

After attention and feed-forward, before the residual is added: Houlsby et al. 2019, https://arxiv.org/abs/1902.00751,
figure 2. After the feed-forward only: Pfeiffer et al. 2020, https://arxiv.org/abs/2005.00247, whose f also sees the
base's norm that follows; ``norm=before`` learns one. The base's own norms stay frozen, where Houlsby et al. train them:
they would be everybody's, whichever adapter acts.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from core.api import Context, Method, UserError
from core.api import Head as TaskHead
from plugins.adapters.attached import Head, Place, Sublayer, attach, attached, check_free, check_known, device_of, names
from plugins.adapters.bottleneck import Bottleneck, Shape
from plugins.adapters.options import AdaptersOptions
from plugins.adapters.places import places
from plugins.adapters.saved import Saved, fill, read, write


class Adapters(Method):
    """``h + f(h)`` on what sublayers give; several act one after the other, or by the mean of their updates."""

    saves: ClassVar[Literal["adapter", "model"]] = "adapter"

    def __init__(self, options: AdaptersOptions) -> None:
        self.options = options

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        """Put ``context.adapter`` in, or make it trainable when it was loaded.

        Raises:
            UserError: the model has an adapter of that name already, or blocks of a layout that is not known.
        """
        name, o = context.adapter, self.options
        if name not in names(model) or not context.continuing:
            check_free(model, name)
            shape = Shape(
                hidden=context.facts.hidden,
                bottleneck=o.bottleneck,
                activation=o.activation,
                norm=o.norm,
                dropout=o.dropout,
            )
            found = tuple(places(model, context.facts.blocks, o.placement))
            self._put(model, name, Saved(shape=shape, places=found, heads=_new_heads(model, context)), None)
        model.requires_grad_(False)
        for _, place in attached(model):
            if name in place:
                place[name].requires_grad_(True)
        self._act(model, [name])
        return model

    def save(self, model: nn.Module, folder: Path, adapter: str) -> None:
        """Write the adapter's tensors and its config directly into ``folder``.

        Raises:
            UserError: the model has no adapter of that name.
        """
        check_known(model, [adapter])
        mine = {path: place for path, place in attached(model) if adapter in place}
        saved = Saved(
            shape=next(m.shape for p in mine.values() if isinstance(m := p[adapter], Bottleneck)),
            places=tuple(path for path, place in mine.items() if isinstance(place, Sublayer)),
            heads=tuple(path for path, place in mine.items() if isinstance(place, Head)),
        )
        states = {path: place[adapter].state_dict() for path, place in mine.items()}
        write(folder, saved, {f"{path}.{name}": t for path, state in states.items() for name, t in state.items()})

    def load(self, model: nn.Module, folder: Path, adapter: str) -> nn.Module:
        """Put a saved adapter in under the name ``adapter``; afterwards that one acts and nothing is trainable.

        Raises:
            UserError: the files are missing or damaged, made for another base, or the name is taken.
        """
        check_free(model, adapter)
        saved, tensors = read(folder)
        _check_fits(model, saved, folder)
        self._put(model, adapter, saved, tensors)
        self._act(model, [adapter])
        return model.requires_grad_(False)

    @contextmanager
    def using(self, model: nn.Module, adapters: Sequence[str]) -> Generator[None]:
        """While inside, exactly these adapters act, combined as ``method.combine`` says; ``()`` is the base model.

        Raises:
            UserError: the model has no adapter of such a name.
        """
        before = [(place, place.acting, place.average) for _, place in attached(model)]
        self._act(model, adapters)
        try:
            yield
        finally:
            for place, acting, average in before:
                place.acting, place.average = acting, average

    def _act(self, model: nn.Module, adapters: Sequence[str]) -> None:
        check_known(model, adapters)
        for _, place in attached(model):
            place.acting, place.average = tuple(adapters), self.options.combine == "average"

    def _put(self, model: nn.Module, name: str, saved: Saved, tensors: Mapping[str, Tensor] | None) -> None:
        """Make all modules, fill them, and only then attach them: a file that does not fit changes nothing."""
        made: dict[str, tuple[nn.Module, type[Place]]] = {}
        for path in saved.places:
            made[path] = Bottleneck(saved.shape), Sublayer
        for path in saved.heads:
            made[path] = _copy(model.get_submodule(path)), Head
        for path, (module, _) in made.items():
            if tensors is not None:
                fill(module, path, tensors)
        for path, (module, kind) in made.items():
            attach(model.get_submodule(path), name, module, kind, device_of(model, path))


def _new_heads(model: nn.Module, context: Context) -> tuple[str, ...]:
    """What stands beside the body of a model whose head is not the one it was trained with: a classifier, random."""
    if context.head.auto_class == TaskHead().auto_class:
        return ()
    body = getattr(model, "base_model_prefix", "")
    return tuple(n for n, module in model.named_children() if n != body and next(module.parameters(), None) is not None)


def _copy(head: nn.Module) -> nn.Module:
    """A head of the adapter's own, in float32, without the copies that other adapters have of it."""
    copy = deepcopy(head).float()
    if hasattr(copy, "adapters"):
        del copy.adapters
    return copy


def _check_fits(model: nn.Module, saved: Saved, folder: Path) -> None:
    config: Any = getattr(model, "config", None)
    hidden = config.get_text_config().hidden_size if config is not None else saved.shape.hidden
    if hidden != saved.shape.hidden:
        wrong = f"for hidden states of width {saved.shape.hidden}, and the model's are {hidden} wide"
        raise UserError(f"{folder} was made {wrong}", "load it on the base it was made for")
    known = {name for name, _ in model.named_modules()}
    for path in (*saved.places, *saved.heads):
        if path not in known:
            raise UserError(f"{folder}: the model has no module {path}", "load it on the base it was made for")
