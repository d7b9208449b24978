"""LoRA: a low-rank update beside each chosen linear layer."""

from collections.abc import Iterator

from core.api import Part, hookimpl


@hookimpl
def hooktune_methods() -> Iterator[Part]:
    """Offer ``lora``."""
    yield Part(
        name="lora",
        target="plugins.lora.method:LoRA",
        options="plugins.lora.options:LoRAOptions",
        summary="low-rank update beside each chosen linear layer",
        source="https://arxiv.org/abs/2106.09685",
        needs=("peft",),
        install="pip install peft",
        provides=frozenset({"adapter", "switch", "several", "merge", "zero-start"}),
        requires=frozenset({"dense-base|linear-base|bitsandbytes|torchao|quanto|gptq|awq"}),
    )
