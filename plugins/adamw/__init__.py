"""AdamW: Adam with decoupled weight decay."""

from collections.abc import Iterator

from core.api import Part, hookimpl


@hookimpl
def hooktune_optimizers() -> Iterator[Part]:
    """Offer ``adamw``."""
    yield Part(
        name="adamw",
        target="plugins.adamw.optim:AdamW",
        options="plugins.adamw.options:AdamWOptions",
        summary="Adam with decoupled weight decay",
        source="https://arxiv.org/abs/1711.05101",
    )
