"""The loader that goes through transformers."""

from collections.abc import Iterator

from core.api import Part, hookimpl


@hookimpl
def hooktune_loaders() -> Iterator[Part]:
    """Offer ``transformers``."""
    yield Part(
        name="transformers",
        target="plugins.transformers.loader:Transformers",
        options="plugins.transformers.options:TransformersOptions",
        summary="hub id, local folder or GGUF file, through transformers",
        source="https://huggingface.co/docs/transformers",
    )
