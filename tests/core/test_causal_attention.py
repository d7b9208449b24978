"""Causal attention in half precision: as near to the exact values as half precision is, and nothing leaks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from core import attention, causal_attention

D = 16


def made(heads: int, keys: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """As a model hands them over: tokens first, heads next to each other."""
    torch.manual_seed(heads * length)
    sizes = (heads, keys, keys)
    return tuple(torch.randn(length, n, D).bfloat16().requires_grad_() for n in sizes)  # pyright: ignore


def exactly(query: Tensor, key: Tensor, value: Tensor, window: int | None) -> Tensor:
    query, key, value = (tensor.transpose(0, 1) for tensor in (query, key, value))
    length, shared = query.shape[1], len(query) // len(key)
    at = torch.arange(length)
    back = at[:, None] - at
    seen = (back >= 0) & (back < (window or length))
    scores = (query @ key.repeat_interleave(shared, 0).transpose(1, 2) * D**-0.5).masked_fill(~seen, float("-inf"))
    return (scores.softmax(-1) @ value.repeat_interleave(shared, 0)).transpose(0, 1)


@given(
    length=st.integers(1, 60),
    before=st.sampled_from([0, 0, 1, 13, 40]),
    keys=st.sampled_from([1, 2, 3]),
    shared=st.sampled_from([1, 3]),
    window=st.sampled_from([None, 1, 7, 16, 100]),
    block=st.sampled_from([5, 16, 128]),
)
@settings(max_examples=80, deadline=None)
def test_it_is_as_exact_as_its_precision(length, before, keys, shared, window, block):
    """Also where only tokens behind a beginning ask."""
    inputs = made(keys * shared, keys, before + length)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(causal_attention, "BLOCK", block)
        found = causal_attention.causal_attention(inputs[0][before:], *inputs[1:], D**-0.5, window)
        flowing = torch.randn(found.shape)
        gradients = torch.autograd.grad(found, inputs, flowing.bfloat16())
    wide = [tensor.detach().double().requires_grad_() for tensor in inputs]
    wanted = exactly(wide[0], wide[1], wide[2], window)[before:]
    torch.testing.assert_close(found.double(), wanted, atol=3e-2, rtol=2e-2)
    for one, other in zip(gradients, torch.autograd.grad(wanted, wide, flowing.double()), strict=True):
        assert (one - other).norm() <= 2e-2 * other.norm() + 1e-2


@pytest.mark.parametrize("window", [None, 9])
def test_what_comes_later_or_lies_behind_the_window_is_not_seen(window):
    query, key, value = (tensor.detach() for tensor in made(4, 2, 300))
    before = causal_attention.causal_attention(query, key, value, D**-0.5, window)
    key[200:], value[200:] = 50.0, 50.0
    after = causal_attention.causal_attention(query, key, value, D**-0.5, window)
    assert torch.equal(before[:200], after[:200])
    assert not torch.equal(before[200:], after[200:])
    key[:150], value[:150] = -50.0, -50.0
    last = causal_attention.causal_attention(query, key, value, D**-0.5, window)
    assert torch.equal(after[200:], last[200:]) == (window is not None)


def test_counting_on_tensors_without_data_leaves_nothing_behind():
    inputs = [tensor.detach() for tensor in made(4, 2, 64)]
    causal_attention._unseen.cache_clear()  # pyright: ignore[reportPrivateUsage]
    mode = FakeTensorMode()
    with mode:
        causal_attention.causal_attention(*(mode.from_tensor(tensor) for tensor in inputs), D**-0.5)
    found = causal_attention.causal_attention(*inputs, D**-0.5)
    wanted = exactly(inputs[0].double(), inputs[1].double(), inputs[2].double(), None)
    torch.testing.assert_close(found.double(), wanted, atol=3e-2, rtol=2e-2)


def test_a_row_of_sequences_uses_it_and_equals_float32(monkeypatch):
    class Layer(nn.Module):
        is_causal, num_key_value_groups = True, 2

    lengths = [130, 20, 64]  # the second is too short for it
    inputs = [torch.cat([t[:n] for n in lengths])[None].transpose(1, 2).detach() for t in made(4, 2, 130)]
    bounds = torch.tensor([0, 130, 150, 214])
    calls: list[int] = []
    inner = attention.causal_attention
    monkeypatch.setattr(attention, "causal_attention", lambda q, *rest: calls.append(len(q)) or inner(q, *rest))
    half = attention.attend(Layer(), *inputs, None, cu_seq_lens_q=bounds, scaling=D**-0.5)[0]
    wide = attention.attend(Layer(), *(t.float() for t in inputs), None, cu_seq_lens_q=bounds, scaling=D**-0.5)[0]
    assert calls == [130, 64]
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), wide, atol=3e-2, rtol=2e-2)
    calls.clear()
    attention.attend(Layer().train(), *inputs, None, cu_seq_lens_q=bounds, scaling=D**-0.5, dropout=0.1)
    assert calls == []
