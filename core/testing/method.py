"""What a method must do."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from core.contracts import Context, Method
from core.errors import Interrupted, UserError
from core.forecast import forecast
from core.resume import resume
from core.stop import StopOnSignal
from core.testing.claims import NEAR, Claims, gap, trained_names
from core.testing.processes import apart
from core.testing.real import OnRealWeights
from core.testing.rig import Rig, logits_BTV, logits_of_run, losses_of, train


class MethodContract(Claims, OnRealWeights):
    """Checks of a method, on dense layers and on every quantizer it says it can work on.

    Attributes:
        lr: A rate at which it learns a batch in twenty steps.
    """

    axis = "method"
    lr: ClassVar[float] = 1e-2

    def around(self) -> Sequence[str]:
        """The rate."""
        return [f"optim.lr={self.lr}"]

    def test_gradient_reaches_exactly_what_is_trained(self) -> None:
        """Every trained parameter gets one that is not zero, no frozen one does."""
        rig = Rig(self.usual())
        model, context = rig.applied()
        trained = trained_names(model)
        assert trained, "nothing is trained"
        rig.descend(model, context)  # a factor that starts at zero hands nothing on before that
        loss = rig.plan.objective.loss(model, next(iter(context.batches(1))))
        (loss.total / loss.items).backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        assert set(gradients) <= trained
        if "partial-gradients" not in self.words:
            assert sorted(trained - {name for name, gradient in gradients.items() if gradient.any()}) == []

    def test_what_it_trains_is_counted_without_weights(self) -> None:
        """``plan`` applies it to a model of shapes, and finds as many parameters as are trained then."""
        rig = Rig(self.usual())
        counted = forecast(rig.plan, rig.data)
        trained = [p for p in Rig(self.usual()).applied()[0].parameters() if p.requires_grad]
        assert counted.trained == sum(p.numel() for p in trained)
        assert counted.memory.trained == 4 * counted.trained, "in float32"

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
        assert gap(logits_BTV(result.model), apart(logits_of_run, result.folder)) < NEAR

    def test_saved_and_loaded_in_another_process_it_answers_the_same(self) -> None:
        """And not as the base does."""
        rig = Rig(self.usual())
        result = train(self.usual("run.dir=saved"))
        here = logits_BTV(result.model)
        assert gap(here, logits_BTV(rig.base())) > NEAR, "training changed nothing"
        assert gap(here, apart(logits_of_run, result.folder)) < NEAR

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
        assert gap(logits_BTV(again.applied()[0]), logits_BTV(first.model)) < NEAR
        second = train(self.usual(f"model.path={first.folder}", "run.dir=second"))
        assert gap(logits_BTV(second.model), logits_BTV(first.model)) > NEAR, "nothing more was learned"

    def test_it_trains_on_every_quantizer_it_says(self) -> None:
        """Those whose words it requires, whoever ships them; there it can be measured in bfloat16, as it is used."""
        tried = 0
        as_used = ["model.dtype=bfloat16", "metric=loss", f"data.validation={self.folder / 'rows.jsonl'}"]
        for name in self._quantizers():
            result = train(self.usual(f"quant={name}", "trainer.max_steps=2", f"run.dir=on-{name}", *as_used))
            assert len(losses_of(result)) == 2, name
            assert result.after is not None, name
            assert all(value == value for value in (*losses_of(result), result.after.value)), name
            tried += 1
        assert tried, "no installed quantizer suits it"
