"""Quantizers on the bitsandbytes library."""

from collections.abc import Iterator

from core.api import Part, hookimpl


@hookimpl
def hooktune_quantizers() -> Iterator[Part]:
    """Offer ``int8`` and ``int4``."""
    for name, target, summary, source, words in (
        (
            "int8",
            "Int8",
            "LLM.int8: rows of weights in 8 bits, outlying inputs in 16",
            "https://arxiv.org/abs/2208.07339",
            ("bitsandbytes",),
        ),
        (
            "int4",
            "Int4",
            "NF4: blocks of 64 weights in 4 bits, scales quantized too",
            "https://arxiv.org/abs/2305.14314",
            ("bitsandbytes", "nf4"),
        ),
    ):
        yield Part(
            name=name,
            target=f"plugins.bitsandbytes.quantizers:{target}",
            options=f"plugins.bitsandbytes.options:{target}Options",
            summary=summary,
            source=source,
            needs=("bitsandbytes",),
            install="pip install bitsandbytes",
            provides=frozenset(words),
        )
