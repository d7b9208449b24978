"""Bottleneck adapters: two small layers with a residual after the sublayers of each block."""

from collections.abc import Iterator

from core.api import Part, hookimpl


@hookimpl
def hooktune_methods() -> Iterator[Part]:
    """Offer ``adapters``."""
    yield Part(
        name="adapters",
        target="plugins.adapters.method:Adapters",
        options="plugins.adapters.options:AdaptersOptions",
        summary="bottleneck adapters after attention and feed-forward",
        source="https://arxiv.org/abs/1902.00751",
        provides=frozenset({"adapter", "switch", "several", "zero-start"}),
    )
