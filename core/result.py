"""A finished run, as Python sees it; its weights are loaded when they are asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.contracts import Head, Score
from core.run_files import read_lock, read_status

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from core.plan import Plan


class Result:
    """One run.

    Attributes:
        folder: Where it lies.
    """

    def __init__(
        self,
        folder: Path,
        *,
        model: nn.Module | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        plan: Plan | None = None,
    ) -> None:
        self.folder = folder
        self._loaded = (model, tokenizer) if model is not None else None
        self._plan = plan

    def __repr__(self) -> str:
        """Where it lies, and what was measured."""
        scores = [f"{split} {score}" for split, score in (("before", self.before), ("after", self.after)) if score]
        return f"Result({', '.join([str(self.folder), *scores])})"

    @cached_property
    def status(self) -> Mapping[str, Any]:
        """What ``status.json`` says."""
        return read_status(self.folder)

    @cached_property
    def lock(self) -> Mapping[str, Any]:
        """What ``lock.json`` says."""
        return read_lock(self.folder)

    @property
    def head(self) -> Head:
        """Which model class it was trained with."""
        return Head(**self.lock["head"])

    @cached_property
    def metrics(self) -> Sequence[Mapping[str, Any]]:
        """The lines of ``metrics.jsonl``."""
        file = self.folder / "metrics.jsonl"
        if not file.exists():
            return []
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]  # one that was killed left half a line

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.status["seconds"]

    @property
    def peak_memory(self) -> int:
        """Bytes above what was held before loading."""
        return self.status["peak_memory"]

    @property
    def before(self) -> Score | None:
        """The metric before training."""
        return self._score("before")

    @property
    def after(self) -> Score | None:
        """The metric after training."""
        return self._score("after")

    def _score(self, split: str) -> Score | None:
        for line in self.metrics:
            if line["split"] == split:
                known = {field.name for field in fields(Score)}
                return Score.of_plain({"name": line["metric"]} | {k: v for k, v in line.items() if k in known})
        return None

    @property
    def plan(self) -> Plan:
        """The parts that made it, made again from the run's own config when needed."""
        if self._plan is None:
            from core.compose import configure
            from core.discovery import discover
            from core.made_with import check_made_with
            from core.overrides import quoted
            from core.plan import make_plan

            check_made_with(self.folder, discover())
            typed = (self.folder / "overrides.txt").read_text().splitlines()
            kept = [o for o in typed if not o.lstrip("+").startswith("model.path=")]
            self._plan = make_plan(configure([*kept, f"model.path={quoted(self.folder)}"]))
        return self._plan

    @property
    def model(self) -> nn.Module:
        """The tuned model, in eval mode."""
        return self._load()[0].eval()

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer."""
        return self._load()[1]

    def _load(self) -> Any:
        if self._loaded is None:
            plan = self.plan  # a part may have to be imported first
            from core.weights import load

            self._loaded = (load(plan, self.head, training=False), plan.tokenizer)
        return self._loaded

    def generate(self, prompt: str, **options: Any) -> str:
        """The tuned model's answer, greedy unless ``options`` (of transformers' ``generate``) say otherwise."""
        from core.generate import answer

        return answer(self.model, self.tokenizer, prompt, system=self.lock["data"]["system"], **options)


def load_run(folder: str | Path) -> Result:
    """A run that is there.

    Raises:
        UserError: ``folder`` is no run.
    """
    folder = Path(folder).expanduser().absolute()
    read_status(folder)
    return Result(folder)
