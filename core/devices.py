"""On what a run trains: how many processes, whether the device is there, and whether this process is the first."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from core.errors import UserError

if TYPE_CHECKING:
    from core.trainer_options import TrainerOptions


def ranks(trainer: TrainerOptions) -> int:
    """Processes of the run."""
    devices = trainer.devices
    if isinstance(devices, list):
        return len(devices) * trainer.num_nodes  # pyright: ignore[reportUnknownArgumentType]
    if devices in ("auto", -1):
        devices = max(1, _gpus()) if trainer.accelerator != "cpu" else 1
    return devices * trainer.num_nodes


def first(trainer: TrainerOptions) -> bool:
    """Whether this process writes and speaks for the run; the others only train with it.

    Lightning starts them with the same command line and a number in the environment; so do torchrun and srun.
    """
    numbers = (os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    return ranks(trainer) == 1 or next((number for number in numbers if number is not None), "0") == "0"


def claim(trainer: TrainerOptions) -> None:
    """Make this process' GPU the current one, where it has one.

    Raises:
        UserError: what was asked for is not there.
    """
    gpus = _gpus()
    wanted = trainer.devices if isinstance(trainer.devices, list) else []
    if trainer.accelerator in ("gpu", "cuda") and not gpus:
        raise UserError(f"trainer.accelerator={trainer.accelerator}: torch finds no GPU", "trainer.accelerator=auto")
    if gpus and trainer.accelerator != "cpu":
        number = len(wanted) if wanted else trainer.devices
        if any(index >= gpus for index in wanted) or (isinstance(number, int) and number > gpus):
            raise UserError(f"trainer.devices={trainer.devices}: torch finds {gpus} GPUs", f"trainer.devices={gpus}")
        import torch

        local = int(os.environ.get("LOCAL_RANK", "0")) if ranks(trainer) > 1 else 0
        torch.cuda.set_device(wanted[local] if wanted else local)


def _gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
