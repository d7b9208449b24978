"""GaLore: every weight is trained, and the optimizer sees the gradients of matrices in a small subspace."""

from collections.abc import Iterator

from core.api import Part, hookimpl


@hookimpl
def hooktune_methods() -> Iterator[Part]:
    """Offer ``galore``."""
    yield Part(
        name="galore",
        target="acme_hooktune_galore.method:GaLore",
        options="acme_hooktune_galore.options:GaLoreOptions",
        summary="train every weight, with the optimizer's state in a low-rank subspace",
        source="https://arxiv.org/abs/2403.03507",
        provides=frozenset({"zero-start"}),
        requires=frozenset({"trainable-base"}),
    )
