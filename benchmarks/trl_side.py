"""trl's own trainers on the token ids that ours train on, in our order."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from torch.utils.data import SequentialSampler

KEYS = (
    "prompt_input_ids", "prompt_attention_mask", "chosen_input_ids", "chosen_attention_mask", "chosen_labels",
    "rejected_input_ids", "rejected_attention_mask", "rejected_labels",
)  # fmt: skip
"""Columns that CPO and ORPO make of a row."""


def classes(name: str) -> tuple[Any, Any]:
    """Trainer and config: ``SFT``, ``DPO``, ``KTO``, ``CPO`` or ``ORPO``."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    import trl
    from trl.experimental import cpo, orpo

    where = {"CPO": cpo, "ORPO": orpo}.get(name, trl)
    return getattr(where, f"{name}Trainer"), getattr(where, f"{name}Config")


def watched(name: str, see: Callable[[Any, float], None]) -> type[Any]:
    """The trainer, with rows that are tokens already and stay in their order.

    Args:
        name: As in ``classes``.
        see: Called with each batch and its loss in full.
    """
    trainer_class, _ = classes(name)

    class Watched(trainer_class):
        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return super()._prepare_dataset(dataset, *args, **kwargs) if name == "SFT" else dataset

        def tokenize_row(self, feature: Any, *_: Any, **__: Any) -> Any:
            return {key: feature[f"our_{key}"] for key in KEYS}

        def _get_train_sampler(self, *_: Any) -> Any:
            return SequentialSampler(self.train_dataset)

        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            found = super().compute_loss(model, inputs, *args, **kwargs)
            see(inputs, (found[0] if isinstance(found, tuple) else found).item())
            return found

    return Watched


def row(trainer: str, example: Any) -> dict[str, Any]:
    """Our token ids under trl's names."""
    if trainer == "SFT":
        prompt, answer = parts(example["completion"])
        return {"input_ids": prompt + answer, "completion_mask": [0] * len(prompt) + [1] * len(answer)}
    if trainer == "KTO":
        prompt, answer = parts(example["completion"])
        return {
            "prompt_ids": prompt,
            "completion_ids": answer,
            "KL_completion_ids": parts(example["mismatched"])[1],
            "label": bool(example["label"]),
        }
    prompt, chosen = parts(example["chosen"])
    rejected = parts(example["rejected"])[1]
    if trainer == "DPO":
        return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
    found: dict[str, Any] = {"our_prompt_input_ids": prompt, "our_prompt_attention_mask": [1] * len(prompt)}
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        found[f"our_{name}_input_ids"] = prompt + answer
        found[f"our_{name}_attention_mask"] = [1] * len(prompt + answer)
        found[f"our_{name}_labels"] = [-100] * len(prompt) + answer
    return {"prompt": "x", "chosen": "y", "rejected": "z", **found}


def parts(tokens: Any) -> tuple[list[int], list[int]]:
    """The prompt and the answer, without what the template puts behind its end token."""
    learned: Sequence[int] = [i for i, weight in enumerate(tokens.loss_weights) if weight == 1]
    return list(tokens.ids[: learned[0]]), list(tokens.ids[learned[0] : learned[-1] + 1])
