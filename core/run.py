"""One run, top to bottom. The command line, the Python API and each job of a sweep come through ``train``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning import Callback, seed_everything

from core import stages
from core.compose import Config
from core.devices import claim, first
from core.fit import fit
from core.foretell import foretell
from core.lesson import Lesson
from core.measure import measure, measure_before
from core.memory import PeakMemory
from core.plan import make_plan
from core.progress import ProgressBar
from core.record import record
from core.result import Result
from core.screen import console, show_scores, timed
from core.stop import StopOnSignal
from core.weights import load, settle


def train(config: Config, resume: Path | None = None, watch: Sequence[Callback] = ()) -> Result:
    """Plan, encode, load, measure, adapt, train, measure, save; the folder appears under its name when it is complete.

    Args:
        config: What ``core.configure`` composed.
        resume: A stopped run's folder to go on in.
        watch: Further callbacks that look on while it trains.

    Raises:
        UserError: something is wrong with the config, the data or the model.
        Interrupted: a signal came; the folder holds a checkpoint, or what was trained when it came late.
    """
    screen = console(quiet=not first(config.trainer))
    claim(config.trainer)
    with timed(screen, "plan"):
        plan = make_plan(config)
    with timed(screen, "data"):
        data = stages.read(plan)
    expected = foretell(plan, data)
    with stages.open_folder(plan, resume) as folder, PeakMemory() as memory:
        stages.describe(screen, plan, data)
        seed_everything(config.seed, verbose=False)  # a new head is random
        with timed(screen, "model"):
            model = load(plan, data.head, training=True)
        record(plan, data, expected, folder, resume)
        context = stages.context(plan, data, model)
        stages.reference(plan, model, data, context, screen, keep=True)
        before = measure_before(plan, model, data.validation.rows, context, screen)
        seed_everything(config.seed, verbose=False)
        model = stages.apply(plan, model, context)
        lesson = Lesson(model, plan.method, plan.objective, plan.optim, config.options["optim"], context)
        loaders = stages.loaders(plan, data, context, model, screen)
        watching = [ProgressBar(screen, context.total_steps), *watch]
        checkpoint, stop = stages.checkpoint(folder, resume), StopOnSignal(folder.checkpoint)
        with stop.listening():
            fit(lesson, *loaders, stages.arguments(plan), plan.dtype, stop, folder.log, watching, checkpoint)
            settle(model, plan.method, plan.start.model.dtype)
            stages.save(plan, model, folder, stop.keep)
        model = stages.convert(plan, model)
        after = measure(plan, model, data.validation.rows, context, screen)
        path = stages.finish(folder, memory, before, after)
    show_scores(screen, before, after)
    screen.print(f"\nsaved {path}", soft_wrap=True)
    return Result(path, model=model, tokenizer=plan.tokenizer, plan=plan)
