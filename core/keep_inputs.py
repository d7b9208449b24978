"""While adapters train under autocast, their inputs stay as they are.

peft casts the input of each adapted layer to the adapter's float32, and autocast casts it back: two copies a layer, one
of them kept for the way back.
"""

from __future__ import annotations

from contextlib import ExitStack

from lightning.pytorch import Callback, LightningModule, Trainer
from peft.helpers import disable_input_dtype_casting


class KeepInputs(Callback):
    """Switches peft's casting off from the first training step to the last, where autocast does it."""

    def __init__(self) -> None:
        self.stack = ExitStack()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Off, unless everything is float32 anyway."""
        if str(trainer.precision).endswith("-mixed"):
            self.stack.enter_context(disable_input_dtype_casting(pl_module))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """On again: outside training there is no autocast."""
        self.stack.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """On again."""
        self.stack.close()
