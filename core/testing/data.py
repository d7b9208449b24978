"""What a data source must do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from typing import Any, Literal, cast

from core.errors import RowError
from core.testing import tiny
from core.testing.part import PartContract, accepts
from core.testing.processes import apart
from core.testing.rig import Rig, losses_of, train


class DataContract(PartContract):
    """Checks of a data source on its own rows; one that refuses to be without ``data.train`` gets the kit's file."""

    axis = "data"

    def read(self) -> Sequence[str]:
        """Nothing but what the source itself reads, unless it needs to be told."""
        return super().read() if self._needs_a_file else []

    @cached_property
    def _needs_a_file(self) -> bool:
        options = {field.name for field in fields(cast("Any", self.registry.options_class(self.offer)))}
        return "train" in options and not accepts([f"data={self.name}", *self.overrides])

    def test_there_are_rows_to_train_on(self) -> None:
        """Objects, or a ``RowError`` in the place of one that cannot be read."""
        rows = self._rows("train")
        assert rows
        assert all(isinstance(row, (Mapping, RowError)) for row in rows)

    def test_held_out_rows_are_none_or_rows(self) -> None:
        """None lets the core hold some out."""
        rows = self._rows("validation")
        assert rows is None or all(isinstance(row, (Mapping, RowError)) for row in rows)

    def test_it_gives_the_same_rows_each_time(self) -> None:
        """A resumed run compares them with those it began with."""
        assert [str(row) for row in self._rows("train") or ()] == [str(row) for row in self._rows("train") or ()]

    def test_its_fingerprint_changes_with_the_rows_alone(self) -> None:
        """Encoded rows are taken from the cache by it; None reads and compares them."""
        usual = self.usual()
        stamp = fingerprint_of(usual)
        assert apart(fingerprint_of, usual) == stamp
        if stamp is not None and self._needs_a_file:
            tiny.write_rows(self.rows_file, self.rows()[::-1])
            assert fingerprint_of(usual) != stamp

    def test_every_row_has_a_place_of_its_own(self) -> None:
        """So that an error can be found."""
        source: Any = Rig(self.usual()).plan.source
        number = len(list(source.rows("train")))
        places = [source.origin("train", index) for index in range(number)]
        assert len(set(places)) == number

    def test_the_metric_it_suggests_exists(self) -> None:
        """``metric=auto`` means it."""
        assert Rig(self.usual()).plan.source.metric in {*self.registry.names("metric"), "none"}

    def test_a_run_trains_on_it(self) -> None:
        """Two steps, every row encoded."""
        result = train(self.usual("trainer.max_steps=2"))
        assert len(losses_of(result)) == 2

    def _rows(self, split: Literal["train", "validation"]) -> list[Any] | None:
        found = Rig(self.usual()).plan.source.rows(split)
        return None if found is None else list(cast("Iterable[Any]", found))


def fingerprint_of(overrides: Sequence[str]) -> str | None:
    """Of the data source of a run."""
    return Rig(overrides).plan.source.fingerprint()
