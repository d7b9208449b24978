"""The objective's loss on rows that were not trained on."""

from collections.abc import Iterator

from core.api import Part, hookimpl


@hookimpl
def hooktune_metrics() -> Iterator[Part]:
    """Offer ``loss``."""
    yield Part(
        name="loss",
        target="plugins.mean_loss.metric:MeanLoss",
        options="plugins.mean_loss.options:MeanLossOptions",
        summary="the objective's loss on held-out rows",
    )
