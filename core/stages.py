"""The stages of a run that are more than one call: what ``core.run`` names, said out."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn
from torchdata.stateful_dataloader import StatefulDataLoader

from core import checkpointing, weights
from core.batch import LaidOut
from core.context import RunContext
from core.contracts import Score
from core.devices import first, ranks
from core.errors import UserError
from core.groups import groups
from core.layout_kept import choose_once
from core.memory import PeakMemory
from core.micro_batches import batches, order, steps
from core.plan import Plan
from core.reference import reference as reference
from core.registry import AXES
from core.returned import made_as, returned
from core.rows import FEWEST_TO_HOLD_OUT
from core.run_data import Data as Data
from core.run_data import read as read
from core.run_files import anew
from core.runfolder import OthersFolder, RunFolder
from core.verdicts import of_pairs, untried


def open_folder(plan: Plan, resume: Path | None) -> RunFolder:
    """A new folder, or the stopped run's own; the first process' alone to write."""
    if not first(plan.config.trainer):
        return OthersFolder(Path() if resume is None else resume)
    if resume is not None:
        return RunFolder.reopen(resume)
    folder = RunFolder.create(plan.config.run_dir, plan.config.what, datetime.now())
    folder.write_config(plan.config.tree, plan.config.overrides)
    return folder


def describe(screen: Console, plan: Plan, data: Data) -> None:
    """A few lines that say what is about to happen."""
    names = {axis: plan.config.offers[axis].part.name for axis in AXES if axis in plan.config.offers}
    facts = plan.facts
    screen.print(f"  model  {facts.architecture}, {facts.parameters:,} parameters, {plan.start.model.dtype}")
    screen.print(f"  parts  {'  '.join(f'{axis}={name}' for axis, name in names.items())}")
    screen.print(f"  rows   {data.summary}", soft_wrap=True)
    if new := untried(of_pairs(plan.config.offers)):
        screen.print(f"  nobody is known to have trained {new}", style="yellow", markup=False, soft_wrap=True)
    for line in data.warnings:
        screen.print(f"  {line}", style="yellow", markup=False, soft_wrap=True)  # it names the user's own columns
    if plan.metric is not None and not len(data.validation.examples):
        few = f" (none are below {FEWEST_TO_HOLD_OUT})" if len(data.train.rows) < FEWEST_TO_HOLD_OUT else ""
        fix = "; data.validation=FILE names some" if hasattr(plan.options, "validation") else ""
        screen.print(f"  no rows are held out{few}, so nothing is measured{fix}", style="yellow", soft_wrap=True)


def context(plan: Plan, data: Data, model: nn.Module) -> RunContext:
    """What parts may ask of this run."""
    options, trainer = plan.options, plan.config.trainer
    drawn = groups(data.train.lengths, data.train.shares, options.packing, options.max_length, plan.config.seed)
    if not (total := steps(len(drawn), options.batch_size, trainer, ranks(trainer))):
        key = "overfit_batches" if trainer.overfit_batches else "limit_train_batches"
        raise UserError(
            f"trainer.{key}={getattr(trainer, key)} leaves no step to train", f"trainer.{key}=A NUMBER of batches"
        )
    return RunContext(
        seed=plan.config.seed,
        adapter="default",
        continuing=plan.start.adapter is not None,
        counting=False,
        total_steps=total,
        head=data.head,
        facts=plan.facts,
        tokenizer=plan.tokenizer,
        loader=plan.loader,
        objective=plan.objective,
        examples=data.train.examples,
        drawn=drawn,
        # as they are trained, so that a method that looks at batches sees those
        order=order(len(drawn), plan.config.seed, 0),
        batch_size=options.batch_size,
        max_length=options.max_length,
        device=next(model.parameters()).device,
    )


def apply(plan: Plan, model: nn.Module, context: RunContext) -> nn.Module:
    """What is trained, chosen or added, and held in float32.

    Raises:
        UserError: the method cannot act on this model, or its blocks cannot be computed again as was asked.
    """
    model = returned(plan.method, "apply", plan.method.apply(model, context), nn.Module)
    weights.hold_masters(model)
    if plan.config.trainer.gradient_checkpointing:
        checkpointing.switch(model, on=True)
    return model


def loaders(
    plan: Plan, data: Data, context: RunContext, model: nn.Module, screen: Console
) -> tuple[StatefulDataLoader[LaidOut], StatefulDataLoader[LaidOut] | None]:
    """Training and validation batches, in the quickest layout that is right for this model."""
    number = weights.trainable(model, plan)
    with weights.autocast(plan, context.device):
        context.layout = choose_once(plan, model, data, context, applied=True)
    share = weights.percent(number / plan.facts.parameters)
    screen.print(f"  trains {number:,} parameters ({share}), {context.total_steps:,} steps, layout {context.layout}")
    if plan.options.packing:
        screen.print(f"  packed {_packed(plan, data, context)}")
    size, pad = plan.options.batch_size, context.pad
    trainer, seed = plan.config.trainer, plan.config.seed
    same, least = bool(trainer.overfit_batches), plan.objective.smallest_batch
    train = batches(
        data.train.examples, size, context.layout, pad, seed, trainer.limit, same, context.drawn, least=least
    )
    held_out = data.validation.examples
    return train, batches(held_out, size, context.layout, pad, None, least=least) if len(held_out) else None


def _packed(plan: Plan, data: Data, context: RunContext) -> str:
    """What became of the rows, and how few steps that leaves."""
    options = plan.options
    micro = -(-len(context.drawn) // (options.batch_size * ranks(plan.config.trainer)))
    steps = -(-micro // plan.config.trainer.accumulate_grad_batches)
    return (
        f"{len(data.train.examples):,} examples into {len(context.drawn):,} of up to {options.max_length:,} tokens; "
        f"{min(options.batch_size, len(context.drawn))} of them a batch, "
        f"{steps:,} step{'' if steps == 1 else 's'} an epoch"
    )


def arguments(plan: Plan) -> dict[str, Any]:
    """Of Lightning's Trainer."""
    words = plan.config.offers["method"].part.provides
    trainer = plan.config.trainer
    return trainer.arguments(partial_gradients="partial-gradients" in words and ranks(trainer) > 1)


