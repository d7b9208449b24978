"""Unsloth: a loader that patches its libraries for speed on GPUs."""

from collections.abc import Iterator

from core.api import Part, hookimpl


@hookimpl
def hooktune_loaders() -> Iterator[Part]:
    """Offer the loader."""
    yield Part(
        name="unsloth",
        target="plugins.unsloth_loader.loader:Unsloth",
        options="plugins.unsloth_loader.options:UnslothOptions",
        summary="through Unsloth's FastLanguageModel, which patches transformers for speed on GPUs",
        source="https://docs.unsloth.ai",
        needs=("unsloth", "unsloth_zoo"),
        install="pip install --no-deps unsloth unsloth_zoo",
        import_first=("plugins.unsloth_loader.first",),
        patches=("transformers", "peft", "trl", "torch"),
        requires=frozenset({"dense-base|nf4"}),
    )
