"""Where in a block an adapter belongs: on what a sublayer gives, just before it is added to the residual stream.

Blocks are told apart by the names of what they hold, so an architecture that copies a layout needs no entry of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from core.api import UserError


@dataclass(frozen=True)
class Layout:
    """Modules of a block whose output, or the first of their outputs, is added to the residual stream.

    Attributes:
        attention: Path inside the block of what attention ends with.
        feed_forward: The same for the feed-forward layers.
    """

    attention: str
    feed_forward: str


# the first layout that a block has wholly is taken, so what is special comes before what is usual
LAYOUTS = (
    Layout("post_attention_layernorm", "post_feedforward_layernorm"),  # Gemma 2 and 3, OLMo 2: a norm of the output
    Layout("post_self_attn_layernorm", "post_mlp_layernorm"),  # GLM-4: the same
    Layout("attention.output.dropout", "output.dropout"),  # BERT and its like: output also adds and normalises
    Layout("self_attention.dense", "mlp.dense_4h_to_h"),  # BLOOM adds the residual inside; Falcon
    Layout("attn.out_proj", "ffn.down_proj"),  # MPT: ffn adds the residual inside
    Layout("self_attn", "mlp"),  # Llama, Gemma, Qwen, Mistral, Phi and most others
    Layout("self_attn", "fc2"),  # OPT, XGLM
    Layout("self_attn", "feed_forward"),
    Layout("self_attn", "block_sparse_moe"),
    Layout("linear_attn", "mlp"),  # Qwen3-Next
    Layout("attn", "mlp"),  # GPT-2, GPT-J, ModernBERT
    Layout("attention", "mlp"),  # GPT-NeoX
    Layout("attention", "ffn"),  # DistilBERT
    Layout("attention.attn.o", "output.dropout"),  # MPNet
)


def places(model: nn.Module, blocks: Sequence[str], placement: str) -> list[str]:
    """Qualified names of the modules that get an adapter.

    Args:
        model: The base.
        blocks: Qualified names of its blocks.
        placement: ``houlsby``, ``pfeiffer`` or ``attention``.

    Raises:
        UserError: there are no blocks, or one has a layout that is not known.
    """
    if not blocks:
        raise UserError(f"{type(model).__name__} has no blocks that are known", "method=lora")
    found: list[str] = []
    for block in blocks:
        layout = layout_of(model.get_submodule(block))
        if placement != "pfeiffer":
            found.append(f"{block}.{layout.attention}")
        if placement != "attention":
            found.append(f"{block}.{layout.feed_forward}")
    return found


def layout_of(block: nn.Module) -> Layout:
    """The layout of one block.

    Raises:
        UserError: it is none of those known; the error lists what the block holds.
    """
    names = {name for name, _ in block.named_modules()}
    for layout in LAYOUTS:
        if names.issuperset((layout.attention, layout.feed_forward)):
            return layout
    held = ", ".join(f"{name} ({type(module).__name__})" for name, module in block.named_children())
    raise UserError(
        f"adapters do not know where attention and feed-forward end in {type(block).__name__}, "
        f"which holds {held or 'nothing'}",
        "method=lora",
    )
