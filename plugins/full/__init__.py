"""Full fine-tuning: every weight is trained."""

from collections.abc import Iterator

from core.api import Part, hookimpl


@hookimpl
def hooktune_methods() -> Iterator[Part]:
    """Offer ``full``."""
    yield Part(
        name="full",
        target="plugins.full.method:Full",
        options="plugins.full.options:FullOptions",
        summary="train every weight",
        provides=frozenset({"zero-start"}),
        requires=frozenset({"trainable-base"}),
    )
