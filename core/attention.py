"""Attention over sequences that lie one after the other in one row, each seeing only itself and what it begins with.

It is registered with transformers under one name and acts only while ``apart()`` is entered; at all other times (padded
batches, generation) it is transformers' own scaled-dot-product attention, but for models that cap their scores (Gemma
2): that one leaves the cap out without a word.

Shapes: H heads, K heads of keys, T tokens of all sequences together, Q tokens that ask, D head width, S sequences.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

from core.causal_attention import causal_attention

NAME = "hooktune_apart"
SHORT = 64
"""Tokens of a sequence from which on half-precision products are quicker on a CPU."""

_apart: ContextVar[bool] = ContextVar("apart", default=False)


@contextmanager
def apart() -> Generator[None]:
    """While inside, no mask is built: sequences are kept apart by their lengths."""
    token = _apart.set(True)
    try:
        yield
    finally:
        _apart.reset(token)


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Scaled-dot-product attention, run once per sequence when the forward was given their boundaries.

    Args:
        module: The attention layer.
        query: (1, H, T, D); key and value have as many heads or fewer.
        key: (1, K, T, D).
        value: (1, K, T, D).
        attention_mask: Given only outside ``apart()``.
        kwargs: What transformers hands on; ``cu_seq_lens_q`` holds the boundaries 0, T1, T1+T2, ...; where beginnings
            are shared, ``cu_seq_lens_k`` is a list of S pairs: start and end of what lies before each.

    Returns:
        ((1, T, H, D), None)
    """
    bounds, shared = kwargs.pop("cu_seq_lens_q", None), kwargs.pop("cu_seq_lens_k", None)
    one = sdpa_attention_forward if kwargs.get("softcap") is None else _capped
    if bounds is None or attention_mask is not None:
        return one(module, query, key, value, attention_mask, **kwargs)
    lengths = bounds.diff().tolist()
    window = kwargs.get("sliding_window")
    halved = one is sdpa_attention_forward and _halved(module, query, kwargs)
    pieces: list[Tensor] = []
    with torch.autocast(query.device.type, enabled=False):
        for at, (q, k, v) in enumerate(zip(*(t.split(lengths, 2) for t in (query, key, value)), strict=True)):
            start, end = shared[at] if isinstance(shared, list) else (0, 0)
            if start < end:
                k, v = (torch.cat([whole[:, :, start:end], own], 2) for whole, own in ((key, k), (value, v)))
            length, seen = q.shape[2], k.shape[2]
            if halved and seen >= SHORT:
                query_THD, key_TKD, value_TKD = (tensor[0].transpose(0, 1) for tensor in (q, k, v))
                pieces.append(causal_attention(query_THD, key_TKD, value_TKD, kwargs["scaling"], window)[None])
                continue
            if q.device.type == "cpu":
                # torch's CPU kernel goes back through bfloat16 at a third of its speed in float32, and less exactly
                q, k, v = q.float(), k.float(), v.float()
            # without a mask each query sees the keys up to its own number, which are others where some lie before
            window_or_all = seen if window is None else window
            mask = (
                _band(seen, window_or_all, q.device)[:, :, -length:] if window_or_all < seen or length < seen else None
            )
            pieces.append(one(module, q, k, v, mask, **kwargs)[0].to(query.dtype))
    return torch.cat(pieces, 1), None


def _halved(module: nn.Module, query: Tensor, options: Mapping[str, Any]) -> bool:
    """Whether this is the plain case that half-precision products on a CPU are written for."""
    causal = options.get("is_causal") is not False and getattr(module, "is_causal", True)
    plain = causal and not options.get("dropout") and options.get("scaling") is not None
    return plain and query.device.type == "cpu" and query.dtype == torch.bfloat16


def _capped(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    softcap: float,
    scaling: float,
    dropout: float = 0.0,
    **_rest: Any,
) -> tuple[Tensor, None]:
    """Attention whose scores are ``softcap * tanh(scores / softcap)`` (Gemma 2, https://arxiv.org/abs/2408.00118, 2.2).

    Args:
        module: The attention layer.
        query: (B, H, Q, D).
        key: (B, K, T, D).
        value: (B, K, T, D).
        attention_mask: (B or 1, 1, Q, T), true where a token is seen; None: each sees those up to itself.
        softcap: Largest score.
        scaling: Of the scores, before they are capped.
        dropout: Of the attention's weights.

    Returns:
        ((B, Q, H, D), None)
    """
    shared = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(shared, 1), value.repeat_interleave(shared, 1)
    scores = softcap * torch.tanh(query @ key.transpose(2, 3) * (scaling / softcap))
    if attention_mask is None and query.shape[2] > 1:
        attention_mask = _band(query.shape[2], query.shape[2], query.device)
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    weights = nn.functional.dropout(scores.softmax(-1, dtype=torch.float32).to(value.dtype), dropout, module.training)
    return (weights @ value).transpose(1, 2).contiguous(), None


def _band(length: int, window: int, device: torch.device) -> Tensor:
    """(1, 1, T, T) causal mask that reaches ``window`` tokens back, the token itself included."""
    at = torch.arange(length, device=device)
    back = at[:, None] - at[None, :]
    return ((back >= 0) & (back < window))[None, None]


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    return None if _apart.get() else sdpa_mask(*args, **kwargs)


def install(model: nn.Module) -> bool:
    """Let ``model`` use it where it would use transformers' scaled-dot-product attention; say whether it does."""
    config: Any = getattr(model, "config", None)
    if config is None or getattr(config, "_attn_implementation", None) not in ("sdpa", NAME):
        return False
    if NAME not in ALL_MASK_ATTENTION_FUNCTIONS:
        AttentionInterface.register(NAME, attend)
        AttentionMaskInterface.register(NAME, _mask)
    config._attn_implementation = NAME  # the setter also checks kernels we do not have
    return True


def remove(model: nn.Module) -> None:
    """Back to transformers' own attention, unless that would leave the cap out."""
    config: Any = getattr(model, "config", None)
    if config is not None and getattr(config, "_attn_implementation", None) == NAME and not _caps(config):
        config._attn_implementation = "sdpa"


def keep_cap(model: nn.Module) -> None:
    """Let a model that caps its scores do so where it would use transformers' scaled-dot-product attention."""
    if _caps(getattr(model, "config", None)):
        install(model)


def _caps(config: Any) -> bool:
    return config is not None and bool(getattr(config.get_text_config(), "attn_logit_softcapping", None))
