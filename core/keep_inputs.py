"""While adapters train under autocast, their inputs stay as they are.

peft casts the input of each adapted layer to the adapter's float32, and autocast casts it back: two copies a layer, one
of them kept for the way back.
"""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

SWITCH = "cast_input_dtype_enabled"


class KeepInputs(Callback):
    """Switches peft's casting off from the first training step to the last, where autocast does it.

    ``peft.helpers.disable_input_dtype_casting`` raises an AttributeError at layers that have no such switch (IA3's, for
    one), so the switch is set here, where there is one.
    """

    def __init__(self) -> None:
        self.casting: list[nn.Module] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Off, unless everything is float32 anyway."""
        if str(trainer.precision).endswith("-mixed"):
            self.casting = [layer for layer in pl_module.modules() if getattr(layer, SWITCH, False) is True]
            self._set(False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """On again: outside training there is no autocast."""
        self._set(True)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """On again."""
        self._set(True)

    def _set(self, cast: bool) -> None:
        for layer in self.casting:
            setattr(layer, SWITCH, cast)
