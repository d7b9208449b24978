"""The stages of a run that are more than one call: what ``core.run`` names, said out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import nn
from torchdata.stateful_dataloader import StatefulDataLoader

from core import weights
from core.batch import LaidOut
from core.context import RunContext, with_reference
from core.contracts import Head, Objective, Score
from core.data import Encoded, encode, read_rows
from core.errors import UserError
from core.fit import CHECKPOINT, batches, steps
from core.layout import choose
from core.lockfile import lock
from core.memory import PeakMemory
from core.plan import Plan
from core.registry import AXES
from core.runfolder import RunFolder


@dataclass
class Data:
    """The rows of a run as the objective encodes them.

    Attributes:
        head: Which model class they need.
        train: What is trained on.
        validation: What is held out, or empty.
    """

    head: Head
    train: Encoded
    validation: Encoded


def read(plan: Plan) -> Data:
    """Read, check and encode the rows.

    Raises:
        UserError: a file, a row or the whole set cannot be used.
    """
    train, validation = read_rows(plan.source, plan.objective, plan.options, plan.config.seed)
    if plan.options.batch_size < plan.objective.smallest_batch:
        raise UserError(
            f"data.batch_size={plan.options.batch_size} is too small: {plan.config.offers['objective'].part.name} "
            f"compares examples with each other",
            f"data.batch_size={plan.objective.smallest_batch}",
        )
    encoded = encode(train, plan.objective, plan.tokenizer, plan.options)
    head = Head()
    if type(plan.objective).head is not Objective.head:
        from datasets import Dataset

        head = plan.objective.head(Dataset.from_list([dict(row) for row in encoded.rows]))
    return Data(head, encoded, encode(validation, plan.objective, plan.tokenizer, plan.options))


def open_folder(plan: Plan, resume: Path | None) -> RunFolder:
    """A new folder, or the stopped run's own."""
    if resume is not None:
        return RunFolder.reopen(resume)
    folder = RunFolder.create(plan.config.run_dir, plan.config.what, datetime.now())
    folder.write_config(plan.config.tree, plan.config.overrides)
    return folder


def describe(screen: Console, plan: Plan, data: Data, folder: RunFolder) -> None:
    """A few lines that say what is about to happen."""
    names = {axis: plan.config.offers[axis].part.name for axis in AXES if axis in plan.config.offers}
    facts, train = plan.facts, data.train
    share = train.supervised / max(1, train.tokens)
    screen.print(f"  model  {facts.architecture}, {facts.parameters:,} parameters, {plan.start.model.dtype}")
    screen.print(f"  parts  {'  '.join(f'{axis}={name}' for axis, name in names.items())}")
    screen.print(
        f"  rows   {len(train.examples):,} to train, {len(data.validation.examples):,} held out; "
        f"{train.tokens:,} tokens, {share:.1%} of them supervised; format {train.format}"
    )
    for what, number in (("skipped", train.skipped), ("cut to data.max_length", train.truncated)):
        if number:
            screen.print(f"  [yellow]{number:,} rows {what}[/yellow]")
    if plan.metric is not None and not data.validation.examples:
        screen.print("  [yellow]no rows are held out, so nothing is measured before and after[/yellow]")


def context(plan: Plan, data: Data, model: nn.Module) -> RunContext:
    """What parts may ask of this run."""
    options, trainer = plan.options, plan.config.trainer
    found = RunContext(
        seed=plan.config.seed,
        adapter="default",
        continuing=plan.start.adapter is not None,
        counting=False,
        total_steps=steps(len(data.train.examples), options.batch_size, trainer),
        head=data.head,
        facts=plan.facts,
        tokenizer=plan.tokenizer,
        loader=plan.loader,
        objective=plan.objective,
        examples=data.train.examples,
        order=(),
        batch_size=options.batch_size,
        max_length=options.max_length,
        device=next(model.parameters()).device,
    )
    # the loader's own first order, so that a method that looks at batches sees those that are trained
    first = batches(range(len(found.examples)), options.batch_size, "padded", 0, plan.config.seed)  # pyright: ignore[reportArgumentType]
    found.order = list(iter(first.sampler))  # pyright: ignore[reportArgumentType]
    return found


def reference(plan: Plan, model: nn.Module, data: Data, context: RunContext) -> None:
    """The objective's reference values, by the model as it stands before the method is applied."""
    if type(plan.objective).reference is Objective.reference:
        return
    layout = choose(model, plan.method, data.train.examples, context.pad)
    for encoded in (data.train, data.validation):
        encoded.examples = with_reference(
            model, encoded.examples, plan.objective, layout, context.pad, plan.options.batch_size
        )
    context.examples = data.train.examples


def loaders(
    plan: Plan, data: Data, context: RunContext, model: nn.Module, screen: Console
) -> tuple[StatefulDataLoader[LaidOut], StatefulDataLoader[LaidOut] | None]:
    """Training and validation batches, in the quickest layout that is right for this model."""
    number = weights.trainable(model)
    context.layout = choose(model, plan.method, data.train.examples, context.pad)
    share = f"{number / plan.facts.parameters:.1%}"
    screen.print(f"  trains {number:,} parameters ({share}), {context.total_steps:,} steps, layout {context.layout}")
    size, pad = plan.options.batch_size, context.pad
    train = batches(data.train.examples, size, context.layout, pad, plan.config.seed)
    held_out = data.validation.examples
    return train, batches(held_out, size, context.layout, pad, None) if held_out else None


def checkpoint(folder: RunFolder, resume: Path | None) -> Path | None:
    """The checkpoint to go on from.

    Raises:
        UserError: the run that is resumed has none.
    """
    file = folder.path / "checkpoints" / CHECKPOINT
    if resume is None:
        return None
    if not file.exists():
        raise UserError(f"{resume} holds no checkpoint", "start it anew with the overrides in its overrides.txt")
    return file


def save(plan: Plan, model: nn.Module, folder: RunFolder) -> None:
    """The adapter or the model, with the tokenizer beside it."""
    target = folder.path / plan.method.saves
    plan.method.save(model, target, "default")
    plan.tokenizer.save_pretrained(target)
    plan.quantizer.convert(model)


def finish(
    plan: Plan, data: Data, folder: RunFolder, memory: PeakMemory, before: Score | None, after: Score | None
) -> Path:
    """Write what was measured and what was used, and give the folder its name."""
    for split, score in (("before", before), ("after", after)):
        if score is not None:
            folder.log({"split": split, "metric": score.name, **_without_name(score)})
    folder.write_json("lock.json", lock_of(plan, data))
    folder.status(peak_memory=memory.peak)
    return folder.finish("done")


def _without_name(score: Score) -> Mapping[str, Any]:
    values = asdict(score)
    del values["name"]
    return values


def lock_of(plan: Plan, data: Data) -> dict[str, Any]:
    """What was used, with versions and hashes."""
    return lock(
        plan.config,
        path=plan.facts.path,
        revision=plan.start.model.revision,
        template=plan.tokenizer.chat_template,
        data={
            "system": data.train.system,
            "rows": {"train": _digest(data.train), "validation": _digest(data.validation)},
        },
    )


def _digest(encoded: Encoded) -> str:
    """SHA-256 of the rows as they were read, whatever they were read from."""
    digest = hashlib.sha256()
    for row in encoded.rows:
        digest.update(json.dumps(dict(row), sort_keys=True, default=str).encode() + b"\n")
    return digest.hexdigest()
