"""Rows from files."""

from collections.abc import Iterator

from core.api import Part, hookimpl


@hookimpl
def hooktune_data() -> Iterator[Part]:
    """Offer ``jsonl``."""
    yield Part(
        name="jsonl",
        target="plugins.jsonl.source:Files",
        options="plugins.jsonl.options:FilesOptions",
        summary="your own files: json, jsonl, csv, tsv, parquet, arrow or txt",
    )
