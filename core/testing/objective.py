"""What an objective must do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import pytest
import torch

from core import attention
from core.batch import Layout, lay_out
from core.contracts import Example, Head, Tokens
from core.errors import RowError, UserError
from core.testing import tiny
from core.testing.real import OnRealWeights
from core.testing.rig import Rig, losses_of, train


def _plain(example: Example) -> dict[str, Any]:
    """Whatever kind of sequence an objective gives."""
    return {
        name: (list(value.ids), list(value.loss_weights)) if isinstance(value, Tokens) else float(value)
        for name, value in example.items()
    }


class ObjectiveContract(OnRealWeights):
    """Checks of an objective; ``rows`` has what its ``columns`` ask for, override it for more."""

    axis = "objective"

    def around(self) -> Sequence[str]:
        """A rate for a whole model."""
        return ["optim.lr=1e-2"]

    def rows(self) -> list[dict[str, Any]]:
        """The sums, with the columns that the objective asks for."""
        return tiny.rows_with(self._class().columns)

    def _class(self) -> Any:
        from core.loading import _load  # pyright: ignore[reportPrivateUsage]

        return _load(self.offer, self.offer.part.target, "target")

    def test_examples_all_have_the_same_names(self) -> None:
        """And are the same each time: what a run keeps on disk, the next one uses in place of encoding the rows."""
        rig = Rig(self.usual())
        for row in rig.data.train.rows:
            once, again = (rig.plan.objective.encode(row, rig.plan.tokenizer) for _ in range(2))
            assert _plain(once) == _plain(again)
        assert len({tuple(example) for example in rig.data.train.examples}) == 1

    def test_ids_and_weights_are_as_long(self) -> None:
        """A weight for each token."""
        for example in Rig(self.usual()).data.train.examples:
            for value in example.values():
                if isinstance(value, Tokens):
                    assert len(value.ids) == len(value.loss_weights)
                    assert all(weight >= 0 for weight in value.loss_weights)

    def test_a_row_without_its_columns_is_refused(self) -> None:
        """With its line, before a model is loaded."""
        rows = self.rows()
        del rows[3]["prompt"]
        for needed in self._class().columns:
            for column in needed.split("|"):
                rows[3].pop(column, None)
        if rows[3] == self.rows()[3]:
            pytest.skip("asks for no column")
        tiny.write_rows(self.rows_file, rows)
        with pytest.raises(UserError, match=r"rows\.jsonl:4: "):
            Rig(self.usual())

    def test_an_unusable_row_is_an_error_of_the_row(self) -> None:
        """Values of another type raise ``RowError``, which the core counts, or are taken; nothing else is raised."""
        rig = Rig(self.usual())
        for column in rig.data.train.rows[0]:
            for value in (None, 3, [], {}, "", [{"role": "user"}]):
                row = {**rig.data.train.rows[0], column: value}
                try:
                    rig.plan.objective.encode(row, rig.plan.tokenizer)
                except (RowError, UserError):
                    continue

    def test_the_loss_is_a_sum_and_a_number(self) -> None:
        """Finite, with gradient, over more than no item."""
        rig = Rig(self.usual())
        model, context = rig.applied()
        loss = rig.plan.objective.loss(model, next(iter(context.batches(1))))
        assert loss.total.shape == ()
        assert loss.total.requires_grad
        assert torch.isfinite(loss.total)
        assert float(loss.items) > 0

    def test_accumulation_changes_nothing(self) -> None:
        """Few rows a micro-batch and many of those, or the other way round: the same steps."""
        least = self._class().smallest_batch
        settings = ["trainer.max_steps=4", "optim.lr=1e-3"]
        whole = train(self.usual(*settings, f"data.batch_size={4 * least}", "run.dir=whole"))
        pieces = train(
            self.usual(*settings, f"data.batch_size={least}", "trainer.accumulate_grad_batches=4", "run.dir=pieces")
        )
        hint = "Loss.total must be the sum over the items, not their mean"
        assert losses_of(pieces) == pytest.approx(losses_of(whole), abs=1e-5), hint

    def test_the_layout_of_a_batch_changes_nothing(self) -> None:
        """Padded rows or one long one: the same loss of every example."""
        rig = Rig(self.usual())
        if rig.data.head != Head():
            pytest.skip("a model with a head of its own always gets padded rows")
        model, context = rig.applied()
        model.eval()
        examples = rig.data.train.examples[:6]
        found: dict[Layout, float] = {}
        for layout in get_args(Layout):
            if layout in ("shared", "apart") and not attention.install(model):
                continue
            with torch.no_grad():
                found[layout] = float(rig.plan.objective.loss(model, lay_out(examples, layout, context.pad)).total)
            attention.remove(model)
        assert len(found) >= 2
        assert list(found.values()) == pytest.approx([found["padded"]] * len(found), rel=1e-5)

    def test_twenty_steps_on_one_batch_learn_it(self) -> None:
        """The loss falls by a twentieth at least; a tiny random model cannot do much better."""
        few = ["trainer.max_steps=20", "trainer.overfit_batches=1", "optim.schedule=constant", "optim.warmup=0"]
        losses = losses_of(train(self.usual(*few)))
        assert losses[-1] < 0.95 * losses[0]

    def test_it_is_measured_on_held_out_rows(self) -> None:
        """``metric=loss`` works, a reference included, and the first step is near what was measured."""
        result = train(self.usual("metric=loss", "trainer.max_steps=32", f"data.validation={self.rows_file}"))
        assert result.before is not None
        assert result.after is not None
        assert result.before.n == len(self.rows())
        assert result.after.value < result.before.value
