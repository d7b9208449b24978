"""Is the greedy answer the wanted one?"""

from collections.abc import Iterator

from core.api import Part, hookimpl


@hookimpl
def hooktune_metrics() -> Iterator[Part]:
    """Offer ``exact``."""
    yield Part(
        name="exact",
        target="plugins.exact.metric:Exact",
        options="plugins.exact.options:ExactOptions",
        summary="share of held-out rows whose greedy answer is the wanted one",
    )
