"""The numbers: GaLore's step against the paper's algorithm, against plain optimizers, and over an interruption.

Shapes: M rows, N columns of a weight, R directions.
"""

from __future__ import annotations

import copy
import io

import pytest
import torch
from acme_hooktune_galore.optimizer import Projected
from torch import Tensor, nn

from core.api import UserError

LR, BETAS, EPS = 0.01, (0.9, 0.99), 1e-8


def adamw(groups, weight_decay: float = 0.0):
    return torch.optim.AdamW(groups, lr=LR, betas=BETAS, eps=EPS, weight_decay=weight_decay)


def weights(*shapes: tuple[int, ...], seed: int = 0, dtype=torch.float64) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in shapes]


def give_gradients(parameters: list[nn.Parameter], step: int) -> None:
    """Other ones each step, the same in each run."""
    for parameter, gradient in zip(parameters, weights(*[p.shape for p in parameters], seed=100 + step), strict=True):
        parameter.grad = gradient.detach().to(parameter.dtype)


def projected(matrices, rest=(), build=adamw, rank=3, update_every=3, scale=0.5) -> Projected:
    return Projected(build, matrices, rest, rank=rank, update_every=update_every, scale=scale)


def train(optimizer, parameters: list[nn.Parameter], steps: range) -> list[nn.Parameter]:
    for step in steps:
        give_gradients(parameters, step)
        optimizer.step()
    return parameters


# ------------------------------------------------------------------------------------------------------ the algorithm
def algorithm_2(w_MN: Tensor, gradients: list[Tensor], rank: int, every: int, scale: float) -> Tensor:
    """Algorithm 2 line by line, for M <= N as the paper writes it."""
    m_RN = v_RN = torch.zeros(())
    for t, g_MN in enumerate(gradients):
        if t % every == 0:
            u, _, _ = torch.linalg.svd(g_MN, full_matrices=False)
            p_MR = u[:, :rank]
        # the paper takes the negative gradient, so that the update is added
        r_RN = p_MR.T @ -g_MN
        m_RN = BETAS[0] * m_RN + (1 - BETAS[0]) * r_RN
        v_RN = BETAS[1] * v_RN + (1 - BETAS[1]) * r_RN**2
        # it counts steps from 0 and divides by 1 - beta^t all the same; Adam means t + 1
        n_RN = (m_RN / (1 - BETAS[0] ** (t + 1))) / ((v_RN / (1 - BETAS[1] ** (t + 1))).sqrt() + EPS)
        w_MN = w_MN + LR * scale * (p_MR @ n_RN)
    return w_MN


@pytest.mark.parametrize("shape", [(6, 10), (10, 6), (7, 7)])
@pytest.mark.parametrize("rank", [1, 3, 6])
def test_steps_are_those_of_the_paper(shape: tuple[int, int], rank: int):
    """Eight steps with three bases.

    Singular vectors have no sign of their own, and moments outlive a basis: the algorithm is given the same matrix to
    decompose, so a tall one transposed.
    """
    (weight,) = weights(shape)
    tall = shape[0] > shape[1]
    matrices = [weight.detach().clone(), *(weights(shape, seed=100 + step)[0].detach() for step in range(8))]
    start, *gradients = [matrix.T if tall else matrix for matrix in matrices]
    expected = algorithm_2(start, gradients, rank, every=3, scale=0.5)
    train(projected([weight], rank=rank), [weight], range(8))
    torch.testing.assert_close(weight.detach(), expected.T if tall else expected, rtol=0, atol=1e-12)


def test_an_update_has_the_rank_that_was_asked_for():
    (weight,) = weights((12, 20))
    before = weight.detach().clone()
    train(projected([weight], rank=3, update_every=4), [weight], range(4))
    assert torch.linalg.matrix_rank(weight.detach() - before, rtol=1e-9) == 3
    train(projected([weight], rank=3, update_every=4), [weight], range(8))
    assert torch.linalg.matrix_rank(weight.detach() - before, rtol=1e-9) > 3, "another subspace adds to the first"


# ------------------------------------------------------------------------------------------- against plain optimizers
def test_the_basis_is_orthonormal_and_a_full_one_changes_nothing_for_gradient_descent():
    build = lambda groups: torch.optim.SGD(groups, lr=LR)  # noqa: E731
    for shape in [(6, 10), (10, 6)]:
        whole, low = weights(shape), weights(shape)
        optimizer = projected(low, build=build, rank=6, scale=1.0)
        train(build([{"params": whole}]), whole, range(8))
        train(optimizer, low, range(8))
        basis_SR = optimizer.state[low[0]]["basis"]
        torch.testing.assert_close(basis_SR.T @ basis_SR, torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-12)
        torch.testing.assert_close(low[0], whole[0], rtol=0, atol=1e-12)


def test_a_full_basis_is_not_adamw():
    """Adam divides each coordinate by its own size, and a rotation gives it other coordinates.

    So the method projects no matrix whose basis would be square: see test_method.py.
    """
    whole, low = weights((6, 10)), weights((6, 10))
    train(adamw([{"params": whole}]), whole, range(3))
    train(projected(low, rank=6, scale=1.0), low, range(3))
    assert (low[0] - whole[0]).abs().max() > LR / 10


def test_other_weights_are_the_inner_optimizers_to_the_last_bit():
    plain, mixed = weights((6, 10), (4,), (3, 2, 2)), weights((6, 10), (4,), (3, 2, 2))
    train(adamw([{"params": plain}], weight_decay=0.1), plain, range(5))
    build = lambda groups: adamw(groups, weight_decay=0.1)  # noqa: E731
    train(projected(mixed[:1], mixed[1:], build=build), mixed, range(5))
    assert torch.equal(plain[1], mixed[1])
    assert torch.equal(plain[2], mixed[2])
    assert not torch.equal(plain[0], mixed[0])


