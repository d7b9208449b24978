"""A method with a bug: one job of a sweep fails."""

from collections.abc import Iterator

from core.api import Part, hookimpl


@hookimpl
def hooktune_methods() -> Iterator[Part]:
    """Offer ``unlucky``."""
    yield Part(
        name="unlucky",
        target="plugins.unlucky.method:Unlucky",
        options="plugins.lora.options:LoRAOptions",
        summary="LoRA that fails on int8",
        source="nowhere",
        provides=frozenset({"adapter"}),
        requires=frozenset({"dense-base|bitsandbytes"}),
    )
