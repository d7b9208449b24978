"""What an optimizer must do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from core.compose import configure
from core.testing.part import PartContract
from core.testing.rig import losses_of, train


class OptimizerContract(PartContract):
    """Checks of an optimizer.

    Attributes:
        lr: A rate at which a tiny model learns a batch in twenty steps.
    """

    axis = "optim"
    lr: ClassVar[float] = 1e-2

    def around(self) -> Sequence[str]:
        """The rate."""
        return [f"optim.lr={self.lr}"]

    def test_a_group_without_a_rate_gets_the_options(self) -> None:
        """And one with a rate keeps it."""
        one, two = _weights(), _weights()
        built = self._part().build([{"params": [one]}, {"params": [two], "lr": 0.5}])
        assert [group["lr"] for group in built.param_groups] == [self.lr, 0.5]

    def test_groups_are_left_as_they_were(self) -> None:
        """The caller's dictionaries and lists are the caller's."""
        parameters = [_weights()]
        group: dict[str, Any] = {"params": parameters}
        self._part().build([group])
        assert group == {"params": parameters}
        assert group["params"] is parameters

    def test_a_step_moves_what_has_a_gradient_and_nothing_else(self) -> None:
        """A parameter without a gradient stays, weight decay or not."""
        moved, still = _weights(), _weights()
        optimizer = self._part().build([{"params": [moved, still]}])
        before = moved.detach().clone()
        for _ in range(3):
            (moved**2).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        assert not torch.equal(moved, before)
        assert torch.equal(still, _weights())

    def test_it_goes_on_exactly_from_its_state(self) -> None:
        """What ``state_dict`` holds is all that a resumed run needs."""
        torch.manual_seed(0)
        gradients = [torch.randn(4, 4) for _ in range(6)]
        whole = _weights()
        optimizer = self._part().build([{"params": [whole]}])
        for gradient in gradients:
            _step(optimizer, whole, gradient)
        first = _weights()
        optimizer = self._part().build([{"params": [first]}])
        for gradient in gradients[:3]:
            _step(optimizer, first, gradient)
        second = nn.Parameter(first.detach().clone())
        again = self._part().build([{"params": [second]}])
        again.load_state_dict(optimizer.state_dict())
        for gradient in gradients[3:]:
            _step(again, second, gradient)
        assert torch.equal(second, whole)

    def test_a_rate_of_zero_changes_nothing(self) -> None:
        """Schedules end there."""
        result = train(self.usual("optim.lr=0", "trainer.max_steps=16", "data.batch_size=8"))
        from transformers import AutoModelForCausalLM

        plain = AutoModelForCausalLM.from_pretrained(self.folder / "model", dtype=torch.float32).state_dict()
        tuned = result.model.state_dict()
        assert all(torch.equal(tuned[name], weight) for name, weight in plain.items())

    def test_twenty_steps_on_one_batch_learn_it(self) -> None:
        """The loss falls by a twentieth at least; a tiny random model cannot do much better."""
        few = ["trainer.max_steps=20", "trainer.overfit_batches=1", "optim.schedule=constant", "optim.warmup=0"]
        losses = losses_of(train(self.usual(*few)))
        assert losses[-1] < 0.95 * losses[0]

    def _part(self) -> Any:
        config = configure(self.usual())
        return self.registry.make(self.offer, config.options["optim"])


def _weights() -> nn.Parameter:
    return nn.Parameter(torch.linspace(-1, 1, 16).reshape(4, 4).clone())


def _step(optimizer: torch.optim.Optimizer, weights: nn.Parameter, gradient: torch.Tensor) -> None:
    weights.grad = gradient.clone()
    optimizer.step()
    optimizer.zero_grad()
