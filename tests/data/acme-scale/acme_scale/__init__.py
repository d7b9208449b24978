"""Scale: one learned factor per output of each chosen linear layer."""

from collections.abc import Iterator

from core.api import Part, hookimpl


@hookimpl
def hooktune_methods() -> Iterator[Part]:
    """Offer ``scale``."""
    yield Part(
        name="scale",
        target="acme_scale.method:Scale",
        options="acme_scale.options:ScaleOptions",
        summary="one learned factor per output of each chosen linear layer",
        source="https://arxiv.org/abs/2205.05638",
        provides=frozenset({"adapter", "switch", "zero-start"}),
    )
