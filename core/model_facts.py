"""What a transformers model is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from core.contracts import ModelFacts


def model_facts(model: Any, path: Path) -> ModelFacts:
    """Facts about a transformers model, on the meta device or not; for loaders' ``describe``.

    Args:
        model: Of any architecture of transformers.
        path: Folder or hub id that an adapter names as its base.
    """
    config = model.config.get_text_config()
    head = model.get_output_embeddings()
    blocks = max(
        ((name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)),
        key=lambda pair: sum(p.numel() for p in pair[1].parameters()),
        default=("", nn.ModuleList()),
    )
    linears = {
        name: (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    }
    return ModelFacts(
        path=path,
        architecture=type(model).__name__,
        parameters=sum(p.numel() for p in model.parameters()),
        blocks=tuple(f"{blocks[0]}.{i}" for i in range(len(blocks[1]))),
        hidden=config.hidden_size,
        vocabulary=config.vocab_size,
        context=getattr(config, "max_position_embeddings", 0) or 0,
        linears=linears,
    )
