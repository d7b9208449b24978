"""Methods that are not shaped like LoRA."""

from contextlib import contextmanager

import torch
from lightning.pytorch import Callback
from safetensors.torch import load_file, save_file
from torch import nn

from core.api import Method

SEEN: dict[str, list] = {}
"""What happened, for the tests to look at."""


class Halves(Method):
    """Matrices learn at a tenth of the rate of all else: two groups, one with a rate of its own."""

    def __init__(self, options):
        self.options = options

    def apply(self, model, context):
        SEEN["batches"] = [batch.size for batch in context.batches(2)]
        SEEN["numbers"] = [sorted(batch.numbers) for batch in context.batches(1)]
        SEEN["facts"] = [context.facts.hidden, len(context.facts.blocks), context.total_steps, context.counting]
        return model.requires_grad_(True)

    def optimizer(self, model, optim, context):
        matrices = [p for p in model.parameters() if p.ndim > 1]
        rest = [p for p in model.parameters() if p.ndim <= 1]
        built = optim.build([{"params": matrices, "lr": optim.lr / 10}, {"params": rest}])
        SEEN["rates"] = [group["lr"] for group in built.param_groups]
        return built


class Turns(Method):
    """One block a step takes gradients, and norms are pulled towards two."""

    def __init__(self, options):
        self.options = options

    def apply(self, model, context):
        model.requires_grad_(False)
        for block in context.facts.blocks:
            model.get_submodule(block).requires_grad_(True)
        return model

    def penalty(self, model, context):
        norms = [p for name, p in model.named_parameters() if "layernorm" in name]
        return 0.1 * sum(((p - 2.0) ** 2).sum() for p in norms)

    def callbacks(self, context):
        blocks = context.facts.blocks
        SEEN["means"] = []

        class TakeTurns(Callback):
            def on_train_batch_start(self, trainer, pl_module, batch, index):
                for i, block in enumerate(blocks):
                    pl_module.model.get_submodule(block).requires_grad_(i == index % len(blocks))

            def on_before_optimizer_step(self, trainer, pl_module, optimizer):
                grads = [p.grad for p in pl_module.model.parameters() if p.grad is not None]
                SEEN["means"].append(torch.stack([g.abs().max() for g in grads]).max().item())

        return [TakeTurns()]


class Gain(Method):
    """One factor on the last hidden state, by an adapter that is written by hand."""

    saves = "adapter"

    def __init__(self, options):
        self.options = options

    def apply(self, model, context):
        if not context.continuing:
            self._put(model, torch.ones(context.facts.hidden))
        model.requires_grad_(False)
        model.model.norm.gain.requires_grad_(True)
        return model

    def _put(self, model, gain):
        norm = model.model.norm
        norm.gain = nn.Parameter(gain)
        norm.acting = True
        norm.register_forward_hook(lambda m, _, out: out * m.gain if m.acting else out)

    def save(self, model, folder, adapter):
        folder.mkdir(parents=True)
        save_file({"gain": model.model.norm.gain.detach().contiguous()}, folder / "gain.safetensors")

    def load(self, model, folder, adapter):
        self._put(model, load_file(folder / "gain.safetensors")["gain"])
        return model

    @contextmanager
    def using(self, model, adapters):
        model.model.norm.acting, before = bool(adapters), model.model.norm.acting
        yield
        model.model.norm.acting = before


class RowWise(Halves):
    """Says that it needs one row a sequence."""

    layout = "padded"
