"""What a metric must do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from core.contracts import Score
from core.testing.part import PartContract
from core.testing.rig import Rig, train


class MetricContract(PartContract):
    """Checks of a metric on sums that a tiny model has not learned yet, and then has."""

    axis = "metric"

    def around(self) -> Sequence[str]:
        """A rate for a whole model, measured on the rows that are trained."""
        return ["optim.lr=1e-2", f"data.validation={self.rows_file}"]

    def test_a_score_holds_together(self) -> None:
        """Its name, its rows, an interval around its value."""
        rig = Rig(self.usual())
        score = self._measure(rig, rig.base())
        assert isinstance(score, Score)
        assert score.name == self.name
        assert score.n == len(rig.data.validation.rows)
        assert score.low <= score.value <= score.high
        assert score.better in ("higher", "lower")

    def test_values_of_rows_have_the_value_as_their_mean(self) -> None:
        """Where there are any: what ``compare`` tests row by row is then what it shows."""
        rig = Rig(self.usual())
        score = self._measure(rig, rig.base())
        for one in (score, *score.also):
            if one.of_rows:
                assert len(one.of_rows) == one.n
                assert sum(one.of_rows) / one.n == pytest.approx(one.value, rel=1e-6, abs=1e-9)

    def test_it_measures_the_same_twice(self) -> None:
        """Nothing is sampled, and the random numbers of a run are not moved."""
        rig = Rig(self.usual())
        model = rig.base()
        state = torch.get_rng_state()
        assert self._measure(rig, model) == self._measure(rig, model)
        assert torch.equal(torch.get_rng_state(), state)

    def test_it_leaves_the_model_as_it_was(self) -> None:
        """Weights, mode and hooks."""
        rig = Rig(self.usual())
        model = rig.base().eval()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        hooks = _hooks(model)
        self._measure(rig, model)
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        assert not any(module.training for module in model.modules())
        assert _hooks(model) == hooks

    def test_a_model_that_has_learned_the_rows_scores_better(self) -> None:
        """In the direction that the score names."""
        result = train(self.usual("trainer.max_epochs=12", "trainer.max_steps=-1"))
        before, after = result.before, result.after
        assert before is not None
        assert after is not None
        gain = after.value - before.value
        assert gain > 0 if after.better == "higher" else gain < 0

    def test_one_row_is_enough(self) -> None:
        """``metric.rows=1``."""
        rig = Rig(self.usual())
        score = self._measure(rig, rig.base(), 1)
        assert score.n == 1
        assert score.low <= score.value <= score.high

    def _measure(self, rig: Rig, model: Any, rows: int | None = None) -> Score:
        assert rig.plan.metric is not None
        with torch.no_grad():
            return rig.plan.metric.measure(model.eval(), rig.data.validation.rows[:rows], rig.context(model))


def _hooks(model: Any) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
