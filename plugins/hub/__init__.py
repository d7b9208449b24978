"""Rows of a set on the Hugging Face hub."""

from collections.abc import Iterator

from core.api import Part, hookimpl


@hookimpl
def hooktune_data() -> Iterator[Part]:
    """Offer ``hub``."""
    yield Part(
        name="hub",
        target="plugins.hub.source:Hub",
        options="plugins.hub.options:HubOptions",
        summary="a set of the Hugging Face hub, or a folder laid out like one, through the library datasets",
        source="https://huggingface.co/docs/datasets",
    )
