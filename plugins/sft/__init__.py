"""Supervised fine-tuning: learn the answer, given the prompt."""

from collections.abc import Iterator

from core.api import Part, hookimpl


@hookimpl
def hooktune_objectives() -> Iterator[Part]:
    """Offer ``sft``."""
    yield Part(
        name="sft",
        target="plugins.sft.objective:SFT",
        options="plugins.sft.options:SFTOptions",
        summary="the assistant's text and its end token, given all before",
        source="https://arxiv.org/abs/2109.01652",
    )
