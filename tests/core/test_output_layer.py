"""Output layer and log-probability in one: equal to a plain softmax, and never with all logits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from core import output_layer
from core.ending import Ending
from core.output_layer import fits, token_distribution

N, H, V = 23, 8, 700


@pytest.fixture(autouse=True)
def _small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slices, the last of them cut."""
    monkeypatch.setattr(output_layer, "SLICE_BYTES", 4 * N * 256)


def plainly(hidden_NH: Tensor, targets_N: Tensor, head: nn.Module, ending: Ending) -> tuple[Tensor, ...]:
    logprobs_NV = ending(head(hidden_NH)).log_softmax(1)
    picked_N = logprobs_NV.gather(1, targets_N[:, None])[:, 0]
    normaliser_N = ending(head(hidden_NH)).logsumexp(1)
    return picked_N, normaliser_N, -(logprobs_NV.exp() * logprobs_NV).sum(1)


@given(
    seed=st.integers(0, 10_000),
    cap=st.sampled_from([None, 5.0, 30.0]),
    scale=st.sampled_from([1.0, 0.25]),
    spread=st.sampled_from([0.1, 1.0, 20.0]),
    trained=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_it_equals_a_plain_softmax(seed, cap, scale, spread, trained):
    torch.manual_seed(seed)
    head = nn.Linear(H, V, bias=False).requires_grad_(trained)
    head.weight.data.mul_(spread)
    hidden_NH = torch.randn(N, H, requires_grad=True)
    targets_N = torch.randint(0, V, (N,))
    ending = Ending(scale, cap)
    factors = torch.randn(2, N)
    inputs = [hidden_NH, *([head.weight] if trained else [])]
    found = token_distribution(hidden_NH, targets_N, head, ending, entropy=True)
    wanted = plainly(hidden_NH, targets_N, head, ending)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5)
    both = [
        torch.autograd.grad((factors[0] * values[0] + factors[1] * values[1]).sum(), inputs)
        for values in (found, wanted)
    ]
    for one, other in zip(*both, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4 * max(1.0, spread), rtol=1e-4)


def test_what_is_almost_certain_keeps_its_small_gradient():
    """One minus a probability near one: in half precision a sum that holds the target would lose it."""
    torch.manual_seed(0)
    head = nn.Linear(64, V, bias=False, dtype=torch.bfloat16).requires_grad_(False)
    targets_N = torch.arange(N)
    hidden_NH = (14 * head.weight[:N] / head.weight[:N].norm(dim=1, keepdim=True) ** 2).detach().requires_grad_()
    logprobs_N = token_distribution(hidden_NH, targets_N, head, Ending())[0]
    assert 0.99 < logprobs_N.exp().median() < 1
    (found_NH,) = torch.autograd.grad(logprobs_N.sum(), [hidden_NH])
    exact = hidden_NH.detach().float().requires_grad_()
    wide = nn.Linear(64, V, bias=False)
    wide.weight.data = head.weight.float()
    (wanted_NH,) = torch.autograd.grad(plainly(exact, targets_N, wide, Ending())[0].sum(), [exact])
    assert (found_NH.float() - wanted_NH).norm() < 0.1 * wanted_NH.norm()


@pytest.mark.parametrize("trained", [False, True])
def test_all_logits_never_exist(trained):
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest = max(largest, out.numel())
            return out

    head = nn.Linear(H, V, bias=False).requires_grad_(trained)
    hidden_NH = torch.randn(N, H, requires_grad=True)
    with Watch():
        token_distribution(hidden_NH, torch.arange(N), head, Ending())[0].sum().backward()
    assert N * 256 <= largest < N * V


def test_only_a_plain_layer_fits():
    assert fits(nn.Linear(4, 4, bias=False))
    assert not fits(nn.Linear(4, 4))
    assert not fits(nn.Sequential(nn.Linear(4, 4, bias=False)))

    class Quantized(nn.Linear):
        """Its weight is not what it multiplies with."""

    assert not fits(Quantized(4, 4, bias=False))