def checkpoint(folder: RunFolder, resume: Path | None) -> Path | None:
    """The checkpoint to go on from; what was logged after it is taken back.

    Raises:
        UserError: the run that is resumed has none, or it is damaged.
    """
    if resume is None:
        return None
    file = folder.checkpoint
    if not file.exists():
        raise UserError(f"{resume} holds no checkpoint", anew(folder.path))
    try:
        step: int = torch.load(file, map_location="cpu", weights_only=True, mmap=True)["global_step"]
    except Exception as error:  # whatever torch makes of a file that was cut off
        raise UserError(f"{file} is damaged: {_first_line(error)}", anew(folder.path)) from error
    folder.rewind(step)
    return file


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def save(plan: Plan, model: nn.Module, folder: RunFolder, keep: Callable[[], None]) -> None:
    """The adapter or the model, with the tokenizer beside it; all of it or nothing.

    Args:
        plan: The run's.
        model: As it was trained.
        folder: The run's.
        keep: Writes a checkpoint; called when the method does not save, so that its training is not lost.

    Raises:
        UserError: the method wrote no weights.
    """
    if not first(plan.config.trainer):
        return
    target = folder.path / plan.method.saves
    fresh = target.with_name(f".{target.name}")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        plan.method.save(model, fresh, "default")
        if not any(fresh.glob("*.safetensors")):
            place = f"{type(plan.method).__name__}.save()"
            raise UserError(
                f"{made_as(plan.method)} saved nothing: {place} wrote no safetensors file",
                f"mend {place}, then python -m core resume {shlex.quote(str(folder.final))}",
            )
    except Exception:
        with suppress(OSError):  # a full disk is the error on its way already
            keep()
        raise
    plan.tokenizer.save_pretrained(fresh)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def convert(plan: Plan, model: nn.Module) -> nn.Module:
    """The model as it is used: what was fake in training becomes real."""
    return returned(plan.quantizer, "convert", plan.quantizer.convert(model), nn.Module)


def finish(folder: RunFolder, memory: PeakMemory, before: Score | None, after: Score | None) -> Path:
    """Write what was measured, and give the folder its name."""
    for split, score in (("before", before), ("after", after)):
        if score is not None:
            folder.log({"split": split, "metric": score.name, **_without_name(score)})
    folder.status(peak_memory=memory.peak)
    return folder.finish("done")


def _without_name(score: Score) -> Mapping[str, Any]:
    values = asdict(score)
    del values["name"]
    return values
