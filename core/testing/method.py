"""What a method must do."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from core import capabilities
from core.compose import composed
from core.contracts import Context, Method
from core.errors import Interrupted, UserError
from core.resume import resume
from core.stop import StopOnSignal
from core.testing.processes import apart
from core.testing.real import OnRealWeights
from core.testing.rig import Rig, logits_BTV, logits_of_run, losses_of, train

NEAR = 1e-4
"""Largest difference of a logit that counts as none, in float32."""


class MethodContract(OnRealWeights):
    """Checks of a method, on dense layers and on every quantizer it says it can work on.

    Attributes:
        lr: A rate at which it learns a batch in twenty steps.
    """

    axis = "method"
    lr: ClassVar[float] = 1e-2

    def around(self) -> Sequence[str]:
        """The rate."""
        return [f"optim.lr={self.lr}"]

    def test_first_forward_equals_the_base(self) -> None:
        """Word ``zero-start``: nothing has changed before the first step."""
        self._claims("zero-start")
        rig = Rig(self.usual())
        assert _gap(logits_BTV(rig.applied()[0]), logits_BTV(rig.base())) < NEAR

    def test_gradient_reaches_exactly_what_is_trained(self) -> None:
        """Every trained parameter gets one, no frozen one does."""
        rig = Rig(self.usual())
        model, context = rig.applied()
        trained = [name for name, p in model.named_parameters() if p.requires_grad]
        assert trained, "nothing is trained"
        model.train()
        loss = rig.plan.objective.loss(model, next(iter(context.batches(1))))
        (loss.total / loss.items).backward()
        reached = {name for name, p in model.named_parameters() if p.grad is not None}
        assert reached <= set(trained)
        if "partial-gradients" not in self.words:
            assert sorted(set(trained) - reached) == []

    def test_what_is_not_trained_stays_as_it_was(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Word ``adapter``: the base's weights are bit for bit the same after a run, its callbacks included."""
        self._claims("adapter")
        method = type(Rig(self.usual()).plan.method)
        apply, frozen = method.apply, dict[str, torch.Tensor]()

        def watched(part: Method, model: nn.Module, context: Context) -> nn.Module:
            model = apply(part, model, context)
            frozen.update({name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad})
            return model

        monkeypatch.setattr(method, "apply", watched)
        after = dict(train(self.usual()).model.named_parameters())
        assert frozen, "an adapter leaves a base"
        assert [name for name, before in frozen.items() if not torch.equal(before, after[name])] == []

    def test_twenty_steps_on_one_batch_learn_it(self) -> None:
        """The loss falls by a twentieth at least; a tiny random model cannot do much better.

        At ``lr``, or at ten or a hundred times as much: a few hundred factors need more than a few million weights.
        """
        few = ["trainer.max_steps=20", "trainer.overfit_batches=1", "optim.schedule=constant", "optim.warmup=0"]
        seen: list[str] = []
        for rate in (self.lr, 10 * self.lr, 100 * self.lr):
            given = [line for line in self.usual(*few, f"run.dir=at-{rate:g}") if not line.startswith("optim.lr=")]
            try:
                losses = losses_of(train([*given, f"optim.lr={rate}"]))
            except UserError as error:  # the loss is not finite
                seen.append(f"{error.what} at optim.lr={rate:g}")
                continue
            assert len(losses) == 20
            if losses[-1] < 0.95 * losses[0]:
                return
            seen.append(f"from {losses[0]:.3f} to {losses[-1]:.3f} at optim.lr={rate:g}")
        pytest.fail(f"nothing is learned: {'; '.join(seen)}; a rate that suits it is lr = RATE in the test class")

    def test_it_trains_on_a_base_in_bfloat16(self) -> None:
        """What is trained is held in float32 beside it; it is measured, saved and loaded in the base's dtype."""
        result = train(self.usual("model.dtype=bfloat16", "metric=loss", f"data.validation={self.rows_file}"))
        assert all(loss == loss for loss in losses_of(result))
        assert result.after is not None
        assert _gap(logits_BTV(result.model), apart(logits_of_run, result.folder)) < NEAR

    def test_saved_and_loaded_in_another_process_it_answers_the_same(self) -> None:
        """And not as the base does."""
        rig = Rig(self.usual())
        result = train(self.usual("run.dir=saved"))
        here = logits_BTV(result.model)
        assert _gap(here, logits_BTV(rig.base())) > NEAR, "training changed nothing"
        assert _gap(here, apart(logits_of_run, result.folder)) < NEAR

    def test_a_stopped_run_goes_on_exactly(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Optimizer, schedule, order and random numbers of the method itself travel with a checkpoint."""
        whole = losses_of(train(self.usual("trainer.max_steps=6", "run.dir=whole")))
        start = StopOnSignal.on_train_batch_start

        def stop(self: StopOnSignal, trainer: Any, *given: Any) -> None:
            if trainer.global_step == 2 and self.received is None:
                os.kill(os.getpid(), signal.SIGINT)
            start(self, trainer, *given)

        with monkeypatch.context() as patched:
            patched.setattr(StopOnSignal, "on_train_batch_start", stop)
            with pytest.raises(Interrupted):
                train(self.usual("trainer.max_steps=6", "run.dir=stopped"))
        assert losses_of(resume(self.folder / "stopped")) == pytest.approx(whole, abs=1e-6)

    def test_training_goes_on_from_what_was_saved(self) -> None:
        """``model.path=RUN`` starts where the run ended."""
        first = train(self.usual("run.dir=first"))
        again = Rig(self.usual(f"model.path={first.folder}"))
        assert _gap(logits_BTV(again.applied()[0]), logits_BTV(first.model)) < NEAR
        second = train(self.usual(f"model.path={first.folder}", "run.dir=second"))
        assert _gap(logits_BTV(second.model), logits_BTV(first.model)) > NEAR, "nothing more was learned"

    def test_switched_off_it_is_the_base(self) -> None:
        """Word ``switch``: inside ``using(model, ())``; and afterwards all is as before, ``requires_grad`` too."""
        self._claims("switch")
        rig = Rig(self.usual())
        model = self._trained(rig)
        trained, tuned = _trained_names(model), logits_BTV(model)
        base = logits_BTV(rig.base())
        assert _gap(tuned, base) > NEAR
        with rig.plan.method.using(model, ()):
            assert _gap(logits_BTV(model), base) < NEAR
        assert _gap(logits_BTV(model), tuned) == 0
        assert _trained_names(model) == trained

    def test_merged_equals_unmerged(self) -> None:
        """Word ``merge``: plain layers that answer the same."""
        self._claims("merge")
        rig = Rig(self.usual())
        model = self._trained(rig)
        unmerged = logits_BTV(model)
        merged = rig.plan.method.merge(model, rig.plan.quantizer)
        assert _gap(logits_BTV(merged), unmerged) < NEAR
        assert {type(layer) for layer in merged.modules()} == {type(layer) for layer in rig.base().modules()}

    def test_a_second_adapter_leaves_the_first_untouched(self) -> None:
        """Word ``several``: the new one trains alone, and the first one, chosen again, answers as it did."""
        self._claims("several")
        rig = Rig(self.usual())
        model = self._trained(rig)
        first, names = logits_BTV(model), _trained_names(model)
        context = rig.context(model, adapter="second")
        model = rig.plan.method.apply(model, context)
        assert not names & _trained_names(model), "the first one is still trained"
        fresh = logits_BTV(model)
        rig.descend(model, context)
        assert _gap(logits_BTV(model), fresh) > NEAR, "the second one does not act"
        with rig.plan.method.using(model, ["default"]):
            assert _gap(logits_BTV(model), first) < NEAR

    def test_a_name_is_taken_once(self) -> None:
        """Word ``several``: a second adapter of the same name would overwrite the first."""
        self._claims("several")
        rig = Rig(self.usual())
        model, context = rig.applied()
        with pytest.raises(UserError):
            rig.plan.method.apply(model, context)

    def test_it_trains_on_every_quantizer_it_says(self) -> None:
        """Those whose words it requires, whoever ships them; there it can be measured in bfloat16, as it is used."""
        tried = 0
        as_used = ["model.dtype=bfloat16", "metric=loss", f"data.validation={self.folder / 'rows.jsonl'}"]
        for name in self.registry.names("quant"):
            overrides = self.usual(f"quant={name}", "trainer.max_steps=2", f"run.dir=on-{name}", *as_used)
            try:
                config = composed(overrides)
                capabilities.check(config.offers, capabilities.words(), config.registry)
            except UserError:  # it does not say so, or what the quantizer needs is not installed
                continue
            result = train(overrides)
            assert len(losses_of(result)) == 2, name
            assert result.after is not None, name
            assert all(value == value for value in (*losses_of(result), result.after.value)), name
            tried += 1
        assert tried, "no installed quantizer suits it"

    def _trained(self, rig: Rig) -> nn.Module:
        model, context = rig.applied()
        rig.descend(model, context)
        return model

    def _claims(self, word: str) -> None:
        if word not in self.words:
            pytest.skip(f"does not claim {word}")


def _gap(one: torch.Tensor, two: torch.Tensor) -> float:
    return (one - two).abs().max().item()


def _trained_names(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}
