"""The only LightningModule: one training step, and the mean over a step's items.

Shapes: none of its own; see ``core.batch`` and ``core.logprobs``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from core.batch import LaidOut
from core.contracts import Context, Loss, Method, Objective, Optim
from core.errors import UserError
from core.options import OptimOptions
from core.returned import loss_of, returned


@dataclass
class Tally:
    """Sums over the micro-batches of one optimizer step."""

    total: Tensor | float = 0.0
    items: Tensor | float = 0.0
    tokens: int = 0
    metrics: dict[str, tuple[Tensor | float, Tensor | float]] = field(
        default_factory=dict[str, "tuple[Tensor | float, Tensor | float]"]
    )

    def add(self, loss: Loss, tokens: int) -> None:
        """Add a micro-batch."""
        self.total = self.total + loss.total.detach()
        self.items = self.items + loss.items
        self.tokens += tokens
        for name, (value, items) in loss.metrics.items():
            before = self.metrics.get(name, (0.0, 0.0))
            self.metrics[name] = (before[0] + value.detach(), before[1] + items)

    def reduced(self, lesson: LightningModule) -> dict[str, float]:
        """``loss``, ``items``, ``tokens`` and the metrics by name, over all ranks."""
        names = sorted(self.metrics)
        values = [self.total, self.items, float(self.tokens), *(v for name in names for v in self.metrics[name])]
        sums = torch.stack([torch.as_tensor(v, dtype=torch.float64, device=lesson.device).sum() for v in values])
        if lesson.trainer.world_size > 1:
            sums = cast(Tensor, lesson.trainer.strategy.reduce(sums, reduce_op="sum"))
        total, items, tokens, *rest = sums.tolist()
        means = {name: rest[2 * i] / rest[2 * i + 1] for i, name in enumerate(names) if rest[2 * i + 1]}
        return {"loss": total / items if items else math.nan, "items": items, "tokens": tokens, **means}


class Lesson(LightningModule):
    """What Lightning is told of a run.

    Attributes:
        model: As the method left it, trainable weights in float32.
        trainable: Names of the trained parameters, taken once: methods switch ``requires_grad`` while they train.
        tally: Sums of the step under way.
        last: The last step's means, for progress and ``metrics.jsonl``.
    """

    def __init__(
        self,
        model: nn.Module,
        method: Method,
        objective: Objective,
        optim: Optim,
        options: OptimOptions,
        context: Context,
    ) -> None:
        super().__init__()
        self.model = model
        self.method = method
        self.objective = objective
        self.optim = optim
        self.options = options
        self.context = context
        self.trainable = frozenset(name for name, p in self.named_parameters() if p.requires_grad)
        self.strict_loading = False
        self.tally = Tally()
        self.validation = Tally()
        self.last: dict[str, float] = {}

    def training_step(self, batch: LaidOut, _index: int) -> Tensor:
        """The sum over the batch's items; Lightning's own division by the accumulation is undone here."""
        loss = loss_of(self.objective, self.model, batch)
        self.tally.add(loss, batch.tokens)
        return loss.total * self.trainer.accumulate_grad_batches

    def validation_step(self, batch: LaidOut, _index: int) -> None:
        """Add to the pass's sums."""
        self.validation.add(loss_of(self.objective, self.model, batch), batch.tokens)

    def configure_optimizers(self) -> Any:
        """The method's optimizer, and a schedule that moves with every step."""
        maker = self.optim if type(self.method).optimizer is Method.optimizer else self.method
        call = "build" if maker is self.optim else "optimizer"
        found = self.method.optimizer(self.model, self.optim, self.context)
        optimizer = returned(maker, call, found, torch.optim.Optimizer)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: factor(step, self.context.total_steps, self.options)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the trained weights and the buffers; the frozen base is where it was loaded from."""
        kept = self.trainable | {name for name, _ in self.named_buffers()}
        state: Mapping[str, Tensor] = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: value for name, value in state.items() if name in kept}


class MeanGradients(Callback):
    """Divide the gradients of a step by its items, over accumulation and ranks; placed before every other callback.

    Callbacks run before the module's hook of the same name: one that came later would have others see sums.
    """

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Divide, then add the gradient of the method's penalty.

        Raises:
            UserError: the loss is not finite: nothing that follows would be worth keeping.
        """
        lesson = cast(Lesson, pl_module)
        lesson.last = lesson.tally.reduced(lesson)
        lesson.tally = Tally()
        if not math.isfinite(lesson.last["loss"]):
            raise UserError(
                f"the loss is {lesson.last['loss']} at step {trainer.global_step + 1}",
                "a lower optim.lr, or model.dtype=float32; check the weights of model.path if it is the first step",
            )
        # DDP has averaged over ranks
        factor = trainer.world_size / lesson.last["items"]
        gradients = [p.grad for p in lesson.parameters() if p.grad is not None]
        torch._foreach_mul_(gradients, factor)  # pyright: ignore[reportPrivateUsage]
        penalty = lesson.method.penalty(lesson.model, lesson.context)
        if penalty is not None:
            _add_gradient(lesson, penalty)
            lesson.last["penalty"] = penalty.item()


def _add_gradient(lesson: Lesson, penalty: Tensor) -> None:
    # not backward(): DDP would wait for a second reduction
    weights = [p for p in lesson.parameters() if p.requires_grad]
    gradients: Any = torch.autograd.grad(penalty, weights, allow_unused=True)  # None where nothing depends on it
    for weight, gradient in zip(weights, gradients, strict=True):
        if gradient is not None:
            weight.grad = gradient if weight.grad is None else weight.grad + gradient


def factor(step: int, total: int, options: OptimOptions) -> float:
    """What the learning rate is multiplied with at a step (from 0): a linear warm-up, then the schedule.

    Example:
        >>> options = OptimOptions(lr=1.0, weight_decay=0.0, schedule="linear", warmup=0.5)
        >>> [factor(step, 4, options) for step in range(4)]
        [0.5, 1.0, 1.0, 0.5]
    """
    warmup = round(options.warmup * total)
    if step < warmup:
        return (step + 1) / warmup
    if options.schedule == "constant":
        return 1.0
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    return 1.0 - done if options.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
