"""What a quantizer must do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import pytest
import torch
from torch import nn

from core import capabilities
from core.compose import composed
from core.contracts import Quantizer
from core.errors import UserError
from core.testing.held import CODEBOOK, bytes_held
from core.testing.part import PartContract
from core.testing.processes import apart
from core.testing.real import OnRealWeights
from core.testing.rig import Rig, logits_BTV, logits_of_run, losses_of, train


class QuantizerContract(OnRealWeights):
    """Checks of a quantizer under the first installed method that suits it.

    Attributes:
        near: Largest error of a dequantized weight, as a share of the layer's largest weight.
    """

    axis = "quant"
    near: ClassVar[float] = 0.25

    def around(self) -> Sequence[str]:
        """A method that can train on it, and a rate for it."""
        return [f"method={self._method()}", "optim.lr=1e-2"]

    def _method(self) -> str:
        offers = [offer for offer in self.registry.offers if offer.axis == "method"]
        # what trains everything where it can, else what can do most
        offers.sort(key=lambda offer: ("trainable-base" not in offer.part.requires, -len(offer.part.provides)))
        for name in [offer.part.name for offer in offers]:
            try:
                config = composed([f"quant={self.name}", f"method={name}", *self.overrides])
                capabilities.check(config.offers, capabilities.words(), config.registry)
            except UserError:
                continue
            return name
        pytest.fail("no installed method can train on it")

    def test_bits_say_what_is_held(self) -> None:
        """By quantized layers, within a fifth: weights, scales and all else that stays in memory for them."""
        rig = Rig(self.usual("model.dtype=bfloat16"))
        bits, model = rig.plan.quantizer.bits, rig.base()
        assert 0 < bits <= 32
        layers = {name: layer for name, layer in model.named_modules() if rig.plan.quantizer.quantized(layer)}
        if layers:
            dense = dict(_dense(self).named_modules())
            weights = sum(cast("Any", dense[name]).weight.numel() for name in layers)
            held = 8 * bytes_held(layers.values()) / weights
            assert 0.8 * bits <= held <= 1.2 * bits + 8 * CODEBOOK * len(layers) / weights

    def test_layers_are_quantized_and_dequantize_near_what_they_were(self) -> None:
        """At least one layer answers ``quantized``, unless the base is as it was, in 16 bits or more."""
        rig = Rig(self.usual())
        quantizer = rig.plan.quantizer
        model, plain = rig.base(), _dense(self)
        layers = {name: layer for name, layer in model.named_modules() if quantizer.quantized(layer)}
        if type(quantizer).quantized is Quantizer.quantized:
            assert quantizer.bits >= 16, "fewer bits, and quantized() says of no layer that it holds them"
            assert "dense-base" in self.words, "no dense-base, and quantized() says of no layer what else it is"
            assert (logits_BTV(model) - logits_BTV(plain.eval())).abs().max() < 1e-4
            return
        assert layers
        dense = dict(plain.named_modules())
        for name, layer in layers.items():
            weight: Any = dense[name].weight
            found = quantizer.dequantize(layer)
            assert found.shape == weight.shape
            assert 0 < (found.float() - weight).abs().max() <= self.near * weight.abs().max(), name

    def test_a_layer_that_holds_no_dense_weight_is_refused(self) -> None:
        """``dequantize`` says so instead of making something up."""
        with pytest.raises(UserError):
            Rig(self.usual()).plan.quantizer.dequantize(nn.Identity())

    def test_gradient_flows_through_every_layer(self) -> None:
        """The loss reaches what each layer says, and through the layer what it was asked; and all that is trained."""
        rig = Rig(self.usual())
        model, context = rig.applied()
        rig.descend(model, context)  # an adapter that starts at zero hands nothing on before that
        passed = {name: _Passed(layer) for name, layer in _layers(model, rig.plan.quantizer).items()}
        cast("Any", model).enable_input_require_grads()
        model.train()
        total = rig.plan.objective.loss(model, next(iter(context.batches(1)))).total
        assert [name for name, layer in passed.items() if not layer.hands_on(total)] == []
        if "partial-gradients" in rig.plan.config.offers["method"].part.provides:
            return
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        assert [name for name, p in trained.items() if not _reaches(_gradient(total, p))] == []

    def test_twenty_steps_on_one_batch_learn_it(self) -> None:
        """The loss falls by a twentieth at least; a tiny random model cannot do much better."""
        few = ["trainer.max_steps=20", "trainer.overfit_batches=1", "optim.schedule=constant", "optim.warmup=0"]
        losses = losses_of(train(self.usual(*few)))
        assert losses[-1] < 0.95 * losses[0]

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_evaluation_before_and_during_training_changes_nothing(self, dtype: str) -> None:
        """A forward without gradient must leave the layers as they are: some libraries repack them."""
        settings = [f"model.dtype={dtype}", "trainer.max_steps=6"]
        alone = train(self.usual(*settings, "run.dir=alone"))
        rows = f"data.validation={self.rows_file}"
        passes = ["trainer.val_check_interval=2", "trainer.limit_val_batches=2", "metric=loss", "metric.rows=4"]
        watched = train(self.usual(*settings, rows, *passes, "run.dir=watched"))
        assert losses_of(watched) == losses_of(alone)
        assert watched.before is not None

    def test_saved_and_loaded_in_another_process_it_answers_the_same(self) -> None:
        """What was trained on this quantizer is used on it."""
        result = train(self.usual("run.dir=saved"))
        gap = (logits_BTV(result.model) - apart(logits_of_run, result.folder)).abs().max().item()
        assert gap <= self.measured

    def test_loading_leaves_it_to_the_options(self) -> None:
        """Two loads give the same answers."""
        rig = Rig(self.usual())
        assert torch.equal(logits_BTV(rig.base()), logits_BTV(rig.base()))


class _Passed:
    """What a layer was asked and said in the last forward."""

    def __init__(self, layer: nn.Module) -> None:
        self.asked = self.said = torch.zeros(())
        layer.register_forward_hook(self._note)

    def _note(self, layer: nn.Module, asked: tuple[torch.Tensor, ...], said: torch.Tensor) -> None:
        self.asked, self.said = asked[0], said

    def hands_on(self, total: torch.Tensor) -> bool:
        reached = _gradient(total, self.said)
        return _reaches(reached) and _reaches(_gradient(self.said, self.asked, reached))


def _gradient(of: torch.Tensor, by: torch.Tensor, times: torch.Tensor | None = None) -> torch.Tensor | None:
    if not (of.requires_grad and by.requires_grad):
        return None
    return torch.autograd.grad(of, by, times, retain_graph=True, allow_unused=True)[0]


def _reaches(gradient: torch.Tensor | None) -> bool:
    return gradient is not None and bool(gradient.any()) and bool(gradient.isfinite().all())


def _layers(model: nn.Module, quantizer: Quantizer) -> dict[str, nn.Module]:
    """The quantized ones; all linear ones where the quantizer leaves them dense."""
    found = {name: layer for name, layer in model.named_modules() if quantizer.quantized(layer)}
    head = cast("Any", model).get_output_embeddings()
    dense = ((name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear))
    return found or {name: layer for name, layer in dense if layer is not head}


def _dense(contract: PartContract) -> nn.Module:
    """The same weights as they were before they were quantized."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(contract.folder / "model", dtype=torch.float32)
