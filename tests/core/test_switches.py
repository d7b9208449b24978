"""A run leaves torch's switches as it found them: the next one of the process is no other for it."""

import torch
from lightning import Callback

import core


def test_a_deterministic_run_does_not_make_the_next_one_so(tmp_path, tiny_model, rows_jsonl):
    seen: list[bool] = []

    class Looks(Callback):
        def on_train_start(self, trainer, pl_module):
            seen.append(torch.are_deterministic_algorithms_enabled())

    for deterministic in ("true", "null"):
        core.train(
            core.configure(
                [f"model.path={tiny_model}", "method=lora", "data=jsonl", f"data.train={rows_jsonl}", "metric=none",
                 "data.holdout=0", "trainer.accelerator=cpu", "trainer.max_steps=1",
                 f"trainer.deterministic={deterministic}", f"run.dir={tmp_path / deterministic}"]
            ),
            watch=[Looks()],
        )  # fmt: skip
    assert seen == [True, False]
