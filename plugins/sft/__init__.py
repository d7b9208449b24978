"""Next-token prediction: of answers, given their prompts, or of whole texts."""

from collections.abc import Iterator

from core.api import Part, hookimpl


@hookimpl
def hooktune_objectives() -> Iterator[Part]:
    """Offer ``sft`` and ``pretrain``."""
    yield Part(
        name="sft",
        target="plugins.sft.objective:SFT",
        options="plugins.sft.options:SFTOptions",
        summary="the assistant's text and its end token, given all before",
        source="https://arxiv.org/abs/2109.01652",
    )
    yield Part(
        name="pretrain",
        target="plugins.sft.pretrain:Pretrain",
        options="plugins.sft.options:PretrainOptions",
        summary="every token of a text, given all before",
        source="https://cdn.openai.com/research-covers/language-unsupervised/language_understanding_paper.pdf",
    )
