"""What every part must be, whatever its kind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property, partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints

import pytest

from core.compose import configure
from core.discovery import discover
from core.errors import UserError
from core.overrides import quoted
from core.quiet import hush
from core.registry import Offer, Registry
from core.testing import tiny
from core.testing.patches import changed_by
from core.testing.processes import apart

hush()  # before the kit's other modules import torch

ENVIRONMENT = dict(os.environ)
"""What it was before any plugin was found."""

FAR = "-987654321"
"""A number that no rank, rate, size or share can be."""

WITHOUT_TORCH = """
import sys
from core.discovery import discover
registry = discover()
registry.options_class(registry.find({axis!r}, {name!r}))
heavy = sorted({{"torch", "transformers", "peft", "lightning", "datasets"}} & set(sys.modules))
assert not heavy, f"imported: {{', '.join(heavy)}}"
"""


class PartContract:
    """Checks that hold for a part of any kind.

    Attributes:
        axis: Where it is chosen; set by the contract of its kind.
        name: Its name.
        overrides: What it cannot run without, such as a file.
        expected_failures: Check -> why it cannot hold. Strict.
    """

    axis: ClassVar[str]
    name: ClassVar[str]
    overrides: ClassVar[Sequence[str]] = ()
    expected_failures: ClassVar[Mapping[str, str]] = {}

    # --------------------------------------------------------------------------------------------------- surroundings
    @pytest.fixture(autouse=True)
    def _surroundings(self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
        self.folder = tmp_path
        check = request.function.__name__.removeprefix("test_")
        if check in self.expected_failures:
            request.applymarker(pytest.mark.xfail(reason=self.expected_failures[check], strict=True))

    @cached_property
    def registry(self) -> Registry:
        """Everything that is installed."""
        return discover()

    @cached_property
    def offer(self) -> Offer:
        """The part's record and whose it is."""
        return self.registry.find(self.axis, self.name)

    @property
    def words(self) -> frozenset[str]:
        """What the part says it provides."""
        return self.offer.part.provides

    def usual(self, *more: str) -> list[str]:
        """A run of a few steps on a tiny model with this part chosen; later overrides win over earlier ones."""
        return self._run(f"{self.axis}={self.name}", *self.overrides, *more)

    def without(self, *more: str) -> list[str]:
        """The same run without the part and what it needs: with what is chosen by default."""
        return [line for line in self._run(*more) if not line.startswith((f"{self.axis}=", f"{self.axis}."))]

    def _run(self, *chosen: str) -> list[str]:
        model = _once(self.folder / "model", tiny.write_model)
        _once(self.rows_file, partial(tiny.write_rows, rows=self.rows()))
        settings = [
            f"model.path={quoted(str(model))}", "model.dtype=float32", "data=jsonl", *self.read(), "data.tolerance=1",
            "data.batch_size=4", "trainer.accelerator=cpu", "trainer.max_steps=4", "metric=none",
            *self.around(), *chosen,
        ]  # fmt: skip
        return list({line.partition("=")[0]: line for line in settings}.values())

    @property
    def model_is_given(self) -> bool:
        """Whether ``overrides`` name a model, such as one at an address that only its loader knows."""
        return any(line.startswith("model.path=") for line in self.overrides)

    @property
    def rows_file(self) -> Path:
        """Where the rows lie."""
        return self.folder / "rows.jsonl"

    def read(self) -> Sequence[str]:
        """What is read: all of it is trained on."""
        return [f"data.train={quoted(str(self.rows_file))}", "data.holdout=0"]

    def around(self) -> Sequence[str]:
        """What a kind needs beside the part."""
        return ()

    def rows(self) -> list[dict[str, Any]]:
        """Rows to train on."""
        return tiny.rows_with({"completion"})

    @classmethod
    def unusable(cls, folder: Path) -> UserError | None:
        """Why no check could be made: the part cannot be made with what the kit and ``overrides`` give it."""
        contract = cls()
        contract.folder = folder
        try:
            offer = contract.offer
            contract.registry.make(offer, configure(contract.usual()).options[cls.axis])
        except UserError as error:
            # what a yaml leaves open with ??? is typed behind the part's name here
            typed = error.fix.startswith(f"{cls.axis}.") and error.fix.endswith("=VALUE")
            return UserError(error.what, f"plugins check {cls.name} {error.fix}") if typed else error
        return None

    # --------------------------------------------------------------------------------------------------------- checks
    def test_waivers_name_checks(self) -> None:
        """A waiver for a check that does not exist would hide nothing and look as if it did."""
        checks = {name.removeprefix("test_") for name in dir(self) if name.startswith("test_")}
        assert set(self.expected_failures) <= checks

    def test_yaml_and_options_have_the_same_keys(self) -> None:
        """Values are in the yaml, types in the class, and neither has a key that the other lacks."""
        node = configure(self.usual()).tree[self.axis]
        assert set(node) == {field.name for field in fields(self.registry.options_class(self.offer))}

    def test_discovery_and_options_import_no_torch(self) -> None:
        """``--help`` and config errors stay fast whoever wrote the part."""
        script = WITHOUT_TORCH.format(axis=self.axis, name=self.name)
        done = subprocess.run(  # noqa: S603  # our own script
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr

    def test_every_option_refuses_a_wrong_value(self) -> None:
        """Nonsense is a ``UserError`` while the config is made, not something that training stumbles over."""
        cls: Any = self.registry.options_class(self.offer)
        types = get_type_hints(cls)
        names = {field.name for field in fields(cls)} - {"name"}
        free = {name for base in cls.__mro__ for name in vars(base).get("free", ())}
        assert free <= names, "free: there are no such options"
        taken = [
            f"{self.axis}.{name}={wrong}"
            for name in sorted(names)
            for wrong in wrong_values(types[name], name in free)
            if accepts([*self.usual(), f"{self.axis}.{name}={wrong}"])
        ]
        named = ", ".join(repr(name) for name in sorted(names) if any(f".{name}=" in line for line in taken))
        cure = f"a limit in __post_init__, or free: ClassVar = frozenset({{{named}}}) where any value is right"
        assert not taken, f"{cls.__name__} takes {', '.join(taken)}: {cure}"

    def test_it_leaves_no_patch_behind(self) -> None:
        """Other runs of the same process must not notice that this one was there."""
        if self.offer.part.patches:
            pytest.skip(f"declares that it patches {', '.join(self.offer.part.patches)}")
        plugins = [plugin.name for plugin in self.registry.plugins if plugin.distribution == self.offer.distribution]
        runs = self.usual("run.dir=second"), self.without("run.dir=first")
        assert apart(changed_by, *runs, plugins, ENVIRONMENT) == []


def _once(path: Path, make: Any) -> Path:
    return path if path.exists() else make(path)


def accepts(overrides: Sequence[str]) -> bool:
    """Whether a config can be made; later overrides win over earlier ones."""
    last = {line.partition("=")[0]: line for line in overrides}
    try:
        configure(list(last.values()))
    except UserError:
        return False
    return True


def wrong_values(kind: Any, free: bool) -> list[str]:
    """Values that no option of this type should take.

    Args:
        kind: Its annotation.
        free: Whether it takes any text, or any number.

    Example:
        >>> wrong_values(int | None, free=True)
        ['abc', '1.5']
    """
    if get_origin(kind) in (Union, UnionType):
        each = [wrong_values(member, free) for member in get_args(kind) if member is not NoneType]
        return [value for value in each[0] if all(value in values for values in each)]
    if get_origin(kind) is list:
        (member,) = get_args(kind)
        inside = wrong_values(member, free) if member in (int, float) else []
        return ["abc", "{a: 1}", *(f"[{value}]" for value in inside)]
    known: dict[Any, tuple[list[str], str]] = {
        str: (["[1,2]"], "no-such-word"),
        float: (["abc", "nan", ".inf"], FAR),
        int: (["abc", "1.5"], FAR),
    }
    always, unless_free = known.get(kind, (["abc", "[1]"], ""))
    return always if free or not unless_free else [*always, unless_free]
