"""No quantization: the base in the dtype it is loaded in."""

from collections.abc import Iterator

from core.api import Part, hookimpl


@hookimpl
def hooktune_quantizers() -> Iterator[Part]:
    """Offer ``none``."""
    yield Part(
        name="none",
        target="plugins.unquantized.quantizer:Unquantized",
        options="plugins.unquantized.options:UnquantizedOptions",
        summary="the base as it is, in model.dtype",
        provides=frozenset({"dense-base", "trainable-base"}),
    )
