"""What a method says it can, word by word."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from core import capabilities
from core.compose import composed
from core.errors import UserError
from core.testing.part import PartContract
from core.testing.rig import Rig, logits_BTV

NEAR = 1e-4
"""Largest difference of a logit that counts as none, in float32."""


class Claims(PartContract):
    """Checks that are skipped where a method does not say the word."""

    def test_first_forward_equals_the_base(self) -> None:
        """Word ``zero-start``: nothing has changed before the first step."""
        self._claims("zero-start")
        rig = Rig(self.usual())
        assert gap(logits_BTV(rig.applied()[0]), logits_BTV(rig.base())) < NEAR

    def test_switched_off_it_is_the_base(self) -> None:
        """Word ``switch``: inside ``using(model, ())``; and afterwards all is as before, ``requires_grad`` too."""
        self._claims("switch")
        rig = Rig(self.usual())
        model = self._trained(rig)
        trained, tuned = trained_names(model), logits_BTV(model)
        base = logits_BTV(rig.base())
        assert gap(tuned, base) > NEAR
        with rig.plan.method.using(model, ()):
            assert gap(logits_BTV(model), base) < NEAR
        assert gap(logits_BTV(model), tuned) == 0
        assert trained_names(model) == trained
        with pytest.raises(ArithmeticError), rig.plan.method.using(model, ()):
            raise ArithmeticError
        assert gap(logits_BTV(model), tuned) == 0, "an error inside leaves it switched off"

    def test_merged_equals_unmerged(self) -> None:
        """Word ``merge``: plain layers that answer the same."""
        self._claims("merge")
        rig = Rig(self.usual())
        model = self._trained(rig)
        unmerged = logits_BTV(model)
        merged = rig.plan.method.merge(model, rig.plan.quantizer)
        assert gap(logits_BTV(merged), unmerged) < NEAR
        assert {type(layer) for layer in merged.modules()} == {type(layer) for layer in rig.base().modules()}

    def test_a_second_adapter_leaves_the_first_untouched(self) -> None:
        """Word ``several``: the new one trains alone, and the first one, chosen again, answers as it did."""
        self._claims("several")
        rig = Rig(self.usual())
        model = self._trained(rig)
        first, names = logits_BTV(model), trained_names(model)
        context = rig.context(model, adapter="second")
        model = rig.plan.method.apply(model, context)
        assert not names & trained_names(model), "the first one is still trained"
        fresh = logits_BTV(model)
        rig.descend(model, context)
        assert gap(logits_BTV(model), fresh) > NEAR, "the second one does not act"
        with rig.plan.method.using(model, ["default"]):
            assert gap(logits_BTV(model), first) < NEAR
        second = logits_BTV(model)
        with rig.plan.method.using(model, ["default", "second"]):
            both = logits_BTV(model)
        assert min(gap(both, first), gap(both, second)) > NEAR, "of two chosen at once one does nothing"
        assert gap(logits_BTV(model), second) == 0

    def test_one_of_several_is_loaded_under_another_name(self) -> None:
        """Word ``several``: what it is called when it is saved stays behind, and so do the others."""
        self._claims("several")
        rig = Rig(self.usual())
        method, model = rig.plan.method, self._trained(rig)
        first, context = logits_BTV(model), rig.context(model, adapter="second")
        model = method.apply(model, context)
        rig.descend(model, context, steps=6)
        second = logits_BTV(model)
        assert gap(second, first) > NEAR
        method.save(model, self.folder / "second", "second")
        assert gap(logits_BTV(method.load(rig.base(), self.folder / "second", "third")), second) < NEAR
        model = method.load(model, self.folder / "second", "third")
        assert gap(logits_BTV(model), second) < NEAR
        with method.using(model, ["default"]):
            assert gap(logits_BTV(model), first) < NEAR

    def test_a_name_is_taken_once(self) -> None:
        """Word ``several``: a second adapter of the same name would overwrite the first."""
        self._claims("several")
        rig = Rig(self.usual())
        model, context = rig.applied()
        with pytest.raises(UserError):
            rig.plan.method.apply(model, context)

    def test_what_it_claims_is_true_on_every_quantizer(self) -> None:
        """Words ``switch``, ``adapter`` and ``merge``; unmerged, a product may see its inputs in fewer bits."""
        for name in self._quantizers():
            rig = Rig(self.usual(f"quant={name}"))
            method, model, base = rig.plan.method, self._trained(rig), logits_BTV(rig.base())
            tuned = logits_BTV(model)
            assert gap(tuned, base) > NEAR, name
            if "switch" in self.words:
                with method.using(model, ()):
                    assert gap(logits_BTV(model), base) < NEAR, name
            if method.saves == "adapter":
                method.save(model, self.folder / name, "default")
                assert gap(logits_BTV(method.load(rig.base(), self.folder / name, "default")), tuned) < NEAR, name
            if "merge" in self.words:
                merged = method.merge(model, rig.plan.quantizer)
                assert not any(map(rig.plan.quantizer.quantized, merged.modules())), name
                # int8 rounds its inputs, which plain layers do not; an adapter that was dropped is a whole gap away
                assert gap(logits_BTV(merged), tuned) < 0.5 * gap(tuned, base), name

    def _quantizers(self) -> Iterator[str]:
        """Those that it says it can work on, and that can work here."""
        for name in self.registry.names("quant"):
            try:
                config = composed(self.usual(f"quant={name}"))
                capabilities.check(config.offers, capabilities.words(), config.registry)
            except UserError:
                continue
            yield name

    def _trained(self, rig: Rig) -> nn.Module:
        model, context = rig.applied()
        rig.descend(model, context)
        return model

    def _claims(self, word: str) -> None:
        if word not in self.words:
            pytest.skip(f"does not claim {word}")


def gap(one: torch.Tensor, two: torch.Tensor) -> float:
    return (one - two).abs().max().item()


def trained_names(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}