def test_weight_decay_is_the_whole_matrix_and_not_scaled():
    """With no gradient but zeros only the decay is left, as AdamW has it."""
    plain, low = weights((6, 10)), weights((6, 10))
    for parameters, optimizer in [
        (plain, adamw([{"params": plain}], weight_decay=0.1)),
        (low, projected(low, build=lambda groups: adamw(groups, weight_decay=0.1))),
    ]:
        for _ in range(4):
            parameters[0].grad = torch.zeros(6, 10, dtype=torch.float64)
            optimizer.step()
    torch.testing.assert_close(low[0], plain[0], rtol=0, atol=1e-15)


# ---------------------------------------------------------------------------------------- as an optimizer of torch
def test_a_resumed_run_goes_on_exactly():
    """Stopped within a subspace, gone on into the next one; through a file, as a checkpoint is."""
    shapes = [(6, 10), (10, 6), (4,)]
    whole = weights(*shapes, dtype=torch.float32)
    train(projected(whole[:2], whole[2:]), whole, range(8))

    first = weights(*shapes, dtype=torch.float32)
    stopped = projected(first[:2], first[2:])
    train(stopped, first, range(4))
    file = io.BytesIO()
    torch.save(stopped.state_dict(), file)
    file.seek(0)

    second = copy.deepcopy(first)
    resumed = projected(second[:2], second[2:])
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert equal(resumed.state_dict(), stopped.state_dict())
    train(resumed, second, range(4, 8))
    assert all(torch.equal(a, b) for a, b in zip(whole, second, strict=True))


def equal(a, b) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return torch.equal(a, b) and a.dtype == b.dtype if isinstance(a, Tensor) else a == b


def test_a_schedule_moves_all_rates():
    parameters = weights((6, 10), (4,))
    optimizer = projected(parameters[:1], parameters[1:])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: float(step < 2))
    train(optimizer, parameters, range(1))
    schedule.step()
    before = [p.detach().clone() for p in parameters]
    train(optimizer, parameters, range(1))
    assert all((p != old).any() for p, old in zip(parameters, before, strict=True))
    schedule.step()
    before = [p.detach().clone() for p in parameters]
    train(optimizer, parameters, range(1))
    assert all(torch.equal(p, old) for p, old in zip(parameters, before, strict=True)), "a rate of 0 moves nothing"
    assert [group["lr"] for group in optimizer.inner.param_groups] == [0.0, 0.0]


def test_clipping_and_zeroing_reach_the_weights():
    parameters = weights((6, 10), (4,))
    optimizer = projected(parameters[:1], parameters[1:])
    give_gradients(parameters, 0)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in parameters}
    torch.nn.utils.clip_grad_norm_(held, 0.1)
    optimizer.step()
    optimizer.zero_grad()
    assert all(p.grad is None for p in [*parameters, *optimizer.stand_ins.values()])


def test_a_weight_without_a_gradient_waits():
    """It keeps its value, and its subspace and bias correction count only its own steps."""
    alone, pair = weights((6, 10)), weights((6, 10), (5, 8))
    train(projected(alone), alone, range(6))
    optimizer, before = projected(pair), pair[1].detach().clone()
    for step in range(6):
        give_gradients(pair, step)
        pair[1].grad = None
        optimizer.step()
    assert torch.equal(pair[1], before)
    assert pair[1] not in optimizer.state
    assert torch.equal(pair[0], alone[0])


def test_an_optimizer_that_counts_in_its_groups_is_not_set_back():
    """As some do that find their own rate."""

    class Counting(torch.optim.SGD):
        def step(self, closure=None):
            for group in self.param_groups:
                group["count"] = group.get("count", 0) + 1
            return super().step(closure)

    (weight,) = weights((6, 10))
    optimizer = projected([weight], build=lambda groups: Counting(groups, lr=LR))
    train(optimizer, [weight], range(3))
    assert optimizer.state_dict()["param_groups"][0]["count"] == 3


def test_a_closure_is_called_with_gradients():
    (weight,) = weights((6, 10))
    optimizer = projected([weight])

    def closure():
        optimizer.zero_grad()
        loss = (weight**2).sum()
        loss.backward()
        return loss

    first = optimizer.step(closure)
    assert optimizer.step(closure) < first


def test_a_gradient_that_is_not_finite_is_said():
    (weight,) = weights((6, 10))
    weight.grad = torch.full_like(weight, torch.nan)
    with pytest.raises(UserError, match="not finite"):
        projected([weight]).step()


def test_the_state_is_smaller_than_adamws():
    """Floats of one matrix: S R of the basis, 2 R L of the moments, R L of the stand-in, where AdamW has 2 S L."""
    s, length, r = 48, 64, 4
    for shape in [(s, length), (length, s)]:
        plain, low = weights(shape, dtype=torch.float32), weights(shape, dtype=torch.float32)
        big, small = adamw([{"params": plain}]), projected(low, rank=r)
        train(big, plain, range(2))
        train(small, low, range(2))
        assert floats(big.state) == 2 * s * length + 1  # and a step number
        assert floats(small.state) + floats(small.inner.state) == s * r + 2 * r * length + 1
        assert sum(stand_in.numel() for stand_in in small.stand_ins.values()) == r * length


def floats(state) -> int:
    """What is held, not what is looked at: a slice holds all of what it was cut from."""
    tensors = [value for values in state.values() for value in values.values() if isinstance(value, Tensor)]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
    return sum(tensor.untyped_storage().nbytes() // 4 for tensor in tensors)
